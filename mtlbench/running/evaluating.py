"""What an evaluation of a cell finds: the models' scores on every split, and the losses since the one before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from mtlbench.catalogue.task import Estimate, Task
from mtlbench.errors import Diverged, UsageError
from mtlbench.record.schema import Evaluation, Precision, Scores
from mtlbench.running import precision, scored
from mtlbench.running.checkpoint import Log
from mtlbench.running.declared import TaskInfo
from mtlbench.running.resuming import require_scores
from mtlbench.running.trainee import Trainee

Answers = dict[str, dict[str, Mapping[str, float | Estimate]]]
"""Split -> objective -> metric -> what the task answered."""


def answers(
    task: Task, parts: Sequence[Trainee], splits: Sequence[str], autocast: Precision, device: torch.device
) -> Answers:
    """What the task says of the models on each split; each answer under a context of its own for forward passes."""
    found: Answers = {split: {} for split in splits}
    with torch.inference_mode():
        for part in parts:
            part.model.eval()
            for split in found:
                with precision.forward_context(autocast, device):
                    found[split].update(task.evaluate(part.model, split, list(part.objectives)))
            part.model.train()
    return found


def evaluation(info: TaskInfo, log: Log, found: Answers, epoch: int, task: str) -> Evaluation:
    """The evaluation after an epoch; losses are means over the steps since the previous one.

    Raises:
        Diverged: a score that is not finite. UsageError: scores that are not those that the task declares.
    """
    scores: Scores = {split: scored.values(of_split) for split, of_split in found.items()}
    _require_finite(scores, epoch)
    means = (log.loss_sums.cpu() / log.loss_counts).tolist()
    losses = {o.name: mean for o, mean in zip(info.objectives, means, strict=True) if math.isfinite(mean)}
    try:
        sampling = scored.samplings(found)
    except ValueError as error:
        raise UsageError(f"task {task}: {error}.") from error
    made = Evaluation(epoch=epoch, step=log.step, losses=losses, scores=scores, sampling=sampling)
    try:
        require_scores(info, made, f"the evaluation after epoch {epoch}")
    except ValueError as error:
        raise UsageError(f"task {task}: {error}.") from error
    return made


def _require_finite(scores: Scores, epoch: int) -> None:
    for split, by_objective in scores.items():
        for name, metrics in by_objective.items():
            for metric, value in metrics.items():
                if not math.isfinite(value):
                    raise Diverged(f"{metric} of {name} on {split} is {value} after epoch {epoch}.")
