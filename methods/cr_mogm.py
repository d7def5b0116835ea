"""CR-MOGM: a moving average over steps of the weights that another method finds.

With `v` the weights that the base answers in this step, for each group and present objective::

    lambda <- alpha lambda + (1 - alpha) v,    lambda = v the first time that the objective is present

and the update is `sum_k lambda_k g_k`. Entries of absent objectives do not move. So in steps with fewer objectives the
weights have the sum that they have: where the base's sum to 1 in every step, those of some objectives may sum to less.

The base is any method that weighs gradients by their Gramian. It answers as it would alone, with its state, for all
objectives and for those that are treated; heads are trained, and layers and batches looked at, as
under the base. In a step without
a treated objective nothing moves.

Conventions of this suite: the base is `mgda` unless another is named, and alpha is constant. The paper's Corollary 1
has `alpha_t = 1 - eta_t / eta_0`, with eta the learning rate, which a method does not see; that is not offered.

Source: NeurIPS 2022, by way of TorchJD's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import torch
from annotated_types import Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads

OF_ONE = ("gradnorm", "mgda", "modo", "sdmgrad")
"""Bases whose weights have a fixed sum and are not negative, so that a mean of them is as small."""
TAKEN_OVER = ("heads", "supports", "scope", "layer_name", "batch_shares")


@mtlbench.register_method("cr_mogm", paper="NeurIPS 2022")
class CRMOGM(mtlbench.GramianWeighting):
    """A method on the Gramian with weights that move slowly.

    Args:
        base: the method whose weights are averaged.
        alpha: how much of the average a step keeps; 0 is the base itself.
        settings: parameters of the base that are not at their default, such as `[beta=0.5,target=0.1]`.
    """

    heads: ClassVar[Heads] = "weighted"  # of the default base; each object has that of its own
    per_group: ClassVar[tuple[str, ...]] = ("average",)
    exceptions: Mapping[str, str] = {  # and what the base does not promise
        "single_scale": "weights of other steps meet the gradients of this one",
        "descent": "weights lag behind the gradients",
    }

    average: Tensor
    """(G, K) float64: lambda; NaN until the objective has been present."""

    def __init__(
        self,
        base: str = "mgda",
        alpha: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
        settings: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.base = _built(base, settings)
        for name in TAKEN_OVER:
            setattr(self, name, getattr(self.base, name))
        self.exceptions = {**self.exceptions, **self.base.exceptions}
        if base not in OF_ONE:
            self.exceptions.setdefault("bounded", "weights found for short gradients may meet long ones")
        if type(self.base).weigh_treated is not mtlbench.GramianWeighting.weigh_treated:
            self.exceptions["treated"] = "weights of all objectives are averaged, which corrections of others change"
        self.register_buffer("average", torch.empty(0, dtype=torch.float64))

    def seed(self, seed: int) -> Self:
        """The base's generator too."""
        self.base.seed(seed)
        return super().seed(seed)

    def begin(self, objectives: int, groups: int, present: Sequence[int] | None = None) -> None:
        """The base begins too."""
        self.base.steps_per_epoch = self.steps_per_epoch
        super().begin(objectives, groups, present)
        self.base.begin(objectives, groups, present)

    def start(self) -> None:
        """No averages yet."""
        self.average = torch.full((self.groups, self.objectives), torch.nan, dtype=torch.float64)

    def regroup(self, origin: Sequence[int | None]) -> None:
        """The base's groups too."""
        self.base.regroup(origin)
        super().regroup(origin)

    def report(self) -> dict[str, float]:
        """What the base reports."""
        return self.base.report()

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The averages after this step's weights."""
        return self._moved(self.base.weigh(gramian, losses))

    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows: Sequence[int]) -> Tensor:
        """The same of what the base makes of treated rows and others; ones where no row is treated."""
        found = self.base.weigh_treated(gramian, losses, rows)
        return self._moved(found) if rows else found

    def _moved(self, found: Tensor) -> Tensor:
        before = self.average[:, self.present]
        before = torch.where(before.isnan(), found, before)
        # So written, weights that are the same in all steps stay what they are to the bit.
        average = before + (1 - self.alpha) * (found - before)
        self.average[:, self.present] = average
        return average


def _built(name: str, settings: Sequence[str]) -> mtlbench.GramianWeighting:
    """The base; raises `UsageError` for what has no weights to average."""
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise mtlbench.UsageError(f"cr_mogm: settings={setting} is not allowed: each is KEY=VALUE.")
        given[key] = value
    base = mtlbench.method(name, **given)
    if not isinstance(base, mtlbench.GramianWeighting) or base.packages or isinstance(base, CRMOGM):
        raise mtlbench.UsageError(
            f"cr_mogm: base={name} is not allowed: it is a method of this suite or of a plug-in that weighs gradients "
            "by their Gramian, such as mgda, gradvac or cagrad, and not cr_mogm itself."
        )
    return base
