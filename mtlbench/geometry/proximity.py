"""What similarity follows: Mantel and partial Mantel tests, clusters against families, with their controls.

All matrices are (K, K), symmetric, of K objectives; similarities, so that larger is closer. Where the tests are from,
and what they do not tell, stands in `mtlbench.geometry.mantel`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy

from mtlbench.catalogue.relation import Relation
from mtlbench.geometry.mantel import LEAST, PERMUTATIONS, TIE, above, mantel, pairwise, partial_mantel, without_unknown

Array = NDArray[np.float64]

Role = Literal["question", "control", "given", "rival"]


@dataclass(frozen=True)
class Agreement:
    """How far clusters are the families."""

    index: float
    """Adjusted Rand index: 1 where they are the same, 0 expected by chance; NaN where fewer than four objectives are
    left, or all of them in one family, or each in its own."""
    p: float
    """One-sided, by permutation of the families: the share of those that agree at least as well."""
    clusters: tuple[int, ...]
    """(K,) the cluster of each objective, from 1; 0 for one that was left out."""
    objectives: int
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the report on proximity."""

    what: str
    """What was compared: `similarity`, `untrained model`, or a relation's name, which needs no model."""
    against: str
    """The relation that it was compared with."""
    given: str
    """The relations that were held fixed; empty for none."""
    measure: str
    """`Mantel r`, `partial Mantel r` or `adjusted Rand index`."""
    value: float
    p: float
    objectives: int
    left_out: tuple[int, ...]
    role: Role
    """`question`: similarity of the trained model against a tree or families; `control`: the same of what has no
    training; `given`: the question with rivals held fixed; `rival`: similarity against a rival."""


def linkage(similarity: ArrayLike) -> Array:
    """(K - 1, 4): average linkage as scipy has it, of the distances `1 - similarity`, all of them known.

    If a similarity is above 1, as disattenuated cosines may be, the largest one stands for 1.
    """
    values = above(pairwise(similarity))
    return np.asarray(hierarchy.linkage(max(1.0, float(values.max())) - values, "average"))


def clusters(similarity: ArrayLike, count: int) -> NDArray[np.int64]:
    """(K,) the clusters, from 1, that average linkage has where it is cut into `count`."""
    cut = hierarchy.cut_tree(linkage(similarity), n_clusters=count)
    return np.asarray(cut[:, 0] + 1, dtype=np.int64)


def agreement(
    similarity: ArrayLike,
    families: Sequence[str] | ArrayLike,
    permutations: int = PERMUTATIONS,
    *,
    generator: np.random.Generator,
) -> Agreement:
    """As many clusters as families, by average linkage, against these: adjusted Rand index and p.

    Args:
        similarity: (K, K).
        families: (K,) a label for each objective.
        permutations: how many times the families are dealt out anew.
        generator: deals them.
    """
    (matrix,), left_out = without_unknown([pairwise(similarity)])
    everyone = np.zeros(len(np.asarray(similarity)), dtype=np.int64)
    kept = [k for k in range(len(everyone)) if k not in left_out]
    of = np.unique(np.asarray(families)[kept], return_inverse=True)[1]
    if len(kept) < LEAST or not 1 < len(set(of.tolist())) < len(kept):
        return Agreement(math.nan, math.nan, tuple(everyone.tolist()), len(kept), left_out)
    found = clusters(matrix, int(of.max()) + 1)
    orders = np.argsort(generator.random((permutations, len(of))), axis=1)
    index = float(adjusted_rand(found, of[None])[0])
    drawn = adjusted_rand(found, of[orders])
    p = (int((drawn >= index - TIE).sum()) + 1) / (permutations + 1)
    everyone[kept] = found
    return Agreement(index, p, tuple(everyone.tolist()), len(of), left_out)


def adjusted_rand(partition: ArrayLike, others: ArrayLike) -> Array:
    """(m,) adjusted Rand indices of one partition (K,) with m others (m, K) (Hubert and Arabie, 1985).

    1 where both are trivial in the same way, all objectives apart or all together, and chance could do no other.
    """
    mine = _indicators(np.asarray(partition)[None])[0]
    theirs = _indicators(np.asarray(others))
    cells = np.einsum("ka,mkb->mab", mine, theirs)
    both = _choose_two(cells).sum((1, 2))
    rows, columns = _choose_two(mine.sum(0)).sum(), _choose_two(theirs.sum(1)).sum(1)
    expected = rows * columns / _choose_two(np.array(float(len(mine))))
    room = (rows + columns) / 2 - expected
    return np.where(np.abs(room) < TIE, 1.0, (both - expected) / np.where(np.abs(room) < TIE, 1.0, room))


