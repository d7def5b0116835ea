"""A table before it is rendered: columns, rows, values with intervals, notes, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mtlbench.statistics import Interval

Role = Literal["method", "reference", "simple", "published"]


@dataclass(frozen=True)
class Column:
    """One quantity of a table."""

    key: str
    """Unique in the table, for exports: `left.accuracy`, `delta_m`, `seconds_per_step`."""
    title: str
    """For people: `left accuracy [%]`."""
    higher_is_better: bool | None = None
    """None where neither direction is better, or nothing is compared."""
    digits: int = 2
    suffix: str = ""
    """After the number: `x` for ratios."""
    signed: bool = False
    """Whether a plus sign stands before positive numbers."""
    about: str = ""
    """One sentence, for tooltips and the JSON export."""

    @property
    def arrow(self) -> str:
        """`↑`, `↓` or nothing."""
        return "" if self.higher_is_better is None else "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        """Title and arrow."""
        return f"{self.title} {self.arrow}".strip()

    def number(self, value: float) -> str:
        """A number as this column shows it."""
        sign = "+" if self.signed else ""
        text = f"{value:{sign}.{self.digits}f}"
        if float(text) == 0:
            text = text.replace("-", "+" if self.signed else "")
        return f"{text}{self.suffix}"


@dataclass(frozen=True)
class Sampling:
    """How a score depends on the choice of test examples; one of the two is known at least."""

    error: float | None
    """The standard error, in the unit of the score."""
    count: int | None
    """How many examples were scored; None for what is over several scores."""

    def text(self, column: Column) -> str:
        """`(se 4.02, N 100)`."""
        parts = [] if self.error is None else [f"se {self.error:.{column.digits}f}{column.suffix}"]
        parts += [] if self.count is None else [f"N {self.count}"]
        return f"({', '.join(parts)})"


@dataclass(frozen=True)
class Value:
    """What stands at one row and column. Absent, not zero, where nothing is known: `Row.values` has no entry."""

    mean: float
    interval: Interval | None = None
    """Over seeds; None where there is none (one seed, costs, published rows without one)."""
    best: bool = False
    """Cannot be told apart from the best of its column at the table's level: bold."""
    p: float | None = None
    """Holm-adjusted p-value of a difference."""
    sampling: Sampling | None = None
    """None where it is not asked for, or nothing is known of it."""

    def text(self, column: Column) -> str:
        """`95.12 ± 0.08`; where the interval is not symmetric, `95.12 [94.90, 95.20]`.

        Behind it the sampling error, `(se 0.31, N 5000)`, and the p-value, `(p = 0.030)`, where there are some.
        """
        shown = column.number(self.mean)
        if self.interval is not None and self.interval.known:
            low, high = self.interval.low, self.interval.high
            half = (high - low) / 2
            if abs((low + high) / 2 - self.mean) <= 1e-9 * max(1.0, abs(self.mean)):
                shown += f" ± {half:.{column.digits}f}{column.suffix}"
            else:
                shown += f" [{column.number(low)}, {column.number(high)}]"
        if self.sampling is not None:
            shown += f" {self.sampling.text(column)}"
        if self.p is not None:
            shown += f" ({self.p_text})"
        return shown

    @property
    def p_text(self) -> str:
        """`p = 0.030`, `p < 0.001` or nothing."""
        return "" if self.p is None else "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"


@dataclass(frozen=True)
class Row:
    """One method with its parameters, the reference, a score without a model (`simple`), or one published result."""

    label: str
    role: Role
    values: Mapping[str, Value]
    """Column key -> value."""
    n: int = 0
    """Seeds with a result."""
    expected: int = 0
    """Seeds that the grid asks for."""
    marks: str = ""
    """Symbols that notes explain, such as `†`."""

    @property
    def count(self) -> str:
        """`5`, or `4/5` where cells are missing or failed; of a published row its seeds or `?`, of a simple one `-`."""
        if self.role == "published":
            return str(self.n) if self.n else "?"
        if self.role == "simple":
            return "-"
        return str(self.n) if self.n == self.expected else f"{self.n}/{self.expected}"


@dataclass(frozen=True)
class Note:
    """A footnote."""

    text: str
    kind: Literal["about", "warning"] = "about"
    """`warning` for what is missing, failed or mixed: renderings make it stand out."""
    mark: str = ""


@dataclass(frozen=True)
class Section:
    """Rows that stand together, apart from those of other roles."""

    role: Role
    title: str
    """What a reader must know about these rows; empty for the methods."""
    rows: tuple[Row, ...]

    @property
    def is_apart(self) -> bool:
        """Whether its title stands above its rows, which nothing ranks."""
        return self.role in ("simple", "published")


_SECTION_TITLES: Mapping[Role, str] = {
    "reference": "reference",
    "method": "",
    "simple": "without a model",
    "published": "published, not ranked with the measured rows",
}


@dataclass(frozen=True)
class Table:
    """One table, ready to be rendered; see `mtlbench.rendering`."""

    slug: str
    """For file names: letters, digits, `-`, `_` and `.`."""
    title: str
    incomplete: str
    """`incomplete: 28 of 30 cells`, for the first line; empty where the grid is complete."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    """What every export must carry, in words: task, protocol, regime, selection, level, base row, sign, weighting..."""
    rows_are: str = "Method"
    """The heading of the labels."""

    @property
    def heading(self) -> str:
        """The first line of every rendering."""
        return f"{self.title} ({self.incomplete})" if self.incomplete else self.title

    def sections(self) -> list[Section]:
        """The rows as every rendering shows them: the reference, methods, simple and published rows; none is empty."""
        found = [
            Section(role, title, tuple(row for row in self.rows if row.role == role))
            for role, title in _SECTION_TITLES.items()
        ]
        return [section for section in found if section.rows]

    def header(self) -> list[str]:
        """The headings of all columns, those of label and count included."""
        return [self.rows_are, "n", *(column.heading for column in self.columns)]

    def cells(self, row: Row) -> list[str]:
        """The texts of one row, in the order of `header`; `-` where nothing is known."""
        shown = [row.values[c.key].text(c) if c.key in row.values else "-" for c in self.columns]
        return [row.label + row.marks, row.count, *shown]

    def is_bold(self, row: Row, column: Column) -> bool:
        """Whether the value is one that cannot be told apart from the best."""
        return column.key in row.values and row.values[column.key].best
