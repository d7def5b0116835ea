"""The files of BUCC 2018: sentences of two languages, a few of which are translations of each other.

`LL-en.SPLIT.LL`, `LL-en.SPLIT.en` and `LL-en.SPLIT.gold`. XTREME calls BUCC's `sample` part `dev` and its `training`
part `test`, and removes the gold pairs of the latter: they are in BUCC's own archives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtlbench.catalogue.data import ENVIRONMENT, datasets
from mtlbench.errors import DataMissing

from ..._text.languages import chosen
from ..._text.lines import stream, unusable
from ..corpus import Corpus

LANGUAGES = ("de", "fr", "ru", "zh")
ENGLISH = "en"
PARTS: Mapping[str, Sequence[str]] = {"val": ("dev", "sample"), "test": ("test", "training")}
"""Split -> what XTREME and BUCC call its files."""


class Side(NamedTuple):
    """Sentences of one language, and their ids."""

    ids: Sequence[str]
    texts: Sequence[str]


class Lists(NamedTuple):
    """The sentences of two languages, and which are translations of each other."""

    own: Side
    english: Side
    gold: frozenset[tuple[str, str]]
    """Ids of a sentence and of its English translation."""


def load(root: Path | None, languages: Sequence[str] | None, wanted_by: str) -> Corpus[Lists]:
    """One pair of lists for each language, as the splits `val` (XTREME's dev) and `test`.

    Args:
        root: the data root, or None where none was given.
        languages: codes; None for all that are there.
        wanted_by: the `task/variant`, for messages.

    Raises:
        DataMissing: there is no file, or not all of a language.
        UsageError: an unknown language, or a damaged file; names file and line.
    """
    asked = chosen(languages, LANGUAGES, wanted_by)
    splits: dict[str, dict[str, list[Lists]]] = {"train": {}, "val": {}, "test": {}}
    absent: list[str] = []
    for code in asked:
        files = {split: [_find(root, code, PARTS[split], end) for end in (code, ENGLISH, "gold")] for split in PARTS}
        if languages is None and not any(path for paths in files.values() for path in paths):
            absent.append(code)
            continue
        for split, paths in files.items():
            own, english, gold = (
                path or _lacking(root, code, split, end, wanted_by)
                for path, end in zip(paths, (code, ENGLISH, "gold"), strict=True)
            )
            sides = _side(own), _side(english)
            splits[split][code] = [Lists(*sides, _gold(gold, *sides))]
    if not splits["test"]:
        _lacking(root, asked[0], "test", asked[0], wanted_by)
    told = f"left out, since there are no files of them: {', '.join(absent)}"
    return Corpus(splits, unlabelled={}, notices=[told] if absent else [], facts={"left_out": absent} if absent else {})


def _find(root: Path | None, code: str, names: Sequence[str], end: str) -> Path | None:
    if root is None:
        return None
    pair = f"{code}-{ENGLISH}"
    for folder in datasets("xtreme")["bucc2018"].folders:
        for name in names:
            for place in (root / folder, root / folder / pair):
                for path in (place / f"{pair}.{name}.{end}", place / f"{pair}.{name}.{end}.gz"):
                    if path.is_file():
                        return path
    return None


def _lacking(root: Path | None, code: str, split: str, end: str, wanted_by: str) -> Path:
    dataset = datasets("xtreme")["bucc2018"]
    xtremes, official = (f"{code}-{ENGLISH}.{name}.{end}" for name in PARTS[split])
    if root is None:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    else:
        looked = f"neither {xtremes} nor {official} is in {' or '.join(str(root / f) for f in dataset.folders)}"
    removed = " XTREME's script removes this file, which is in BUCC's own archive of training data."
    raise DataMissing(
        f"{wanted_by} needs {dataset.title}, and {looked}.{removed if (split, end) == ('test', 'gold') else ''} The "
        f"files cannot be downloaded by a command: get them from {dataset.source}, and put them into "
        f"{root or 'DIR'}/{dataset.folders[0]}."
    )


def _cells(path: Path, what: str) -> list[tuple[int, str, str]]:
    """Number, first and second cell of each line."""
    found = []
    for number, line in enumerate(stream(path), 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            raise unusable(path, f"line {number} ({line[:60]!r}) is not {what}")
        found.append((number, cells[0], cells[1]))
    if not found:
        raise unusable(path, "it has no line")
    return found


def _side(path: Path) -> Side:
    lines = _cells(path, "an id, a tab and a sentence")
    seen: set[str] = set()
    for number, name, _ in lines:
        if name in seen:
            raise unusable(path, f"line {number} has the id {name}, which another line has too")
        seen.add(name)
    _, ids, texts = zip(*lines, strict=True)
    return Side(ids, texts)


def _gold(path: Path, own: Side, english: Side) -> frozenset[tuple[str, str]]:
    lines = _cells(path, "two ids with a tab between them")
    known = {*own.ids}, {*english.ids}
    for number, *pair in lines:
        for name, ids in zip(pair, known, strict=True):
            if name not in ids:
                raise unusable(path, f"line {number} has the id {name}, which no sentence has")
    return frozenset((a, b) for _, a, b in lines)
