"""Chi-square DRO: more of the objectives with high losses, within a ball around the shares of the data.

After every epoch, from running means m_i of the losses and the shares p_i of the data (iterated best response):

    q_i = p_i max(m_i - eta, 0), normalised, raised to at least `least` p_i, and normalised again,
    with eta such that 1/2 sum_i p_i (q_i / p_i - 1)^2 = rho

q are the shares of the next epoch; the first one has p. In every step that holds the objective,

    m_i <- (1 - ema) m_i + ema l_i

It begins with the first loss; the authors' code begins every epoch at zero, which is the same after some fifty steps.
Where no eta reaches rho, q is the limit: all that `least` leaves goes to the objectives of the highest loss. Where all
losses are equal, q is p. Eta is found by bisection to the last bit that changes it.

Losses are those of training, label smoothing included where the protocol has it, and without the weights of shares; in
nats per subword for translation. `baselines` are losses that an objective can be expected to reach: with them, m_i is
what is left to gain. The default of `rho` is that of the authors' script for TED talks in eight languages (their code's
is 0.1); those of `least`, `ema` and shares of the data at temperature 1 are their code's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

import mtlbench

from .temperature import shares


@mtlbench.register_sampling("chi2_dro", paper="Zhou et al., EMNLP 2021, arXiv:2109.04020")
class Chi2DRO(mtlbench.Sampling):
    """New shares after every epoch, from its losses.

    Args:
        rho: the divergence of the shares from those of the data.
        least: part of an objective's share of the data that it keeps, before shares are normalised.
        ema: weight of the newest loss in the running mean.
        temperature: T of the shares of the data; none for that of the protocol.
        baselines: of the losses, in the order of the objectives; nothing for zeros.
    """

    observes = True

    def __init__(
        self,
        rho: Annotated[float, Interval(gt=0)] = 0.05,
        least: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        ema: Annotated[float, Interval(gt=0, le=1)] = 0.1,
        temperature: Annotated[float, Interval(gt=0)] | None = 1.0,
        baselines: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.rho = rho
        self.least = least
        self.ema = ema
        self.temperature = temperature
        self.baselines = baselines

    def start(self) -> None:
        """No objective has a loss yet."""
        count = len(self.supply.sizes)
        if len(self.baselines) not in (0, count):
            raise mtlbench.UsageError(
                f"sampling.baselines has {len(self.baselines)} losses for {count} objectives: give one for each."
            )
        self.state = {"mean_loss": np.full(count, np.nan)}

    def observe(self, losses: Mapping[int, float]) -> None:
        """Move the running means of these objectives."""
        mean = self.state["mean_loss"]
        for k, loss in losses.items():
            mean[k] = loss if np.isnan(mean[k]) else (1 - self.ema) * mean[k] + self.ema * loss

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """The best response to the running means, or the shares of the data until every objective has one."""
        p = shares(self.supply.sizes, self.temperature or self.supply.temperature)
        mean = self.state["mean_loss"] - (np.asarray(self.baselines) if self.baselines else 0.0)
        return p if epoch == 0 or np.isnan(mean).any() else best_response(mean, p, self.rho, self.least)


def best_response(
    losses: NDArray[np.float64] | Sequence[float], p: NDArray[np.float64], rho: float, least: float
) -> NDArray[np.float64]:
    """(K,) the shares q at the divergence `rho` from p, as the module has it.

    Args:
        losses: (K,) finite.
        p: (K,) all above 0, summing to 1.
        rho: above 0.
        least: from 0 to below 1.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if np.ptp(losses) == 0:
        return p
    high = losses.max()
    mean = p @ losses
    # Where no loss is below eta, the divergence is half the variance over (mean - eta)^2.
    low = min(losses.min(), mean - np.sqrt(p @ (losses - mean) ** 2 / (2 * rho)))
    if divergence(_shares_at(high, losses, p, least), p) <= rho:
        return _shares_at(high, losses, p, least)
    while low < (eta := 0.5 * (low + high)) < high:
        if divergence(_shares_at(eta, losses, p, least), p) > rho:
            high = eta
        else:
            low = eta
    return _shares_at(low, losses, p, least)


def divergence(q: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    """Half the chi-square divergence, `1/2 sum_i p_i (q_i / p_i - 1)^2`."""
    return float(0.5 * (p * (q / p - 1) ** 2).sum())


def _shares_at(eta: float, losses: NDArray[np.float64], p: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    q = p * np.maximum(losses - eta, 0)
    if not q.any():
        q = p * (losses == losses.max())
    raised = np.maximum(q / q.sum(), least * p)
    return np.asarray(raised / raised.sum(), dtype=np.float64)
