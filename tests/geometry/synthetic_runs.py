"""Runs by hand with the gradients of a known structure: families, private signal, noise that aligned examples share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.record.schema import Record
from mtlbench.record.trajectory import GEOMETRY, Group, MethodTrace, Relation, Trajectory, write
from tests.handmade import record

OBJECTIVES = ("en-aa", "en-ab", "en-ba", "en-bb", "en-ca", "en-cb")
FAMILIES = ("Aic", "Aic", "Bic", "Bic", "Cic", "Cic")
AMOUNTS = (400.0, 100.0, 300.0, 50.0, 200.0, 25.0)
GROUPS = (
    Group("embedding", "", 30),
    Group("encoder.0", "encoder", 60),
    Group("encoder.1", "encoder", 60),
    Group("decoder.0", "decoder", 60),
)
STEPS = (0, 10, 20, 40)


def tree(families: tuple[str, ...] = FAMILIES) -> np.ndarray:
    """Distance 1 within a family and 2 between families."""
    same = np.array(families)[:, None] == np.array(families)
    return np.where(np.eye(len(families), dtype=bool), 0.0, np.where(same, 1.0, 2.0))


def relations(families: tuple[str, ...] = FAMILIES) -> tuple[Relation, ...]:
    k = len(families)
    overlap = np.random.default_rng(5).uniform(0.1, 0.3, (k, k))
    return (
        Relation("tree", "distance", "branches between two languages of the family tree", tree(families)),
        Relation("overlap", "similarity", "subwords that two languages have in common", (overlap + overlap.T) / 2),
        Relation("sentences", "amount", "training sentences", np.array(AMOUNTS[:k])),
        Relation("family", "label", "family of the language", np.array(families)),
    )


def trajectory(
    seed: int = 0,
    affinity: float = 1.0,
    common: float = 0.4,
    batches: int = 5,
    aligned: bool = True,
    method: bool = True,
    with_relations: bool = True,
    steps: tuple[int, ...] = STEPS,
    objectives: tuple[str, ...] = OBJECTIVES,
    families: tuple[str, ...] = FAMILIES,
) -> Trajectory:
    """Signal = common x same for all + affinity x family + own; noise, half of which an aligned batch has in common."""
    generator = np.random.default_rng(seed)
    k, names = len(objectives), list(dict.fromkeys(families))
    gramians = []
    for step in steps:
        noise, layers = 1.0 + step / 40, []
        for group in GROUPS:
            wide = 4 * group.parameters
            alike, own = generator.normal(size=(1, wide)) * common, generator.normal(size=(k, wide)) * 0.7
            kin = generator.normal(size=(len(names), wide))[[names.index(f) for f in families]]
            shared = generator.normal(size=(batches, 1, wide)) * noise * (0.7 if aligned else 0.0)
            rows = alike + affinity * kin + own + shared + generator.normal(size=(batches, k, wide)) * noise
            layers.append(np.einsum("bkp,clp->bkcl", rows, rows))
        gramians.append(layers)
    t = len(steps)
    return Trajectory(
        cell=f"cell{seed}",
        objectives=objectives,
        groups=GROUPS,
        steps=np.array(steps, dtype=np.int64),
        total_steps=steps[-1],
        gramians=np.array(gramians, dtype=np.float32),
        losses=np.linspace(6.0, 2.0 - 0.3 * common, t)[:, None] + np.linspace(0, 0.5, k),
        aligned=aligned,
        examples=20,
        relations=relations(families) if with_relations else (),
        method=trace(t, k, steps, generator) if method else None,
        seconds=1.0,
        training_seconds=20.0,
    )


def trace(t: int, k: int, steps: tuple[int, ...], generator: np.random.Generator) -> MethodTrace:
    """A method that saw 20 % negative cosines and corrected 60 % of the visits."""
    pairs = (t, 2, k, k)
    first = np.full(pairs, np.nan, dtype=np.float32)

    def known(value: float) -> Any:
        found = first.copy()
        found[1:] = value + 0.01 * generator.normal(size=(t - 1, *pairs[1:]))
        return found

    return MethodTrace(
        groups=("encoder", "decoder"),
        steps=np.diff(np.array(steps, dtype=np.int64), prepend=0),
        corrected=known(0.6),
        negative=known(0.2),
        cosine=known(0.05),
        target=known(0.1),
        norm_ratio=known(1.1)[..., 0, 0],
        update_cosine=known(0.3)[..., 0],
    )


def run(
    results: Path,
    seed: int = 0,
    method: str = "gradvac",
    quality: float = 50.0,
    words: str = "",
    recorded: Trajectory | None = None,
    geometry: bool = True,
    objectives: tuple[str, ...] = OBJECTIVES,
    **changes: Any,
) -> Path:
    """The folder of a finished cell, with geometry unless it says otherwise."""
    scores = {name: quality - 0.5 * k + 0.1 * seed for k, name in enumerate(objectives)}
    curves = [({n: v - back for n, v in scores.items()}, {n: v - back for n, v in scores.items()}) for back in (10, 0)]
    made: Record = record(method, seed, curves, words=words, **changes)
    folder = results / made.cell.task / made.cell.variant / "cpu@1" / method / f"seed{seed}-{made.id}"
    folder.mkdir(parents=True)
    made.save(folder)
    if geometry:
        write(folder / GEOMETRY, replace(recorded or trajectory(seed), cell=made.id))
    return folder
