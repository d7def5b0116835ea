"""Translation over processes: the parts of a batch are the whole batch, and together weigh what it weighs."""

import itertools

import pytest
import torch

from mtlbench.catalogue.variants import resolve
from mtlbench.running.team import Team
from mtlbench.tasks.nmt import NMT, Whole, corpora
from mtlbench.tasks.nmt.corpus import Bitext, Corpus
from mtlbench.tasks.nmt.model import Size, Transformer

SIZES_OF = {"aa": 200, "bb": 90, "cc": 20}
PARTS = (1, 2, 3, 7)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def text(count, sound, start=0):
    """Numbers in words, digit by digit, of one to eight digits."""
    central = [" ".join(f"{'klmnprstvz'[int(d)]}a" for d in str(7 ** (n % 8) + start + n)) for n in range(count)]
    return Bitext([sentence.replace("a", sound) for sentence in central], central)


@pytest.fixture
def build(monkeypatch):
    def split(start, sizes):
        return {code: text(size, sound, start) for (code, size), sound in zip(sizes.items(), "eio", strict=True)}

    few = dict.fromkeys(SIZES_OF, 5)
    corpus = Corpus({"train": split(0, SIZES_OF), "val": split(5000, few), "test": split(7000, few)})
    monkeypatch.setattr(corpora, "load", lambda *_: corpus)

    def built(**options):
        settings = {"vocabulary": 330, "high_resource": 100, "max_length": 40, "dropout": 0.0, "label_smoothing": 0.1}
        overrides = {f"options.{key}": value for key, value in (settings | options).items()}
        return NMT(*resolve("nmt", "multi30k", "cpu", {**overrides, "batch_size": 400}), None, torch.device("cpu"))

    return built


def steps(task, count=4):
    return list(itertools.islice(task.batches(0, torch.Generator().manual_seed(0)), count))


def small_model(task):
    torch.manual_seed(0)
    size = Size(layers=1, width=16, inner=32, heads=2)
    return Transformer(task.data.subwords.size, size, 0.0, task.data.symbols.pad).double()


def losses_and_gradients(task, model, batch, objectives):
    """Objective -> its loss and its gradient in one vector."""
    found = {}
    for k, loss in zip(objectives, task.losses(model, batch, objectives), strict=True):
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        found[k] = torch.cat([loss.detach()[None], *(g.flatten() for g in gradients if g is not None)])
    return found


def sentences(pairs):
    """Its sentences without their padding, in any order."""
    return sorted(tuple(tuple(row[row != 0].tolist()) for row in rows) for rows in zip(*pairs, strict=True))


@pytest.mark.parametrize("sampled", [None, 2])
def test_every_sentence_is_in_one_part_and_parts_weigh_as_many_subwords_as_they_have_to_predict(build, sampled):
    task = build(objectives_per_step=sampled)
    pad = task.data.symbols.pad
    for batch, parts in itertools.product(steps(task), PARTS):
        shares = [task.divide(batch, part, parts) for part in range(parts)]
        assert all(list(share) == list(batch) for share, _ in shares)
        for k, whole in batch.items():
            held = [share[k] for share, _ in shares]
            assert sorted(itertools.chain(*map(sentences, held))) == sentences(whole)
            sizes = [len(pairs.source) for pairs in held]
            assert max(sizes) - min(sizes) <= 1
            amounts = [amount[k] for _, amount in shares]
            assert amounts == [(pairs.target_out != pad).sum() for pairs in held]
            assert sum(amounts) == (whole.target_out != pad).sum()


@pytest.mark.parametrize("sampled", [None, 2])
def test_losses_and_gradients_of_parts_weigh_together_what_the_batch_does_where_some_hold_no_objective(build, sampled):
    task = build(objectives_per_step=sampled)
    model = small_model(task)
    (batch, *_) = steps(task)
    few = type(batch)({k: type(pairs)(*(rows[: 2 + k] for rows in pairs)) for k, pairs in batch.items()})
    for whole, parts in itertools.product((batch, few), PARTS):
        wanted = losses_and_gradients(task, model, whole, task.present(whole))
        shares = [Team(part, parts).share(task, whole) for part in range(parts)]
        if whole is few and parts == 7:
            assert any(len(amounts) < len(whole) for _, amounts in shares)
            assert any(not amounts for _, amounts in shares)
        found = [losses_and_gradients(task, model, share, list(amounts)) for share, amounts in shares]
        for k in whole:
            weights = [amounts.get(k, 0.0) for _, amounts in shares]
            weighed = sum(w / sum(weights) * own[k] for w, own in zip(weights, found, strict=True) if w)
            torch.testing.assert_close(weighed, wanted[k], rtol=1e-10, atol=1e-12)


def test_a_step_that_one_objective_has_for_itself_stays_one_in_parts(build):
    task = build()
    (batch,) = itertools.islice(task.batches_of(2, 0, torch.Generator().manual_seed(0)), 1)
    share, amounts = task.divide(batch, 1, 3)
    assert isinstance(share, Whole)
    assert list(amounts) == [2]
