"""Probe batches of translation: disjoint, aligned where the text is, of held-out text where it suffices."""

import numpy as np
import pytest
import torch

from mtlbench.catalogue.variants import resolve
from mtlbench.errors import UsageError
from mtlbench.tasks.nmt import NMT, corpora
from mtlbench.tasks.nmt.corpus import Bitext, Corpus
from mtlbench.tasks.nmt.model import Size, Transformer

SOUNDS = {"aa": "ae", "bb": "io", "cc": "ue"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def said(number, code=""):
    """Sentence `number` in the central language, or in another one: its digits as words."""
    end = SOUNDS.get(code, "")
    return " ".join(f"{'klmnprstvz'[int(digit)]}a{end}" for digit in str(number))


def bitext(code, numbers):
    return Bitext([said(number, code) for number in numbers], [said(number) for number in numbers])


def corpus(train, val, codes=SOUNDS):
    """Every language has those numbers; a function of the language's place where they differ."""
    splits = {"train": train, "val": val, "test": range(30)}
    given = {
        name: {code: bitext(code, numbers(place) if callable(numbers) else numbers) for place, code in enumerate(codes)}
        for name, numbers in splits.items()
    }
    return Corpus(given)


@pytest.fixture
def build(monkeypatch):
    """Builds the task on a corpus."""

    def built(text, **options):
        monkeypatch.setattr(corpora, "load", lambda *_: text)
        settings = {"vocabulary": 330, "high_resource": 100, "max_length": 40, "dropout": 0.0} | options
        overrides = {f"options.{key}": value for key, value in settings.items()}
        return NMT(*resolve("nmt", "multi30k", "cpu", {**overrides, "batch_size": 600}), None, torch.device("cpu"))

    return built


def drawn(task, count=4, examples=5, seed=0):
    return task.probes(count, examples, torch.Generator().manual_seed(seed))


def sentences(task, probes):
    """(batch, objective) -> its (source, target) pairs as text."""
    decode = task.data.subwords.decode
    return {
        (b, k): list(zip(decode(pairs.source.tolist()), decode(pairs.target_out.tolist()), strict=True))
        for b, batch in enumerate(probes.batches)
        for k, pairs in batch.items()
    }


HELD = range(1000, 1040)
TRAINED = range(3000, 3300)


@pytest.mark.parametrize("direction", ["x2en", "en2x", "both"])
def test_a_batch_says_the_same_in_every_language_and_no_two_batches_say_the_same(build, direction):
    task = build(corpus(TRAINED, HELD), direction=direction)
    probes = drawn(task)
    assert (probes.aligned, probes.examples, probes.split, len(probes.batches)) == (True, 5, "val", 4)
    central, seen = {said(number): number for number in HELD}, []
    found = sentences(task, probes)
    assert set(found) == {(b, k) for b in range(4) for k in range(len(task.objectives))}
    for b in range(4):
        numbers = set()
        for k, pair in enumerate(task.data.pairs):
            into = pair.target == "en"
            here = [central[target if into else source] for source, target in found[b, k]]
            assert [s if into else t for s, t in found[b, k]] == [said(number, pair.language) for number in here]
            numbers.add(tuple(here))
        assert len(numbers) == 1
        seen += numbers.pop()
    assert len(set(seen)) == 20


def test_all_of_val_may_be_drawn_although_a_part_is_scored(build):
    task = build(corpus(TRAINED, HELD), sentences={"val": 10})
    assert len(task.data.splits["val"].references[0]) == 10
    probes = drawn(task, 8, 5)
    assert probes.aligned
    assert {target for pairs in sentences(task, probes).values() for _, target in pairs} == {said(n) for n in HELD}


def test_sentences_are_trained_ones_only_where_val_has_too_few_for_all_languages(build):
    parts = corpus(TRAINED, lambda place: [*HELD[:15], *range(2000 + 100 * place, 2030 + 100 * place)])
    task = build(parts)
    assert all(number in HELD[:15] for number in numbers_of(task, drawn(task, 3, 5)))
    probes = drawn(task, 4, 4)
    assert (probes.aligned, probes.split) == (True, "train")
    assert all(number in TRAINED for number in numbers_of(task, probes))


def numbers_of(task, probes):
    everything = {said(number): number for number in range(1000, 4500)}
    return [everything[target] for pairs in sentences(task, probes).values() for _, target in pairs]


def test_without_common_sentences_languages_have_their_own_and_the_probes_say_so(build):
    def own(start, number):
        return lambda place: range(start + number * place, start + number * (place + 1))

    task = build(corpus(own(3000, 300), own(1000, 50)))
    probes = drawn(task)
    assert (probes.aligned, probes.split) == (False, "val")
    found = sentences(task, probes)
    for k in range(3):
        mine = [pair for b in range(4) for pair in found[b, k]]
        assert len(set(mine)) == 20
        assert all(target in {said(n) for n in range(1000 + 50 * k, 1050 + 50 * k)} for _, target in mine)
    many = drawn(task, 20, 5)
    assert (many.aligned, many.split) == (False, "train")
    assert min(numbers_of(task, many)) >= 3000


def test_a_central_sentence_that_a_language_has_twice_is_not_taken_for_aligned(build):
    text = corpus(TRAINED, HELD)
    text.splits["val"]["bb"].foreign.append("kaio kaio")
    text.splits["val"]["bb"].central.append(said(HELD[0]))
    task = build(text)
    assert HELD[0] not in numbers_of(task, drawn(task, 13, 3))
    assert min(numbers_of(task, drawn(task, 4, 10))) >= 3000


def test_what_training_leaves_out_for_its_length_is_no_probe(build):
    text = corpus(TRAINED, HELD)
    for code in SOUNDS:
        for number in range(5):
            text.splits["val"][code].foreign[number] += " kae" * 60
    task = build(text)
    assert min(numbers_of(task, drawn(task, 7, 5))) == HELD[5]


def test_too_few_sentences_are_told_with_the_number_that_there_is(build):
    task = build(corpus(TRAINED, HELD))
    with pytest.raises(UsageError, match=r"400 sentence pairs .* one has 300: give geometry.batches"):
        drawn(task, 20, 20)


def test_probes_come_from_their_generator_alone_and_training_does_not_notice(build):
    task = build(corpus(TRAINED, HELD))
    before = next(task.batches(0, torch.Generator().manual_seed(1)))
    one, again, other = (sentences(task, drawn(task, seed=seed)) for seed in (0, 0, 1))
    after = next(task.batches(0, torch.Generator().manual_seed(1)))
    assert one == again != other
    assert all(torch.equal(x, y) for k in before for x, y in zip(before[k], after[k], strict=True))


@pytest.mark.parametrize("sampled", [None, 2])
def test_probe_losses_are_plain_means_whatever_the_shares_and_sampled_steps_are(build, sampled):
    uneven = corpus(lambda place: range(3000, 3300) if place < 2 else range(3000, 3050), HELD)
    task = build(uneven, objectives_per_step=sampled, temperature=1.0, label_smoothing=0.0)
    torch.manual_seed(0)
    model = Transformer(task.data.subwords.size, Size(1, 16, 32, 2), 0.0, task.data.symbols.pad).double().eval()
    batch = drawn(task).batches[0]
    assert list(task.present(batch)) == [0, 1, 2]
    for k, loss in enumerate(task.losses(model, batch, range(3))):
        source, target_in, target_out = batch[k]
        logits = model.logits(model(source, target_in))
        wanted = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target_out.flatten(), ignore_index=task.data.symbols.pad
        )
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)


def test_one_language_alone_is_aligned_with_itself(build):
    task = build(corpus(TRAINED, HELD, ["aa"]))
    probes = drawn(task)
    assert probes.aligned
    assert np.array([len(batch) for batch in probes.batches]).tolist() == [1] * 4
