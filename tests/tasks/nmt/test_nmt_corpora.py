"""Real corpora of multilingual NMT: reading lines, official layouts, what is refused, the real files where they are."""

import gzip

import pytest

from mtlbench.catalogue import data, fetching
from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.nmt import corpora
from mtlbench.tasks.nmt.corpora import multi30k, ntrex, opus100, ted8
from mtlbench.tasks.nmt.corpora.lines import bitext, bitext_without_gaps, read
from mtlbench.tasks.nmt.corpus import REQUIRED, Bitext


def put(path, content):
    """Write lines (or bytes as they are) to a file, packed if its name says so."""
    raw = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.fixture(scope="module")
def real():
    root = data.data_root()
    if root is None or not (root / "multi30k").exists() or not (root / "ntrex").exists():
        pytest.skip(f"{data.ENVIRONMENT} names no folder with Multi30k and NTREX-128")
    return root


# Lines


@pytest.mark.parametrize("name", ["text.de", "text.de.gz"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path, name):
    characters = ["a\u2028b", "a\x85b", "a\x0bb\x0cc", "a\x1cb", "a\rb"]
    assert read(put(tmp_path / name, characters)).sentences == characters


def test_byte_order_mark_carriage_returns_and_outer_white_space_are_no_part_of_a_sentence(tmp_path):
    path = put(tmp_path / "text", "\ufeffein Haus\r\n  ein\xa0Baum \t\r\n\u3000Ende".encode())
    assert read(path).sentences == ["ein Haus", "ein\xa0Baum", "Ende"]


def test_a_byte_that_is_not_utf_8_is_named_with_file_line_and_place(tmp_path):
    path = put(tmp_path / "train.de", b"gut\nnicht gut: \xff\n")
    with pytest.raises(UsageError, match=r"train\.de .*line 2 is not UTF-8: byte 0xff at place 12"):
        read(path)


@pytest.mark.parametrize("cut", [3, 30, -1])
def test_a_packed_file_that_is_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "train.de.gz"
    path.write_bytes(gzip.compress(b"eins\nzwei\n" * 100)[:cut])
    with pytest.raises(UsageError, match=r"train\.de\.gz .*cannot be unpacked"):
        read(path)


def test_a_file_that_is_not_packed_as_its_name_says_is_refused(tmp_path):
    (tmp_path / "train.de.gz").write_bytes(b"eins\n")
    with pytest.raises(UsageError, match="cannot be unpacked"):
        read(tmp_path / "train.de.gz")


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"val\.cs is not usable: it is empty"):
        read(put(tmp_path / "val.cs", []))


@pytest.mark.parametrize("pair", [bitext, bitext_without_gaps])
def test_unequal_line_counts_name_both_files_and_counts(tmp_path, pair):
    foreign, central = put(tmp_path / "a.de", ["eins", "zwei"]), put(tmp_path / "a.en", ["one", "two", "three"])
    says = r"{} is not usable: it has {} lines and .*{}.* has {}: line 3 of a\.en has nothing"
    with pytest.raises(UsageError, match=says.format(r"a\.de", 2, r"a\.en", 3)):
        pair(read(foreign), read(central))
    with pytest.raises(UsageError, match=says.format(r"a\.en", 3, r"a\.de", 2)):
        pair(read(central), read(foreign))


@pytest.mark.parametrize(("german", "english", "empty"), [("  ", "two", "a.de"), ("zwei", "", "a.en")])
def test_an_empty_side_is_named_with_its_file_and_line(tmp_path, german, english, empty):
    foreign, central = put(tmp_path / "a.de", ["eins", german]), put(tmp_path / "a.en", ["one", english])
    with pytest.raises(UsageError, match=rf"{empty} is not usable: line 2 is empty"):
        bitext(read(foreign), read(central))


def test_where_gaps_are_allowed_both_sides_of_one_are_left_out_and_counted(tmp_path):
    foreign = read(put(tmp_path / "a.de", ["eins", "", "drei", ""]))
    central = read(put(tmp_path / "a.en", ["one", "two", "three", ""]))
    assert bitext_without_gaps(foreign, central) == (Bitext(["eins", "drei"], ["one", "three"]), 2)


def test_text_of_which_no_pair_is_left_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no line has a sentence both"):
        bitext_without_gaps(read(put(tmp_path / "a.de", ["", "b"])), read(put(tmp_path / "a.en", ["a", ""])))


# Multi30k


