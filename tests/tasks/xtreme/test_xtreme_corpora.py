"""Which files make which splits of which language, and the artificial languages."""

from fractions import Fraction

import pytest
import torch
from xtreme_samples import data_root, text, write

from mtlbench.catalogue.variants import resolve
from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.xtreme.options import Options, Shares
from mtlbench.tasks.xtreme.parts import Part, parts, position, serving, together
from mtlbench.tasks.xtreme.problems import VARIANTS, kind_of
from mtlbench.tasks.xtreme.tagging import families
from mtlbench.tasks.xtreme.tagging.files import TaggingFiles
from mtlbench.tasks.xtreme.tagging.scoring import baselines
from mtlbench.tasks.xtreme.tagging.sentences import Sentence

ALL = ("train", "val", "test")


@pytest.fixture
def root(tmp_path):
    return data_root(tmp_path / "data")


def told(available, splits=ALL, shares=None):
    served = serving(available, splits)
    return served and {split: part.told for split, part in parts(served, shares or Shares(), served).items()}


@pytest.mark.parametrize(
    ("available", "splits"),
    [
        (("train", "dev", "test"), {"train": "train", "val": "dev", "test": "test"}),
        (("train", "dev"), {"train": "train", "val": "1/2 of dev", "test": "1/2 of dev"}),
        (("dev", "test"), {"train": "2/3 of dev", "val": "1/3 of dev", "test": "test"}),
        (("train", "test"), {"train": "2/3 of train", "val": "1/3 of train", "test": "test"}),
        (("dev",), {"train": "1/2 of dev", "val": "1/4 of dev", "test": "1/4 of dev"}),
        (("train",), {"train": "1/2 of train", "val": "1/4 of train", "test": "1/4 of train"}),
        (("test",), None),
        ((), None),
    ],
)
def test_what_a_language_lacks_is_cut_from_what_it_has(available, splits):
    assert told(available) == splits


def test_the_shares_of_the_protocol_say_in_which_proportion():
    assert told(("train", "dev"), shares=Shares(val=1, test=3)) == {
        "train": "train",
        "val": "1/4 of dev",
        "test": "3/4 of dev",
    }
    assert told(("test",), ("test",)) == {"test": "test"}


def words(sentence):
    return "\n".join(sentence.words)


def test_a_cut_depends_on_the_words_alone_and_cuts_are_disjoint_and_whole():
    sentences = [Sentence((f"w{n}", "x"), ("NOUN", "X")) for n in range(1000)]
    served = {"dev": ALL}
    cut = parts(served, Shares(), served)
    pieces = {split: part.of(sentences, words) for split, part in cut.items()}
    assert sorted(s.words for piece in pieces.values() for s in piece) == sorted(s.words for s in sentences)
    assert [len(pieces[split]) for split in ALL] == pytest.approx([500, 250, 250], abs=60)
    assert cut["val"].of(sentences[::-1], words) == pieces["val"][::-1]
    assert position("w0\nx") == position(words(sentences[0])) != position("w1\nx")
    assert Part("dev", Fraction(0), Fraction(1)).of(sentences, words) == sentences


def test_languages_that_are_parallel_cut_a_file_for_all_that_it_serves_in_any_of_them():
    has_train, has_not = serving(("train", "dev"), ALL), serving(("dev",), ALL)
    assert together([has_train, None, has_not]) == {"train": ["train"], "dev": ["train", "val", "test"]}
    assert has_train is not None
    assert has_not is not None
    one, other = (parts(served, Shares(), together([has_train, has_not])) for served in (has_train, has_not))
    assert {split: part.told for split, part in one.items()} == {
        "train": "train",
        "val": "1/4 of dev",
        "test": "1/4 of dev",
    }
    assert (one["val"], one["test"]) == (other["val"], other["test"])
    assert other["train"].high == other["val"].low


def load(root, zero_shot=False, problem="udpos", **options):
    o = Options(max_length=32, **options)
    return TaggingFiles(problem, root, f"xtreme/{problem}").load(o.languages, o.shares, zero_shot)


def test_languages_are_found_from_the_files_and_what_stands_in_is_told(root):
    corpus = load(root)
    assert corpus.languages == ["de", "en", "fr"]
    assert {split: {code: len(s) for code, s in by.items()} for split, by in corpus.splits.items()}["test"] == {
        "de": 20,
        "en": 20,
        "fr": 20,
    }
    assert corpus.sources == {"fr": {"train": "2/3 of dev", "val": "1/3 of dev"}}
    assert len(corpus.splits["train"]["fr"]) + len(corpus.splits["val"]["fr"]) == 40
    assert corpus.notices == ["train is 2/3 of dev: fr", "val is 1/3 of dev: fr"]


