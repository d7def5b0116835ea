"""A report as a web page that needs nothing beside it: figures are in it, and it asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from urllib.parse import quote

from mtlbench.geometry.contents import Drawing, Part, Report, Section, Setting
from mtlbench.rendering.table import Column, Row, Table, Value
from mtlbench.rendering.text import one_line

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
    links = [f'<a href="#{_text(section.slug)}">{_text(section.title)}</a>' for section in report.sections]
    body = f"""<h1>{_text(report.title)}</h1>
{f'<nav class="contents">{"".join(links)}</nav>' if len(links) > 1 else ""}
<ul class="notes">{_items(report.notes)}</ul>
{"".join(_section(section, images) for section in report.sections)}"""
    return _framed(report.title, body)


def file_name(section: Section, name: str) -> str:
    """Of a figure or table of a section, without ending."""
    return f"{section.slug}-{name}"


def _framed(title: str, body: str) -> str:
    """The frame, style and script of the leaderboards, with a content security policy that lets nothing else in."""
    shared = resources.files("mtlbench.rendering")
    style, script, frame = (
        shared.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html")
    )
    style += resources.files("mtlbench.geometry").joinpath("report.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(frame).substitute(title=_text(title), policy=policy, style=style, script=script, body=body)


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _text(text: str) -> str:
    """For element content and for attributes in double quotes."""
    return escape(one_line(text))


def _items(sentences: Iterable[str], kind: str = "") -> str:
    return "\n".join(f"<li{kind}>{_text(sentence)}</li>" for sentence in sentences)


def _section(section: Section, images: Mapping[str, Image]) -> str:
    facts = "\n".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in section.facts.items())
    missing = _items(section.missing, ' class="warning"')
    links = [f'<a href="#{_anchor(section, setting)}">{_text(setting.title)}</a>' for setting in section.settings]
    answered = [part for part in section.parts if part.drawings]
    return f"""<section class="study" id="{_text(section.slug)}">
<h2>{_text(section.title)}</h2>
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
    title = f"<h3>{_text(setting.title)}</h3>"
    return f'<section class="setting" id="{_anchor(section, setting)}">{title}\n{parts}</section>\n'


def _anchor(section: Section, setting: Setting) -> str:
    return _text(f"{section.slug}--{setting.slug}")


def _part(section: Section, part: Part, images: Mapping[str, Image]) -> str:
    figures = "\n".join(_figure(section, drawing, images) for drawing in part.drawings)
    longer = [f"{link} ({_text(table.title)})" for table in part.long_tables if (link := _csv_link(section, table))]
    return f"""<section class="part"><h4>{_text(part.title)}</h4>
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
        f'<a href="{FIGURES}/{_text(quote(name))}.{suffix}">{suffix.upper()}</a>' for suffix in ("svg", "png")
    )
    width = f"w{min(max(round(images[name].inches), 3), 12)}"
    return (
        f'<figure class="{width}"><img alt="{_text(drawing.caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(drawing.caption)} {links}</figcaption></figure>"
    )


def _csv_link(section: Section, table: Table) -> str:
    return f'<a href="{TABLES}/{_text(quote(file_name(section, table.slug)))}.csv">CSV</a>'


def _table(section: Section, table: Table) -> str:
    head = "".join(_heading(column) for column in table.columns)
    rows = "\n".join(_row(table, row) for row in table.rows)
    notes = _items(note.text for note in table.notes)
    return f"""<p class="files">{_text(table.title)}: {_csv_link(section, table)}</p>
<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}"><table>
<thead><tr><th scope="col">{_text(table.rows_are)}</th><th scope="col" title="seeds">n</th>{head}</tr></thead>
<tbody class="method">
{rows}
</tbody></table></div>
{f'<ul class="tabled">{notes}</ul>' if notes else ""}
"""


def _heading(column: Column) -> str:
    return f'<th scope="col" title="{_text(column.about)}">{_text(column.title)}</th>'


def _row(table: Table, row: Row) -> str:
    cells = "".join(_cell(column, row.values.get(column.key)) for column in table.columns)
    count = _text(str(row.n)) if row.n else "–"
    return f'<tr><th scope="row">{_text(row.label)}</th><td>{count}</td>{cells}</tr>'


def _cell(column: Column, value: Value | None) -> str:
    if value is None or math.isnan(value.mean):
        return '<td class="none">–</td>'
    shown = _text(Value(value.mean, value.interval).text(column))
    p = f" <small>{_text(value.p_text)}</small>" if value.p is not None else ""
    return f'<td title="{value.mean!r}">{shown}{p}</td>'
