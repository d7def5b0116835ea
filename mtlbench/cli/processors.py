"""Reports of `mtlbench reproduce` as files: one, or a folder of one for each kind of processor, with a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.cli.console import write_file
from mtlbench.errors import UsageError
from mtlbench.rendering.plain import escape_markdown

if TYPE_CHECKING:
    from mtlbench.record.drift import Drift

PAGE = "README.md"
ABOUT = """\
# One cell on several kinds of processor

torch and its libraries choose their code by the processor. Where they choose the same, a cell is the same to the bit;
where not, the last bits of sums are others, and training carries them on. Each row below is a cell that was trained
again from its committed record, with how far it is from it: the first evaluation that differs, the difference at the
last evaluation, the largest on the way, and the standard deviation over seeds of the same figure to compare it with.
Where variables stand in parentheses, people chose the kernels on the processor that stands before them: code for other
processors, on this one. None of these runs is in a leaderboard.

`mtlbench reproduce RECORD... --out FOLDER` makes this page, from the reports beside it.
"""


HEADER = (
    "processor and kernels",
    "torch",
    "differs from epoch",
    "curve",
    "record",
    "again",
    "difference",
    "largest",
    "sd over seeds",
)


def report_file(out: Path) -> Path:
    """What `--out` names: a file that ends in .json, or a folder.

    Raises:
        UsageError: it is neither.
    """
    if out.suffix and out.suffix != ".json" and not out.is_dir():
        raise UsageError(f"{out} is no report: --out FILE.json, or a folder.")
    return out


def add(out: Path, drifts: Sequence[Drift]) -> None:
    """Write the drifts to a file; or to a folder, beside those of other cells and processors, with a page of all."""
    from mtlbench.record.drift import Report, read_report

    if out.suffix == ".json":
        write_file(out, _json(Report(drifts=tuple(drifts))))
        return
    by_file: dict[Path, list[Drift]] = {}
    for drift in drifts:
        by_file.setdefault(out / f"{slug(drift.now.kind)}.json", []).append(drift)
    for file, new in by_file.items():
        old = read_report(file).drifts if file.exists() else ()
        kept = [drift for drift in old if drift.id not in {made.id for made in new}]
        write_file(file, _json(Report(drifts=tuple(sorted([*kept, *new], key=lambda drift: drift.cell)))))
    every = [drift for file in sorted(out.glob("*.json")) for drift in read_report(file).drifts]
    write_file(out / PAGE, page(every))


def slug(kind: str) -> str:
    """`intel-xeon-processor-avx2-aten-cpu-capability-avx2`: a kind of processor as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((R|TM)\)", "", kind).lower()).strip("-")


def page(drifts: Sequence[Drift]) -> str:
    """All of it in Markdown, a section for each cell."""
    lines = [ABOUT]
    ordered = sorted(drifts, key=lambda drift: (bool(drift.now.variables), drift.now.kind))  # real processors first
    for cell in sorted({drift.cell for drift in drifts}):
        lines += _section([drift for drift in ordered if drift.cell == cell])
    return "\n".join(lines)


def _section(drifts: Sequence[Drift]) -> list[str]:
    first = drifts[0]
    packages, seeds = first.before.packages, len(first.seeds)
    lines = [
        f"## {escape_markdown(first.cell)}",
        "",
        f"Protocol {escape_markdown(first.protocol)}. The record: {escape_markdown(first.before.kind)}; torch "
        f"{packages.get('torch', 'unknown')}, {first.before.precision}; commit {(first.before.commit or '?')[:12]}. "
        f"Standard deviations are over {seeds} seed{'s' if seeds != 1 else ''}.",
        "",
        f"| {' | '.join(HEADER)} |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for drift in drifts:
        place = f"{escape_markdown(drift.now.kind)} | {drift.now.packages.get('torch', 'unknown')}"
        for place_of_row, curve in enumerate(drift.shown):
            head = f"{place} | {drift.first or '**same bits**'}" if place_of_row == 0 else " | | "
            noise = "-" if curve.noise is None else f"{curve.noise:.3g}"
            largest = max(map(abs, curve.differences))
            figures = f"{curve.before[-1]:.8g} | {curve.now[-1]:.8g} | {curve.differences[-1]:+.3g} | {largest:.3g}"
            lines.append(f"| {head} | {escape_markdown(curve.name)} | {figures} | {noise} |")
    sizes = [(abs(c.differences[-1]) / c.noise, c.name) for drift in drifts for c in drift.shown if c.noise]
    if any(size for size, _ in sizes):
        size, name = max(sizes)
        lines += [
            "",
            f"Largest at the last evaluation: {size:.2f} standard deviations over seeds ({escape_markdown(name)}).",
        ]
    harmless = {cause for drift in drifts if drift.is_equal for cause in drift.causes}  # the bits were the same anyway
    causes = {c: None for drift in drifts if not drift.is_equal for c in drift.causes if c not in harmless}
    if causes:
        lines += ["", f"Beside the processor, this is another than in the record: {'; '.join(causes)}."]
    return [*lines, ""]


def _json(report: object) -> str:
    return report.model_dump_json(indent=1) + "\n"  # type: ignore[attr-defined]
