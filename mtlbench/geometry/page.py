"""A report as a web page that needs nothing beside it: figures are in it, and it asks for nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

from mtlbench.geometry.contents import Drawing, Part, Report, Section, Setting
from mtlbench.rendering.page import framed, text
from mtlbench.rendering.table import Column, Row, Table, Value

FIGURES, TABLES = "figures", "tables"
"""The folders beside the page."""


@dataclass(frozen=True)
class Image:
    """A figure as it stands in the page."""

    svg: bytes
    inches: float
    """Its width, so that letters have about one size in all figures."""


def page(report: Report, images: Mapping[str, Image]) -> str:
    """The whole page.

    Args:
        report: what to show.
        images: of each figure, by its file name (`file_name`).
    """
    links = [f'<a href="#{text(section.slug)}">{text(section.title)}</a>' for section in report.sections]
    body = f"""<h1>{text(report.title)}</h1>
{f'<nav class="contents">{"".join(links)}</nav>' if len(links) > 1 else ""}
<ul class="notes">{_items(report.notes)}</ul>
{"".join(_section(section, images) for section in report.sections)}"""
    style = resources.files("mtlbench.geometry").joinpath("report.css").read_text(encoding="utf-8")
    return framed(report.title, body, more_style=style)


def file_name(section: Section, name: str) -> str:
    """Of a figure or table of a section, without ending."""
    return f"{section.slug}-{name}"


def _items(sentences: Iterable[str], kind: str = "") -> str:
    return "\n".join(f"<li{kind}>{text(sentence)}</li>" for sentence in sentences)


def _section(section: Section, images: Mapping[str, Image]) -> str:
    facts = "\n".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in section.facts.items())
    missing = _items(section.missing, ' class="warning"')
    links = [f'<a href="#{_anchor(section, setting)}">{text(setting.title)}</a>' for setting in section.settings]
    answered = [part for part in section.parts if part.drawings]
    return f"""<section class="study" id="{text(section.slug)}">
<h2>{text(section.title)}</h2>
{_table(section, section.summary)}
{f'<ul class="notes">{missing}</ul>' if missing else ""}
<dl>{facts}</dl>
{"".join(_part(section, part, images) for part in answered)}
{f'<nav class="contents below">{"".join(links)}</nav>' if len(links) > 1 else ""}
{"".join(_setting(section, setting, images) for setting in section.settings)}
{"".join(_part(section, part, images) for part in section.parts if part not in answered)}
</section>
"""


def _setting(section: Section, setting: Setting, images: Mapping[str, Image]) -> str:
    parts = "".join(_part(section, part, images) for part in setting.parts)
    title = f"<h3>{text(setting.title)}</h3>"
    return f'<section class="setting" id="{_anchor(section, setting)}">{title}\n{parts}</section>\n'


def _anchor(section: Section, setting: Setting) -> str:
    return text(f"{section.slug}--{setting.slug}")


def _part(section: Section, part: Part, images: Mapping[str, Image]) -> str:
    figures = "\n".join(_figure(section, drawing, images) for drawing in part.drawings)
    longer = [f"{link} ({text(table.title)})" for table in part.long_tables if (link := _csv_link(section, table))]
    return f"""<section class="part"><h4>{text(part.title)}</h4>
{f'<ul class="findings">{_items(part.findings)}</ul>' if part.findings else ""}
{f'<div class="figures">{figures}</div>' if figures else ""}
{"".join(_table(section, table) for table in part.tables)}
{f'<p class="files">More numbers: {"; ".join(longer)}</p>' if longer else ""}
</section>
"""


def _figure(section: Section, drawing: Drawing, images: Mapping[str, Image]) -> str:
    name = file_name(section, drawing.name)
    data = base64.b64encode(images[name].svg).decode()
    links = " · ".join(
        f'<a href="{FIGURES}/{text(quote(name))}.{suffix}">{suffix.upper()}</a>' for suffix in ("svg", "png")
    )
    width = f"w{min(max(round(images[name].inches), 3), 12)}"
    return (
        f'<figure class="{width}"><img alt="{text(drawing.caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text(drawing.caption)} {links}</figcaption></figure>"
    )


def _csv_link(section: Section, table: Table) -> str:
    return f'<a href="{TABLES}/{text(quote(file_name(section, table.slug)))}.csv">CSV</a>'


def _table(section: Section, table: Table) -> str:
    head = "".join(_heading(column) for column in table.columns)
    rows = "\n".join(_row(table, row) for row in table.rows)
    notes = _items(note.text for note in table.notes)
    return f"""<p class="files">{text(table.title)}: {_csv_link(section, table)}</p>
<div class="scroll" role="region" tabindex="0" aria-label="{text(table.title)}"><table>
<thead><tr><th scope="col">{text(table.rows_are)}</th><th scope="col" title="seeds">n</th>{head}</tr></thead>
<tbody class="method">
{rows}
</tbody></table></div>
{f'<ul class="tabled">{notes}</ul>' if notes else ""}
"""


def _heading(column: Column) -> str:
    return f'<th scope="col" title="{text(column.about)}">{text(column.title)}</th>'


def _row(table: Table, row: Row) -> str:
    cells = "".join(_cell(column, row.values.get(column.key)) for column in table.columns)
    count = text(str(row.n)) if row.n else "–"
    return f'<tr><th scope="row">{text(row.label)}</th><td>{count}</td>{cells}</tr>'


def _cell(column: Column, value: Value | None) -> str:
    if value is None or math.isnan(value.mean):
        return '<td class="none">–</td>'
    shown = text(Value(value.mean, value.interval).text(column))
    p = f" <small>{text(value.p_text)}</small>" if value.p is not None else ""
    return f'<td title="{value.mean!r}">{shown}{p}</td>'
