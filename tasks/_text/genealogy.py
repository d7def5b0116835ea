"""What language family, and which of its branches, the languages of the corpora belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mtlbench.catalogue.yaml_file import read_yaml


class Lineage(NamedTuple):
    """Where a language belongs."""

    family: str
    """Such as Indo-European; a language without known relatives is a family of its own."""
    branch: str
    """A group within it (a genus of WALS), such as Germanic."""


def distance(a: Lineage, b: Lineage) -> int:
    """0 in one branch, 1 in one family, 2 otherwise. Coarse: it knows no time and no order of branches."""
    return 0 if a == b else 1 if a.family == b.family else 2


SOURCE = "WALS Online"
"""Where the table is from; it says more of that at its top."""


def _table() -> dict[str, Lineage]:
    rows = read_yaml(Path(__file__).with_name("genealogy.yaml"))["languages"]
    return {
        code: Lineage(row["family"], row["branch"])
        for three, row in rows.items()
        for code in (three, row.get("two"))
        if code
    }


GENEALOGY: Mapping[str, Lineage] = _table()
"""ISO 639-3 code, or the two-letter one that a corpus has instead -> what is known of the language."""