def test_languages_can_be_narrowed_and_an_unknown_one_is_refused_with_the_nearest(root):
    assert load(root, languages=("fr", "de")).languages == ["de", "fr"]
    with pytest.raises(UsageError, match=r"language of xtreme/udpos: 'ed'.*Known: de, en, fr"):
        load(root, languages=("ed",))
    with pytest.raises(UsageError, match="names one twice"):
        load(root, languages=("de", "de"))


def test_a_language_that_has_test_labels_only_is_left_out_or_refused_where_it_was_asked_for(root):
    write(root / "udpos" / "test-yo.tsv", text(5, "y"))
    corpus = load(root)
    assert "yo" not in corpus.languages
    assert corpus.facts == {"left_out": ["yo"]}
    assert corpus.notices[-1].endswith("to train on: yo")
    with pytest.raises(DataMissing, match="yo cannot be trained on"):
        load(root, languages=("en", "yo"))


def test_zero_shot_trains_on_english_whose_validation_split_is_everybodys(root):
    write(root / "udpos" / "test-yo.tsv", text(5, "y"))
    corpus = load(root, zero_shot=True)
    assert corpus.languages == ["de", "en", "fr", "yo"]
    assert list(corpus.splits["train"]) == list(corpus.unlabelled) == ["en"]
    assert all(split is corpus.splits["val"]["en"] for split in corpus.splits["val"].values())
    with pytest.raises(UsageError, match="trained on en, which is not among its languages: de"):
        load(root, zero_shot=True, languages=("de",))


def test_a_test_file_without_labels_is_cut_from_dev(tmp_path):
    folder = tmp_path / "xtreme" / "panx"
    for part, count in (("train", 30), ("dev", 40)):
        write(folder / f"{part}-sw.tsv", [f"a{n}/B-PER b/O" for n in range(count)])
    (folder / "test-sw.tsv").write_text("a\nb\n\n")
    corpus = load(tmp_path, problem="panx")
    assert corpus.sources == {"sw": {"val": "1/2 of dev", "test": "1/2 of dev"}}


def test_treebanks_serve_where_xtremes_file_is_missing_all_of_a_language_joined(root):
    row = "1\t{}\t_\tX\t_\t_\t0\t_\t_\t_\n\n"
    for name, word in {"UD_French-B": "b", "UD_French-A": "a"}.items():
        folder = root / "ud-treebanks-v2.5" / name
        folder.mkdir(parents=True)
        for part in ("train", "dev"):
            (folder / f"fr_{word}-ud-{part}.conllu").write_text(row.format(word))
        (folder / "._fr_x-ud-train.conllu").write_text("no data")
    corpus = load(root)
    assert [s.words for s in corpus.splits["train"]["fr"]] == [("a",), ("b",)]
    assert len(corpus.splits["val"]["fr"]) == 40
    assert corpus.sources == {"fr": {"train": "train of UD_French-A, UD_French-B"}}


def test_a_cut_without_a_sentence_is_refused(root):
    write(root / "udpos" / "dev-fr.tsv", text(1, "f"))
    with pytest.raises(UsageError, match=r"of dev of fr is to be its (train|val) split and holds nothing"):
        load(root)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if not variant.startswith("families")])
def test_missing_files_are_one_error_that_says_where_they_go(tmp_path, variant):
    _, protocol = resolve("xtreme", variant, None, {})
    o, kind, cpu = Options.model_validate(protocol.options), kind_of(variant), torch.device("cpu")
    with pytest.raises(DataMissing, match=rf"xtreme/{variant} needs .*no data root is set"):
        kind(variant, o, None, cpu)
    with pytest.raises(DataMissing, match=rf"downloaded by a command: .*http|data fetch xtreme/{variant} "):
        kind(variant, o, tmp_path, cpu)


@pytest.mark.parametrize("kind", ["pos", "ner"])
def test_the_artificial_languages_are_tagged_by_their_grammar_and_looking_words_up_is_not_enough(kind):
    corpus = families.load(kind, "xtreme/families", None)
    sizes = {code: len(s) for code, s in corpus.splits["train"].items()}
    assert sorted(sizes.values()) == [families.LABELLED["low"]] * 6 + [families.LABELLED["high"]] * 6
    assert {len(words) for words in corpus.unlabelled.values()} == {6000, 300}
    held = {s.words for code in corpus.languages for split in ("val", "test") for s in corpus.splits[split][code]}
    assert held.isdisjoint(words for text_ in corpus.unlabelled.values() for words in text_)
    looked_up = [
        baselines(kind, corpus.splits["train"][code], corpus.splits["test"][code])["word"]["f1"]
        for code in corpus.languages
    ]
    assert max(looked_up) < 92
    assert corpus.facts["families"]["tree"]
