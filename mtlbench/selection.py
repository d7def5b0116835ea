"""Which point of the learning curves counts: rules over what was logged, applied after the fact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench.errors import UsageError
from mtlbench.runs import Array, Measure, Run

RULES = "best-val, last, mean-last-N (such as mean-last-10), oracle"


@dataclass(frozen=True)
class Rule:
    """How the scores that a table reports are chosen from the curves.

    `best-val`: the evaluation with the best `merit` on the validation split, the earliest of equals.
    `last`: the last evaluation. `mean-last`: the mean over the last `count` evaluations. `oracle`: the
    evaluation with the best merit on the TEST split, an upper bound that no honest procedure reaches.
    Where every objective has a model of its own, `best-val` and `oracle` choose for each objective apart.
    """

    name: str
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule called `text`; raises `UsageError` with the rules there are."""
        if text in ("best-val", "last", "oracle"):
            return cls(text)
        if found := re.fullmatch(r"mean-last-([1-9]\d*)", text):
            return cls("mean-last", int(found[1]))
        raise UsageError(f"selection={text} is not allowed. Rules: {RULES}.")

    def __str__(self) -> str:
        return f"mean-last-{self.count}" if self.name == "mean-last" else self.name


@dataclass(frozen=True)
class Chosen:
    """The scores of one run that count."""

    val: Array
    """(M,): on the validation split."""
    test: Array
    """(M,): on the test split."""


def choose(run: Run, rule: Rule) -> Chosen:
    """The scores of `run` that count under `rule`; raises `UsageError` if its curves are too short for it."""
    if rule.name == "last":
        return Chosen(run.val[-1], run.test[-1])
    if rule.name == "mean-last":
        if len(run.epochs) < rule.count:
            raise UsageError(
                f"selection={rule} needs {rule.count} evaluations and {run.path} has {len(run.epochs)}. "
                f"Choose a smaller number, or another rule: {RULES}."
            )
        return Chosen(run.val[-rule.count :].mean(0), run.test[-rule.count :].mean(0))
    judge = run.test if rule.name == "oracle" else run.val
    if not run.separate_models:
        best = int(np.argmax(merit(judge, run.measures)))
        return Chosen(run.val[best], run.test[best])
    val, test = np.empty(len(run.measures)), np.empty(len(run.measures))
    for objective in dict.fromkeys(m.objective for m in run.measures):
        own = [i for i, m in enumerate(run.measures) if m.objective == objective]
        best = int(np.argmax(merit(judge[:, own], [run.measures[i] for i in own])))
        val[own], test[own] = run.val[best, own], run.test[best, own]
    return Chosen(val, test)


def merit(scores: Array, measures: Sequence[Measure]) -> Array:
    """One number that ranks points of one task, higher is better; it means nothing across tasks.

    The mean over objectives of the signed main metric where all objectives have the same one; else the mean of its
    signed logarithm, on which a change of units has no influence.

    Args:
        scores: (..., M).
        measures: the M measures.

    Returns:
        (...,).
    """
    main = [i for i, m in enumerate(measures) if m.main]
    signs = np.array([measures[i].sign for i in main])
    values = scores[..., main]
    if len({measures[i].kind for i in main}) > 1:
        with np.errstate(divide="ignore"):
            values = np.log(np.maximum(values, 0.0))
    return np.asarray((values * signs).mean(-1), dtype=np.float64)
