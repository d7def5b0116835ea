"""XTREME under a strategy: rows and weights of losses follow its shares, and the sum stays K times a joint loss."""

import itertools

import numpy as np
import pytest
import torch
from xtreme_samples import data_root

from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.running.checking import check
from mtlbench.running.training import Interrupted
from mtlbench.tasks.xtreme import XTREME

WORDS = """
against=none method=gradvac method.beta=0.5 task=xtreme/udpos protocol=cpu protocol.epochs=3 protocol.batch_size=8
protocol.options.max_length=16 protocol.options.steps_per_epoch=4 protocol.options.high_resource=50
protocol.options.pretrain_steps=2 protocol.options.vocabulary=200
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def root(tmp_path):
    return data_root(tmp_path / "data")


@pytest.fixture
def task(root):
    (cell,) = parse(WORDS.split()).cells
    return XTREME(cell.variant, cell.protocol, root, torch.device("cpu"))


def steps(task):
    return list(task.batches(0, torch.Generator().manual_seed(0)))


def rows(batches):
    """Objective -> the rows of its largest batch; the last one of a pass may be smaller."""
    return {k: max(len(batch[k].ids) for batch in batches) for k in batches[0]}


def test_rows_and_weights_follow_the_shares_and_equal_ones_are_the_protocol_to_the_bit(task):
    torch.manual_seed(0)
    model = task.model().eval()
    plain = steps(task)
    losses = [[loss.item() for loss in task.losses(model, batch, [0, 1, 2])] for batch in plain]
    assert rows(plain) == {0: 8, 1: 8, 2: 8}

    task.share_out(np.full(3, 1 / 3))
    for one, other in zip(plain, steps(task), strict=True):
        assert all(torch.equal(one[k].ids, other[k].ids) for k in one)

    assert task.share_out(np.array([0.5, 0.49, 0.01])) == pytest.approx([1.5, 1.47, 0.03])
    assert rows(steps(task)) == {0: 12, 1: 12, 2: 1}  # round(24 p), at least 1
    weighted = [loss.item() for loss in task.losses(model, plain[0], [0, 1, 2])]
    assert weighted == pytest.approx([1.5 * losses[0][0], 1.47 * losses[0][1], 0.03 * losses[0][2]])
    (alone,) = itertools.islice(task.batches_of(0, 0, torch.Generator().manual_seed(0)), 1)
    (whole,) = task.losses(model, alone, [0])

    task.share_out(np.array([0.0, 1.0, 0.0]))
    assert rows(steps(task)) == {1: 24}
    assert all(list(batch) == [1] for batch in steps(task))

    task.share_out(None)
    assert whole.item() == next(iter(task.losses(model, alone, [0]))).item()
    assert [[loss.item() for loss in task.losses(model, batch, [0, 1, 2])] for batch in steps(task)] == losses


def test_there_are_rows_to_share_out_and_the_protocol_gives_equal_shares(task):
    supply = task.supply()
    assert supply.sizes.tolist() == [len(task.problem.lengths(k)) for k in range(3)]
    assert (supply.step, supply.temperature) == (24.0, np.inf)


def test_a_run_that_stopped_in_mid_epoch_ends_as_if_it_had_not(root, train, tmp_path):
    words = f"{WORDS} sampling=chi2_dro sampling.ema=1 sampling.rho=0.1"
    whole = train(words, tmp_path / "whole", data_root=root)
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", data_root=root, should_stop=lambda: next(asked) == 7)
    resumed = train(words, tmp_path / "cut", data_root=root)
    assert resumed.provenance.resumed == 1
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics


def test_zero_shot_transfer_has_nothing_to_share_out(root):
    words = WORDS.replace("xtreme/udpos protocol=cpu", "xtreme/udpos-zeroshot protocol=xtreme")
    words += " sampling=unimax sampling.repeats=2 protocol.options.encoder=tiny"
    with pytest.raises(UsageError, match=r"udpos-zeroshot: of 3 languages only 1 are trained"):
        check(parse(words.split()).cells, "cpu", root)
