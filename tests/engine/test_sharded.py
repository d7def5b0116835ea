"""One step on several processes is the step of one process on all of their batches."""

from __future__ import annotations

import re

import pytest
import torch
from ranks_at_work import (
    Case,
    Processes,
    broken,
    checkpointed,
    fully_sharded,
    in_small_buckets,
    kept_entries,
    together,
    train,
    unlike,
)
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
    *(Case("pcgrad", "all_layer", apart, around=True) for apart in (False, True)),
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

WIDE = [
    *(Case("gradvac", granularity) for granularity in GRANULARITIES),
    *(Case(m, apart=True) for m in ("pcgrad", "mgda", "gradnorm", "uniform")),
    *(Case(m, apart=apart, absent=ABSENT) for m, apart in (("pcgrad", True), ("uniform", False))),
    Case("graddrop", "all_layer"),
]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("ranks"))
    yield started
    started.close()


def compare(processes, case, ranks, function):
    alone = train(case, ranks, None, None)
    answers = processes.run(ranks, function, case)
    for status, *answer in answers:
        assert status == "ok", answer[-1]
    for _, found in answers:
        for name, tolerance in (("weights", 1e-10), ("losses", 1e-10), ("updates", 1e-9)):
            for of_ranks, of_one in zip(found[name], alone[name], strict=True):
                torch.testing.assert_close(of_ranks, of_one, rtol=0, atol=tolerance)
        torch.testing.assert_close(found["parameters"], alone["parameters"], rtol=0, atol=1e-9)
        assert torch.equal(found["parameters"], answers[0][1]["parameters"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_weights_updates_and_three_steps_are_those_of_one_process(processes, case):
    compare(processes, case, 2, together)


@pytest.mark.parametrize("case", WIDE, ids=lambda case: case.name)
def test_so_are_those_of_four_ranks_and_of_a_group_of_one(processes, case):
    for ranks in (4,) if case.absent else (1, 4):
        compare(processes, case, ranks, together)


@pytest.mark.parametrize("case", [Case("pcgrad", "all_layer"), Case("uniform", apart=True)], ids=lambda case: case.name)
def test_rows_that_travel_in_many_messages_are_the_same(processes, case):
    for ranks in (2, 4):
        compare(processes, case, ranks, in_small_buckets)


FULLY_SHARDED = [
    *(Case(m, apart=apart, clipped=True) for m in ("pcgrad", "uniform") for apart in (False, True)),
    Case("gradvac", "all_layer", clipped=True),
    Case("mgda", "all_matrix", apart=True),
    Case("cagrad", kept=True),
    *(Case("mgda", g, apart, options=REFRESH) for g in ("whole_model", "all_layer") for apart in (False, True)),
    Case("gradnorm", parameters=(("layer", "decoder"),)),
    Case("uw"),
    Case("modo", apart=True),
    Case("pcgrad", absent=((1, 2, -1),)),
    *(Case("gradvac", apart=apart, around=True) for apart in (False, True)),
]


@pytest.mark.parametrize("case", FULLY_SHARDED, ids=lambda case: case.name)
def test_models_of_fully_shard_are_trained_as_whole_ones_are_and_clipped_alike(processes, case):
    compare(processes, case, 4 if case.clipped else 2, fully_sharded)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_rank_keeps_its_share_of_the_jacobian(processes, ranks):
    rows = 8
    for status, (kept, entries) in processes.run(ranks, kept_entries, rows):
        assert status == "ok"
        assert entries / ranks <= kept < 1.05 * entries / ranks


BROKEN = {
    "count": (r"rank 1 came upon an error", r"got 2 losses for 3 objectives|names 3 objectives for 2 losses"),
    "options": r"ranks differ in their shared parameters, groups, method or options",
    "parameters": r"ranks have come apart: their parameters",
    "seed": r"ranks have come apart",
    "no heads": r"reach parameters outside shared.*heads=model",
    "order": r"different objectives, in orders of their own",
    "layer": r"objective 1 is absent from some ranks in its first step",
    "examples": r"examples of objective 0 on the ranks are \[0\.0, 0\.0\]",
    "rank without losses": r"at least one loss, on one of the ranks",
    "method without place": r"db_mtl computes with whole rows",
    "nan": r"Diverged: pcgrad: the loss of objective 0 is nan",
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_would_hang_or_drift_apart_is_refused_on_every_rank(processes, how):
    expected = BROKEN[how] if isinstance(BROKEN[how], tuple) else (BROKEN[how],) * 2
    for (status, said), pattern in zip(processes.run(2, broken, how), expected, strict=True):
        assert status == "ok", said
        assert re.search(pattern, said)
        assert "CHANGED" not in said


def test_gradients_that_come_in_parts_are_refused(processes):
    for status, said in processes.run(2, checkpointed):
        assert status == "ok", said
        assert re.search(r"several parts.*use_reentrant=False", said)


def test_fully_shard_needs_every_objective_on_every_rank(processes):
    for status, said in processes.run(2, unlike):
        assert status == "ok", said
        assert "objective 2 is absent from some ranks only" in said
