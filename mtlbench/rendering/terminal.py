"""A table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from mtlbench.rendering.table import Role, Row, Table
from mtlbench.rendering.text import heading_lines, one_line

_GAP = 2
"""Columns of a table stand this far apart."""
_SHORTEST_LABEL = 24
_ROW_STYLES: Mapping[Role, str] = {"reference": "cyan", "method": "", "simple": "italic dim", "published": "italic dim"}


def show_table(console: Console, table: Table) -> None:
    """A table with its notes below; what does not fit beside the labels goes into a further block of columns.

    Where the output cannot show bold, such as in a file, a star stands for it.
    """
    starred = console.color_system is None and any(value.best for row in table.rows for value in row.values.values())
    console.print(Text(one_line(table.heading), style="bold"))
    cells = [_texts(table, row, starred) for row in table.rows]
    widest = [max([1, *(len(row[index]) for row in cells)]) for index in range(len(table.header()))]
    header = [heading_lines(title, width) for title, width in zip(table.header(), widest, strict=True)]
    widths = [max(width, *map(len, lines)) for width, lines in zip(widest, header, strict=True)]
    left = console.width - sum(width + _GAP for width in widths[1:])  # for the labels, if all is to stand side by side
    widths[0] = min(widths[0], left if left >= _SHORTEST_LABEL else max(_SHORTEST_LABEL, console.width // 3))
    for number, columns in enumerate(_blocks(widths, console.width)):
        if number:
            console.print()
        titles = ["\n".join(header[i]) for i in columns]
        console.print(_grid(table, columns, titles, [widths[i] for i in columns], starred))
    console.print()
    if starred:
        console.print(Padding(Text("* stands for bold."), (0, 0, 0, 2), expand=False))
    for note in table.notes:
        text = Text(one_line(f"{note.mark} {note.text}"), style="yellow" if note.kind == "warning" else "dim")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
    facts = "; ".join(f"{key}: {value}" for key, value in table.facts.items())
    console.print(Padding(Text(one_line(facts), style="dim"), (0, 0, 1, 2), expand=False))


def _blocks(widths: Sequence[int], available: int) -> list[list[int]]:
    """The columns that stand side by side; every block begins with the labels."""
    blocks, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + _GAP + width > available and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += _GAP + width
    return blocks


def _texts(table: Table, row: Row, starred: bool) -> list[str]:
    """The cells of one row; with a star where it stands for bold, and a space in its place elsewhere in the column."""
    label, count, *values = map(one_line, table.cells(row))
    if starred:
        for place, column in enumerate(table.columns):
            if any(table.is_bold(other, column) for other in table.rows):
                values[place] += "*" if table.is_bold(row, column) else "\u00a0"
    return [label, count, *values]


def _grid(
    table: Table, columns: Sequence[int], header: Sequence[str], widths: Sequence[int], starred: bool
) -> RichTable:
    grid = RichTable(box=box.HORIZONTALS, border_style="dim", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title, width in zip(columns, header, widths, strict=True):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        grid.add_column(Text(title), justify=side, header_style="bold", overflow="fold", width=width)
    for section in table.sections():
        grid.add_section()
        if section.is_apart:
            grid.add_row(Text(section.title, style="dim"))
        for row in section.rows:
            bold = [False, False, *(table.is_bold(row, column) for column in table.columns)]
            texts = [
                Text(text, style="bold" if strong else "")
                for text, strong in zip(_texts(table, row, starred), bold, strict=True)
            ]
            grid.add_row(*(texts[index] for index in columns), style=_ROW_STYLES[section.role])
    return grid
