"""What single-task models were trained on in a step, where objectives have data of their own; Delta-m depends on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError
from mtlbench.record.runs import Run
from mtlbench.tables.entries import Entry

RULES = {
    "same_share": "what the joint model gets of its objective, so that together they see what the joint model sees",
    "same_step": "as much as the joint model gets of all K objectives, so that together they see K times what it sees",
}
"""Value of the protocol's `single_task_budget` -> what each model gets in a step."""


def single_task_budget(entries: Iterable[Entry]) -> str | None:
    """The rule of the rows of a table; None where none has single-task models, or there are no data to share out."""
    separate = [run for entry in entries for run in entry.runs if run.separate_models]
    if not separate or separate[0].cell.protocol.get("epochs") == 0:
        return None
    stated = separate[0].cell.protocol.get("single_task_budget")
    return stated or ("same_share" if _has_own_data(separate[0]) else None)


def budget_sentence(rule: str) -> str:
    """The sentence under the table."""
    return f"Single-task models: each gets in a step {RULES[rule]} (single_task_budget: {rule})."


def budgets_over_tasks(rules: Mapping[str, str | None]) -> list[str]:
    """The sentence of a table over several tasks: name -> rule; none where no task has one."""
    found = {rule: [name for name, own in rules.items() if own == rule] for rule in RULES}
    told = [f"{', '.join(names)}: {rule}" for rule, names in found.items() if names]
    return [f"Single-task models, budget of a step: {'; '.join(told)}."] if told else []


def _has_own_data(run: Run) -> bool:
    """Whether the task says that each objective has data of its own; of one that is not installed nothing is known."""
    try:
        return task_data(run.cell.task).own_data
    except UsageError:
        return False
