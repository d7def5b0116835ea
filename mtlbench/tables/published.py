"""Published results of a task, quoted beside the measured ones and never ranked with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from mtlbench.catalogue.registry import tasks
from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.errors import UsageError
from mtlbench.rendering.table import Note, Row, Value
from mtlbench.strict import Strict, first_error

FILE = "published.yaml"
"""Beside a task's `protocols.yaml`: a list of `Source`."""

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]

READ = {
    "P": "read in the paper",
    "C": "read in the code's repository",
    "D": "recomputed from published numbers",
}
"""How the numbers of a source are known."""


class Result(Strict):
    """One published row."""

    method: str
    """The method's registry name, or a name of its own where the registry has no such method."""
    label: str
    """As the source calls it."""
    values: dict[str, Finite]
    """Column key (`left.accuracy`) -> value, in the task's units."""
    summaries: dict[str, Finite] = pydantic.Field(default_factory=dict)
    """Summary numbers in the source's own conventions of sign and weighting; no table shows them."""


class Source(Strict):
    """One table of one publication."""

    authors: str
    year: int
    source: str
    """Where: venue, arXiv identifier, table."""
    evidence: Literal["P", "C", "D"]
    """See `READ`; what nobody has verified is not allowed."""
    variants: tuple[str, ...]
    """The task's variants that use the same data."""
    protocols: tuple[str, ...]
    """The labels (`sener2018@1`) of the protocols that reproduce this set-up."""
    seeds: Annotated[int, pydantic.Field(ge=1)] | None
    """None where the source does not say."""
    caveat: str
    """What differs from the protocol, and what a reader should know; without a full stop."""
    rows: tuple[Result, ...]

    @property
    def short(self) -> str:
        """`Sener & Koltun 2018`."""
        return f"{self.authors} {self.year}"

    @property
    def note(self) -> str:
        """One footnote with source, seeds, evidence and caveat."""
        seeds = f"{self.seeds} seeds" if self.seeds else "number of seeds not known"
        return f"{self.short}: {self.source}; {seeds}; {READ[self.evidence]}. Caveat: {self.caveat}."


def read(file: Path) -> list[Source]:
    """The sources in `file`; raises `UsageError` if it is malformed."""
    raw = read_yaml(file)
    try:
        return pydantic.TypeAdapter(list[Source]).validate_python(raw)
    except pydantic.ValidationError as error:
        raise UsageError(f"The published results in {file} cannot be read: {first_error(error)}.") from error


def published(task: str, variant: str, protocol: str) -> list[Source]:
    """The sources with the variant's data and the protocol's set-up; an overridden protocol has none.

    Args:
        task: its registry name.
        variant: one of its variants.
        protocol: the label, `sener2018@1`.
    """
    return [source for source in _sources(task, variant) if protocol in source.protocols]


def published_protocols(task: str, variant: str) -> list[str]:
    """The labels of the protocols for which `variant` has published rows, sorted."""
    return sorted({label for source in _sources(task, variant) for label in source.protocols})


def published_rows(task: str, variant: str, protocol: str) -> tuple[list[Row], list[Note]]:
    """Rows with the role `published` and the notes that go with them; without rows, a note that says where some are.

    The arguments are those of `published`.
    """
    sources = published(task, variant, protocol)
    if not sources:
        others = published_protocols(task, variant)
        verb = "has" if len(others) == 1 else "have"
        hint = f"; {', '.join(others)} {verb} some" if others else ""
        return [], [Note(f"There are no published rows for {task}/{variant} under the protocol {protocol}{hint}.")]
    rows = [
        Row(
            label=f"{result.label} ({source.short})",
            role="published",
            values={key: Value(value) for key, value in result.values.items()},
            n=source.seeds or 0,
            expected=source.seeds or 0,
        )
        for source in sources
        for result in source.rows
    ]
    about = Note("Published rows are quoted from their sources; nothing ranks them with the measured ones.")
    return rows, [about, *(Note(source.note) for source in sources)]


def _sources(task: str, variant: str) -> list[Source]:
    protocols = tasks.entry(task).protocols
    if not isinstance(protocols, Path) or not (file := protocols.parent / FILE).exists():
        return []
    return [source for source in read(file) if variant in source.variants]
