"""XTREME's files of pairs: what is read and refused, how languages are cut alike, and every real file."""

import gzip
import os
import re
from pathlib import Path

import pytest

from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.xtreme.options import Options
from mtlbench.tasks.xtreme.pairs import tsv
from mtlbench.tasks.xtreme.pairs.files import PairFiles, linked
from mtlbench.tasks.xtreme.pairs.labels import LABELS, Pair

REAL = Path(os.environ.get("MTLBENCH_DATA", "/nowhere"))
TWO = [Pair("a dog .", "an animal", "entailment"), Pair("a dog .", "a cat", "contradiction")]


def file(tmp_path, content, name="dev-en.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "a dog .\tan animal\tentailment\na dog .\ta cat\tcontradiction\n",
        "a dog .\tan animal\tentailment\r\na dog .\ta cat\tcontradiction\r\n",
        "\ufeffa dog .\tan animal\tentailment\na dog .\ta cat\tcontradiction",
        "a dog .\tan animal\t entailment \na dog .\ta cat\tcontradictory\n",
    ],
)
def test_line_ends_byte_order_mark_and_multinlis_word_for_a_label_change_nothing(tmp_path, content):
    assert tsv.read(file(tmp_path, content), "xnli") == TWO
    assert tsv.read(file(tmp_path, gzip.compress(content.encode()), "dev-en.tsv.gz"), "xnli") == TWO


def test_separators_of_other_kinds_and_quotation_marks_are_characters_of_a_text(tmp_path):
    first, second = "a\u2028b\u0085c\x0bd", '"He said ""no""."'
    assert tsv.read(file(tmp_path, f"{first}\t{second}\t1\n"), "pawsx") == [Pair(first, second, "1")]


def test_two_columns_are_a_file_without_labels(tmp_path):
    assert tsv.read(file(tmp_path, "a\tb\nc\td\n"), "xnli") == [Pair("a", "b", ""), Pair("c", "d", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\t1\nc\td\n", r"line 2 .* has 2 columns, and expected are two texts and a label, as in the lines before"),
        ("a\tb\nc\td\t1\n", r"line 2 .* has 3 columns, and expected are two texts alone, as in the lines before"),
        ("1\ta\tb\t1\n", r"line 1 .* has 4 columns, and expected are two texts and a label"),
        ("a\tb\t1\n\n", r"line 2 \(''\) has 1 columns"),
        ("a\tb\t1\nc\td\t \n", r"line 2 .* has an empty label"),
        ("a\tb\t1\n \td\t0\n", r"line 2 .* has an empty first text"),
        ("a\t\t1\n", r"line 1 .* has an empty second text"),
        ("a\tb\t1\nc\td\t2\n", r"line 2: Unknown label '2'"),
        ("sentence1\tsentence2\tlabel\n", r"line 1: Unknown label 'label'"),
        (b"a\tb\t1\nc\t\xff\t0\n", r"line 2 is not UTF-8: byte 0xff at place 3"),
        ("", "it has no pair"),
    ],
)
def test_a_damaged_file_is_refused_with_file_and_line(tmp_path, content, message):
    path = file(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        tsv.read(path, "pawsx")
    assert str(caught.value).startswith(f"{path} is not usable")
    assert re.search(message, str(caught.value))


def test_a_misspelt_label_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"line 1: Unknown label 'neutrall'. Did you mean 'neutral'"):
        tsv.read(file(tmp_path, "a\tb\tneutrall\n"), "xnli")


# --- cuts -----------------------------------------------------------------------------------------------------


def row(number, language, label=None):
    """Row `number` of a language: three of a kind share their first text."""
    name = LABELS["xnli"][number % 3] if label is None else label
    return f"{language}premise{number // 3}\t{language}row{number}\t{name}"


def write(root, name, rows):
    path = root / "xnli" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in rows))


@pytest.fixture
def root(tmp_path):
    """English, German and French dev files of 300 rows, and test files without labels."""
    for language in ("de", "en", "fr"):
        write(tmp_path, f"dev-{language}.tsv", [row(n, language) for n in range(300)])
        write(tmp_path, f"test-{language}.tsv", [f"{language}a\t{language}b"])
    return tmp_path


