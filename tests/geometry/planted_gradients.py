"""Gradients whose means and noise are known, as blocks of inner products: what estimates are judged by."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtlbench.catalogue.relation import Relation
from mtlbench.geometry.estimates import Array
from mtlbench.record.trajectory import Group, MethodTrace, Trajectory

FAMILIES = ("a", "a", "b", "b", "c", "c")


def cosines(within: float, between: float, families: tuple[str, ...] = FAMILIES) -> Array:
    """(K, K) true cosines of the mean gradients."""
    names = np.array(families)
    return np.where(np.eye(len(names), dtype=bool), 1.0, np.where(names[:, None] == names, within, between))


def gradients(
    truth: Array,
    share: float,
    generator: np.random.Generator,
    simulations: int = 1,
    batches: int = 10,
    common: float = 0.5,
    varying: float = 0.0,
    size: int = 60,
) -> Array:
    """(simulations, B, K, P) gradients with the squared norm 1, `share` of it signal.

    Args:
        truth: (K, K) cosines of the mean gradients.
        share: of signal.
        generator: of the noise.
        simulations: how many draws of the noise there are around the same means.
        batches: B.
        common: share of the noise's variance that all objectives' gradients on batch b have in common.
        varying: standard deviation of the logarithm of the noise's size from batch to batch.
        size: P, the dimension of the noise.
    """
    k = len(truth)
    directions = np.linalg.qr(generator.standard_normal((size, k)))[0].T
    means = np.sqrt(share) * np.linalg.cholesky(truth) @ directions
    own = generator.standard_normal((simulations, batches, k, size))
    joint = generator.standard_normal((simulations, batches, 1, size))
    scale = np.exp(varying * generator.standard_normal((simulations, batches, 1, 1)))
    noise = scale * (np.sqrt(1 - common) * own + np.sqrt(common) * joint)
    return np.asarray(means + np.sqrt((1 - share) / size) * noise)


def blocks(rows: Array) -> Array:
    """(..., B, K, B, K) inner products of gradients (..., B, K, P)."""
    flat = rows.reshape(*rows.shape[:-3], -1, rows.shape[-1])
    return np.asarray((flat @ np.swapaxes(flat, -1, -2)).reshape(*rows.shape[:-1], *rows.shape[-3:-1]))


def planted(truth: Array, share: float, generator: np.random.Generator, **options: Any) -> Array:
    """(simulations, B, K, B, K): `blocks` of `gradients`."""
    return blocks(gradients(truth, share, generator, **options))


def trajectory(
    gramians: Array,
    groups: tuple[Group, ...] = (Group("first", "encoder", 1), Group("second", "decoder", 1)),
    families: tuple[str, ...] = FAMILIES,
    method: MethodTrace | None = None,
    cell: str = "a cell",
) -> Trajectory:
    """A trajectory of Gramians (T, G, B, K, B, K), a snapshot every ten steps from the untrained model on."""
    snapshots, _, _, k = gramians.shape[:4]
    return Trajectory(
        cell=cell,
        objectives=tuple("uvwxyz"[:k]),
        groups=groups,
        steps=np.arange(snapshots, dtype=np.int64) * 10,
        total_steps=10 * snapshots,
        gramians=gramians.astype(np.float32),
        losses=np.ones((snapshots, k)),
        aligned=True,
        examples=20,
        relations=(Relation("family", "label", "of each", np.array(families[:k])),),
        method=method,
        seconds=1.0,
        training_seconds=10.0,
    )
