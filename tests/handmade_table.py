"""Tables by hand: one as the leaderboard makes them, and one whose every text is hostile."""

from __future__ import annotations

import dataclasses
import math

from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Interval

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b",
    r"50%_&$#{}~^\\",
    "=1+1",
    "@one\ntwo\r\n# three",
    "\"quoted\", 'and' `ticked`",
    "🧪 Ünïcödé λ 中文 \u202e\x1b[31m\x00",
    "**bold** _it_ [a](javascript:alert(1)) <img src=x onerror=alert(1)>",
    r"[x] \input{/etc/hostname} --plugin ''>>",
    "</style></script><!-- & &amp; $title ${body}",
)


def measured(mean: float, half: float | None = 0.1, best: bool = False, n: int = 5, p: float | None = None) -> Value:
    """A mean with a symmetric interval, or without one."""
    return Value(mean, None if half is None else Interval(mean, mean - half, mean + half, n), best, p)


COLUMNS = (
    Column("left.accuracy", "left accuracy [%]", True, about="Test accuracy of the left digit."),
    Column("right.accuracy", "right accuracy [%]", True, about="Test accuracy of the right digit."),
    Column("left.loss", "left loss", False, digits=4),
    Column("delta_m", "Δm [%]", True, signed=True, about="Mean relative change against the base row."),
    Column("gain", "difference to uniform [%]", True, signed=True, about="Paired by seed, with Holm's p-value."),
    Column("rank", "mean rank", False),
    Column("milliseconds", "ms/step", False, digits=1),
    Column("cost", "cost / uniform", None, suffix="x", about="Median time of a step over that of uniform."),
)


def _row(
    label: str, left: float, right: float, loss: float, gain: float, cost: float, best: str = "", n: int = 5
) -> Row:
    values = {
        "left.accuracy": measured(left, 0.13, "l" in best),
        "right.accuracy": measured(right, 0.21, "r" in best),
        "left.loss": measured(loss, 0.0021, "L" in best),
        "delta_m": Value(gain - 0.4, Interval(gain - 0.4, gain - 0.61, gain - 0.2, n), "d" in best),
        "gain": measured(
            gain, 0.17, "d" in best, p=None if label == "uniform" else min(1.0, 0.03 / (abs(gain) + 0.01))
        ),
        "rank": Value(3.5 - gain),
        "milliseconds": Value(5.4 * cost),
        "cost": Value(cost),
    }
    if label == "uniform":
        del values["gain"]
    return Row(label, "method", values, n, 5, "" if n == 5 else "†")


def table() -> Table:
    """A leaderboard of eight columns: a reference, methods, one of them with failed seeds, and published rows."""
    reference = Row(
        "single_task",
        "reference",
        {"left.accuracy": measured(95.52), "right.accuracy": measured(93.71), "left.loss": measured(0.1412, 0.003)},
        5,
        5,
    )
    rows = [
        Row("Sener and Koltun 2018, MGDA", "published", {"left.accuracy": Value(97.26), "right.accuracy": Value(95.9)}),
        _row("gradvac(beta=0.01)", 95.61, 93.42, 0.1391, 0.31, 1.92, "lLrd"),
        Row("imtl", "method", {}, 0, 5, "†"),
        _row("pcgrad", 95.49, 93.38, 0.1402, 0.24, 1.95, "lrd"),
        _row("mgda(normalize=loss+,solver=frank_wolfe)", 94.73, 93.35, 0.1511, -0.17, 1.83, "r", n=3),
        _row("uniform", 95.21, 93.16, 0.1433, 0.0, 1.0),
        reference,
    ]
    return Table(
        slug="multimnist-mnist-mnist-1",
        title="multimnist/mnist, protocol mnist@1, tuned",
        incomplete="incomplete: 23 of 30 cells",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            Note("Test scores at the epoch with the best validation score, mean and 95 % interval over n seeds."),
            Note("Bold: cannot be told apart from the best of its column (paired t-test, Holm, p ≥ 0.05)."),
            Note("Δm: base row single_task, positive = better, objectives weigh alike; with the base's own noise."),
            Note(
                "mgda: seed 3 diverged: loss is not finite; seed 4 ran out of time. imtl: 5 cells missing.",
                "warning",
                "†",
            ),
            Note("Commit 1234567890ab, Intel Xeon, 1 thread, torch 2.13.0."),
        ),
        facts={
            "task": "multimnist/mnist",
            "protocol": "mnist@1",
            "regime": "tuned, 8 trials a method",
            "selection": "best-val",
            "level": "0.95",
            "base row": "single_task",
            "sign": "positive = better",
            "weighting": "objective",
        },
    )


def hostile() -> Table:
    """Labels, titles, notes and facts that break out of a rendering that does not escape them."""
    everything = " / ".join(HOSTILE)
    return Table(
        slug="hostile",
        title=f"odd {everything}",
        incomplete="",
        columns=(Column("=key", everything, True, about=everything), Column("b", "[b]", False, suffix="%")),
        rows=tuple(
            Row(label, role, {"=key": measured(number, math.nan if number == 2 else 0.1, best=number == 1)}, 2, 3, "†*")
            for number, label in enumerate(HOSTILE)
            for role in ("reference" if number == 0 else "published" if number > 7 else "method",)
        ),
        notes=(Note(everything, "warning", "*"), Note("- 1. # x\n> y"), Note("1. one")),
        facts={"task": everything, "two\nlines": "a: b"},
    )


def complete(made: Table) -> Table:
    """The same over a complete grid."""
    return dataclasses.replace(made, incomplete="", slug=f"{made.slug}-complete")
