"""`mtlbench draw`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtlbench.catalogue import building, registry
from mtlbench.cells.words import read_words
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.cli.folders import results_folder
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.record.runs import Run, collect
from mtlbench.storage import path_of

FOLDER = Path("figures")
"""Where figures go unless `--out` says otherwise."""


def draw(options: argparse.Namespace) -> int:
    """Draw what a task of its own knows to draw of finished runs, a set of figures for each variant."""
    from mtlbench.rendering.drawing import save
    from mtlbench.tables.making import FILTERS, narrow

    plugins.load(options.plugin)
    name = options.task.partition("/")[0]
    module = registry.module_beside(building.task_class(name), "figures")
    if module is None:
        raise UsageError(f"The task {name!r} draws no figures of its own. `mtlbench table --out DIR` draws its tables.")
    axes = read_words(options.words, (*(key for key in FILTERS if key != "task"), "results", "predictions"))
    results = results_folder(axes)
    written = path_of(str(axes["predictions"][0])) if "predictions" in axes else results
    runs: dict[str, list[tuple[Run, Path]]] = {}
    for run in narrow(collect(cells(results)), {**axes, "task": [options.task]}).runs:
        folder = written / run.path.parent.relative_to(results)
        runs.setdefault(run.cell.variant, []).append((run, folder))
    if not runs:
        raise UsageError(f"There is no finished run of {options.task} under {results} that fits.")
    out = FOLDER if options.out is None else path_of(options.out)
    for variant, chosen in runs.items():
        try:
            files = save(module.draw(chosen), out, f"{name}-{variant}")
        except OSError as error:
            raise UsageError(f"{out} cannot be written to: {error.strerror}. Name another: --out DIR.") from error
        for file in files:
            console_of().print(f"Wrote {safe(str(file))}", highlight=False, soft_wrap=True)
    return 0
