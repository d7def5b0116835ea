"""A cell's configuration as a file holds it: everything that reads it later relies on what is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.variants import Name
from mtlbench.cells.axes import AXES
from mtlbench.cells.cell import Tuning
from mtlbench.strict import Strict, first_error

LARGEST = 2**63 - 1
"""The largest number that arrays of whole numbers hold."""


class _Names(Strict):
    """What becomes parts of paths and of the names of files."""

    method: Name
    task: Name
    variant: Name
    protocol: Name
    seed: Annotated[int, pydantic.Field(ge=0, le=LARGEST)]
    version: Annotated[int, pydantic.Field(ge=1, le=LARGEST)]


def require_configuration(
    method: str,
    parameters: Mapping[str, Any],
    task: str,
    variant: str,
    protocol: Mapping[str, Any],
    seed: int,
    axes: Mapping[str, Any],
    tuning: Tuning | None,
) -> None:
    """Raise `ValueError` for a configuration that no cell can have; see `record.schema.CellInfo`."""
    try:
        read = Protocol.model_validate({**protocol, "description": "", "variants": (variant,)})
    except pydantic.ValidationError as error:
        raise ValueError(f"cell.protocol.{first_error(error)}") from error
    # As they are written, not only as they can be read: tables take the keys as they stand.
    for key, value in read.model_dump(mode="json", include={*protocol}).items():
        if value != protocol[key] or isinstance(value, bool) is not isinstance(protocol[key], bool):
            raise ValueError(f"cell.protocol.{key}: {str(protocol[key])[:80]} is not how a protocol writes it")
    for key in ("name", "version", "selection", "modified"):
        if key not in protocol:
            raise ValueError(f"cell.protocol.{key}: field required")
    try:
        _Names(method=method, task=task, variant=variant, protocol=read.name, seed=seed, version=read.version)
    except pydantic.ValidationError as error:
        raise ValueError(f"cell.{first_error(error)}") from error
    if strangers := {*axes} - {*AXES}:
        raise ValueError(f"cell.axes: {sorted(strangers)[0]} is no axis")
    for name, value in axes.items():
        AXES[name].checked(value)
    if tuning is not None:
        _require_searched(tuning, {"method": parameters, "protocol": protocol})


def _require_searched(tuning: Tuning, configuration: Mapping[str, Any]) -> None:
    """Every key that was searched has a value in the configuration."""
    if max(tuning.trial, tuning.budget or 0) > LARGEST:
        raise ValueError("cell.tuning: a search has not so many trials")
    for key in tuning.space:
        place: Any = configuration
        for part in key.split("."):
            if not isinstance(place, Mapping) or part not in place:
                raise ValueError(f"cell.tuning.space: {key} is no key of the cell")
            place = place[part]
        if isinstance(place, Mapping):
            raise ValueError(f"cell.tuning.space: {key} is no value of the cell")


def require_enough(selection: str, evaluations: int) -> None:
    """Raise `ValueError` if a protocol's selection counts more evaluations than there are."""
    rule, _, count = selection.rpartition("-")
    if rule == "mean-last" and (len(count) > 18 or int(count) > evaluations):
        raise ValueError(f"selection={selection[:40]} needs {count[:20]} evaluations and there are {evaluations}")
