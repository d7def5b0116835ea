"""The files of XTREME's problems: which languages have which below the data root, and the splits that they make."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic

from mtlbench.catalogue.data import ENVIRONMENT, datasets, visible
from mtlbench.errors import DataMissing, UsageError

from .._text.languages import chosen
from .corpus import SPLITS, Corpus, Example
from .options import Shares
from .parts import Part, parts, serving, together

FILES = ("train", "dev", "test")
SOURCE = "en"
"""The language that zero-shot transfer is trained on."""

NEEDED = {True: SPLITS, False: ("test",)}
"""The splits of a language, by whether it is trained on."""


@dataclass(frozen=True)
class Found:
    """The files of one language that serve as one of `FILES`."""

    language: str
    paths: Sequence[Path]
    treebanks: Sequence[str] = field(default=())
    """The treebanks that they are from, for raw ones."""
    called: str = ""
    """What they are, where they are not XTREME's own of that name."""


class Files(ABC, Generic[Example]):
    """The files of one problem.

    Args:
        problem: its name, under which `datasets.yaml` has its folders.
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs it, for messages.
    """

    layout: ClassVar[str]
    """What its files are called, for messages."""
    parallel: ClassVar[bool] = False
    """Whether row i of a file is the same example in every language, in translation."""

    def __init__(self, problem: str, root: Path | None, wanted_by: str) -> None:
        self.problem = problem
        self.root = root
        self.wanted_by = wanted_by

    @abstractmethod
    def find(self) -> dict[str, dict[str, Found]]:
        """Language -> `train`, `dev` or `test` -> its files."""

    @abstractmethod
    def read(self, found: Found) -> list[Example]:
        """All examples, file by file; raises `UsageError` that names file and line."""

    @abstractmethod
    def is_labelled(self, example: Example) -> bool:
        """Whether it can be trained on and scored."""

    @abstractmethod
    def key(self, example: Example) -> str:
        """What says into which part of a file that is cut an example goes: examples of one key stay together, in every
        language.
        """

    @abstractmethod
    def sentences(self, example: Example) -> Sequence[Sequence[str]]:
        """Its text as sentences of words, for an encoder that is made from text."""

    def aligned(
        self, file: str, by_language: Mapping[str, list[Example]]
    ) -> tuple[Mapping[str, list[Example]], Sequence[str]]:
        """The labelled examples of a file that is cut in every language alike, with what their keys need, and what
        people should know of it; for a problem that is `parallel`.

        Raises:
            UsageError: rows of languages that cannot be translations of each other.
        """
        return by_language, ()

    def load(self, languages: Sequence[str] | None, shares: Shares, zero_shot: bool) -> Corpus[Example]:
        """The examples of all splits.

        Args:
            languages: codes; None for all whose files allow it.
            shares: how a file is cut that serves several splits (see `parts`).
            zero_shot: only English is trained on; its validation split is everybody's.

        Raises:
            DataMissing: there is no file, or not what a language that was asked for needs.
            UsageError: an unknown language, or a file that is damaged; names file and line.
        """
        found = self.find()
        if not found:
            raise self._missing()
        asked = chosen(languages, sorted(found), self.wanted_by)
        if zero_shot and SOURCE not in asked:
            raise UsageError(
                f"{self.wanted_by} is trained on {SOURCE}, which is not among its languages: {', '.join(asked)}."
            )
        labelled = {language: self._labelled(found[language]) for language in asked}
        served = {
            language: serving(list(labelled[language]), NEEDED[not zero_shot or language == SOURCE])
            for language in asked
        }
        alike = together(served.values()) if self.parallel else {}
        notices: list[str] = []
        for name in (name for name, users in alike.items() if len(users) > 1):
            have = {language: by_name[name] for language, by_name in labelled.items() if name in by_name}
            aligned, noticed = self.aligned(name, have)
            notices += noticed
            for language, examples in aligned.items():
                labelled[language][name] = examples
        splits: dict[str, dict[str, list[Example]]] = {"train": {}, "val": {}, "test": {}}
        sources: dict[str, dict[str, str]] = {}
        unusable: list[str] = []
        for language, files in served.items():
            if files is None:
                unusable.append(language)
                continue
            sources[language] = {}
            for split, part in parts(files, shares, alike or files).items():
                splits[split][language] = part.of(labelled[language][part.file], self.key)
                if not splits[split][language]:
                    raise self._empty(language, split, part)
                file = found[language][part.file]
                treebanks, told = file.treebanks, part.told_of(file.called or part.file)
                if treebanks or told != _own(split):
                    sources[language][split] = told + (f" of {', '.join(treebanks)}" if treebanks else "")
        if unusable and (languages is not None or (zero_shot and SOURCE in unusable)):
            raise DataMissing(
                f"{self.wanted_by}: {', '.join(unusable)} cannot be trained on, since neither a training nor a "
                f"development file with labels is there. {self._how_to_get()}"
            )
        if not splits["test"]:
            raise self._missing()
        if zero_shot:
            splits["val"] = dict.fromkeys(splits["test"], splits["val"][SOURCE])
        return Corpus(
            splits,
            unlabelled={
                language: [words for example in examples for words in self.sentences(example)]
                for language, examples in splits["train"].items()
            },
            sources={language: told for language, told in sources.items() if told},
            notices=[*_notices(sources, unusable), *notices],
            facts={"left_out": unusable} if unusable else {},
        )

    def named(
        self, glob: str, pattern: re.Pattern[str], dataset: str | None = None
    ) -> Iterator[tuple[re.Match[str], Path]]:
        """The files of a data set that match, the first folder first, a plain one before its `.gz`.

        Args:
            glob: below the data set's folders.
            pattern: of the whole name.
            dataset: its name; the problem's own unless given.
        """
        if self.root is None:
            return
        for folder in datasets("xtreme")[dataset or self.problem].folders:
            for path in visible(self.root / folder, glob):
                if path.is_file() and (match := pattern.fullmatch(path.name)):
                    yield match, path

    def _labelled(self, found: Mapping[str, Found]) -> dict[str, list[Example]]:
        """The files of a language in which every example is labelled."""
        read = {file: self.read(found[file]) for file in FILES if file in found}
        return {file: examples for file, examples in read.items() if all(map(self.is_labelled, examples))}

    def _empty(self, language: str, split: str, part: Part) -> UsageError:
        return UsageError(
            f"{self.wanted_by}: {part.told} of {language} is to be its {split} split and holds nothing. "
            "Leave the language out with languages=[...], or change protocol.options.shares."
        )

    def _missing(self) -> DataMissing:
        dataset = datasets("xtreme")[self.problem]
        if self.root is None:
            looked = f"no data root is set: give data_root=DIR or set {ENVIRONMENT}"
        else:
            looked = f"no {self.layout} with labels is in {' or '.join(str(self.root / f) for f in dataset.folders)}"
        return DataMissing(f"{self.wanted_by} needs {dataset.title}, and {looked}. {self._how_to_get()}")

    def _how_to_get(self) -> str:
        dataset = datasets("xtreme")[self.problem]
        return (
            f"The files cannot be downloaded by a command: make them with the scripts of {dataset.source}, and put "
            f"them into {self.root or 'DIR'}/{dataset.folders[0]}."
        )


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
