"""The time and memory of `mtlbench table` over many records, against only reading their JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.cells.cell import identity

METHODS = 10
SEEDS = 10
EPOCHS = 15

READ = "json"
"""Only reads and parses every file, the least that any table needs."""


def tables(
    records: Sequence[int] = (10_000,),
    repeats: int = 3,
    progress: Progress | None = None,
) -> Bench:
    """Time the command on generated records: two objectives with two metrics, 15 evaluations, 10 seeds, 10 methods.

    The command runs in a process of its own, so its time holds the start of the interpreter and all imports. Rows have:

    - labels `records`, `output`;
    - ratios `/json`, to reading and parsing the same files in this process;
    - seconds `command`;
    - bytes `peak`: of the whole process.

    Args:
        records: how many records.
        repeats: samples of each subject.
        progress: told of every sample.
    """
    settings = {"records": list(records), "repeats": repeats}
    sampler = Sampler(lambda: None, 0.0, warm=False)
    rows = []
    outputs = {"terminal": [], "html": ["--format", "html"]}
    total = len(records) * repeats * (len(outputs) + 1)
    done = 0

    def tell(label: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total, label)

    for count in records:
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder)
            generate(results, count)
            peaks: dict[str, int] = {}
            subjects = {READ: partial(_parse, results)}
            for name, words in outputs.items():
                subjects[name] = partial(_command, results, words, name, peaks)
            samples = sampler.interleave(subjects, repeats, tell)
        for name in outputs:
            mine = {key: samples[key] for key in (READ, name)}
            rows.append(
                Row(
                    labels={"records": count, "output": name},
                    ratios={"/json": Spread.of(mine, name, READ)},
                    seconds={"command": medians(mine, [name])[name]},
                    bytes={"peak": peaks[name]},
                    samples={key: list(values) for key, values in mine.items()},
                )
            )
    environment = Environment.here(torch.device("cpu"), None)
    return Bench(
        kind="tables", settings=settings, environment=environment, disturbed=sampler.disturbed_share, rows=rows
    )


def generate(results: Path, count: int) -> None:
    """Write `count` records of made-up tasks with random curves, as the runner would have written them."""
    generator = np.random.default_rng(0)
    for task, method, seed in _cells(count):
        cell: dict[str, Any] = {
            "method": "gradvac" if method else "uniform",
            "parameters": {"beta": method / 100, "target": None, "shuffle": True} if method else {},
            "task": f"bench{task}",
            "variant": "synthetic",
            "protocol": _PROTOCOL,
            "seed": seed,
            "granularity": "whole_model" if method else None,
            "jacobian_dtype": None,
        }
        curves = generator.standard_normal((EPOCHS, 2, 2, 2)).cumsum(0) * 0.3 + [80.0, 1.0]
        record = {
            "schema_version": 2,
            "id": identity(cell),
            "status": "finished",
            "reason": "",
            "cell": cell,
            "separate_models": False,
            "objectives": [{"name": name, "metrics": _METRICS} for name in ("left", "right")],
            "evaluations": [
                {
                    "epoch": epoch + 1,
                    "step": 100 * (epoch + 1),
                    "losses": {"left": 1.0, "right": 1.0},
                    "scores": {
                        split: {
                            name: {"accuracy": curves[epoch, s, o, 0], "nll": curves[epoch, s, o, 1]}
                            for o, name in enumerate(("left", "right"))
                        }
                        for s, split in enumerate(("val", "test"))
                    },
                }
                for epoch in range(EPOCHS)
            ],
            "cost": _COST,
            "provenance": _PROVENANCE,
            "diagnostics": {},
        }
        folder = results / cell["task"] / "synthetic" / "bench@1" / cell["method"] / f"seed{seed}-{record['id']}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record, indent=1))


def _cells(count: int) -> Iterator[tuple[int, int, int]]:
    """Task, method and seed of each record."""
    for index in range(count):
        group, seed = divmod(index, SEEDS)
        yield *divmod(group, METHODS), seed


def _parse(results: Path) -> None:
    for folder, _, files in os.walk(results):
        for name in files:
            json.loads((Path(folder) / name).read_bytes())


def _command(results: Path, words: Sequence[str], name: str, peaks: dict[str, int]) -> None:
    command = [sys.executable, "-m", "mtlbench", "table", f"results={results}", *words]
    ran = subprocess.run([sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {ran.stderr.strip()[-500:]}")
    peaks[name] = int(ran.stdout) * (1 if sys.platform == "darwin" else 1024)


# A process counts the memory of the one that it was forked from as its own peak, so a small one stands between.
_MEASURE = """
import resource, subprocess, sys
ran = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ran.returncode)
"""

_METRICS = [
    {"name": "accuracy", "higher_is_better": True, "unit": "%"},
    {"name": "nll", "higher_is_better": False, "unit": "nats"},
]
_PROTOCOL = {
    "name": "bench",
    "version": 1,
    "epochs": EPOCHS,
    "batch_size": 256,
    "optimizer": {
        "name": "adam",
        "lr": 0.003,
        "momentum": 0.0,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
    },
    "schedule": {"name": "cosine", "every_epochs": 1, "factor": 1.0, "warmup_steps": 0},
    "clip_norm": None,
    "autocast": False,
    "threads": 1,
    "evaluate_every": 1,
    "selection": "best-val",
    "options": {"dropout": 0.1},
    "modified": {},
}
_COST = {
    "steps": 1500,
    "seconds_per_step": 0.02,
    "seconds_training": 30.0,
    "seconds_evaluation": 3.0,
    "peak_memory_bytes": 400_000_000,
    "memory": "process",
}
_PROVENANCE = {
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:01:00+00:00",
    "resumed": 0,
    "packages": {"python": "3", "torch": "2"},
    "commit": "0" * 40,
    "dirty": False,
    "method_digest": "0" * 64,
    "data_digest": "0" * 64,
    "host": "0" * 12,
    "hardware": "generated",
    "device": "cpu",
    "threads": 1,
}