def load(root, zero_shot=False, problem="xnli", **options):
    o = Options(max_length=32, **options)
    return PairFiles(problem, root, f"xtreme/{problem}").load(o.languages, o.shares, zero_shot)


def rows(corpus, split, language):
    """The rows of dev that a split of a language holds."""
    return {int(pair.second.removeprefix(f"{language}row")) for pair in corpus.splits[split][language]}


def test_rows_that_share_a_text_hang_together():
    texts = ["ab", "cd", "be", "fg", "eh", "dc"]
    assert linked([Pair(a, b, "") for a, b in texts]) == [0, 1, 0, 3, 0, 1]


def test_every_language_is_cut_between_the_same_rows_and_no_premise_is_in_two_parts(root):
    corpus = load(root)
    assert corpus.languages == ["de", "en", "fr"]
    parts = [rows(corpus, split, "en") for split in ("train", "val", "test")]
    assert sorted(n for part in parts for n in part) == list(range(300))
    assert [len(part) for part in parts] == pytest.approx([150, 75, 75], abs=45)
    assert sum(len({n // 3 for n in part}) for part in parts) == 100
    for language in ("de", "fr"):
        assert [rows(corpus, split, language) for split in ("train", "val", "test")] == parts
    assert corpus.sources["fr"] == {"train": "1/2 of dev", "val": "1/4 of dev", "test": "1/4 of dev"}
    held = {pair.first for split in ("val", "test") for pair in corpus.splits[split]["de"]}
    assert held.isdisjoint(" ".join(words) for words in corpus.unlabelled["de"])


def test_the_cut_is_the_same_whichever_languages_are_asked_for_and_without_english(root):
    whole = load(root)
    alone = load(root, languages=("fr",))
    assert alone.splits["test"]["fr"] == whole.splits["test"]["fr"]
    (root / "xnli" / "dev-en.tsv").unlink()
    assert load(root).splits["test"]["fr"] == whole.splits["test"]["fr"]


def test_where_english_has_a_training_file_nobody_trains_on_translations_of_what_it_is_scored_on(root):
    write(root, "train-en.tsv", [f"a{n}\tb{n}\tneutral" for n in range(50)])
    corpus = load(root)
    assert len(corpus.splits["train"]["en"]) == 50
    for split in ("val", "test"):
        assert rows(corpus, split, "en") == rows(corpus, split, "de")
        assert rows(corpus, split, "en").isdisjoint(rows(corpus, "train", "de"))
    assert corpus.sources["en"] == {"val": "1/4 of dev", "test": "1/4 of dev"}


def test_zero_shot_scores_no_translation_of_what_english_was_trained_on_or_selected_by(root):
    corpus = load(root, zero_shot=True)
    seen = rows(corpus, "train", "en") | rows(corpus, "val", "en")
    assert rows(corpus, "test", "de") == rows(corpus, "test", "en") == set(range(300)) - seen
    assert corpus.splits["train"].keys() == {"en"}
    write(root, "train-en.tsv", [f"a{n}\tb{n}\tneutral" for n in range(50)])
    corpus = load(root, zero_shot=True)
    assert rows(corpus, "test", "de") == set(range(300)) - rows(corpus, "val", "en")


def test_files_that_need_no_cut_need_not_be_parallel(root):
    for language, count in {"de": 30, "en": 40, "fr": 50}.items():
        write(root, f"train-{language}.tsv", [row(n, language) for n in range(count)])
        write(root, f"test-{language}.tsv", [row(n, language) for n in range(count, 2 * count)])
    write(root, "dev-fr.tsv", [row(n, "fr") for n in range(290)])
    corpus = load(root)
    assert not corpus.sources
    assert len(corpus.splits["val"]["fr"]) == 290


def test_files_whose_rows_cannot_be_translations_of_each_other_are_refused(root):
    write(root, "dev-fr.tsv", [row(n, "fr") for n in range(299)])
    with pytest.raises(UsageError, match=r"dev-fr.tsv is not usable: it has 299 rows and .*dev-en.tsv has 300"):
        load(root)
    assert load(root, languages=("de", "en")).languages == ["de", "en"]
    write(root, "dev-fr.tsv", [row(n, "fr") for n in range(1, 301)])
    with pytest.raises(UsageError, match=r"dev-fr.tsv is not usable: 300 of 300 labels differ from those of .*dev-en"):
        load(root)


def test_a_few_labels_that_differ_are_told(root):
    write(root, "dev-fr.tsv", [row(n, "fr", "neutral" if n < 9 else None) for n in range(300)])
    corpus = load(root)
    assert corpus.notices[-1] == "labels of dev differ from those of en in some of 300 rows: fr 6"
    assert rows(corpus, "test", "fr") == rows(corpus, "test", "en")


def test_files_without_any_label_are_missing_data(root):
    for language in ("de", "en", "fr"):
        (root / "xnli" / f"dev-{language}.tsv").unlink()
    with pytest.raises(DataMissing, match=r"xtreme/xnli needs .*no SPLIT-LANGUAGE.tsv with labels is in"):
        load(root)


# --- the real files -------------------------------------------------------------------------------------------

PUBLISHED = {
    ("xnli", "dev"): (15, 2_490),
    ("xnli", "test"): (15, 5_010),
    ("pawsx", "dev"): (7, 2_000),
    ("pawsx", "test"): (7, 2_000),
}
"""Problem and file -> languages, and rows of each."""


@pytest.mark.parametrize("problem", ["xnli", "pawsx"])
def test_every_real_file_is_read_and_rows_of_languages_are_the_same_pairs(problem):
    found = PairFiles(problem, REAL, f"xtreme/{problem}").find()
    if not found:
        pytest.skip(f"xtreme/{problem} is not below MTLBENCH_DATA")
    for name in ("dev", "test"):
        read = {language: tsv.read(files[name].paths[0], problem) for language, files in found.items() if name in files}
        languages, count = PUBLISHED[problem, name]
        assert {language: len(pairs) for language, pairs in read.items()} == dict.fromkeys(read, count)
        assert len(read) == languages
        assert all(bool(pair.label) == (name == "dev") for pairs in read.values() for pair in pairs)
        english = read["en"]
        for pairs in read.values():
            same = [
                numbers(pair) & numbers(other) for pair, other in zip(pairs, english, strict=True) if numbers(other)
            ]
            late = [numbers(pair) & numbers(other) for pair, other in zip(pairs, english[3:], strict=False)]
            assert sum(map(bool, same)) > 0.8 * len(same)
            assert sum(map(bool, late)) < 0.5 * sum(map(bool, same))
            differing = sum(pair.label != other.label for pair, other in zip(pairs, english, strict=True))
            assert differing <= (0 if problem == "xnli" else 0.02 * count)


def numbers(pair):
    """Those of three digits and more in both texts, which translations share."""
    return set(re.findall(r"[0-9]{3,}", f"{pair.first} {pair.second}"))


@pytest.mark.parametrize("problem", ["xnli", "pawsx"])
def test_no_real_test_text_is_in_any_languages_training_part(problem):
    if not PairFiles(problem, REAL, "").find():
        pytest.skip(f"xtreme/{problem} is not below MTLBENCH_DATA")
    corpus = load(REAL, problem=problem)
    parts = {
        split: {frozenset(pair.origin for pair in pairs) for pairs in by_language.values()}
        for split, by_language in corpus.splits.items()
    }
    (train,), (val,), (test,) = parts.values()
    assert len(train | val | test) == len(train) + len(val) + len(test)
    texts = {split: texts_of(corpus.splits[split]["en"]) for split in corpus.splits}
    assert texts["train"].isdisjoint(texts["val"] | texts["test"])


def texts_of(pairs):
    return {text for pair in pairs for text in (pair.first, pair.second)}
