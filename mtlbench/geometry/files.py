"""A report as files: a page, a summary in Markdown, figures, and tables as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from mtlbench.errors import UsageError
from mtlbench.geometry.contents import Part, Report, Section
from mtlbench.geometry.page import FIGURES, TABLES, Image, file_name, page
from mtlbench.rendering import drawing
from mtlbench.rendering.plain import escape_markdown
from mtlbench.rendering.table import Table, Value
from mtlbench.rendering.text import one_line
from mtlbench.storage import write_atomically

PAGE, SUMMARY = "index.html", "README.md"


def write(report: Report, folder: Path, tell: Callable[[str], object] = lambda _: None) -> list[Path]:
    """Write the page, a summary in Markdown, every figure as SVG and PNG, every table as CSV.

    Args:
        report: what to write.
        folder: made if it is not there; other files in it stay.
        tell: called with the name of each figure before it is drawn.

    Returns:
        What was written, the page last.

    Raises:
        UsageError: the folder cannot be written to.
    """
    try:
        (folder / TABLES).mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        images: dict[str, Image] = {}
        for section in report.sections:
            for one in section.drawings():
                name = file_name(section, one.name)
                tell(name)
                figure = one.draw()
                written += drawing.save({one.name: figure}, folder / FIGURES, section.slug)
                images[name] = Image((folder / FIGURES / f"{name}.svg").read_bytes(), figure.get_figwidth())
            for table in section.tables():
                written.append(folder / TABLES / f"{file_name(section, table.slug)}.csv")
                write_atomically(written[-1], as_csv(table).encode())
        for name, text in ((SUMMARY, markdown(report)), (PAGE, page(report, images))):
            written.append(folder / name)
            write_atomically(written[-1], text.encode(errors="replace"))
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {folder}: {error.strerror}. Name another folder: --out DIR."
        ) from error
    return written


def as_csv(table: Table) -> str:
    """A header and a line for each row; a column KEY is KEY and, where any row has them, KEY.low, KEY.high and KEY.p.

    Numbers have full precision; nothing stands where nothing is known.
    """
    parts: list[tuple[str, Callable[[Value], float | None]]] = []
    for column in table.columns:
        values = [row.values[column.key] for row in table.rows if column.key in row.values]
        parts.append((column.key, lambda value: value.mean))
        if any(value.interval is not None for value in values):
            parts.append((f"{column.key}.low", lambda value: value.interval.low if value.interval else None))
            parts.append((f"{column.key}.high", lambda value: value.interval.high if value.interval else None))
        if any(value.p is not None for value in values):
            parts.append((f"{column.key}.p", lambda value: value.p))
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([table.rows_are, "seeds", *(_cell(name) for name, _ in parts)])
    keys = _keys(table, parts)
    for row in table.rows:
        found = [get(row.values[key]) if key in row.values else None for key, (_, get) in zip(keys, parts, strict=True)]
        writer.writerow([_cell(row.label), row.n, *(_number(value) for value in found)])
    return out.getvalue()


def _keys(table: Table, parts: Sequence[tuple[str, object]]) -> list[str]:
    """The column that each part is of."""
    known = {column.key for column in table.columns}
    return [name if name in known else name.rpartition(".")[0] for name, _ in parts]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    line = one_line(text)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def markdown(report: Report) -> str:
    """A summary: key numbers, findings, tables, and links to the figures."""
    lines = [f"# {escape_markdown(report.title)}", ""]
    lines += [f"- {escape_markdown(note)}" for note in report.notes]
    for section in report.sections:
        lines += ["", f"## {escape_markdown(section.title)}", "", *_markdown_table(section.summary), ""]
        lines += [f"- **Missing:** {escape_markdown(text)}" for text in section.missing]
        lines += [f"- {escape_markdown(key)}: {escape_markdown(value)}" for key, value in section.facts.items()]
        for setting in section.settings:
            lines += ["", f"### {escape_markdown(setting.title)}"]
            for part in setting.parts:
                lines += _markdown_part(section, part)
        for part in section.parts:
            lines += _markdown_part(section, part)
    return "\n".join(lines) + "\n"


def _markdown_part(section: Section, part: Part) -> list[str]:
    lines = ["", f"**{escape_markdown(part.title)}**", ""]
    lines += [f"- {escape_markdown(text)}" for text in part.findings]
    for table in part.tables:
        lines += ["", *_markdown_table(table)]
    if part.drawings:
        links = [f"[{escape_markdown(d.name)}]({FIGURES}/{file_name(section, d.name)}.png)" for d in part.drawings]
        lines += ["", f"Figures: {', '.join(links)}"]
    return lines


def _markdown_table(table: Table) -> list[str]:
    head = [table.rows_are, "n", *(column.title for column in table.columns)]
    lines = [f"| {' | '.join(map(escape_markdown, head))} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for row in table.rows:
        shown = [row.values[c.key].text(c) if c.key in row.values else "-" for c in table.columns]
        lines.append(f"| {' | '.join(map(escape_markdown, [row.label, str(row.n or '-'), *shown]))} |")
    return lines
