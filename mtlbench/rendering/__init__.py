"""Tables as files: Markdown, CSV, LaTeX, HTML and JSON, all from one `Table`; on the terminal see `mtlbench.terminal`.

The first line of each is the table's heading, which says whether the grid is complete. Bold marks every value that
cannot be told apart from the best of its column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mtlbench.errors import unknown
from mtlbench.rendering import latex, page, plain
from mtlbench.table import Table

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
