"""The pseudo-code of PCGrad and Gradient Vaccine on whole gradients, one plain vector at a time."""

import numpy as np


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
