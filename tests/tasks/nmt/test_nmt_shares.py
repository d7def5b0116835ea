"""Translation under a strategy: budgets, weights of losses and presence follow its shares, the joint loss as ever."""

import itertools

import numpy as np
import pytest
import torch

from mtlbench.catalogue import building
from mtlbench.catalogue.variants import resolve
from mtlbench.running.training import Interrupted
from mtlbench.tasks.nmt import NMT, corpora
from mtlbench.tasks.nmt.corpus import Bitext, Corpus
from mtlbench.tasks.nmt.model import SIZES, Size, Transformer

SIZES_OF = {"aa": 300, "bb": 120, "cc": 30}
BUDGET = 600


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def text(count, sound, start=0):
    """Numbers in words, digit by digit; the longest is twice as long as the others."""
    numbers = [1000 + start + n for n in range(count - 1)] + [10_000_001 + start]
    central = [" ".join(f"{'klmnprstvz'[int(digit)]}a" for digit in str(number)) for number in numbers]
    return Bitext([sentence.replace("a", sound) for sentence in central], central)


@pytest.fixture
def build(monkeypatch):
    corpus = Corpus(
        {
            "train": {code: text(size, sound) for (code, size), sound in zip(SIZES_OF.items(), "eio", strict=True)},
            "val": {code: text(5, sound, 5000) for code, sound in zip(SIZES_OF, "eio", strict=True)},
            "test": {code: text(5, sound, 7000) for code, sound in zip(SIZES_OF, "eio", strict=True)},
        }
    )
    monkeypatch.setattr(corpora, "load", lambda *_: corpus)

    def built(**options):
        settings = {"vocabulary": 330, "high_resource": 100, "max_length": 40, "dropout": 0.0, "label_smoothing": 0.1}
        overrides = {f"options.{key}": value for key, value in (settings | options).items()}
        return NMT(*resolve("nmt", "multi30k", "cpu", {**overrides, "batch_size": BUDGET}), None, torch.device("cpu"))

    return built


def steps(task, seed=0):
    return list(itertools.islice(task.batches(0, torch.Generator().manual_seed(seed)), 12))


def small_model(task):
    torch.manual_seed(0)
    size = Size(layers=1, width=16, inner=32, heads=2)
    return Transformer(task.data.subwords.size, size, 0.0, task.data.symbols.pad).double()


def mean_loss(task, model, pairs):
    there = pairs.target_out != task.data.symbols.pad
    logits = model.logits(model(pairs.source, pairs.target_in)[there])
    return torch.nn.functional.cross_entropy(logits, pairs.target_out[there], label_smoothing=0.1)


def positions(pairs):
    return max(pairs.source.numel(), pairs.target_out.numel())


def test_what_there_is_to_share_out_is_told_in_pairs_and_in_positions_without_padding(build):
    task = build(temperature=3.0)
    supply = task.supply()
    assert supply.sizes.tolist() == [300, 120, 30]
    assert (supply.step, supply.temperature) == (BUDGET, 3.0)
    longest = [max(len(s), len(t)) + 1 for s, t in zip(*(side.lists() for side in task.data.train[2][:2]), strict=True)]
    assert supply.amounts[2] == sum(longest)


@pytest.mark.parametrize("sampled", [None, 2])
def test_the_shares_of_the_protocol_give_the_steps_and_losses_of_the_protocol_to_the_bit(build, sampled):
    task, other = build(objectives_per_step=sampled), build(objectives_per_step=sampled)
    strategy = building.sampling("temperature")
    strategy.begin(other.supply(), epochs=1, steps_per_epoch=12)
    other.share_out(strategy.shares(0))
    model = small_model(task)
    for one, two in zip(steps(task), steps(other), strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(a, b) for k in one for a, b in zip(one[k], two[k], strict=True))
        pairs = [list(t.losses(model, batch, t.present(batch))) for t, batch in ((task, one), (other, two))]
        assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


def test_other_shares_are_budgets_and_weights_and_the_sum_stays_k_times_a_joint_loss(build):
    task = build()
    model, p = small_model(task), np.array([0.2, 0.5, 0.3])
    assert task.share_out(p) == pytest.approx(3 * p)
    for batch in steps(task):
        assert sorted(batch) == [0, 1, 2]
        for k, pairs in batch.items():
            assert positions(pairs) <= BUDGET * p[k]
            assert positions(pairs) > 0.6 * BUDGET * p[k] or len(pairs.source) >= 20
        total = sum(task.losses(model, batch, [0, 1, 2])).item()
        assert total == pytest.approx(3 * sum(p[k] * mean_loss(task, model, batch[k]).item() for k in batch))
    task.share_out(None)
    assert [positions(batch[1]) for batch in steps(task)] == [positions(batch[1]) for batch in steps(build())]


