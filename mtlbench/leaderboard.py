"""From records to tables: which epoch counts, mean and spread over seeds, cost beside score."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mtlbench.config import identity
from mtlbench.record import Evaluation, ObjectiveInfo, Record

BASELINE = "uniform"


@dataclass(frozen=True)
class Measured:
    """A quantity over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds (n - 1), None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def text(self, digits: int = 2) -> str:
        """`95.12 ± 0.08`, or the mean alone for one seed."""
        if not self.values:
            return "-"
        spread = "" if self.spread is None else f" ± {self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass
class Row:
    """One method with its parameters."""

    label: str
    finished: int
    failures: list[str] = field(default_factory=list)
    """`seed 3: diverged: ...` for every cell that failed."""
    scores: list[Measured] = field(default_factory=list)
    """One for each score column."""
    seconds_per_step: Measured = Measured(())
    cost_ratio: float | None = None
    """Median seconds per step over that of the baseline, measured on the same host; None without one."""

    @property
    def count(self) -> str:
        """The number of seeds, as `4/5` where one failed."""
        total = self.finished + len(self.failures)
        return str(self.finished) if total == self.finished else f"{self.finished}/{total}"


@dataclass
class Table:
    """A leaderboard of one task/variant under one protocol."""

    title: str
    columns: list[str]
    """Titles of the score columns, with unit and direction."""
    rows: list[Row]
    notes: list[str]

    def header(self) -> list[str]:
        """The titles of all columns."""
        return ["Method", "n", *self.columns, "ms/step", f"cost / {BASELINE}"]

    def cells(self) -> list[list[str]]:
        """The rows as text, in the order of `header`."""
        return [
            [
                row.label,
                row.count,
                *(score.text() for score in row.scores),
                f"{1000 * statistics.median(row.seconds_per_step.values):.1f}" if row.seconds_per_step.values else "-",
                "-" if row.cost_ratio is None else f"{row.cost_ratio:.2f}x",
            ]
            for row in self.rows
        ]

    def markdown(self) -> str:
        """The table as Markdown, title and notes included."""
        header = self.header()
        lines = [
            f"### {self.title}",
            "",
            _markdown_row(header),
            _markdown_row(["---", *["---:"] * (len(header) - 1)]),
        ]
        lines += [_markdown_row(cells) for cells in self.cells()]
        lines += ["", *(f"- {' '.join(note.split())}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def tables(finished: Iterable[Record], failed: Iterable[Record] = ()) -> list[Table]:
    """One table for each task/variant and protocol among the records; what differs there never shares a table.

    A protocol that was changed without a new version gets a table of its own, told apart by a digest in the title.
    """
    groups: dict[tuple[str, str, str, str], tuple[list[Record], list[Record]]] = {}
    for place, given in enumerate((finished, failed)):
        for record in given:
            protocol = {k: v for k, v in record.cell.protocol.items() if k not in ("name", "modified")}
            key = (record.cell.task, record.cell.variant, record.protocol_label, identity(protocol))
            groups.setdefault(key, ([], []))[place].append(record)
    contents = Counter(key[:3] for key in groups)
    made = []
    for (task, variant, label, digest), records in sorted(groups.items()):
        apart = f" (content {digest})" if contents[task, variant, label] > 1 else ""
        made.append(_table(f"{task}/{variant}, protocol {label}{apart}", *records))
    return made


def selected(record: Record) -> dict[str, dict[str, float]]:
    """The test scores that count: objective -> metric -> value, at the epoch that the protocol's rule selects.

    `best-val` is the epoch with the best mean, over objectives, of the main metric on the validation split (the
    earliest of equals); where every objective has a model of its own, each has its own epoch. `last` is the last.
    """
    rule = record.cell.protocol["selection"]
    if rule == "last":
        return record.evaluations[-1].scores["test"]
    if not record.separate_models:
        return _best(record.evaluations, record.objectives).scores["test"]
    best = {o.name: _best(record.evaluations, [o]) for o in record.objectives}
    return {name: evaluation.scores["test"][name] for name, evaluation in best.items()}


def _best(evaluations: Sequence[Evaluation], objectives: Sequence[ObjectiveInfo]) -> Evaluation:
    """The evaluation with the best validation score; the earliest of equals."""
    return max(evaluations, key=lambda evaluation: _validation(evaluation, objectives))


def _validation(evaluation: Evaluation, objectives: Sequence[ObjectiveInfo]) -> float:
    signed = []
    for objective in objectives:
        main = objective.metrics[0]
        value = evaluation.scores["val"][objective.name][main.name]
        signed.append(value if main.higher_is_better else -value)
    return statistics.fmean(signed)


def _table(title: str, finished: list[Record], failed: list[Record]) -> Table:
    by_label: dict[str, tuple[list[Record], list[Record]]] = {}
    for place, given in enumerate((finished, failed)):
        for record in given:
            by_label.setdefault(record.label, ([], []))[place].append(record)
    objectives = finished[0].objectives if finished else ()
    columns = [
        f"{o.name} {o.metrics[0].name}{f' [{o.metrics[0].unit}]' if o.metrics[0].unit else ''}"
        f" {'↑' if o.metrics[0].higher_is_better else '↓'}"
        for o in objectives
    ]
    kinds = {(o.metrics[0].name, o.metrics[0].unit, o.metrics[0].higher_is_better) for o in objectives}
    with_mean = len(objectives) > 1 and len(kinds) == 1
    if with_mean:
        columns.append("mean")
    rows = [_row(label, *records, objectives, with_mean) for label, records in by_label.items()]
    baseline = [r for r in finished if r.label == BASELINE]
    for row in rows:
        row.cost_ratio = _cost_ratio(by_label[row.label][0], baseline)
    if kinds and rows:
        up = objectives[0].metrics[0].higher_is_better
        rows.sort(key=lambda row: _order(row, up))
    return Table(title, columns, rows, _notes(finished, failed, rows))


def _row(
    label: str,
    finished: list[Record],
    failed: list[Record],
    objectives: Sequence[ObjectiveInfo],
    with_mean: bool,
) -> Row:
    row = Row(label, len(finished), [f"{label}, seed {r.cell.seed}: {r.status}: {r.reason}" for r in failed])
    chosen = [selected(r) for r in sorted(finished, key=lambda r: r.cell.seed)]
    row.scores = [Measured(tuple(c[o.name][o.metrics[0].name] for c in chosen)) for o in objectives]
    if with_mean:
        row.scores.append(
            Measured(tuple(statistics.fmean(v) for v in zip(*(s.values for s in row.scores), strict=True)))
        )
    row.seconds_per_step = Measured(tuple(r.cost.seconds_per_step for r in finished if r.cost))
    return row


def _cost_ratio(records: list[Record], baseline: list[Record]) -> float | None:
    """Median cost over the baseline's, from records of the same host, hardware and threads."""

    def costs(given: list[Record], where: tuple[str, str, int]) -> list[float]:
        return [r.cost.seconds_per_step for r in given if r.cost and _where(r) == where]

    for where in dict.fromkeys(_where(r) for r in records):
        mine, theirs = costs(records, where), costs(baseline, where)
        if mine and theirs:
            return statistics.median(mine) / statistics.median(theirs)
    return None


def _where(record: Record) -> tuple[str, str, int]:
    p = record.provenance
    assert p is not None
    return p.host, p.hardware, p.threads


def _order(row: Row, higher_is_better: bool) -> tuple[float, str]:
    if not row.scores or not row.scores[-1].values:
        return float("inf"), row.label
    mean = row.scores[-1].mean
    return (-mean if higher_is_better else mean), row.label


def _notes(finished: list[Record], failed: list[Record], rows: list[Row]) -> list[str]:
    notes = []
    if finished:
        rule = finished[0].cell.protocol["selection"]
        seeds = sorted({r.cell.seed for r in finished})
        notes.append(
            f"Test scores, epoch selected by `{rule}`; mean ± standard deviation over n seeds ({_spans(seeds)})."
        )
        notes.append("Rows are sorted by their last score column; the order says nothing about significance.")
        hardware = sorted({p.hardware for r in finished if (p := r.provenance)})
        notes.append(f"ms/step: median, evaluation excluded, on {'; '.join(hardware)}.")
        for what, values in {
            "commits": {p.commit or "none" for r in finished if (p := r.provenance)},
            "data": {p.data_digest for r in finished if (p := r.provenance)},
            "torch versions": {p.packages.get("torch", "?") for r in finished if (p := r.provenance)},
        }.items():
            if len(values) > 1:
                notes.append(f"Rows differ in {what}: {', '.join(sorted(v[:12] for v in values))}.")
        if any(p.dirty for r in finished if (p := r.provenance)):
            notes.append("Some records were made by a working copy with uncommitted changes.")
    notes += [failure for row in rows for failure in row.failures]
    return notes


def _spans(seeds: Sequence[int]) -> str:
    if seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2:
        return f"seeds {seeds[0]}..{seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
