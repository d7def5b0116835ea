"""Tables as a web page that needs nothing beside it, and the index page of many tables."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape as escape_html
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote

from mtlbench.rendering.table import Column, Row, Section, Table, Value
from mtlbench.rendering.text import one_line

FORMAT_NAMES = {"html": "HTML", "md": "Markdown", "csv": "CSV", "tex": "LaTeX", "json": "JSON"}

_IMAGES = {".svg": "image/svg+xml", ".png": "image/png"}


def tables_page(
    tables: Sequence[Table],
    figures: Mapping[str, Sequence[Path]] | None = None,
    folder: Path | None = None,
) -> str:
    """A self-contained page; it may be opened from anywhere and asks for nothing.

    Args:
        tables: one section of the page each.
        figures: by table slug, image files to embed (SVG or PNG); other files of the same name are linked.
        folder: where the page will stand with the other renderings beside it and an index above; then it links them.
    """
    articles = [
        _article(table, _figures((figures or {}).get(table.slug, ()), table, folder), folder) for table in tables
    ]
    return framed("; ".join(table.heading for table in tables), "\n".join(articles))


def index_page(tables: Sequence[Table], figures: Mapping[str, Sequence[Path]], folder: Path, beside: str) -> str:
    """The page that links every table in all renderings.

    Args:
        tables: in the order to show them.
        figures: by table slug, files below `folder`, shown small.
        folder: where the page will stand.
        beside: the folder below it in which the renderings stand.
    """
    cards = [_card(table, _thumbnails(figures.get(table.slug, ()), table, folder), beside) for table in tables]
    title = "Leaderboards"
    body = f'<h1>{title}</h1>\n<div class="cards">\n{"".join(cards)}</div>'
    return framed(title, body, images="data: file: 'self'")


def framed(title: str, body: str, *, images: str = "data:", more_style: str = "") -> str:
    """A whole page with style and script in it, whose content security policy lets nothing else in.

    Args:
        title: plain text.
        body: HTML.
        images: where these may come from, as the policy says it.
        more_style: CSS after that of all pages.
    """
    files = resources.files("mtlbench.rendering")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    style += more_style
    policy = (
        f"default-src 'none'; img-src {images}; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Template(files.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=text(title), policy=policy, style=style, script=script, body=body)


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def text(plain: str) -> str:
    """As HTML, for element content and for attributes in double quotes."""
    return escape_html(one_line(plain))


# --- one table


def _article(table: Table, figures: str, folder: Path | None) -> str:
    back = '<p class="back"><a href="../index.html">All leaderboards</a></p>\n' if folder else ""
    incomplete = f' <span class="incomplete">({text(table.incomplete)})</span>' if table.incomplete else ""
    abouts = [(column.title, column.about) for column in table.columns if column.about]
    return f"""<article id="{text(table.slug)}">
