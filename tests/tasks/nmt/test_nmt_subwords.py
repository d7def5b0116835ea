"""Subwords of multilingual NMT: what they are trained on, round trips, markers and tags, the cache, refusals."""

import importlib
import itertools
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mtlbench.errors import UsageError
from mtlbench.tasks.nmt import subwords
from mtlbench.tasks.nmt.corpus import Bitext, Corpus
from mtlbench.tasks.nmt.subwords import Subwords, sample, train


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder for each test."""
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def words(language, n):
    """Distinct sentences, n of them, over some 200 words of a language."""
    rng = np.random.RandomState(len(language) + ord(language[-1]))
    lexicon = ["".join(rng.choice(list("aeioubdgklmnprst"), 5)) for _ in range(200)]
    return [" ".join([*rng.choice(lexicon, 6), f"{language}{i}"]) for i in range(n)]


def corpus_of(sizes, multiway=False):
    """Pairs of a foreign sentence and an own central one; with `multiway` all languages share the central text."""
    train_split = {
        language: Bitext(words(language, size), words("en" if multiway else f"en-{language}", size))
        for language, size in sizes.items()
    }
    empty = {language: Bitext([], []) for language in sizes}
    return Corpus({"train": train_split, "val": empty, "test": empty})


CORPUS = corpus_of({"de": 400, "fr": 400, "cs": 40})


def small(**changed):
    given = {
        "corpus": CORPUS,
        "languages": ["de", "fr", "cs"],
        "vocabulary": 500,
        "temperature": 5.0,
        "sentences": 800,
        "tags": ["de", "fr"],
    }
    return train(**{**given, **changed})


def drawn(corpus, temperature, sentences):
    """How many sentences of each language are sampled; the central ones are counted as `en`."""
    text = sample(corpus, corpus.languages, temperature, sentences)
    return Counter(sentence.split()[-1].rstrip("0123456789").split("-")[0] for sentence in text), text


# What they are trained on


@pytest.mark.parametrize("temperature", [1.0, 5.0, 100.0])
def test_foreign_sentences_are_shared_out_by_temperature(temperature):
    sizes = {"de": 4000, "fr": 1000, "cs": 50}
    counts, text = drawn(corpus_of(sizes), temperature, 2000)
    weights = np.array(list(sizes.values())) ** (1 / temperature)
    expected = 1000 * weights / weights.sum()
    np.testing.assert_allclose([counts[language] for language in sizes], expected, atol=1)
    assert len(text) <= 2000


def test_a_language_whose_share_exceeds_its_sentences_repeats_all_of_them_equally():
    _, text = drawn(corpus_of({"de": 4000, "cs": 50}), 100.0, 2000)
    repeats = Counter(sentence for sentence in text if sentence.split()[-1].startswith("cs"))
    assert len(repeats) == 50
    assert max(repeats.values()) - min(repeats.values()) <= 1


def test_a_corpus_below_the_limit_is_used_whole_and_once_at_temperature_one():
    corpus = corpus_of({"de": 300, "fr": 100, "cs": 7})
    text = sample(corpus, corpus.languages, 1.0, 100_000)
    both = [sentence for bitext in corpus.splits["train"].values() for side in bitext for sentence in side]
    assert sorted(text) == sorted(both)


def test_central_sentences_of_multiway_text_are_used_once_and_are_at_most_half():
    counts, text = drawn(corpus_of({"de": 500, "fr": 500, "cs": 500}, multiway=True), 1.0, 100_000)
    assert counts == {"de": 500, "fr": 500, "cs": 500, "en": 500}
    assert len(set(text)) == 2000


def test_only_the_languages_asked_for_and_only_the_training_split_are_read():
    other = Bitext(["?" * 9] * 40, ["!" * 9] * 40)
    corpus = Corpus({**CORPUS.splits, "val": dict.fromkeys(CORPUS.languages, other)})
    text = sample(corpus, ["fr"], 5.0, 10_000)
    assert set(text) == {*CORPUS.splits["train"]["fr"].foreign, *CORPUS.splits["train"]["fr"].central}


def test_sampling_leaves_the_global_generator_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = sample(CORPUS, CORPUS.languages, 5.0, 100)
    np.random.seed(1)
    assert sample(CORPUS, CORPUS.languages, 5.0, 100) == first
    np.random.seed(0)
    assert (np.random.get_state()[1] == before).all()


# Text to ids and back


@pytest.mark.parametrize(
    "text",
    [
        CORPUS.splits["train"]["cs"].foreign[0],
        "日本語 ગુજરાતી ကမ္ဘာ 😀",  # scripts that training never saw
        "ﬁne １２３ ½",  # NFKC changes these
        "他说：“你好，世界！”（真的？）…",  # and its full-width punctuation
        "می\u200cخواهم",  # the joiner between the parts of a Persian verb
        "  spaces   between  ",
        "<2de> </s> <pad> <unk> <0x41>",
        "",
    ],
)
def test_text_survives_as_it_is_where_it_is_written_and_folded_where_it_is_only_read(text):
    spaced = " ".join(text.split())
    for tags in (["de", "fr"], ["en", "fr"], ["fr"]):
        written = small(tags=tags)
        assert written.decode(written.encode([text])) == [spaced]
    only_read = small(tags=["en"])
    folded = " ".join(unicodedata.normalize("NFKC", text.replace("\u200c", " ")).split())
    assert only_read.decode(only_read.encode([text])) == [folded]


def test_nothing_encodes_to_a_marker_or_a_tag():
    model = small()
    special = {model.pad, model.bos, model.eos, model.unk, model.tag("de"), model.tag("fr")}
    assert len(special) == 6
    (ids,) = model.encode(["<2de> <2fr> <s> </s> <pad> <unk> 漢 \U0001f600"])
    assert not special & set(ids)


def test_markers_and_tags_decode_to_nothing():
    model = small()
    (ids,) = model.encode(["dada"])
    padded = [model.tag("fr"), model.bos, *ids, model.eos, model.pad, model.pad]
    assert model.decode([padded, [], np.array(ids, np.int32)]) == ["dada", "", "dada"]
    assert (model.pad, model.bos, model.eos, model.unk) == (0, 1, 2, 3)


def test_the_vocabulary_has_the_size_asked_for_and_every_id_is_below_it():
    model = small(vocabulary=450)
    assert model.size == 450
    assert model.encode_flat(CORPUS.splits["train"]["de"].foreign).ids.max() < 450


def test_a_flat_encoding_holds_the_rows_of_the_nested_one_across_batches(monkeypatch):
    monkeypatch.setattr(subwords, "BATCH", 7)
    model = small()
    sentences = ["", *CORPUS.splits["train"]["de"].foreign[:20], ""]
    ids, offsets = model.encode_flat(sentences)
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
    rows = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert rows == model.encode(sentences)
    nothing = model.encode_flat([])
    assert nothing.ids.shape == (0,)
    assert nothing.offsets.tolist() == [0]


def test_a_language_without_a_tag_is_refused_with_those_that_have_one():
    with pytest.raises(UsageError, match=r"'cs'.*Known: de, fr"):
        small().tag("cs")


def test_a_sentence_of_a_megabyte_is_trained_on():
    long = "zyxwv " * 200_000
    corpus = Corpus({"train": {"de": Bitext([long], ["q"])}})
    model = train(corpus, ["de"], 272, 1.0, 10, [])
    (ids,) = model.encode(["zyxwv"])
    assert len(ids) < 5


# The cache


def test_training_again_in_another_process_gives_the_same_model(cache):
    digest = small().digest
    code = "from test_nmt_subwords import small; print(small().digest)"
    environment = {**os.environ, "MTLBENCH_CACHE": str(cache / "other"), "PYTHONHASHSEED": "7"}
    again = subprocess.check_output([sys.executable, "-c", code], env=environment, cwd=Path(__file__).parent, text=True)
    assert again.split() == [digest]
    assert len(list((cache / "other").iterdir())) == 1


def never(*_):
    raise AssertionError("trained again")


def test_the_second_time_the_model_comes_from_the_cache(monkeypatch):
    digest = small().digest
    monkeypatch.setattr(subwords, "_trained", never)
    assert small().digest == digest


@pytest.mark.parametrize(
    "changed",
    [
        {"vocabulary": 501},
        {"temperature": 1.0},
        {"sentences": 700},
        {"tags": ["fr", "de"]},
        {"languages": ["de", "fr"]},
        {"corpus": corpus_of({"de": 400, "fr": 400, "cs": 41})},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_determines_the_model_has_a_cache_file_of_its_own(changed, cache):
    small()
    small(**changed)
    assert len(list(cache.iterdir())) == 2


def test_other_fixed_options_or_another_version_of_sentencepiece_do_not_read_the_cache(monkeypatch, cache):
    small()
    monkeypatch.setitem(subwords.OPTIONS, "character_coverage", 0.99)
    small()
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(subwords.sentencepiece, "__version__", "0.0")
    small()
    assert len(list(cache.iterdir())) == 3


@pytest.mark.timeout(60)
def test_a_pipe_in_the_cache_is_never_waited_for(cache):
    digest = small().digest
    (file,) = cache.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert small().digest == digest
    assert file.is_file()


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:99] + b"x" + b[100:]])
def test_a_damaged_cache_file_is_replaced(damage, cache):
    digest = small().digest
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert small().digest == digest
    assert file.read_bytes() == whole


def test_a_cache_folder_that_cannot_be_written_costs_only_a_warning(cache, monkeypatch):
    cache.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not cached.*MTLBENCH_CACHE"):
        assert small().size == 500


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert subwords.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MTLBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert subwords.cache_folder() == tmp_path / "xdg" / "mtlbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert subwords.cache_folder() == tmp_path / ".cache" / "mtlbench"


# Refusals


def test_a_vocabulary_too_large_is_refused_with_the_largest_that_works(cache):
    with pytest.raises(UsageError, match=r"100000 subwords is too large.*at most (\d+)") as caught:
        small(vocabulary=100_000)
    largest = int(str(caught.value).split("at most ")[1].split()[0])
    assert small(vocabulary=largest).size == largest
    with pytest.raises(UsageError, match="too large"):
        small(vocabulary=largest + 1)
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("vocabulary", [5, 270])
def test_a_vocabulary_too_small_is_refused_with_the_least_that_works(vocabulary):
    with pytest.raises(UsageError, match="too small") as caught:
        small(vocabulary=vocabulary)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert small(vocabulary=least).size == least
    with pytest.raises(UsageError, match="too small"):
        small(vocabulary=least - 1)


def test_every_other_refusal_of_sentencepiece_is_told_too():
    with pytest.raises(UsageError, match="cannot be trained"):
        train(Corpus({"train": {"de": Bitext([" "], [" "])}}), ["de"], 300, 1.0, 10, [])


def test_a_language_without_training_pairs_is_named():
    with pytest.raises(UsageError, match="none of cs"):
        sample(corpus_of({"de": 10, "cs": 0}), ["de", "cs"], 5.0, 100)


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.delitem(sys.modules, "mtlbench.tasks.nmt.subwords")
    with pytest.raises(UsageError, match=r'pip install "mtlbench\[nlp\]"'):
        importlib.import_module("mtlbench.tasks.nmt.subwords")


def test_a_model_is_rebuilt_from_its_bytes_alone(cache):
    model = small()
    (file,) = cache.iterdir()
    again = Subwords(file.read_bytes()[32:])
    assert (again.digest, again.size) == (model.digest, model.size)
