"""The files of the three problems in XTREME's layout, and SQuAD's for zero-shot transfer."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mtlbench.catalogue.data import datasets

from ..files import SOURCE, Files, Found
from . import squad
from .questions import Question, words

_XQUAD = re.compile(r"xquad\.([a-z]{2,3})\.json(\.gz)?")
_MLQA = re.compile(r"(dev|test)-context-(ar|de|en|es|hi|vi|zh)-question-\2\.json(\.gz)?")
_TYDIQA = re.compile(r"tydiqa\.(?:goldp\.)?([a-z]{2,3})\.(train|dev)\.json(\.gz)?")
_SQUAD = re.compile(r"(train|dev)-v1\.1\.json(\.gz)?")


class AnswerFiles(Files[Question]):
    """Questions with answers.

    Args:
        zero_shot: whether English alone is trained on.
    """

    squad: ClassVar[bool] = False
    """Whether zero-shot transfer is trained on SQuAD."""

    def __init__(self, problem: str, root: Path | None, wanted_by: str, zero_shot: bool) -> None:
        super().__init__(problem, root, wanted_by)
        self.zero_shot = zero_shot

    @abstractmethod
    def own(self) -> Iterator[tuple[str, str, Path]]:
        """Language, name of the file (train, dev or test, or of the data), and path, the first of several first."""

    def serves(self, file: str) -> tuple[str, str]:
        """As which of train, dev and test a file serves, and what it is called where that is not its name."""
        return file, ""

    def find(self) -> dict[str, dict[str, Found]]:
        """Files whose questions and contexts are in the same language."""
        found: dict[str, dict[str, Found]] = {}
        for language, file, path in self.own():
            serves, called = self.serves(file)
            found.setdefault(language, {}).setdefault(serves, Found(language, [path], called=called))
        if self.zero_shot and self.squad and found:
            for match, path in self.named("*.json*", _SQUAD, "squad"):
                read = Found(SOURCE, [path], called=f"SQuAD's {match[1]}")
                found.setdefault(SOURCE, {}).setdefault(match[1], read)
        return found

    def read(self, found: Found) -> list[Question]:
        """All questions, file by file."""
        return [question for path in found.paths for question in squad.read(path)]

    def is_labelled(self, example: Question) -> bool:
        """Whether it has an answer."""
        return bool(example.answers)

    def key(self, example: Question) -> str:
        """The context; or what `aligned` found."""
        return example.key

    def aligned(
        self, file: str, by_language: Mapping[str, list[Question]]
    ) -> tuple[Mapping[str, list[Question]], Sequence[str]]:
        """Questions whose key is the least id among all that belong together: those on one context in some language.

        All files of the data root count, whichever languages are asked for, so that a cut is the same for all choices.
        """
        others = [
            self.read(files[file])
            for language, files in self.find().items()
            if file in files and language not in by_language
        ]
        groups = joined([*by_language.values(), *others])
        return {
            language: [question._replace(key=groups[question.name]) for question in questions]
            for language, questions in by_language.items()
        }, ()

    def sentences(self, example: Question) -> Sequence[Sequence[str]]:
        """The question, and the context with the first of its questions."""
        return [words(example.text), words(example.context)] if example.leads else [words(example.text)]

    def _how_to_get(self) -> str:
        told = super()._how_to_get()
        if self.zero_shot and self.squad:
            folder = f"{self.root or 'DIR'}/{datasets('xtreme')['squad'].folders[0]}"
            told += f" SQuAD v1.1 belongs to {folder}: `mtlbench data fetch {self.wanted_by}` downloads it."
        return told


class XQuAD(AnswerFiles):
    """One file for each language, which is cut where languages are trained on, and is the test split of zero-shot
    transfer. Its paragraphs come from SQuAD's `dev`, which is for validation there, and are left out of it.
    """

    layout = "xquad.LANGUAGE.json"
    parallel = True
    squad = True

    def own(self) -> Iterator[tuple[str, str, Path]]:
        """`xquad.LANGUAGE.json`."""
        yield from ((match[1], "xquad", path) for match, path in self.named("xquad.*.json*", _XQUAD))

    def serves(self, file: str) -> tuple[str, str]:
        """The only file there is."""
        return ("test", "") if self.zero_shot else ("dev", "XQuAD")

    def read(self, found: Found) -> list[Question]:
        """SQuAD's `dev` without the contexts on which XQuAD has questions."""
        questions = super().read(found)
        if found.called != "SQuAD's dev":
            return questions
        scored = {question.name for _, _, path in self.own() for question in squad.read(path)}
        contexts = {question.context for question in questions if question.name in scored}
        return [question for question in questions if question.context not in contexts]


class MLQA(AnswerFiles):
    """`dev` and `test`; zero-shot transfer is scored on `dev` where there is no `test`."""

    layout = "test-context-LANGUAGE-question-LANGUAGE.json or dev-..."
    parallel = True
    squad = True

    def own(self) -> Iterator[tuple[str, str, Path]]:
        """`MLQA_V1/SPLIT/SPLIT-context-LANGUAGE-question-LANGUAGE.json`, the test files first."""
        found = [(match[2], match[1], path) for match, path in self.named("MLQA_V1/*/*.json*", _MLQA)]
        yield from sorted(found, key=lambda file: file[1], reverse=True)

    def serves(self, file: str) -> tuple[str, str]:
        """As itself, unless SQuAD is what is trained on."""
        return ("test", "MLQA's dev") if self.zero_shot and file == "dev" else (file, "")


class TyDiQA(AnswerFiles):
    """`train` and `dev`. XTREME scores zero-shot transfer on `dev`; ids of training files repeat."""

    layout = "tydiqa.goldp.LANGUAGE.SPLIT.json"

    def own(self) -> Iterator[tuple[str, str, Path]]:
        """`tydiqa-goldp-v1.1-SPLIT/tydiqa.goldp.LANGUAGE.SPLIT.json`; the scripts also speak of `tydiqa.en.train`."""
        yield from ((m[1], m[2], path) for m, path in self.named("tydiqa-goldp-v1.1-*/*.json*", _TYDIQA))

    def serves(self, file: str) -> tuple[str, str]:
        """As itself, unless only English is trained on."""
        return ("test", "dev") if self.zero_shot and file == "dev" else (file, "")

    def read(self, found: Found) -> list[Question]:
        """All questions, file by file."""
        return [question for path in found.paths for question in squad.read(path, repeats=".train." in path.name)]


FILES: Mapping[str, type[AnswerFiles]] = {"xquad": XQuAD, "mlqa": MLQA, "tydiqa": TyDiQA}
"""Problem -> its files."""


def joined(languages: Sequence[Sequence[Question]]) -> Mapping[str, str]:
    """Id -> the least id of those that it is joined with, by a context that they share in some language."""
    least: dict[str, str] = {}

    def root(name: str) -> str:
        while least[name] != name:
            name = least[name]
        return name

    for questions in languages:
        first: dict[str, str] = {}
        for question in questions:
            least.setdefault(question.name, question.name)
            one, other = sorted((root(question.name), root(first.setdefault(question.context, question.name))))
            least[other] = one
    return {name: root(name) for name in least}