def put_multi30k(root):
    for stem, languages in multi30k.SPLITS.values():
        for language in ("en", *languages):
            sentences = [f"{stem} {language} {i}" for i in range(3)]
            put(root / f"multi30k/data/task1/raw/{stem}.{language}.gz", sentences)
    return root


def test_multi30k_has_its_official_splits_in_the_languages_that_each_exists_in(tmp_path):
    corpus = multi30k.load(put_multi30k(tmp_path), "nmt/multi30k")
    assert corpus.centre == "en"
    assert corpus.languages == ["de", "fr", "cs"]
    held = {split: list(texts) for split, texts in corpus.splits.items()}
    assert {split for split, languages in held.items() if languages == ["de", "fr", "cs"]} == {
        *REQUIRED,
        "test_2018_flickr",
    }
    assert held["test_2017_flickr"] == held["test_2017_mscoco"] == ["de", "fr"]
    assert corpus.splits["test"]["cs"].foreign[1] == "test_2016_flickr cs 1"
    assert corpus.splits["test"]["cs"].central[1] == "test_2016_flickr en 1"


def test_multi30k_keeps_its_order_of_languages_and_has_no_split_without_any(tmp_path):
    put_multi30k(tmp_path)
    assert multi30k.load(tmp_path, "nmt/multi30k", ["cs", "de"]).languages == ["de", "cs"]
    with pytest.raises(UsageError, match=r"languages=\[cs,de,cs\] .*twice"):
        multi30k.load(tmp_path, "nmt/multi30k", ["cs", "de", "cs"])
    only_czech = multi30k.load(tmp_path, "nmt/multi30k", ["cs"])
    assert sorted(only_czech.splits) == ["test", "test_2018_flickr", "train", "val"]


@pytest.mark.parametrize("languages", [["de", "dee"], []])
def test_an_unknown_language_or_none_is_refused_with_those_that_are_there(tmp_path, languages):
    with pytest.raises(UsageError, match=r"de.*fr"):
        multi30k.load(put_multi30k(tmp_path), "nmt/multi30k", languages)


def test_a_missing_multi30k_file_is_named_with_the_command_that_gets_it(tmp_path):
    put_multi30k(tmp_path)
    (tmp_path / "multi30k/data/task1/raw/val.fr.gz").unlink()
    with pytest.raises(DataMissing, match=r"val\.fr\.gz(.|\n)*mtlbench data fetch nmt/multi30k"):
        multi30k.load(tmp_path, "nmt/multi30k")
    with pytest.raises(DataMissing, match=data.ENVIRONMENT):
        multi30k.load(None, "nmt/multi30k")


@pytest.mark.parametrize("name", ["multi30k", "ntrex"])
def test_the_real_files_have_the_declared_checksums(real, name):
    assert {state.state for state in fetching.verify(data.datasets("nmt")[name], real)} == {"verified"}


