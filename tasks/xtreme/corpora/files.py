"""The real problems: which files of which languages lie under the data root, and the splits that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.catalogue.data import ENVIRONMENT, datasets, visible
from mtlbench.errors import DataMissing, UsageError

from ..._text.languages import chosen
from ..options import Shares
from ..tagging import TAGS, Corpus, Kind, Sentence
from . import conllu, tsv
from .parts import parts

FILES = ("train", "dev", "test")
SOURCE = "en"
"""The language that zero-shot transfer is trained on."""

_TSV = re.compile(r"(train|dev|test)-([a-z]{2,3})\.tsv(\.gz)?")
_CONLLU = re.compile(r"([a-z]{2,3})_\w+-ud-(train|dev|test)\.conllu(\.gz)?")

NEEDED = {True: ("train", "val", "test"), False: ("test",)}
"""The splits of a language, by whether it is trained on."""


@dataclass(frozen=True)
class Found:
    """The files of one language that serve as one of `FILES`."""

    language: str
    paths: Sequence[Path]
    treebanks: Sequence[str] = field(default=())
    """The treebanks that they are from, for raw ones."""

    def read(self, kind: Kind) -> list[Sentence]:
        """All their sentences, file by file."""
        if self.treebanks:
            return [sentence for path in self.paths for sentence in conllu.read(path, self.language, TAGS[kind])]
        return tsv.read(self.paths[0], TAGS[kind])


def load(
    problem: str, root: Path | None, wanted_by: str, languages: Sequence[str] | None, shares: Shares, zero_shot: bool
) -> Corpus:
    """The tagged sentences of `udpos` or `panx`.

    Args:
        problem: which of them.
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs it, for messages.
        languages: codes; None for all whose files allow it.
        shares: how a file is cut that serves several splits (see `parts`).
        zero_shot: only English is trained on; its validation split is everybody's.

    Raises:
        DataMissing: there is no file, or not what a language that was asked for needs.
        UsageError: an unknown language, or a file that is damaged; names file and line.
    """
    kind: Kind = "pos" if problem == "udpos" else "ner"
    found = find(problem, root)
    if not found:
        raise _missing(problem, root, wanted_by)
    asked = chosen(languages, sorted(found), wanted_by)
    if zero_shot and SOURCE not in asked:
        raise UsageError(f"{wanted_by} is trained on {SOURCE}, which is not among its languages: {', '.join(asked)}.")
    splits: dict[str, dict[str, list[Sentence]]] = {"train": {}, "val": {}, "test": {}}
    sources: dict[str, dict[str, str]] = {}
    unusable: list[str] = []
    for language in asked:
        read = {file: found[language][file].read(kind) for file in FILES if file in found[language]}
        labelled = {file: sentences for file, sentences in read.items() if all(s.tags for s in sentences)}
        trained = not zero_shot or language == SOURCE
        cut = parts(list(labelled), NEEDED[trained], shares)
        if cut is None:
            unusable.append(language)
            continue
        sources[language] = {}
        for split, part in cut.items():
            splits[split][language] = part.of(labelled[part.file])
            if not splits[split][language]:
                raise UsageError(
                    f"{wanted_by}: {part.told} of {language} is to be its {split} split and holds no sentence. "
                    "Leave the language out with languages=[...], or change protocol.options.shares."
                )
            treebanks = found[language][part.file].treebanks
            if treebanks or part.told != _own(split):
                sources[language][split] = part.told + (f" of {', '.join(treebanks)}" if treebanks else "")
    if languages is not None and unusable:
        raise DataMissing(
            f"{wanted_by}: {', '.join(unusable)} cannot be trained on, since neither a training nor a development file "
            f"with labels is there. {_how_to_get(problem, root)}"
        )
    if not splits["test"]:
        raise _missing(problem, root, wanted_by)
    if zero_shot:
        splits["val"] = dict.fromkeys(splits["test"], splits["val"][SOURCE])
    return Corpus(
        kind,
        splits,
        unlabelled={language: [s.words for s in sentences] for language, sentences in splits["train"].items()},
        sources={language: told for language, told in sources.items() if told},
        notices=_notices(sources, unusable),
        facts={"left_out": unusable} if unusable else {},
    )


def find(problem: str, root: Path | None) -> dict[str, dict[str, Found]]:
    """Language -> `train`, `dev` or `test` -> its files; for `udpos`, treebanks where XTREME's own file is missing."""
    found: dict[str, dict[str, Found]] = {}
    for path in _below(problem, root, "*.tsv*"):
        if match := _TSV.fullmatch(path.name):
            found.setdefault(match[2], {}).setdefault(match[1], Found(match[2], [path]))
    if problem != "udpos":
        return found
    treebanks: dict[tuple[str, str], dict[str, Path]] = {}
    for path in _below("ud", root, "UD_*/*.conllu*"):
        if match := _CONLLU.fullmatch(path.name):
            treebanks.setdefault((match[1], match[2]), {}).setdefault(path.name.removesuffix(".gz"), path)
    for (language, file), paths in treebanks.items():
        ordered = list(paths.values())
        raw = Found(language, ordered, [path.parent.name for path in ordered])
        found.setdefault(language, {}).setdefault(file, raw)
    return found


def _below(dataset: str, root: Path | None, pattern: str) -> list[Path]:
    """Files of a data set, the first folder first, a plain one before its `.gz`."""
    if root is None:
        return []
    folders = datasets("xtreme")[dataset].folders
    return [path for folder in folders for path in visible(root / folder, pattern) if path.is_file()]


def _own(split: str) -> str:
    return "dev" if split == "val" else split


def _notices(sources: Mapping[str, Mapping[str, str]], unusable: Sequence[str]) -> list[str]:
    """One sentence for each kind of stand-in."""
    by_source: dict[tuple[str, str], list[str]] = {}
    for language, splits in sources.items():
        for split, source in splits.items():
            by_source.setdefault((split, source), []).append(language)
    told = [f"{split} is {source}: {', '.join(names)}" for (split, source), names in sorted(by_source.items())]
    if unusable:
        told.append(f"left out, since there is no text with labels to train on: {', '.join(unusable)}")
    return told


def _missing(problem: str, root: Path | None, wanted_by: str) -> DataMissing:
    dataset = datasets("xtreme")[problem]
    if root is None:
        looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
    else:
        looked = f"no SPLIT-LANGUAGE.tsv with labels is in {' or '.join(str(root / f) for f in dataset.folders)}"
    return DataMissing(f"{wanted_by} needs {dataset.title}, and {looked}. {_how_to_get(problem, root)}")


def _how_to_get(problem: str, root: Path | None) -> str:
    dataset = datasets("xtreme")[problem]
    return (
        f"The files cannot be downloaded by a command: make them with the scripts of {dataset.source}, and put "
        f"them into {root or 'DIR'}/{dataset.folders[0]}."
    )