<h1>{text(table.title)}{incomplete}</h1>
{back}<div class="tools">
<input type="search" class="scripted" placeholder="Filter methods" aria-label="Filter methods" hidden>
<details class="choice scripted" hidden><summary>Columns</summary><div></div></details>
<span class="found" aria-live="polite"></span>
{f'<span class="files">{_links(table.slug, "", skip="html")}</span>' if folder else ""}
</div>
<div class="scroll" role="region" tabindex="0" aria-label="{text(table.title)}">
<table>
{_head(table)}
{"".join(_section(table, section) for section in table.sections())}</table>
</div>
<button type="button" class="more" hidden></button>
{_notes(table)}
<div class="about">
{_definitions("How this table was made", list(table.facts.items()))}
{_definitions("Columns", abouts)}
</div>
{figures}
</article>"""


def _links(slug: str, folder: str, skip: str = "") -> str:
    """Links to the renderings of one table."""
    return " · ".join(
        f'<a href="{text(folder + quote(slug))}.{suffix}">{name}</a>'
        for suffix, name in FORMAT_NAMES.items()
        if suffix != skip
    )


def _head(table: Table) -> str:
    cells = [
        '<th scope="col" data-kind="text" data-first="ascending">'
        f'<button type="button">{text(table.rows_are)}</button></th>',
        '<th scope="col" data-first="descending"><button type="button" title="seeds">n</button></th>',
    ]
    for column in table.columns:
        first = "ascending" if column.higher_is_better is False else "descending"
        wide = ' class="wide"' if len(column.title) > 14 else ""
        better = {True: "higher is better", False: "lower is better", None: ""}[column.higher_is_better]
        title = text("; ".join(filter(None, [column.about.rstrip("."), better])))
        arrow = f'\u00a0<span class="arrow">{column.arrow}</span>' if column.arrow else ""
        name = text(column.title).replace(" [", "\u00a0[")  # the unit stays with the last word
        button = f'<button type="button" title="{title}">{name}{arrow}</button>'
        cells.append(f'<th scope="col" data-first="{first}"{wide}>{button}</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _section(table: Table, section: Section) -> str:
    rows = [_row(table, section, row) for row in section.rows]
    if section.is_apart:
        rest = f'<td colspan="{len(table.columns) + 1}"></td>'
        rows.insert(0, f'<tr><th scope="rowgroup" class="title">{section.title}</th>{rest}</tr>')
    lines = "\n".join(rows)
    kind = f"apart {section.role}" if section.is_apart else section.role
    return f'<tbody class="{kind}">\n{lines}\n</tbody>\n'


def _row(table: Table, section: Section, row: Row) -> str:
    marks = f"<sup>{text(row.marks)}</sup>" if row.marks else ""
    role = f' <span class="role">{section.title}</span>' if section.role == "reference" else ""
    label = text(row.label)
    short = ' class="short" title="cells are missing or failed, see the notes"' if "/" in row.count else ""
    cells = [
        f'<th scope="row" data-value="{label}">{_breakable(label)}{marks}{role}</th>',
        f'<td data-value="{row.n}"{short}>{text(row.count)}</td>',
        *(_cell(table, column, row.values.get(column.key)) for column in table.columns),
    ]
    return f'<tr data-label="{label}">{"".join(cells)}</tr>'


def _breakable(label: str) -> str:
    """With places where a long label may go on in the next line."""
    return label.replace(",", ",<wbr>").replace("(", "<wbr>(").replace("=", "=<wbr>")


def _cell(table: Table, column: Column, value: Value | None) -> str:
    if value is None or math.isnan(value.mean):
        return '<td class="none">–</td>'
    number = text(dataclasses.replace(value, p=None, sampling=None).text(column))
    shown = f"<b>{number}</b>" if value.best else number
    if value.sampling is not None:
        shown += f" <small>{text(value.sampling.text(column))}</small>"
    if value.p is not None:
        shown += f" <small>{text(value.p_text)}</small>"
    exact = f"{float(value.mean)!r}"
    if value.interval is not None and value.interval.known:
        exact += f", interval from {float(value.interval.low)!r} to {float(value.interval.high)!r}"
    return f'<td data-value="{float(value.mean)!r}" title="{exact}">{shown}{_whisker(table, column, value)}</td>'


def _whisker(table: Table, column: Column, value: Value) -> str:
    """The interval drawn to the scale of its column; nothing where nothing is compared or there is no interval."""
    reaches = [reach for row in table.rows for reach in _reach(row.values.get(column.key))]
    low, high = min(reaches, default=0.0), max(reaches, default=0.0)
    mine = list(_reach(value))
    if column.higher_is_better is None or not mine or not high > low or not math.isfinite(high - low):
        return ""
    start, end, mean = (100 * (x - low) / (high - low) for x in (*mine, value.mean))
    best = " best" if value.best else ""
    return (
        f'<svg class="whisker{best}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<line x1="{start:.1f}" x2="{end:.1f}" y1="4" y2="4"/>'
        f'<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="4" y2="4"/></svg>'
    )


def _reach(value: Value | None) -> Iterator[float]:
    if value is not None and value.interval is not None and value.interval.known:
        yield from (value.interval.low, value.interval.high)


def _notes(table: Table) -> str:
    items = []
    for note in table.notes:
        mark = f'<span class="mark">{text(note.mark)}</span> ' if note.mark else ""
        warning = ' class="warning"' if note.kind == "warning" else ""
        items.append(f"<li{warning}>{mark}{text(note.text)}</li>")
    lines = "\n".join(items)
    return f'<h2>Notes</h2>\n<ul class="notes">\n{lines}\n</ul>' if items else ""


def _definitions(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in pairs)
    return f"<section><h2>{title}</h2>\n<dl>\n{lines}\n</dl></section>" if pairs else ""


# --- figures


def _by_name(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each figure: one drawing in several formats has one name."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(file.stem, []).append(file)
    return found


def _image(files: Sequence[Path]) -> Path | None:
    shown = [file for suffix in _IMAGES for file in files if file.suffix == suffix]
    return shown[0] if shown else None


def figure_name(file: str, table: Table) -> str:
    """`multimnist-mnist-rank_profile` of table `multimnist-mnist`: `rank profile`."""
    return file.removeprefix(table.slug).strip("-_.").replace("-", " ").replace("_", " ") or file


def relative_link(file: Path, folder: Path) -> str:
    """From a page in `folder` to a file, quoted."""
    return quote(Path(os.path.relpath(file, folder)).as_posix())


def _figures(files: Sequence[Path], table: Table, folder: Path | None) -> str:
    shown = []
    for name, formats in _by_name(files).items():
        image = _image(formats)
        if image is None:
            continue
        about = text(figure_name(name, table))
        links = (
            [f'<a href="{text(relative_link(f, folder))}">{text(f.suffix[1:].upper())}</a>' for f in formats]
            if folder
            else []
        )
        data = base64.b64encode(image.read_bytes()).decode()
        picture = f'<img alt="{about}" src="data:{_IMAGES[image.suffix]};base64,{data}">'
        shown.append(f"<figure>{picture}<figcaption>{' · '.join([about, *links])}</figcaption></figure>")
    lines = "\n".join(shown)
    return f'<h2>Figures</h2>\n<div class="figures">\n{lines}\n</div>' if shown else ""


def _thumbnails(files: Sequence[Path], table: Table, folder: Path) -> str:
    shown = []
    for name, formats in _by_name(files).items():
        image = _image(formats)
        if image is not None:
            path, about = text(relative_link(image, folder)), text(figure_name(name, table))
            picture = f'<img loading="lazy" alt="{about}" src="{path}">'
            shown.append(f'<figure><a href="{path}">{picture}</a><figcaption>{about}</figcaption></figure>')
    return f'<div class="figures">{"".join(shown)}</div>\n' if shown else ""


# --- the index


def describe(table: Table) -> dict[str, str]:
    """What an index says of a table, in words."""
    methods = [row for row in table.rows if row.role == "method"]
    counts = sorted({row.n for row in methods})
    seeds = "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    facts = {key: table.facts[key] for key in ("task", "protocol", "split", "regime") if key in table.facts}
    return {**facts, "methods": str(len(methods)), "seeds": seeds, "cells": table.incomplete or "complete"}


def finding(table: Table) -> str:
    """One sentence on who leads in what sums the table up, and who cannot be told apart; empty without a result."""
    by_key = {column.key: column for column in table.columns}
    compared = [column for column in table.columns if column.higher_is_better is not None]
    column = by_key.get("mean") or by_key.get("delta_m") or next(iter(compared), None)
    rows = [row for row in table.rows if row.role == "method" and column is not None and column.key in row.values]
    if column is None or not rows:
        return ""
    first = max(rows, key=lambda row: row.values[column.key].mean * (1 if column.higher_is_better else -1))
    led = (
        f"{column.title}: {first.label} leads with "
        f"{dataclasses.replace(first.values[column.key], p=None, sampling=None).text(column)}"
    )
    if len(rows) < 2:
        return f"{led}, alone."
    if not any(row.values[column.key].best for row in rows):
        return f"{led}; no test tells it from the others."
    others = sum(row.values[column.key].best for row in rows if row is not first)
    told = f"{led}; {others} of {len(rows) - 1} others cannot be told apart from it."
    return f"{told} Detectable: {table.facts['detectable']}." if others and "detectable" in table.facts else told


def _card(table: Table, thumbnails: str, beside: str) -> str:
    about = describe(table)
    cells = about.pop("cells")
    badges = [f"<div><span>{text(key)}</span> {text(value)}</div>" for key, value in about.items() if value]
    if table.incomplete:
        badges.append(f'<div class="incomplete">{text(cells)}</div>')
    title = f'<a href="{text(f"{beside}/{quote(table.slug)}")}.html">{text(table.title)}</a>'
    return (
        f'<section class="card">\n<h3>{title}</h3>\n<div class="badges">{"".join(badges)}</div>\n'
        f"{_sentence(finding(table))}{thumbnails}<p>{_links(table.slug, f'{beside}/')}</p>\n</section>\n"
    )


def _sentence(said: str) -> str:
    return f'<p class="finding">{text(said)}</p>\n' if said else ""
