"""Tables as Markdown, CSV and JSON."""

from __future__ import annotations

import dataclasses
import json as json_module
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from mtlbench.errors import UsageError
from mtlbench.rendering.table import Column, Note, Row, Section, Table, Value
from mtlbench.rendering.text import one_line

SCHEMA_VERSION = 1
"""Of the JSON rendering."""


# --- Markdown

_MARKDOWN = re.compile(
    r"[\\`*|~#]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # not within a word
    r"|<(?=[\w/!?])|&(?=#?\w+;)"  # tags, addresses, entities
    r"|\](?=[(\[:])"  # links
)


def markdown(tables: Sequence[Table]) -> str:
    """The tables one after another."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    header = [escape_markdown(title) for title in table.header()]
    lines = [f"### {escape_markdown(table.heading)}", "", _bars(header)]
    lines.append(_bars(["---", *["---:"] * (len(header) - 1)]))
    for section in table.sections():
        if section.is_apart:
            lines.append(_bars([f"*{section.title}*", *[""] * (len(header) - 1)]))
        lines += [_bars(_markdown_cells(table, section, row)) for row in section.rows]
    lines += ["", *(f"- {_markdown_note(note)}" for note in table.notes)]
    if table.facts:
        lines += ["", escape_markdown("; ".join(f"{key}: {value}" for key, value in table.facts.items()))]
    return "\n".join(lines) + "\n"


def _markdown_cells(table: Table, section: Section, row: Row) -> list[str]:
    label, count, *values = map(escape_markdown, table.cells(row))
    values = [
        f"**{text}**" if table.is_bold(row, column) else text
        for text, column in zip(values, table.columns, strict=True)
    ]
    if section.role == "reference":
        label = f"*{label}* ({section.title})"
    elif section.is_apart:
        label, values = f"*{label}*", [text if text == "-" else f"*{text}*" for text in values]
    return [label, count, *values]


def _markdown_note(note: Note) -> str:
    text = escape_markdown(f"{note.mark} {note.text}")
    text = re.sub(r"^(\d*)([-+.)>=\[])", r"\1\\\2", text)  # or it would begin a list, a quotation, a box to tick
    return f"**Warning:** {text}" if note.kind == "warning" else text


def _bars(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """One line of text that Markdown shows as it is, in a table cell too; characters without an effect stay bare."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


# --- CSV


def csv(tables: Sequence[Table]) -> str:
    """One table: lines of comment that start with `# `, a header line, a line for each row.

    Text is quoted and numbers are not, which have full precision; nothing stands where nothing is known. For each
    column KEY there are KEY (the mean) and, where any row has them, KEY.low, KEY.high, KEY.sampling_error,
    KEY.examples, KEY.p and KEY.best (1 or 0).

    Raises:
        UsageError: there are several tables.
    """
    table = _only(tables, "CSV")
    lines = [f"# {one_line(table.heading)}"]
    lines += [f"# {one_line(f'{key}: {value}')}" for key, value in table.facts.items()]
    lines += [f"# {one_line(f'note: {note.mark} {note.text}')}" for note in table.notes]
    parts = [(column, *part) for column in table.columns for part in _parts(table, column)]
    header = ["method", "role", "n", "expected", "marks", *(column.key + name for column, name, _ in parts)]
    lines.append(",".join(map(_field, header)))
    for section in table.sections():
        for row in section.rows:
            fields: list[str | float | None] = [row.label, row.role, _seeds(row), int(row.expected), row.marks]
            fields += [get(row.values[c.key]) if c.key in row.values else None for c, _, get in parts]
            lines.append(",".join(map(_field, fields)))
    return "\n".join(lines) + "\n"


Part = tuple[str, Callable[[Value], float | None]]


def _parts(table: Table, column: Column) -> list[Part]:
    """What the export says of one column: suffix of its name and the number."""
    values = [row.values[column.key] for row in table.rows if column.key in row.values]
    parts: list[Part] = [("", lambda value: value.mean)]
    if any(value.interval is not None and value.interval.known for value in values):
        parts.append((".low", lambda value: value.interval.low if value.interval else None))
        parts.append((".high", lambda value: value.interval.high if value.interval else None))
    if any(value.sampling is not None and value.sampling.error is not None for value in values):
        parts.append((".sampling_error", lambda value: value.sampling.error if value.sampling else None))
    if any(value.sampling is not None and value.sampling.count is not None for value in values):
        parts.append((".examples", lambda value: value.sampling.count if value.sampling else None))
    if any(value.p is not None for value in values):
        parts.append((".p", lambda value: value.p))
    if any(value.best for value in values):
        parts.append((".best", lambda value: int(value.best)))
    return parts


def _seeds(row: Row) -> int | None:
    return None if row.role in ("simple", "published") and not row.n else int(row.n)


def _field(content: str | float | None) -> str:
    if isinstance(content, str):
        text = one_line(content)
        if text.startswith(("=", "+", "-", "@")):
            text = f"'{text}"  # or a spreadsheet takes it for a formula
        return '"' + text.replace('"', '""') + '"'
    if content is None or math.isnan(content):
        return ""
    return str(content) if isinstance(content, int) else repr(float(content))


# --- JSON


def json(tables: Sequence[Table]) -> str:
    """One table with all that it holds; null where a number is not known.

    Raises:
        UsageError: there are several tables.
    """
    table = _only(tables, "JSON")
    content = {
        "heading": table.heading,
        "schema_version": SCHEMA_VERSION,
        "slug": table.slug,
        "title": table.title,
        "incomplete": table.incomplete,
        "facts": dict(table.facts),
        "columns": [dataclasses.asdict(column) for column in table.columns],
        "rows": [_json_row(row) for section in table.sections() for row in section.rows],
        "notes": [dataclasses.asdict(note) for note in table.notes],
    }
    return json_module.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _json_row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "role": row.role,
        "n": _seeds(row),
        "expected": int(row.expected),
        "marks": row.marks,
        "values": {key: _json_value(value) for key, value in row.values.items()},
    }


def _json_value(value: Value) -> dict[str, Any]:
    interval, sampling = value.interval, value.sampling
    return {
        "mean": _finite(value.mean),
        "low": _finite(interval.low) if interval else None,
        "high": _finite(interval.high) if interval else None,
        "n": int(interval.n) if interval else None,
        "best": bool(value.best),
        "p": _finite(value.p),
        **({"sampling_error": _finite(sampling.error), "examples": sampling.count} if sampling else {}),
    }


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)


def _only(tables: Sequence[Table], form: str) -> Table:
    if len(tables) != 1:
        raise UsageError(
            f"A {form} file holds one table, and there are {len(tables)}. "
            "Narrow them with task= and protocol=, or write a file for each: --out DIR."
        )
    return tables[0]
