"""The artificial languages as instruments: `families` stays as it is, and what its two variants take away."""

from itertools import combinations

import numpy as np
import pytest
import torch

from mtlbench.catalogue.variants import resolve
from mtlbench.errors import UsageError
from mtlbench.tasks._families import CENTRE, TRAIN, generate
from mtlbench.tasks.nmt import NMT, corpora
from mtlbench.tasks.nmt.corpora import families as worlds
from mtlbench.tasks.nmt.objectives import digest

SENTENCES = {"train": dict.fromkeys(TRAIN, 150), "val": 30, "test": 30}
DIGEST = "5897b32c7ca4eb07127b1ab58835b2cf1102a0a2bfce7b0d296aec64e065fead"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(worlds, "generate", lambda **world: generate(**SENTENCES, **world))


def build(variant, **options):
    overrides = {f"options.{key}": value for key, value in options.items()}
    return NMT(*resolve("nmt", variant, None, overrides), None, torch.device("cpu"))


def used(task):
    """Language, the central one too -> the subwords of its text in all splits."""
    found = {}
    for split in task.data.splits.values():
        for k, examples in split.examples.items():
            pair = task.data.pairs[k]
            for language, side in ((pair.source, examples.source), (pair.target, examples.target)):
                found.setdefault(language, set()).update(*side.lists())
    return found


def test_families_is_the_data_of_the_published_records():
    corpus = corpora.load("families", None, None)
    assert digest(corpus) == DIGEST
    assert set(corpus.facts["families"]) == {
        "seed",
        "centre",
        "tree",
        "train",
        "grammar",
        "sound_changes",
        "cognate_share",
        "order_distance",
    }


@pytest.mark.parametrize("direction", ["x2en", "en2x", "both"])
def test_no_subword_is_in_two_languages_under_private_alphabets(small, direction):
    task = build("families-private", direction=direction, vocabulary=1200)
    subwords = used(task)
    assert len(subwords) == 13
    for a, b in combinations(subwords, 2):
        assert not subwords[a] & subwords[b], (a, b)
    for examples in task.data.splits["test"].examples.values():
        text = examples.source.lists() + examples.target.lists()
        assert task.data.subwords.unk not in {subword for sentence in text for subword in sentence}


def test_without_private_alphabets_all_languages_share_subwords(small):
    subwords = used(build("families", vocabulary=700))
    assert all(len(subwords[a] & subwords[b]) > 50 for a, b in combinations(subwords, 2))


def test_private_languages_are_cut_equally_fine_whatever_their_amount_of_text(monkeypatch):
    sizes = {language: 40 if size < 1000 else 800 for language, size in TRAIN.items()}
    world = {"train": sizes, "val": 60, "test": 30}
    monkeypatch.setattr(worlds, "generate", lambda **more: generate(**world, **more))
    task = build("families-private", vocabulary=2000)
    examples = task.data.splits["val"].examples
    lengths = {pair.language: examples[k].source.lengths.mean() for k, pair in enumerate(task.data.pairs)}
    high, low = (np.mean([lengths[x] for x in lengths if (sizes[x] == 800) == much]) for much in (True, False))
    assert low == pytest.approx(high, rel=0.15)


def test_references_of_private_languages_survive_their_subwords(small):
    task = build("families-private", direction="en2x", vocabulary=1200)
    for k, examples in task.data.splits["test"].examples.items():
        assert task.data.subwords.decode(examples.target.lists()) == task.data.splits["test"].references[k]


def test_some_private_languages_alone_leave_the_letters_of_the_others_out(small):
    few = build("families-private", languages=["dalu", "demi"], vocabulary=600)
    assert set(used(few)) == {"dalu", "demi", CENTRE}
    with pytest.raises(UsageError, match=r"vocabulary of 300 subwords is too small .* must be at least \d+"):
        build("families-private", languages=["dalu", "demi"], vocabulary=300)


def test_the_variants_differ_in_their_text_and_state_what_they_are(small):
    found = {variant: corpora.load(variant, None, None) for variant in worlds.WORLDS}
    assert len({digest(corpus) for corpus in found.values()}) == 3
    assert set(worlds.WORLDS) <= set(corpora.VARIANTS)
    assert "grammar_tree" in found["families-crossed"].facts["families"]
    assert "alphabets" in found["families-private"].facts["families"]
    assert [bool(corpus.letters) for corpus in found.values()] == [False, True, False]
