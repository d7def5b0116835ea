"""One step on several processes is the step of one process on all of their batches."""

from __future__ import annotations

import pytest
import torch
from ranks_at_work import Case, Processes, together, train
from torch import distributed

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
)

GRANULARITIES = ("whole_model", "enc_dec", "all_layer", "all_matrix")
ABSENT = ((0, 1, 0), (1, 0, 1), (1, 2, -1), (2, 0, 0), (2, 1, 0), (2, 2, 0))
"""Objective 1 is not on rank 0 in the first step; 2 is nowhere in the second; rank 0 holds nothing in the third."""
REFRESH = (("refresh", 2),)

CASES = [
    *(Case(m, g, apart) for m in ("pcgrad", "gradvac") for g in GRANULARITIES for apart in (False, True)),
    *(
        Case(m, apart=apart)
        for m in ("mgda", "uniform", "gradnorm", "uw", "famo", "graddrop")
        for apart in (False, True)
    ),
    Case("mgda", "all_layer"),
    Case("graddrop", "all_matrix", parameters=(("leak", 0.25),)),
    *(Case(m, apart=apart, absent=ABSENT) for m in ("pcgrad", "uniform", "uw", "graddrop") for apart in (False, True)),
    Case("gradvac", "all_layer", absent=ABSENT),
    Case("gradvac", even=True),
    Case("cagrad", kept=True),
    Case("imtl_g"),
    *(
        Case("mgda", g, apart, options=(("refresh", 2),))
        for g in ("whole_model", "all_layer")
        for apart in (False, True)
    ),
    Case("pcgrad", "all_layer", options=(("treated", (0, 2)),)),
    Case("graddrop", options=(("treated", (0, 2)),)),
    Case("modo", apart=True),
    Case("gradnorm", parameters=(("layer", "decoder"),), absent=ABSENT[:2]),
]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("ranks"))
    yield started
    started.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weights_updates_and_three_steps_are_those_of_one_process(processes, case):
    for ranks in (2, 4) if case.absent else (1, 2, 4):
        alone = train(case, ranks, None, None)
        answers = processes.run(ranks, together, case)
        for status, *answer in answers:
            assert status == "ok", answer[-1]
        for _, found in answers:
            for of_ranks, of_one in zip(found["weights"], alone["weights"], strict=True):
                torch.testing.assert_close(of_ranks, of_one, rtol=0, atol=1e-10)
            for of_ranks, of_one in zip(found["losses"], alone["losses"], strict=True):
                torch.testing.assert_close(of_ranks, of_one, rtol=0, atol=1e-10)
            for of_ranks, of_one in zip(found["updates"], alone["updates"], strict=True):
                torch.testing.assert_close(of_ranks, of_one, rtol=0, atol=1e-9)
            torch.testing.assert_close(found["parameters"], alone["parameters"], rtol=0, atol=1e-9)
            assert torch.equal(found["parameters"], answers[0][1]["parameters"])
