"""The files of Tatoeba and BUCC: what is read from which layout, and what cannot be used."""

import gzip
import io
import os
import re
import tarfile
from pathlib import Path

import pytest

from mtlbench.catalogue.data import datasets
from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.xtreme.retrieval import bucc, tatoeba
from mtlbench.tasks.xtreme.retrieval.tatoeba import LASER, Pair

OWN = ["zwei\n", "eins\n", "drei\n"]
ENGLISH = ["two\n", "one\n", "three\n"]
PAIRS = [Pair("zwei", "two"), Pair("eins", "one"), Pair("drei", "three")]


def laser(root: Path, code: str = "deu", own=OWN, english=ENGLISH, folder: str = "xtreme/tatoeba") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / f"tatoeba.{code}-eng.{code}").write_text("".join(own))
    (root / folder / f"tatoeba.{code}-eng.eng").write_text("".join(english))
    return root


def archive(root: Path, members: dict[str, str | tarfile.TarInfo]) -> Path:
    (root / "tatoeba_laser").mkdir(parents=True, exist_ok=True)
    path = root / "tatoeba_laser" / "tatoeba_v1.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if isinstance(content, tarfile.TarInfo) else content.encode()
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def pairs(root: Path, languages=None):
    return tatoeba.load(root, languages, "xtreme/tatoeba").splits["test"]


def test_lasers_files_are_pairs_line_by_line_under_xtremes_codes(tmp_path):
    laser(tmp_path)
    laser(tmp_path, "cmn", ["二\n"], ["two\n"], "tatoeba")
    found = tatoeba.load(tmp_path, None, "xtreme/tatoeba")
    assert dict(found.splits["test"]) == {"de": PAIRS, "zh": [Pair("二", "two")]}
    assert found.splits["val"] == found.splits["test"]
    assert found.sources["de"] == {"val": "test"}
    assert found.splits["train"] == {}
    assert found.unlabelled == {}
    assert len(found.facts["left_out"]) == 34
    assert pairs(tmp_path, ["de"]) == {"de": PAIRS}


def test_the_codes_are_those_of_xtremes_36_languages():
    assert len(LASER) == 36
    assert "en" not in LASER
    assert [LASER[code] for code in ("fa", "sw", "zh", "af")] == ["pes", "swh", "cmn", "afr"]
    declared = {file.name for file in datasets("xtreme")["tatoeba"].files}
    assert declared == {f"tatoeba.{code}-eng.{side}" for code in LASER.values() for side in (code, "eng")}


def test_a_packed_file_and_an_archive_serve_too_and_nothing_is_unpacked(tmp_path):
    laser(tmp_path)
    for path in (tmp_path / "xtreme" / "tatoeba").iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    members = {f"data/tatoeba/v1/tatoeba.fra-eng.{side}": f"{side}\n" for side in ("fra", "eng")}
    members |= {f"data/tatoeba/v1/tatoeba.deu-eng.{side}": f"{side}\n" for side in ("deu", "eng")}
    path = archive(tmp_path, {"data/README.md": "", **members, "data/tatoeba/v1/tatoeba.ang-eng.ang": "þæt\n"})
    assert pairs(tmp_path) == {"de": PAIRS, "fr": [Pair("fra", "eng")]}
    assert [*path.parent.iterdir()] == [path]


def test_a_link_in_an_archive_is_no_file(tmp_path):
    link = tarfile.TarInfo("v1/tatoeba.deu-eng.deu")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive(tmp_path, {"link": link, "v1/tatoeba.deu-eng.eng": "one\n"})
    with pytest.raises(DataMissing, match="needs LASER's Tatoeba"):
        pairs(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a/tatoeba.deu-eng.deu": "a\n", "b/tatoeba.deu-eng.deu": "b\n"}, "it holds tatoeba.deu-eng.deu twice"),
        ({"a/tatoeba.deu-eng.deu": "a" * (tatoeba.LARGEST + 1)}, r"tatoeba.deu-eng.deu in it has 8,388,609 bytes"),
        (
            {"a/tatoeba.deu-eng.deu": "a\nb\n", "a/tatoeba.deu-eng.eng": "a\n"},
            r"v1.tar.gz, a/tatoeba.deu-eng.deu has 2 lines and .*v1.tar.gz, a/tatoeba.deu-eng.eng 1",
        ),
    ],
)
def test_an_archive_that_cannot_be_used_is_named_with_its_member(tmp_path, members, message):
    archive(tmp_path, members)
    with pytest.raises(UsageError, match=message):
        pairs(tmp_path)


def test_a_damaged_archive_is_one_error(tmp_path):
    path = archive(tmp_path, {"a/tatoeba.deu-eng.deu": "a\n" * 5000, "a/tatoeba.deu-eng.eng": "a\n" * 5000})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=r"tatoeba_v1.tar.gz is not usable: it cannot be unpacked"):
        pairs(tmp_path)


def test_xtremes_own_files_are_refused_where_its_script_has_sorted_them_and_no_others_are_there(tmp_path):
    folder = tmp_path / "xtreme" / "tatoeba"
    folder.mkdir(parents=True)
    (folder / "de-en.de").write_text("".join(OWN))
    (folder / "de-en.en").write_text("".join(sorted(ENGLISH)))
    with pytest.raises(UsageError, match=r"de-en.en is not usable: its lines are in the order of the alphabet"):
        pairs(tmp_path)
    laser(tmp_path, folder="tatoeba_laser")
    assert pairs(tmp_path) == {"de": PAIRS}
    (folder / "fr-en.fr").write_text("".join(OWN))
    (folder / "fr-en.en").write_text("".join(ENGLISH))
    assert pairs(tmp_path, ["fr"]) == {"fr": PAIRS}


