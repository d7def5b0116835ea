"""The files of the tagging problems: XTREME's own, or treebanks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..files import Files, Found
from . import conllu, tsv
from .sentences import TAGS, Kind, Sentence

_TSV = re.compile(r"(train|dev|test)-([a-z]{2,3})\.tsv(\.gz)?")
_CONLLU = re.compile(r"([a-z]{2,3})_\w+-ud-(train|dev|test)\.conllu(\.gz)?")


class TaggingFiles(Files[Sentence]):
    """Tagged sentences of `udpos` or `panx`."""

    layout = "SPLIT-LANGUAGE.tsv"

    @property
    def kind(self) -> Kind:
        """What the tags are."""
        return "pos" if self.problem == "udpos" else "ner"

    def find(self) -> dict[str, dict[str, Found]]:
        """For `udpos`, treebanks where XTREME's own file is missing."""
        found: dict[str, dict[str, Found]] = {}
        for match, path in self.named("*.tsv*", _TSV):
            found.setdefault(match[2], {}).setdefault(match[1], Found(match[2], [path]))
        if self.problem != "udpos":
            return found
        treebanks: dict[tuple[str, str], dict[str, Path]] = {}
        for match, path in self.named("UD_*/*.conllu*", _CONLLU, "ud"):
            treebanks.setdefault((match[1], match[2]), {}).setdefault(path.name.removesuffix(".gz"), path)
        for (language, file), paths in treebanks.items():
            ordered = list(paths.values())
            raw = Found(language, ordered, [path.parent.name for path in ordered])
            found.setdefault(language, {}).setdefault(file, raw)
        return found

    def read(self, found: Found) -> list[Sentence]:
        """All sentences, file by file."""
        tags = TAGS[self.kind]
        if found.treebanks:
            return [sentence for path in found.paths for sentence in conllu.read(path, found.language, tags)]
        return tsv.read(found.paths[0], tags)

    def is_labelled(self, example: Sentence) -> bool:
        """Whether it has tags."""
        return bool(example.tags)

    def key(self, example: Sentence) -> str:
        """Its words: equal sentences stay together."""
        return "\n".join(example.words)

    def sentences(self, example: Sentence) -> Sequence[Sequence[str]]:
        """Itself."""
        return [example.words]