def sides(relation: Relation) -> dict[str, Array]:
    """What a relation says of pairs, by name, as similarities (K, K).

    A distance is taken negative; labels are 1 where they are equal. An amount has two sides: both have much of it (the
    mean of the logarithms), and both have alike (less the difference of the logarithms); values themselves instead of
    logarithms where one is not positive.
    """
    values = relation.values
    if relation.kind == "similarity":
        return {relation.name: pairwise(values)}
    if relation.kind == "distance":
        return {relation.name: -pairwise(values)}
    if relation.kind == "label":
        return {relation.name: (values[:, None] == values[None, :]).astype(np.float64)}
    scale = np.log(values) if (values > 0).all() else np.asarray(values, dtype=np.float64)
    return {
        f"{relation.name} (much of it)": (scale[:, None] + scale[None, :]) / 2,
        f"{relation.name} (alike)": -np.abs(scale[:, None] - scale[None, :]),
    }


def proximity(
    similarity: ArrayLike,
    relations: Sequence[Relation],
    *,
    untrained: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
    generator: np.random.Generator,
) -> list[Row]:
    """Similarity against every tree and every set of families, never without its controls.

    Hypotheses are the relations of the kind `distance`, each a tree, and of the kind `label`. Rivals are those of the
    kinds `similarity` (such as overlap of vocabularies) and `amount` (such as training examples), and, to a tree, the
    other trees. For each tree: similarity; each rival alone; the untrained model; similarity given each rival, given
    all, and given the untrained model. For each set of families: adjusted Rand indices of similarity, of rivals of the
    kind `similarity`, and of the untrained model. Then similarity against each rival. What says nothing of pairs, such
    as an equal amount everywhere, has no rows.

    Args:
        similarity: (K, K) of the trained model.
        relations: what the task knows.
        untrained: (K, K) of the model before training.
        permutations: for each p.
        generator: draws them.
    """
    found: list[Row] = []
    trained = pairwise(similarity)
    known = {relation.name: _telling(sides(relation)) for relation in relations}
    kinds = {relation.name: relation.kind for relation in relations if known[relation.name]}
    trees = [name for name, kind in kinds.items() if kind == "distance"]
    rivals = [name for name, kind in kinds.items() if kind in ("similarity", "amount")]
    start = {} if untrained is None else {"untrained model": pairwise(untrained)}
    by_start = {name: {name: side} for name, side in start.items()}

    def pair(what: str, x: Array, against: str, y: Array, role: Role) -> Row:
        one = mantel(x, y, permutations, generator=generator)
        return Row(what, against, "", "Mantel r", one.r, one.p, one.objectives, one.left_out, role)

    def partial(against: str, held: Sequence[str]) -> Row:
        controls = np.stack([side for name in held for side in (known | by_start)[name].values()])
        one = partial_mantel(trained, known[against][against], controls, permutations, generator=generator)
        given = " and ".join(held)
        return Row(
            "similarity", against, given, "partial Mantel r", one.r, one.p, one.objectives, one.left_out, "given"
        )

    for tree in trees:
        target = known[tree][tree]
        others = [*rivals, *(name for name in trees if name != tree)]
        found.append(pair("similarity", trained, tree, target, "question"))
        controls = {label: side for name in others for label, side in known[name].items()} | start
        found += [pair(what, side, tree, target, "control") for what, side in controls.items()]
        found += [partial(tree, [name]) for name in others]
        found += [partial(tree, others)] if len(others) > 1 else []
        found += [partial(tree, [name]) for name in start]
    for relation in relations:
        if relation.kind == "label" and 1 < len(set(relation.values.tolist())) < len(trained):
            alone = {n: known[n][n] for n in kinds if kinds[n] == "similarity"}
            whats: dict[str, Array] = {"similarity": trained, **alone, **start}
            for what, side in whats.items():
                one = agreement(side, relation.values, permutations, generator=generator)
                role: Role = "question" if what == "similarity" else "control"
                measure = "adjusted Rand index"
                found.append(
                    Row(what, relation.name, "", measure, one.index, one.p, one.objectives, one.left_out, role)
                )
    for name in rivals:
        found += [pair("similarity", trained, label, side, "rival") for label, side in known[name].items()]
    return found


def _telling(of: dict[str, Array]) -> dict[str, Array]:
    """Those that are not the same for all pairs."""
    return {name: side for name, side in of.items() if np.ptp(above(side)) > 0}


# --- partitions


def _indicators(partitions: NDArray[np.int64]) -> Array:
    """(m, K, C) which label each of K has in m partitions (m, K)."""
    labels = np.unique(partitions)
    return (partitions[:, :, None] == labels).astype(np.float64)


def _choose_two(counts: Array) -> Array:
    return np.asarray(counts * (counts - 1) / 2)
