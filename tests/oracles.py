"""The pseudo-code of PCGrad and Gradient Vaccine on whole gradients, one plain vector at a time; problems for them."""

import io

import numpy as np
import torch

from mtlbench.engine.visiting import visiting_orders


def index_orders(groups, objectives):
    """Every objective of every group visits the others by index: (K-1, G, K)."""
    others = [[j for j in range(objectives) if j != i] for i in range(objectives)]
    orders = [[[others[i][s] for i in range(objectives)] for _ in range(groups)] for s in range(objectives - 1)]
    return np.array(orders, dtype=int).reshape(objectives - 1, groups, objectives)


def pcgrad(gradients, orders, treated=None):
    """Yu et al., Algorithm 1.

    Args:
        gradients: per group, (K, P_g).
        orders: (K-1, G, K), which objective each one visits in each step.
        treated: the objectives whose gradients are corrected; all if None.

    Returns:
        Per group, the (P_g,) update.
    """
    updates = []
    for group, rows in enumerate(gradients):
        total = np.zeros(rows.shape[1])
        for i in range(len(rows)):
            g = rows[i].copy()
            for j in orders[:, group, i] if treated is None or i in treated else ():
                inner = g @ rows[j]
                if inner < 0:
                    g = g - inner / (rows[j] @ rows[j]) * rows[j]
            total += g
        updates.append(total)
    return updates


def gradvac(gradients, orders, targets, beta, fixed=False, treated=None):
    """Wang et al., Algorithm 1 (Appendix E); moves the (G, K, K) `targets` in place unless they are `fixed`.

    Returns:
        Per group, the (P_g,) update.
    """
    updates = []
    for group, rows in enumerate(gradients):
        total = np.zeros(rows.shape[1])
        for i in range(len(rows)):
            g = rows[i].copy()
            for j in orders[:, group, i] if treated is None or i in treated else ():
                t = targets[group, i, j]
                length, other = np.linalg.norm(g), np.linalg.norm(rows[j])
                phi = g @ rows[j] / (length * other)
                if phi < t:
                    rise = t * np.sqrt(1 - phi**2) - phi * np.sqrt(1 - t**2)
                    g = g + length * rise / (other * np.sqrt(1 - t**2)) * rows[j]
                if not fixed:
                    targets[group, i, j] = (1 - beta) * t + beta * phi
            total += g
        updates.append(total)
    return updates


def gramian(rows):
    return rows @ rows.transpose(-1, -2)


def random_problem(rng, objectives, widths, correlation):
    """Per group, (K, P_g) gradients of different lengths around a common direction."""
    return [
        (rng.standard_normal((objectives, p)) + correlation * rng.standard_normal(p))
        * np.exp(rng.standard_normal((objectives, 1)))
        for p in widths
    ]


def stacked_gramian(gradients):
    return torch.from_numpy(np.stack([rows @ rows.T for rows in gradients]))


def orders_about_to_be_drawn(method, groups, objectives):
    if not method.shuffle:
        return index_orders(groups, objectives)
    twin = torch.Generator()
    twin.set_state(method.generator.get_state())
    return visiting_orders(groups, objectives, twin, True)


def assert_updates_equal(weights, gradients, expected):
    for w, rows, update in zip(weights.numpy(), gradients, expected, strict=True):
        assert np.linalg.norm(w @ rows - update) <= 1e-10 * np.linalg.norm(update)


def through_a_file(state):
    """What a checkpoint holds after it was written and read the safe way."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)
