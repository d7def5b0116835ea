"""TED-8: talks in two groups of eight languages and English, from the two public forms of the corpus.

Read is the first of these that is there whole:

- The text of Wang et al. (2020, arXiv:2004.06748) as `util_scripts/prepare_multilingual_data.sh` of
  https://github.com/cindyxinyiwang/multiDDS (commit a227738) expects it: `CODE_eng/ted-SPLIT.orig.CODE` and
  `CODE_eng/ted-SPLIT.orig.eng`, SPLIT one of train, dev, test, CODE of ISO 639-3; one sentence a line.
- The tables of Qi et al. (2018, N18-2084), https://github.com/neulab/word-embeddings-for-nmt: `all_talks_train.tsv`,
  `all_talks_dev.tsv`, `all_talks_test.tsv`, with a row of column names (`talk_name` and two-letter codes), tabs
  between cells and no quoting. A missing translation is an empty cell or holds `__NULL__`, also as `_ _ NULL _ _`
  (so the reader of TensorFlow Datasets, `ted_multi_translate`). The text is tokenised, and stays so.

Pairs with a missing side are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtlbench.catalogue.data import ENVIRONMENT, DataSet, datasets, find
from mtlbench.errors import DataMissing

from ..._text.languages import chosen
from ..._text.lines import stream, unusable
from ..corpus import Bitext, Corpus
from .lines import bitext_without_gaps, read

GROUPS = {
    "ted8-related": ("aze", "tur", "bel", "rus", "glg", "por", "slk", "ces"),
    "ted8-diverse": ("bos", "mar", "hin", "mkd", "ell", "bul", "fra", "kor"),
}
"""Variant -> its languages (Wang et al. 2020, arXiv:2004.06748)."""

COLUMNS = {
    "aze": "az",
    "tur": "tr",
    "bel": "be",
    "rus": "ru",
    "glg": "gl",
    "por": "pt-br",
    "slk": "sk",
    "ces": "cs",
    "bos": "bs",
    "mar": "mr",
    "hin": "hi",
    "mkd": "mk",
    "ell": "el",
    "bul": "bg",
    "fra": "fr",
    "kor": "ko",
}
"""Language -> its column of the tables. Portuguese has two; that `por` is `pt-br` is this suite's choice."""

SPLITS = {"train": "train", "val": "dev", "test": "test"}

MISSING = ("__NULL__", "_ _ NULL _ _")

ARCHIVE = "http://phontron.com/data/ted_talks.tar.gz"
"""352,222,045 bytes."""
ARCHIVE_SHA256 = "03457b9ebc6d60839f1a48c5a03c940266aff78b81fcda4c6d9e2a5a7fb670ae"
"""As TensorFlow Datasets records it (`url_checksums/ted_multi_translate.txt`)."""


def load(root: Path | None, wanted_by: str, languages: Sequence[str] | None, group: Sequence[str]) -> Corpus:
    """Training, validation and test split of some languages of a group.

    Args:
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs the corpus, for messages.
        languages: some of `group`; None for all.
        group: one of `GROUPS`.

    Raises:
        UsageError: an unknown language, or a file that is damaged (see `lines`).
        DataMissing: the files of neither form are there.
    """
    dataset = datasets("nmt")["ted8"]
    wanted = chosen(languages, group, wanted_by)
    pairs = [name for language in wanted for split in SPLITS for name in _pair(language, split)]
    tables = [_table_name(split) for split in SPLITS]
    found = {name: path for name in (*pairs, *tables) if (path := find(dataset, name, root))}
    if found.keys() >= set(pairs):
        return _from_pairs(found, wanted)
    if found.keys() >= set(tables):
        return _from_tables(found, wanted)
    begun = pairs if found.keys() & pairs else tables if found else []
    raise _missing(dataset, root, wanted_by, [name for name in begun if name not in found])


def _pair(language: str, split: str) -> tuple[str, str]:
    """Names of the files of one language in one split, the foreign side first."""
    start = f"{language}_eng/ted-{SPLITS[split]}.orig."
    return f"{start}{language}", f"{start}eng"


def _table_name(split: str) -> str:
    return f"all_talks_{SPLITS[split]}.tsv"


def _from_pairs(paths: Mapping[str, Path], languages: Sequence[str]) -> Corpus:
    counts: Counter[str] = Counter()
    splits: dict[str, dict[str, Bitext]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for language in languages:
            foreign, central = (read(paths[name]) for name in _pair(language, split))
            splits[split][language], gaps = bitext_without_gaps(foreign, central)
            counts[f"pairs with an empty side left out: {language}"] += gaps
    return Corpus(splits, counts=+counts)


def _from_tables(paths: Mapping[str, Path], languages: Sequence[str]) -> Corpus:
    counts: Counter[str] = Counter()
    splits = {split: _table(paths[_table_name(split)], languages, counts) for split in SPLITS}
    return Corpus(splits, counts=+counts)


def _table(path: Path, languages: Sequence[str], counts: Counter[str]) -> dict[str, Bitext]:
    rows = stream(path)
    header = next(rows, "").split("\t")
    absent = [code for code in ("en", *(COLUMNS[language] for language in languages)) if code not in header]
    if absent:
        raise unusable(path, f"line 1 names no column {', '.join(absent)}; it has {', '.join(header[:70])}")
    columns = {language: header.index(COLUMNS[language]) for language in languages}
    english = header.index("en")
    found: dict[str, Bitext] = {language: Bitext([], []) for language in languages}
    for row in rows:
        cells = row.split("\t")
        if len(cells) != len(header):
            counts["rows with too few or too many cells left out"] += 1
            continue
        central = _sentence(cells[english])
        for language, column in columns.items():
            foreign = _sentence(cells[column])
            if foreign and central:
                found[language].foreign.append(foreign)
                found[language].central.append(central)
            else:
                counts[f"rows without a translation left out: {language}"] += 1
    for language, pairs in found.items():
        if not pairs.foreign:
            raise unusable(
                path, f"no row has both a sentence in {language} (column {COLUMNS[language]}) and in English"
            )
    return found


def _sentence(cell: str) -> str:
    return "" if any(mark in cell for mark in MISSING) else cell.strip()


def _missing(dataset: DataSet, root: Path | None, wanted_by: str, absent: Sequence[str]) -> DataMissing:
    folders = ", ".join(str(root / folder) for folder in dataset.folders) if root else ""
    if root is None:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    elif absent:
        more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
        looked = f"of its files {', '.join(absent[:4])}{more} are in none of {folders}"
    else:
        looked = f"its files are in none of {folders}"
    return DataMissing(
        f"{wanted_by} needs {dataset.title}, and {looked}. Expected is one of\n"
        "  all_talks_train.tsv, all_talks_dev.tsv and all_talks_test.tsv, from "
        f"{ARCHIVE} (sha256 {ARCHIVE_SHA256}; see {dataset.source})\n"
        "  CODE_eng/ted-{train,dev,test}.orig.{CODE,eng} for every language CODE, as "
        "https://github.com/cindyxinyiwang/multiDDS prepares it\n"
        f"They cannot be downloaded by a command: get them by hand, and put them into "
        f"{root or 'DIR'}/{dataset.folders[0]}."
    )