@pytest.mark.parametrize(
    ("own", "english", "message"),
    [
        (OWN, ENGLISH[:2], r"deu-eng.deu has 3 lines and .*deu-eng.eng 2: line n of one is the translation"),
        (["a\n", " \n", "b\n"], ENGLISH, r"deu-eng.deu is not usable: line 2 is empty"),
        (OWN, ["a\n", "b\n", "\n"], r"deu-eng.eng is not usable: line 3 is empty"),
        ([], [], r"deu-eng.deu is not usable: it has no line"),
    ],
)
def test_files_that_are_no_pairs_are_refused_with_file_and_line(tmp_path, own, english, message):
    with pytest.raises(UsageError, match=message):
        pairs(laser(tmp_path, "deu", own, english))


def test_bytes_that_are_no_text_are_refused_with_file_and_line(tmp_path):
    laser(tmp_path)
    (tmp_path / "xtreme" / "tatoeba" / "tatoeba.deu-eng.deu").write_bytes(b"a\n\xff\nb\n")
    with pytest.raises(UsageError, match=r"deu-eng.deu is not usable: line 2 is not UTF-8: byte 0xff"):
        pairs(tmp_path)


def test_missing_files_of_tatoeba_are_one_error_that_says_how_to_get_them(tmp_path):
    with pytest.raises(DataMissing, match="no data root is set") as error:
        pairs(None)
    assert "mtlbench data fetch xtreme/tatoeba data_root=DIR" in str(error.value)
    laser(tmp_path)
    with pytest.raises(DataMissing, match=r"of fr, and no tatoeba.XXX-eng.XXX is in"):
        pairs(tmp_path, ["de", "fr"])
    with pytest.raises(UsageError, match="Did you mean"):
        pairs(tmp_path, ["den"])


# --- BUCC

FILES = {
    "dev.de": "de-1\teins\nde-2\tzwei\n",
    "dev.en": "en-1\tone\nen-2\ttwo\n",
    "dev.gold": "de-1\ten-1\n",
    "test.de": "de-3\tdrei\n",
    "test.en": "en-3\tthree\n",
    "test.gold": "de-3\ten-3\n",
}
BUCCS = {"dev": "sample", "test": "training"}


def mining(root: Path, changed=None, folder: str = "xtreme/bucc2018", names=None) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, content in {**FILES, **(changed or {})}.items():
        split, _, end = name.partition(".")
        if content is not None:
            (root / folder / f"de-en.{(names or {}).get(split, split)}.{end}").write_text(content)
    return root


def lists(root, languages=None):
    return bucc.load(root, languages, "xtreme/bucc2018").splits


@pytest.mark.parametrize(
    ("folder", "names"),
    [("xtreme/bucc2018", {}), ("bucc2018", BUCCS), ("bucc2018/de-en", BUCCS)],
)
def test_xtremes_and_buccs_own_names_are_read(tmp_path, folder, names):
    found = lists(mining(tmp_path, folder=folder, names=names))
    ((val,), (test,)) = found["val"]["de"], found["test"]["de"]
    assert val.own == (("de-1", "de-2"), ("eins", "zwei"))
    assert val.english == (("en-1", "en-2"), ("one", "two"))
    assert (val.gold, test.gold) == ({("de-1", "en-1")}, {("de-3", "en-3")})
    assert found["train"] == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dev.de": "de-1\teins\nde-2 zwei\n"}, r"de-en.dev.de is not usable: line 2 \('de-2 zwei'\) is not an id"),
        ({"dev.en": "en-1\tone\nen-2\t\n"}, r"de-en.dev.en is not usable: line 2"),
        ({"dev.en": "en-1\tone\nen-1\ttwo\n"}, r"dev.en is not usable: line 2 has the id en-1, which another line"),
        ({"test.gold": "de-3\ten-4\n"}, r"test.gold is not usable: line 1 has the id en-4, which no sentence has"),
        ({"test.gold": ""}, r"test.gold is not usable: it has no line"),
        ({"test.de": "de-3\ta\tb\n"}, r"test.de is not usable: line 1"),
    ],
)
def test_a_damaged_file_of_bucc_is_refused_with_file_and_line(tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        lists(mining(tmp_path, changed))


def test_the_gold_pairs_that_xtremes_script_removes_are_asked_for(tmp_path):
    with pytest.raises(DataMissing, match=re.escape("neither de-en.test.gold nor de-en.training.gold is in")) as error:
        lists(mining(tmp_path, {"test.gold": None}))
    assert "XTREME's script removes this file" in str(error.value)
    with pytest.raises(DataMissing, match=r"neither fr-en\.dev\.fr nor fr-en\.sample\.fr is in"):
        lists(mining(tmp_path), ["fr"])
    with pytest.raises(DataMissing, match="no data root is set"):
        lists(None)


def test_the_real_files_are_whole_and_what_is_published_of_xtremes_labels_fits_them():
    if not (root := os.environ.get("MTLBENCH_DATA")) or not (Path(root) / "tatoeba_laser").is_dir():
        pytest.skip("MTLBENCH_DATA with tatoeba_laser is not there")
    found = pairs(Path(root))
    assert len(found) == 36
    assert max(map(len, found.values())) == 1000
    assert {code: len(found[code]) for code in ("jv", "sw", "ta", "te", "kk")} == {
        "jv": 205, "sw": 390, "ta": 307, "te": 234, "kk": 575,
    }  # fmt: skip
    # The first labels of `mock_test_data/labels/tatoeba/test-af.tsv`: English sentences by alphabet, lines from 0.
    by_alphabet = sorted(range(1000), key=lambda n: found["af"][n].english)
    assert by_alphabet[:10] == [308, 441, 713, 233, 757, 35, 93, 939, 872, 52]
