"""What the task reads from a protocol's `options`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from mtlbench.catalogue.protocol import Protocol
from mtlbench.strict import Strict, refused

Count = Annotated[int, pydantic.Field(ge=1)]
Side = Annotated[int, pydantic.Field(ge=16)]
Scale = Annotated[float, pydantic.Field(ge=1, le=4)]


class Rooms(Strict):
    """How many scenes of the variant `rooms` are rendered for each split, and the seed that they follow from."""

    train: Count = 400
    val: Count = 100
    test: Count = 200
    seed: Annotated[int, pydantic.Field(ge=0)] = 0


class Augmentation(Strict):
    """What happens to training views when they are drawn; see `augmentation`."""

    scales: Annotated[tuple[Scale, ...], pydantic.Field(min_length=1)] = (1.0,)
    """One is drawn for each view: a part of the image, smaller by this factor, is enlarged to the whole."""
    flip: bool = False
    """Whether every other view is mirrored left to right."""
    normals: Literal["geometric", "published"] = "geometric"
    """Whether the normals of an enlarged view follow its depth, or stay as they were, as in the published code."""


class Options(Strict):
    """Data, model and scoring."""

    size: tuple[Side, Side] | None = None
    """Height and width in pixels; None for the data's own."""
    trunk: Literal["small", "segnet_mtan", "segnet_split", "resnet50"]
    """The model, see `models`."""
    weights: Literal["none", "imagenet"] = "none"
    """What `resnet50` begins with."""
    augmentation: Augmentation = Augmentation()
    scoring: Literal["whole", "batches"] = "whole"
    """Errors over all pixels of a split, or the mean of each batch's values; see `metrics`."""
    scoring_batch: Count = 8
    """Views of a batch that is scored. With `scoring=batches` scores depend on it."""
    validation: Literal["scenes", "test"] = "scenes"
    """Where the data have no validation split: some scenes of train, or the test split itself, as published."""
    validation_share: Annotated[float, pydantic.Field(gt=0, le=0.5)] = 0.1
    """Of the training views."""
    description: str | None = None
    """The YAML file that describes the data of the variant `folder`; None for what lies below the data root."""
    depth: Literal["raw", "filled"] = "raw"
    """Of the variant `labeled`: as the sensor measured it, or with holes filled in by its authors."""
    rooms: Rooms = Rooms()


def options(protocol: Protocol) -> Options:
    """The validated options; raises `UsageError` that names the key."""
    try:
        return Options.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
