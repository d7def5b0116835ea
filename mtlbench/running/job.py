"""A job: one cell, where it leaves what it makes and how it is trained; to JSON and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtlbench.catalogue import data
from mtlbench.cells.cell import Cell
from mtlbench.cells.recording import Recording
from mtlbench.cells.request import Request


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a cell meet: a store of torch.distributed."""

    host: str
    port: int
    name: str
    """Under which what they say stands there."""
    one_host: bool
    """Whether all of them are on one host."""


@dataclass(frozen=True)
class Job:
    """What a worker must know; paths are absolute, so that nothing depends on where it runs or goes to."""

    cell: Cell
    folder: Path
    plugins: tuple[Path, ...] = ()
    """Files that register methods or tasks."""
    device: str = "cpu"
    data_root: Path | None = None
    time_limit: float | None = None
    """Seconds of training, over all resumptions."""
    checkpoint_steps: int | None = None
    predictions: Path | None = None
    """Where the cell's predictions go, in a folder for each cell as under `results`; None for none."""
    geometry: Recording | None = None
    """What is recorded of the gradients' geometry, in the cell's folder; None for nothing."""
    processes: int = 1
    """On which the cell is trained."""
    meeting: Meeting | None = None
    """Where they meet, if others than the first one have been started elsewhere, as by torchrun."""

    @classmethod
    def of(cls, cell: Cell, request: Request) -> Job:
        """The job of one cell of a request."""
        root = data.data_root(request.data_root)
        is_trial = cell.tuning is not None and cell.tuning.is_trial
        return cls(
            cell=cell,
            folder=cell.folder(request.results.absolute()),
            plugins=tuple(plugin.absolute() for plugin in request.plugins),
            device=request.devices[0],
            data_root=root.absolute() if root else None,
            time_limit=request.time_limit,
            checkpoint_steps=request.checkpoint_steps,
            predictions=cell.folder(request.predictions.absolute()) if request.predictions and not is_trial else None,
            geometry=None if is_trial else request.geometry,
            processes=request.processes_each,
        )

    @property
    def cpus(self) -> int:
        """CPU cores that it computes with."""
        return self.cell.protocol.threads * self.processes

    @property
    def gpus(self) -> int:
        """GPUs that it computes on."""
        return self.processes if self.device.startswith("cuda") else 0

    @property
    def options(self) -> dict[str, Any]:
        """How the cell is trained here, as `running.training.run_cell` takes it; no part of the cell."""
        keys = ("device", "data_root", "time_limit", "checkpoint_steps", "predictions", "geometry")
        return {key: getattr(self, key) for key in keys}

    def to_json(self) -> str:
        """One line, without its end."""
        paths = {"folder": str(self.folder), "plugins": [str(plugin) for plugin in self.plugins]}
        options = {key: str(value) if isinstance(value, Path) else value for key, value in self.options.items()}
        options["geometry"] = asdict(self.geometry) if self.geometry else None
        together = {"processes": self.processes, "meeting": asdict(self.meeting) if self.meeting else None}
        return json.dumps({"cell": self.cell.to_data(), **paths, **options, **together})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` made, back again."""
        content = json.loads(text)
        root, predictions = content.pop("data_root"), content.pop("predictions")
        geometry, meeting = content.pop("geometry"), content.pop("meeting", None)
        return cls(
            cell=Cell.from_data(content.pop("cell")),
            folder=Path(content.pop("folder")),
            plugins=tuple(map(Path, content.pop("plugins"))),
            data_root=Path(root) if root else None,
            predictions=Path(predictions) if predictions else None,
            geometry=Recording(**geometry) if geometry else None,
            meeting=Meeting(**meeting) if meeting else None,
            **content,
        )
