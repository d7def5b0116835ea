"""Writes every table in every format, and the pages that list them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from mtlbench.errors import UsageError, unknown
from mtlbench.rendering import latex, page, plain
from mtlbench.rendering.plain import escape_markdown
from mtlbench.rendering.table import Table
from mtlbench.storage import write_atomically

FOLDER = "leaderboards"
"""Where the tables stand below the folder of results."""
CONTROLS = "controls/README.md"
"""The page of the standing controls, below the same folder as the tables."""


FORMATS: Mapping[str, Callable[[Sequence[Table]], str]] = {
    "md": plain.markdown,
    "csv": plain.csv,
    "tex": latex.document,
    "html": page.tables_page,
    "json": plain.json,
}
"""File suffix -> rendering of one or several tables; CSV and JSON hold one table a file."""


def render(form: str, tables: Sequence[Table]) -> str:
    """The tables in one of `FORMATS`.

    Raises:
        UsageError: there is no such format, or it holds one table and there are several.
    """
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    return FORMATS[form](tables)


def write_all(
    tables: Sequence[Table],
    folder: Path,
    figures: Mapping[str, Sequence[Path]] | None = None,
    named_only: Sequence[str] = (),
) -> list[Path]:
    """Write `leaderboards/SLUG.{md,csv,tex,html,json}` for each table, a `README.md` beside them, and `index.html`.

    Args:
        tables: with slugs that differ.
        folder: made if it is not there.
        figures: by table slug, files that exist already: embedded in the table's page and shown small in the index.
        named_only: titles of tables that have no files, since they compare nothing.

    Returns:
        What was written, the index last.

    Raises:
        UsageError: the folder cannot be written to.
        ValueError: a slug is no file name, or two tables have the same.
    """
    slugs = [table.slug for table in tables]
    if len(set(slugs)) < len(slugs) or not all(re.fullmatch(r"\w[\w.-]*", slug) for slug in slugs):
        raise ValueError(f"Slugs of tables must be file names, and each its own: {slugs}.")
    figures = figures or {}
    below = folder / FOLDER
    files: dict[Path, str] = {}
    for table in tables:
        for suffix, rendering in FORMATS.items():
            files[below / f"{table.slug}.{suffix}"] = rendering([table])
        files[below / f"{table.slug}.html"] = page.tables_page([table], figures, below)
        files[below / f"{table.slug}.md"] += _images(figures.get(table.slug, ()), table, below)
    files[below / "README.md"] = _contents(tables) + _without_files(named_only) + _controls(folder)
    files[folder / "index.html"] = page.index_page(tables, figures, folder, FOLDER)
    try:
        below.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_atomically(path, text.encode(errors="replace"))
    except OSError as error:
        raise UsageError(
            f"Tables cannot be written to {folder}: {error.strerror}. Name another folder: --out DIR."
        ) from error
    return list(files)


def _images(figures: Sequence[Path], table: Table, folder: Path) -> str:
    """The figures, one under the other, for the Markdown file."""
    shown = [
        f"![{escape_markdown(page.figure_name(file.stem, table))}]({page.relative_link(file, folder)})"
        for file in figures
        if file.suffix == ".png"
    ]
    return "".join(f"\n{image}\n" for image in shown)


def _controls(folder: Path) -> str:
    """Where these tables are held to what must come out, if such a page stands beside them."""
    if not (folder / CONTROLS).is_file():
        return ""
    return f"\nDo tables like these see what there is to see? [The standing controls](../{CONTROLS}) tell.\n"


def _without_files(titles: Sequence[str]) -> str:
    if not titles:
        return ""
    named = "".join(f"- {escape_markdown(title)}\n" for title in titles)
    return f"\nOne method alone under a protocol that was changed (`mtlbench table protocol=...` shows it):\n\n{named}"


def _contents(tables: Sequence[Table]) -> str:
    """The index for those who browse the folder where Markdown is shown."""
    names = list(dict.fromkeys(name for table in tables for name in page.describe(table)))
    lines = [
        "# Leaderboards",
        "",
        f"| leaderboard | {' | '.join(names)} | files |",
        f"| --- {'| --- ' * len(names)}| --- |",
    ]
    for table in tables:
        about = page.describe(table)
        links = [f"[{page.FORMAT_NAMES[suffix]}]({quote(table.slug)}.{suffix})" for suffix in page.FORMAT_NAMES]
        title = f"[{escape_markdown(table.title)}]({quote(table.slug)}.md)"
        cells = [title, *(escape_markdown(about.get(name, "")) for name in names), ", ".join(links)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
