"""What the task reads from a protocol's `options`."""

from __future__ import annotations

from typing import Annotated

import pydantic

from mtlbench.catalogue.protocol import Protocol
from mtlbench.errors import UsageError
from mtlbench.strict import Strict, refused

from .sources import SPLITS


class Options(Strict):
    """Composition and network."""

    composition_seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)]
    """Fixes which images meet, and the split of the embedded digits; never the seed of a run."""
    composites_per_image: dict[str, Annotated[int, pydantic.Field(ge=1)]]
    """For train, val and test: how many composites each top-left source image is part of."""
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)]


def options(protocol: Protocol) -> Options:
    """The validated options; raises `UsageError` that names the key."""
    try:
        found = Options.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
    if set(found.composites_per_image) != set(SPLITS):
        raise UsageError(f"protocol.options.composites_per_image needs one number for each of {', '.join(SPLITS)}.")
    return found