def test_the_real_multi30k_has_the_published_numbers_of_sentences_and_its_lines_correspond(real):
    corpus = multi30k.load(real, "nmt/multi30k")
    sizes = {split: {len(side) for text in texts.values() for side in text} for split, texts in corpus.splits.items()}
    assert sizes == {
        "train": {29_000},
        "val": {1_014},
        "test": {1_000},
        "test_2017_flickr": {1_000},
        "test_2017_mscoco": {461},
        "test_2018_flickr": {1_071},
    }
    first = corpus.splits["train"]["de"]
    assert first.central[0] == "Two young, White males are outside near many bushes."
    assert first.foreign[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert corpus.splits["test"]["fr"].foreign[0] == "Un homme avec un chapeau orange regardant quelque chose."


# NTREX-128


def put_ntrex(root, *codes, suffix=".gz"):
    folder = root / "ntrex/NTREX-128"
    put(folder / f"{ntrex.SOURCE}{suffix}", [f"news {i}\r" for i in range(3)])
    for code in codes:
        put(folder / f"newstest2019-ref.{code}.txt{suffix}", [f"{code} {i}\r" for i in range(3)])
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_ntrex_is_found_by_codes_of_two_and_three_letters_where_its_files_are(tmp_path, suffix):
    put_ntrex(tmp_path, "deu", "ces", "aze-Latn", suffix=suffix)
    found = ntrex.extra(tmp_path, ["de", "ces", "aze", "fra", "chr"])
    assert {code: text.foreign[2] for code, text in found.items()} == {
        "de": "deu 2",
        "ces": "ces 2",
        "aze": "aze-Latn 2",
    }
    assert found["de"].central == ["news 0", "news 1", "news 2"]


def test_without_ntrex_there_is_no_extra_test_set_and_the_probe_says_how_to_get_it(tmp_path):
    assert ntrex.extra(None, ["de"]) == ntrex.extra(tmp_path, ["de"]) == {}
    with pytest.raises(DataMissing, match=r"NTREX-128(.|\n)*mtlbench data fetch nmt "):
        ntrex.probe(tmp_path, ["de"])


def test_an_ntrex_file_with_other_lines_than_the_english_one_is_an_error(tmp_path):
    put(put_ntrex(tmp_path, "deu", "fra") / "newstest2019-ref.fra.txt.gz", ["un", "deux"])
    with pytest.raises(UsageError, match=r"ref\.fra\.txt\.gz .*has 2 lines .* has 3"):
        ntrex.extra(tmp_path, ["de", "fr"])


def test_no_language_stands_for_two_ntrex_files_and_every_declared_file_is_known():
    codes = [code for file, others in ntrex.REFERENCES.items() for code in (file, *others.split())]
    assert len(codes) == len(set(codes))
    declared = {file.name for file in data.datasets("nmt")["ntrex"].files}
    assert declared < {ntrex.SOURCE} | {f"newstest2019-ref.{file}.txt" for file in ntrex.REFERENCES}
    assert len(declared) == 65
    assert {language for group in ted8.GROUPS.values() for language in group} <= ntrex._FILES.keys()


def test_corpora_in_another_script_than_the_ntrex_file_are_not_tested_on_it():
    assert not {"sr", "cmn"} & set(ntrex._FILES)
    assert [ntrex._FILES[code] for code in ("zh", "zho", "srp")] == ["zho-CN", "zho-TW", "srp-Cyrl"]


def test_the_real_probe_is_the_same_1997_sentences_in_every_language(real):
    english, foreign = ntrex.probe(real, list(ntrex.REFERENCES))
    assert len(foreign) >= 64
    assert {len(english), *map(len, foreign.values())} == {1997}
    assert "\r" not in "".join(english)
    assert english[0].startswith("Welsh AMs worried about")
    assert foreign["deu"][0].startswith("Mitglieder der Nationalversammlung für Wales")


# TED-8

HEADER = ["talk_name", "en", "pt-br", "pt", "az", "tr", "be", "ru", "gl", "sk", "cs"]


def put_tables(folder, rows=()):
    """The three tables, each with a full first row and then `rows` (lists of cells)."""
    for stem in ("train", "dev", "test"):
        full = [f"{stem} {column}" for column in HEADER]
        put(folder / f"all_talks_{stem}.tsv", ["\t".join(cells) for cells in (HEADER, full, *rows)])


def put_pairs(folder, languages, changed=None):
    for language in languages:
        for stem in ("train", "dev", "test"):
            for side in (language, "eng"):
                lines = [f"{stem} {language} {side} {i}" for i in range(3)]
                put(folder / f"{language}_eng/ted-{stem}.orig.{side}", (changed or {}).get((stem, side), lines))


@pytest.mark.parametrize("folder", ["ted8", "ted"])
def test_ted_tables_are_read_by_column_and_dev_is_the_validation_split(tmp_path, folder):
    put_tables(tmp_path / folder)
    corpus = corpora.load("ted8-related", tmp_path, None)
    assert corpus.languages == ["aze", "tur", "bel", "rus", "glg", "por", "slk", "ces"]
    assert corpus.splits["val"]["slk"] == Bitext(["dev sk"], ["dev en"])
    assert corpus.splits["test"]["por"] == Bitext(["test pt-br"], ["test en"])
    assert corpus.counts == {}


def test_rows_of_a_ted_table_without_a_translation_are_left_out_and_counted(tmp_path):
    gaps = [
        ["talk", "two", "dois", "dois", "__NULL__", "iki", " ", "dva", "_ _ NULL _ _", "dva", "dva"],
        ["talk", "__NULL__", "três", "três", "üç", "üç", "try", "tri", "tres", "tri", "tři"],
        ["talk", "cut short"],
        ["talk", '"four', "quatro", "quatro", "dörd", 'dört"', "c", "č", "g", "s", "c"],
    ]
    put_tables(tmp_path / "ted8", gaps)
    corpus = corpora.load("ted8-related", tmp_path, ["aze", "tur"])
    assert corpus.splits["train"]["aze"] == Bitext(["train az", "dörd"], ["train en", '"four'])
    assert corpus.splits["train"]["tur"] == Bitext(["train tr", "iki", 'dört"'], ["train en", "two", '"four'])
    assert corpus.counts == {
        "rows without a translation left out: aze": 6,
        "rows without a translation left out: tur": 3,
        "rows with too few or too many cells left out": 3,
    }


def test_a_ted_table_without_the_column_of_a_language_is_refused(tmp_path):
    put_tables(tmp_path / "ted8")
    with pytest.raises(UsageError, match=r"all_talks_train\.tsv .*names no column bs"):
        corpora.load("ted8-diverse", tmp_path, ["bos"])


def test_ted_pairs_are_read_from_their_folders_before_any_table(tmp_path):
    put_tables(tmp_path / "ted8")
    put_pairs(tmp_path / "ted", ["aze", "tur"], {("train", "eng"): ["one", "", "three"]})
    corpus = corpora.load("ted8-related", tmp_path, ["aze", "tur"])
    assert corpus.splits["train"]["aze"] == Bitext(["train aze aze 0", "train aze aze 2"], ["one", "three"])
    assert corpus.splits["val"]["tur"].central[2] == "dev tur eng 2"
    assert corpus.counts == {f"pairs with an empty side left out: {language}": 1 for language in ("aze", "tur")}


def test_ted_groups_hold_eight_languages_each_and_only_those(tmp_path):
    assert [len(group) for group in ted8.GROUPS.values()] == [8, 8]
    assert {language for group in ted8.GROUPS.values() for language in group} == set(ted8.COLUMNS)
    with pytest.raises(UsageError, match=r"nmt/ted8-related: 'fra'.*aze"):
        corpora.load("ted8-related", tmp_path, ["fra"])


@pytest.mark.parametrize("variant", list(ted8.GROUPS))
def test_without_ted_files_the_error_names_the_official_source_and_the_paths(tmp_path, variant):
    put_tables(tmp_path / "ted8")
    (tmp_path / "ted8/all_talks_dev.tsv").unlink()
    with pytest.raises(DataMissing) as raised:
        corpora.load(variant, tmp_path, None)
    for expected in (
        f"nmt/{variant}",
        ted8.ARCHIVE,
        data.datasets("nmt")["ted8"].source,
        str(tmp_path / "ted8"),
        "of its files all_talks_dev.tsv are in none",
    ):
        assert expected in str(raised.value)
    with pytest.raises(DataMissing, match=data.ENVIRONMENT):
        corpora.load(variant, None, None)


def test_a_ted_pair_that_is_not_whole_is_named(tmp_path):
    put_pairs(tmp_path / "ted8", ["aze", "tur"])
    (tmp_path / "ted8/tur_eng/ted-dev.orig.eng").unlink()
    with pytest.raises(DataMissing, match=r"of its files tur_eng/ted-dev\.orig\.eng are in none of .*/ted8,"):
        corpora.load("ted8-related", tmp_path, ["aze", "tur"])
    with pytest.raises(DataMissing, match=r"bel_eng/ted-train\.orig\.bel, .* and 2 more are in none"):
        corpora.load("ted8-related", tmp_path, ["aze", "bel"])


# OPUS-100

SUPERVISED = "opus-100-corpus/v1.0/supervised"


def put_opus(root, pair, stems=("train", "dev", "test"), changed=None, folder=SUPERVISED):
    for stem in stems:
        for side in pair.split("-"):
            lines = [f"{pair} {stem} {side} {i}" for i in range(3)]
            put(root / folder / pair / f"opus.{pair}-{stem}.{side}", (changed or {}).get((stem, side), lines))


def test_opus_100_has_every_pair_that_is_there_whichever_side_english_stands_on(tmp_path):
    for pair in ("de-en", "en-fr", "af-en"):
        put_opus(tmp_path, pair)
    corpus = corpora.load("opus100", tmp_path, None)
    assert corpus.languages == ["af", "de", "fr"]
    assert corpus.splits["val"]["fr"].foreign[0] == "en-fr dev fr 0"
    assert corpus.splits["val"]["fr"].central[0] == "en-fr dev en 0"
    assert corpus.splits["test"]["de"].foreign[2] == "de-en test de 2"
    assert corpus.counts == {}
    assert corpora.load("opus100", tmp_path, ["fr", "af"]).languages == ["af", "fr"]


def test_a_hidden_folder_is_no_pair_of_opus_100(tmp_path):
    put_opus(tmp_path, "de-en")
    (tmp_path / SUPERVISED / "._fr-en").mkdir()
    (tmp_path / SUPERVISED / ".en-fr").mkdir()
    assert opus100.load(tmp_path, "nmt/opus100").languages == ["de"]


def test_opus_100_unpacked_in_a_folder_of_its_own_is_found(tmp_path):
    put_opus(tmp_path / "opus100", "de-en")
    put_opus(tmp_path, "en-fr", folder="opus100")
    assert opus100.load(tmp_path, "nmt/opus100").languages == ["de", "fr"]


@pytest.mark.parametrize("lost", ["dev.de", "dev.en", "test.de", "test.en"])
def test_an_opus_100_pair_of_which_one_file_is_lost_is_refused(tmp_path, lost):
    for pair in ("de-en", "en-fr"):
        put_opus(tmp_path, pair)
    (tmp_path / SUPERVISED / "de-en" / f"opus.de-en-{lost}").unlink()
    with pytest.raises(UsageError, match=rf"the language de: .* without de-en/opus\.de-en-{lost}\. "):
        corpora.load("opus100", tmp_path, None)


def test_opus_100_pairs_without_dev_and_test_files_are_left_out_and_counted(tmp_path):
    put_opus(tmp_path, "de-en", changed={("train", "de"): ["a", "", "c"]})
    put_opus(tmp_path, "an-en", ["train"])
    corpus = corpora.load("opus100", tmp_path, None)
    assert corpus.languages == ["de"]
    assert corpus.splits["train"]["de"] == Bitext(["a", "c"], ["de-en train en 0", "de-en train en 2"])
    assert corpus.counts == {
        "languages without dev and test files left out: an": 1,
        "pairs with an empty side left out: de": 1,
    }


def test_opus_100_does_not_leave_out_a_language_that_was_asked_for(tmp_path):
    put_opus(tmp_path, "de-en")
    put_opus(tmp_path, "an-en", ["train"])
    with pytest.raises(UsageError, match=r"the language an: .*opus\.an-en-dev\.an"):
        corpora.load("opus100", tmp_path, ["de", "an"])
    with pytest.raises(UsageError, match=r"language of nmt/opus100: 'fr'.*an, de"):
        corpora.load("opus100", tmp_path, ["fr"])


def test_opus_100_with_nothing_but_pairs_that_cannot_be_scored_is_refused(tmp_path):
    put_opus(tmp_path, "an-en", ["train"])
    with pytest.raises(UsageError, match="none of an has dev and test files"):
        corpora.load("opus100", tmp_path, None)


def test_an_opus_100_pair_without_its_training_text_is_refused(tmp_path):
    put_opus(tmp_path, "de-en", ["dev", "test"])
    with pytest.raises(UsageError, match=r"opus\.de-en-train\.de"):
        corpora.load("opus100", tmp_path, None)


def test_without_opus_100_the_error_names_the_official_source_and_the_paths(tmp_path):
    with pytest.raises(DataMissing) as raised:
        corpora.load("opus100", tmp_path, None)
    for expected in ("nmt/opus100", "https://opus.nlpl.eu/OPUS-100", str(tmp_path / SUPERVISED), "opus.de-en-train.de"):
        assert expected in str(raised.value)


# Any corpus


def test_every_corpus_gets_ntrex_as_an_extra_test_set_in_the_languages_that_it_has(tmp_path):
    put_multi30k(tmp_path)
    assert "ntrex" not in corpora.load("multi30k", tmp_path, None).splits
    put_ntrex(tmp_path, "deu", "ces", "fin")
    corpus = corpora.load("multi30k", tmp_path, None)
    assert {code: text.foreign[0] for code, text in corpus.splits["ntrex"].items()} == {"de": "deu 0", "cs": "ces 0"}
    put_pairs(tmp_path / "ted8", ["ces", "glg"])
    assert list(corpora.load("ted8-related", tmp_path, ["ces", "glg"]).splits["ntrex"]) == ["ces"]
    put_ntrex(tmp_path, "glg")
    assert list(corpora.load("ted8-related", tmp_path, ["ces", "glg"]).splits["ntrex"]) == ["glg", "ces"]


def test_an_unknown_corpus_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"multi30.*Did you mean 'multi30k'"):
        corpora.load("multi30", tmp_path, None)


def test_damaged_text_is_reported_from_the_loader_with_file_and_line(tmp_path):
    put_multi30k(tmp_path)
    put(tmp_path / "multi30k/data/task1/raw/test_2018_flickr.cs.gz", b"jedna\ndv\xe1\ntri\n")
    with pytest.raises(UsageError, match=r"test_2018_flickr\.cs\.gz .*line 2 is not UTF-8"):
        corpora.load("multi30k", tmp_path, ["cs"])
