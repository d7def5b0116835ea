"""What training and scoring use: the splits of a variant, with a validation split in every case."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlbench.errors import UsageError, unknown

from .options import Options
from .views import Source, Views

SPLITS = ("train", "val", "test")
SMALL_SIZE, MTAN_SIZE = (96, 128), (288, 384)
"""Height and width where the protocol leaves them open."""
CARVING_SEED = 0
"""Of the order in which scenes are taken for validation."""
SELECTED_ON_TEST = (
    "Validation scores are those of the test set, as published for these data, which have no validation split: "
    "whatever is selected by them is selected on test."
)


@dataclass(frozen=True)
class Prepared:
    """The views of `train`, `val` and `test`, and what is to be told of them."""

    splits: Mapping[str, Views]
    facts: Mapping[str, Any]
    notices: Sequence[str]
    digest: str
    """SHA-256 (hex) over all views of all splits."""


def prepare(variant: str, o: Options, data_root: Path | None) -> Prepared:
    """Read or render the views of `variant`.

    Raises:
        DataMissing: files are not below `data_root`.
        UsageError: damaged files, or options that do not fit the data.
    """
    if variant not in LOADERS:
        raise unknown("variant of nyuv2:", variant, LOADERS)
    source = LOADERS[variant](o, data_root)
    splits, how = _with_validation(source, o)
    caveats = [*source.caveats, *([SELECTED_ON_TEST] if how == "test" else [])]
    distinct = {id(views): views for views in splits.values()}  # val may be test, which is read once then
    digests = {key: views.digest() for key, views in distinct.items()}
    height, width = splits["train"].size
    facts = {
        "size": [height, width],
        "views": {split: len(splits[split]) for split in SPLITS},
        "validation": how,
        "scoring": o.scoring,
        **source.facts,
        **({"caveats": caveats} if caveats else {}),
    }
    total = hashlib.sha256(" ".join(f"{split} {digests[id(splits[split])]}" for split in SPLITS).encode()).hexdigest()
    return Prepared(splits, facts, [*source.notices, *caveats], total)


def _with_validation(source: Source, o: Options) -> tuple[dict[str, Views], str]:
    """The three splits, and where the validation views come from: `own`, `scenes` of train, or `test`."""
    splits = dict(source.splits)
    if "val" in splits:
        return splits, "own"
    if o.validation == "test":
        return {**splits, "val": splits["test"]}, "test"
    scenes = source.scenes if source.scenes is not None else range(len(splits["train"]))
    kept, held = carved(scenes, o.validation_share)
    return {**splits, "train": splits["train"].part(kept), "val": splits["train"].part(held)}, "scenes"


def carved(scenes: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Places to train on and places to validate on, so that no scene is in both.

    Scenes are taken in a fixed random order until they have `share` of all views; the same for every run.

    Raises:
        UsageError: there are fewer than two scenes.
    """
    numbers = np.asarray(scenes)
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise UsageError("The training views are of one scene: no validation split can be carved out of them.")
    order = np.random.RandomState(CARVING_SEED).permutation(distinct)
    taken, chosen = 0, []
    for scene in order[:-1]:
        if taken >= share * len(numbers):
            break
        chosen.append(scene)
        taken += int((numbers == scene).sum())
    held = np.isin(numbers, chosen)
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()


def _rooms(o: Options, data_root: Path | None) -> Source:
    from .rooms import load

    counts = {split: getattr(o.rooms, split) for split in SPLITS}
    return load(o.size or SMALL_SIZE, counts, o.rooms.seed)


def _mtan(o: Options, data_root: Path | None) -> Source:
    from .sources.mtan import find, load

    root = find(data_root, "nyuv2/mtan")
    source = load(root)
    if o.size not in (None, own := source.splits["train"].size):
        raise UsageError(
            f"protocol.options.size={list(o.size)} does not fit {root}, whose views measure {own[0]} x {own[1]}: "
            "protocol.options.size=none takes them as they are."
        )
    return source


def _labeled(o: Options, data_root: Path | None) -> Source:
    from .sources.labeled import find, load

    return load(find(data_root, "nyuv2/labeled"), o.size or MTAN_SIZE, o.depth)


def _folder(o: Options, data_root: Path | None) -> Source:
    from .sources.folder import find, load

    description, base = find(data_root, o.description, "nyuv2/folder")
    return load(description, o.size or SMALL_SIZE, base)


LOADERS: dict[str, Callable[[Options, Path | None], Source]] = {
    "rooms": _rooms,
    "mtan": _mtan,
    "labeled": _labeled,
    "folder": _folder,
}
"""Variant -> how its views are had."""
