"""What stands in the folder of a cell that was sent elsewhere to be trained: where to, and what came of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from mtlbench.storage import read_regular, write_atomically
from mtlbench.strict import Strict

SENT = "sent.json"
"""The file that says where the cell was sent to."""
REPORTS = "reports.jsonl"
"""What has been reported of it since: a line each."""

NAME = r"mtlbench-[0-9a-f]{12}"
_LARGEST_FILE = 64 * 2**20


class Sent(Strict):
    """Where a cell was sent to."""

    on: Literal["slurm", "ray"]
    name: Annotated[str, pydantic.Field(pattern=f"^{NAME}$")]
    """Of what was sent off together; in Slurm the name of an array of jobs."""
    index: Annotated[int, pydantic.Field(ge=0)]
    """Of the cell in it."""
    job: dict[str, Any]
    """What the worker is to do, as `running.job.Job` writes it."""

    def save(self, folder: Path) -> None:
        """Write it to a cell's folder, where nothing has been reported yet; raises `OSError`."""
        (folder / REPORTS).unlink(missing_ok=True)
        write_atomically(folder / SENT, json.dumps(self.model_dump(mode="json")).encode())


def read_sent(folder: Path) -> Sent | None:
    """Where the cell of a folder was sent to; None if it was not, or if the file is not whole."""
    try:
        return Sent.model_validate_json(read_regular(folder / SENT, _LARGEST_FILE))
    except (OSError, ValueError, RecursionError):
        return None


def attempts(folder: Path) -> int:
    """How often a worker has begun the cell since it was sent."""
    try:
        return sum(line.startswith(b'{"begun"') for line in read_regular(folder / REPORTS, _LARGEST_FILE).splitlines())
    except OSError:
        return 0


def forget(folder: Path) -> None:
    """Remove what stands there of where the cell was sent to, as far as that can be done."""
    for name in (SENT, REPORTS):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
