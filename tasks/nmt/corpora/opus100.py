"""OPUS-100: sentences in up to 99 languages and English, sampled from the OPUS collection.

The official corpus is read unpacked (https://opus.nlpl.eu/OPUS-100, Zhang et al. 2020, arXiv:2004.11867):
`opus-100-corpus/v1.0/supervised/PAIR/opus.PAIR-SPLIT.LANGUAGE`, PAIR two codes in alphabetic order (`de-en`, `en-fr`),
SPLIT one of train, dev, test. The archive of all pairs and those of single pairs unpack to the same paths.

A few small pairs have no dev and test files; they cannot be objectives and are left out. The text is what crawling and
alignment gave: pairs with an empty side are left out. Both are counted. A pair that lacks some of its files is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mtlbench.catalogue.data import ENVIRONMENT, DataSet, datasets, find, visible
from mtlbench.errors import DataMissing, UsageError

from ..._text.languages import chosen
from ..corpus import Bitext, Corpus
from .lines import bitext_without_gaps, read

SPLITS = {"train": "train", "val": "dev", "test": "test"}


def load(root: Path | None, wanted_by: str, languages: Sequence[str] | None = None) -> Corpus:
    """Training, validation and test split of some languages.

    Args:
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs the corpus, for messages.
        languages: two-letter codes; None for every language that is found and has all three splits.

    Raises:
        UsageError: a language that is not there or lacks a split, a pair of which some files are missing, or a file
            that is damaged (see `lines`).
        DataMissing: no language at all is there.
    """
    dataset = datasets("nmt")["opus100"]
    pairs = _pairs(dataset, root)
    if not pairs:
        raise _missing(dataset, root, wanted_by)
    wanted = chosen(languages, pairs, wanted_by)
    counts: Counter[str] = Counter()
    splits: dict[str, dict[str, Bitext]] = {split: {} for split in SPLITS}
    for language in wanted:
        files = _files(dataset, root, pairs[language], language)
        if absent := [name for sides in files.values() for name, path in sides.items() if path is None]:
            unpublished = [*files["val"], *files["test"]]
            if languages is not None or absent != unpublished:
                raise UsageError(
                    f"{wanted_by} cannot have the language {language}: {dataset.title} is there without "
                    f"{', '.join(absent)}. Leave the language out, or get these files from {dataset.source}."
                )
            counts[f"languages without dev and test files left out: {language}"] = 1
            continue
        for split, sides in files.items():
            foreign, central = (read(path) for path in sides.values() if path is not None)
            splits[split][language], gaps = bitext_without_gaps(foreign, central)
            counts[f"pairs with an empty side left out: {language}"] += gaps
    if not splits["train"]:
        raise UsageError(f"{wanted_by}: none of {', '.join(wanted)} has dev and test files. Add other languages.")
    return Corpus(splits, counts=+counts)


def _pairs(dataset: DataSet, root: Path | None) -> dict[str, str]:
    """Language -> pair, for every folder of a pair that is there."""
    found = {}
    folders = [root / folder for folder in dataset.folders] if root else []
    for folder in folders:
        for path in visible(folder, "*-*"):
            codes = path.name.split("-")
            if "en" in codes and len(codes) == 2 and path.is_dir():
                found[codes[codes[0] == "en"]] = path.name
    return dict(sorted(found.items()))


def _files(dataset: DataSet, root: Path | None, pair: str, language: str) -> dict[str, dict[str, Path | None]]:
    """Split -> name -> where it is, the foreign side first."""
    names = {
        split: [f"{pair}/opus.{pair}-{stem}.{side}" for side in (language, "en")] for split, stem in SPLITS.items()
    }
    return {split: {name: find(dataset, name, root) for name in sides} for split, sides in names.items()}


def _missing(dataset: DataSet, root: Path | None, wanted_by: str) -> DataMissing:
    if root is None:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    else:
        looked = f"there is no pair in {' or '.join(str(root / folder) for folder in dataset.folders)}"
    return DataMissing(
        f"{wanted_by} needs {dataset.title}, and {looked}. Expected are files like "
        f"{root or 'DIR'}/{dataset.folders[0]}/de-en/opus.de-en-train.de.\n"
        f"It cannot be downloaded by a command: get it from its official source, {dataset.source} (all pairs: "
        "https://object.pouta.csc.fi/OPUS-100/v1.0/opus-100-corpus-v1.0.tar.gz, one: opus-100-corpus-de-en-v1.0.tar.gz "
        f"there), and unpack it in {root or 'DIR'}."
    )
