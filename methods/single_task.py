"""Single-task training: K separate models, each on one objective, the reference that multi-task learning must beat.

Each model starts from the same weights and follows the same protocol as the joint model; the scores of objective k are
those of model k. It sees the joint model's batches, or, where a step is shared out among objectives and the protocol
says `single_task_budget: same_step`, as large ones of its objective alone. Cost is that of all K models together.
"""

from __future__ import annotations

from torch import Tensor

import mtlbench


@mtlbench.register_method("single_task", role="reference")
class SingleTask(mtlbench.LossWeighting):
    """One model per objective, trained by its own loss."""

    static = True
    separate_models = True

    def scalarize(self, losses: Tensor) -> Tensor:
        """The loss of the one objective that a model has; the sum where the runner passes several."""
        return losses.sum()
