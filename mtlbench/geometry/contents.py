"""What a report holds before it is written: sections, parts, figures with captions, tables, what must be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mtlbench.rendering.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure with what it shows."""

    name: str
    """For file names, unique in its section: `gradvac-similarity-last`."""
    draw: Callable[[], Figure]
    """Makes it, where it is to be written: figures take their time, and much memory if there are many at once."""
    caption: str
    """One or two sentences; what a reader must know to read it."""


@dataclass(frozen=True)
class Part:
    """One question, with the figures and tables that answer it."""

    title: str
    findings: tuple[str, ...] = ()
    """Sentences with numbers, each for itself."""
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    """Shown, and written as CSV by their slugs."""
    long_tables: tuple[Table, ...] = ()
    """Written as CSV and only linked: rows for every pair, step or layer."""


@dataclass(frozen=True)
class Setting:
    """The parts about one setting: a method with its parameters on one protocol, its seeds averaged."""

    slug: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Section:
    """One task variant with one set of objectives."""

    slug: str
    """For file names and anchors: letters, digits, `-`, `_` and `.`."""
    title: str
    facts: Mapping[str, str]
    missing: tuple[str, ...]
    """What the runs do not hold, and what would record it."""
    settings: tuple[Setting, ...]
    parts: tuple[Part, ...]
    """Over all settings: quality."""
    summary: Table
    """The key numbers of every setting."""

    def every(self) -> Iterator[Part]:
        """All parts, those of settings first."""
        for setting in self.settings:
            yield from setting.parts
        yield from self.parts

    def drawings(self) -> list[Drawing]:
        """All figures in the order in which they are shown."""
        return [drawing for part in self.every() for drawing in part.drawings]

    def tables(self) -> list[Table]:
        """All tables, the summary first."""
        return [self.summary, *(table for part in self.every() for table in (*part.tables, *part.long_tables))]


@dataclass(frozen=True)
class Report:
    """Everything about some runs."""

    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = field(default=())
    """How to read it, the same for all sections."""