@pytest.mark.parametrize("p", [[0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
def test_objectives_without_a_share_are_absent_and_the_weights_of_the_others_still_sum_to_k(build, p):
    task = build()
    factors = task.share_out(np.array(p))
    model, there = small_model(task), np.flatnonzero(p).tolist()
    assert factors[there].sum() == pytest.approx(3)
    for batch in steps(task):
        assert task.present(batch) == there
        found = [loss.item() for loss in task.losses(model, batch, there)]
        assert found == pytest.approx([3 * p[k] * mean_loss(task, model, batch[k]).item() for k in there])
    # A single-task model has whole steps and the plain mean all the same.
    (alone,) = itertools.islice(task.batches_of(0, 0, torch.Generator().manual_seed(0)), 1)
    (loss,) = task.losses(model, alone, [0])
    assert loss.item() == pytest.approx(mean_loss(task, model, alone[0]).item())


def test_a_share_below_the_longest_sentence_has_room_for_it_and_its_loss_the_weight_of_the_share(build):
    task = build()
    p = np.array([0.6985, 0.3, 0.0015])
    factors = task.share_out(p)
    longest = -(-int(task.data.train[2].lengths.max()) // 4) * 4
    found = [positions(batch[2]) for batch in steps(task)]
    assert BUDGET * p[2] < 1
    assert 0 < max(found) <= longest
    assert factors[2] == pytest.approx(0.0045)


def test_sampled_objectives_follow_the_shares_and_all_are_there_where_few_have_one(build):
    task = build(objectives_per_step=2)
    model = small_model(task)
    assert task.share_out(np.array([0.1, 0.2, 0.7])).tolist() == [1, 1, 1]
    seen = [tuple(batch) for batch in steps(task)]
    assert all(len(present) == 2 and 2 in present for present in seen)  # 2 * .7 is above 1
    assert len(set(seen)) == 2
    task.share_out(np.array([0.0, 1.0, 0.0]))
    for batch in steps(task):
        assert list(batch) == [1]
        assert BUDGET / 2 < positions(batch[1]) <= BUDGET
        (loss,) = task.losses(model, batch, [1])
        assert loss.item() == pytest.approx(mean_loss(task, model, batch[1]).item())


def test_unimax_sees_no_sentence_more_often_than_it_may(build):
    task = build(steps_per_epoch=5)
    strategy = building.sampling("unimax", repeats=1.5)
    strategy.begin(task.supply(), epochs=1, steps_per_epoch=5)
    p = strategy.shares(0)
    given = p * 5 * BUDGET / task.supply().amounts
    assert given[1:] == pytest.approx([1.5, 1.5])
    assert given[0] < 1.5
    task.share_out(p)
    seen = np.zeros(3)
    for batch in steps(task):
        for k, pairs in batch.items():
            seen[k] += len(pairs.source)
    passes = seen / task.supply().sizes
    assert (passes > 0).all()
    assert (passes <= given).all()  # padding and whole sentences take the rest


RUN = """
method=gradvac method.beta=0.9 granularity=all_layer task=nmt/multi30k protocol.epochs=3 protocol.evaluate_every=1
protocol.batch_size=600 protocol.autocast=false protocol.options.steps_per_epoch=4 protocol.options.dropout=0.2
protocol.options.vocabulary=330 protocol.options.high_resource=100 protocol.options.beams=1 protocol.options.size=tiny
"""


@pytest.mark.parametrize(
    ("sampling", "stop"), [("chi2_dro sampling.ema=1 sampling.rho=0.2", 6), ("order sampling.switch=0.4", 10)]
)
def test_a_run_under_a_strategy_that_stopped_in_mid_epoch_ends_as_if_it_had_not(
    build, train, tmp_path, monkeypatch, sampling, stop
):
    monkeypatch.setitem(SIZES, "tiny", Size(layers=1, width=16, inner=32, heads=2))
    words = f"{RUN} sampling={sampling}"
    whole = train(words, tmp_path / "whole")
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", should_stop=lambda: next(asked) == stop)
    resumed = train(words, tmp_path / "cut")
    assert resumed.provenance.resumed == 1
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics
    assert resumed.evaluations[-1].losses != train(RUN, tmp_path / "plain").evaluations[-1].losses
