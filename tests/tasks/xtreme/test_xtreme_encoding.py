"""Words, subwords and labels: that they stay together, in batches and in every real file."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from xtreme_samples import bert, xlmr

from mtlbench.tasks.xtreme import encoders
from mtlbench.tasks.xtreme.encoding import IGNORED, Symbols, Vocabulary, batches, drawn, padded, spread
from mtlbench.tasks.xtreme.pretraining import _tokenizer
from mtlbench.tasks.xtreme.tagging import conllu, tsv
from mtlbench.tasks.xtreme.tagging.sentences import ENTITIES, UPOS, Sentence

REAL = Path(os.environ.get("MTLBENCH_DATA", "/nowhere"))
SYMBOLS = Symbols(pad=0, start=1, end=2, unknown=3)


def letters(words):
    """A tokeniser of letters that leaves nothing of dots."""
    return [[ord(x) for x in word if x != "."] for word in words]


def read_back(windows, sentences, tags):
    """Subwords by word and tags of every sentence, from the windows alone."""
    found = [([], []) for _ in sentences]
    for w, owner in enumerate(windows.sentences):
        span = slice(windows.offsets[w], windows.offsets[w + 1])
        for piece, label in zip(windows.ids[span].tolist(), windows.labels[span].tolist(), strict=True):
            if label != IGNORED:
                found[owner][0].append([])
                found[owner][1].append(tags[label])
            found[owner][0][-1].append(piece)
    return found


def test_the_label_stands_at_the_first_subword_and_no_other():
    windows = Vocabulary(letters, SYMBOLS, 20).windows([Sentence(("ab", "c"), ("DET", "NOUN"))], UPOS)
    assert windows.ids.tolist() == [97, 98, 99]
    assert windows.labels.tolist() == [UPOS.index("DET"), IGNORED, UPOS.index("NOUN")]


def test_a_word_of_which_nothing_is_left_or_that_fills_no_window_is_the_unknown_subword_and_is_counted():
    vocabulary = Vocabulary(letters, SYMBOLS, 6)
    sentence = Sentence(("...", "ab", "abcde"), ("PUNCT", "X", "X"))
    windows = vocabulary.windows([sentence], UPOS)
    assert windows.ids.tolist() == [3, 97, 98, 3]
    assert vocabulary.replaced([sentence, sentence]) == 4


def test_a_long_sentence_is_cut_before_a_word_and_nothing_is_lost():
    sentence = Sentence(("ab", "cd", "efg", "h"), ("DET", "NOUN", "VERB", "X"))
    windows = Vocabulary(letters, SYMBOLS, 6).windows([sentence, sentence], UPOS)
    assert windows.offsets.tolist() == [0, 4, 8, 12, 16]
    assert windows.sentences.tolist() == [0, 0, 1, 1]
    (pieces, tags), _ = read_back(windows, [sentence] * 2, UPOS)
    assert (letters(sentence.words), list(sentence.tags)) == (pieces, tags)


def test_a_batch_has_special_subwords_around_every_window_and_the_places_of_its_words():
    sentences = [Sentence(("ab", "c"), ("DET", "NOUN")), Sentence(("d",), ("X",))]
    windows = Vocabulary(letters, SYMBOLS, 20).windows(sentences, UPOS)
    batch = padded(windows, np.array([1, 0]), SYMBOLS, torch.device("cpu"))
    assert batch.ids.tolist() == [[1, 100, 2, 0, 0], [1, 97, 98, 99, 2]]
    assert batch.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch.places.tolist() == [1, 6, 8]
    assert [UPOS[k] for k in batch.labels] == ["X", "DET", "NOUN"]


def test_a_pass_holds_every_row_once_in_an_order_of_the_generator_alone():
    lengths = np.arange(1, 101) % 17 + 3
    drawn_ = batches(lengths, 8, torch.Generator().manual_seed(3))
    one, two = ([next(drawn_) for _ in range(13)] for _ in range(2))
    for rows in (one, two):
        assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert [r.tolist() for r in one] != [r.tolist() for r in two]
    again = batches(lengths, 8, torch.Generator().manual_seed(3))
    assert [next(again).tolist() for _ in range(13)] == [r.tolist() for r in one]


def test_text_of_small_languages_is_repeated_as_the_temperature_says():
    text = {"aa": [("x",)] * 400, "bb": [("y",), ("z",)] * 50}
    assert [len([s for s in drawn(text, 2.0) if s[0] != "x"]), len(drawn(text, 2.0))] == [200, 600]
    assert len(drawn(text, 1.0)) == 500


def test_limited_sentences_are_spread_evenly():
    sentences = [Sentence((str(n),), ("X",)) for n in range(10)]
    assert [s.words[0] for s in spread(sentences, 4)] == ["0", "2", "5", "7"]
    assert spread(sentences, 20) == spread(sentences, None) == sentences


@pytest.mark.parametrize("make", [bert, xlmr])
def test_words_subwords_and_labels_of_both_classes_read_back(tmp_path, make):
    encoder = encoders.load(str(make(tmp_path)), 16)
    words = ("abc", "x", "中文", "don't", "\u200b", ".", "q\u2028r", "abcdefghijklmnopqrst")
    sentences = [Sentence(words * 3, ("NOUN", "X") * 12), Sentence(("a",), ("DET",))]
    vocabulary = Vocabulary(encoder.cut, encoder.symbols, 16)
    windows = vocabulary.windows(sentences, UPOS)
    assert windows.lengths.max() <= 16
    known = vocabulary.encode([s.words for s in sentences])
    assert read_back(windows, sentences, UPOS) == [(k, list(s.tags)) for k, s in zip(known, sentences, strict=True)]
    assert known[0][0] == encoder.cut(["abc"])[0]


def _real_files():
    yield from ((path, "tsv", UPOS) for path in sorted((REAL / "xtreme" / "udpos").glob("*.tsv*")))
    yield from ((path, "tsv", ENTITIES) for path in sorted((REAL / "xtreme" / "panx").glob("[td][re]*.tsv*")))
    yield from ((path, "ud", UPOS) for path in sorted((REAL / "ud-treebanks-v2.5").glob("UD_*/*.conllu*")))


def test_three_hundred_sentences_of_every_real_file_read_back_word_by_word_and_label_by_label():
    paths = list(_real_files())
    if not paths:
        pytest.skip("no real file is below MTLBENCH_DATA")
    for path, kind, tags in paths:
        sentences = conllu.read(path, path.name[:2]) if kind == "ud" else tsv.read(path, tags)
        sentences = [s for s in spread(sentences, 300) if s.tags]
        if not sentences:
            continue
        tokenizer = _tokenizer([s.words for s in sentences], 8_000)
        encoder = encoders.Encoder(path, "tiny", tokenizer, "")
        vocabulary = Vocabulary(encoder.cut, encoder.symbols, 64)
        windows = vocabulary.windows(sentences, tags)
        assert windows.lengths.max() <= 64
        for sentence, (pieces, labels) in zip(sentences, read_back(windows, sentences, tags), strict=True):
            assert list(sentence.tags) == labels
            for word, ids in zip(sentence.words, pieces, strict=True):
                if encoder.symbols.unknown not in ids:
                    whole = "".join(t.removeprefix("##") for t in tokenizer.convert_ids_to_tokens(ids))
                    assert whole == "".join(x for x in word if x in whole)
                    assert len(whole) >= len(word) - 3
