"""Scores that lie on a grid, such as accuracies on few examples, and how much of a difference is rounding.

Pure functions of arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def resolution(values: ArrayLike) -> float:
    """The step of the grid that all values lie on, such as 0.5 of accuracies in percent on 200 examples.

    It is their greatest common divisor, within the errors of floating point. So it is the true step or, where few
    values are known, a multiple of it.

    Args:
        values: of any shape; NaN is left out.

    Returns:
        0 where there is no grid, or one whose step is below a millionth of the largest value; 0 where all values are
        equal, which tells nothing of a step.
    """
    x = np.unique(np.asarray(values, dtype=np.float64))
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return 0.0
    x = np.unique(np.abs(x[x != 0]))
    step = 0.0
    for value in x[::-1]:
        while step > 1e-9 * x[-1]:
            value, step = step, abs(value - step * round(value / step))
        if value < 1e-6 * x[-1]:
            return 0.0
        step = float(x[-1] / round(x[-1] / value))  # or errors would add up
    return step


def rounding_variance(steps: ArrayLike, coefficients: ArrayLike) -> float:
    """The variance of a difference of two `sum_m c_m v_m` that comes from the grids of the M scores alone.

    A score on a grid of step h is off by an error that is uniform over one step, of variance `h^2 / 12`, and two scores
    make the difference: `sum_m c_m^2 h_m^2 / 6`. As long as noise is below the step, differences over a few seeds are
    often all equal, which is no sign of certainty; this variance is then the least that can be known of theirs.

    Args:
        steps: (M,), see `resolution`.
        coefficients: (M,).
    """
    return float(((np.asarray(coefficients) * np.asarray(steps)) ** 2).sum() / 6)
