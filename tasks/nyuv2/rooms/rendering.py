"""One view of a room: rays from the camera, and what they see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from ..geometry import KINECT, KINECT_SIZE, Camera
from ..views import CLASSES
from .casting import Floats, first_hits, product, surfaces
from .scenes import Scene, scene
from .sensing import labelled, measured, photograph
from .shading import Looks, radiance


def camera(size: tuple[int, int]) -> Camera:
    """NYUv2's camera, with (height, width) pixels."""
    return KINECT.resized(KINECT_SIZE, size)


class Truth(NamedTuple):
    """What is exactly there, for every pixel."""

    labels: NDArray[np.int8]
    """(H, W)"""
    depth: Floats
    """(H, W) metres along the optical axis."""
    normals: Floats
    """(3, H, W) in the camera's frame, of unit length."""
    light: Floats
    """(3, H, W), linear."""
    facing: Floats
    """(H, W) cosine between the normal and the way to the camera."""


class View(NamedTuple):
    """What a sensor and people who label make of it; shapes and conventions are those of `Views`."""

    image: NDArray[np.uint8]
    label: NDArray[np.int8]
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]


def stream(seed: int, split: str, index: int) -> RandomState:
    """What scene `index` of a split is drawn from. NumPy has frozen all parts of it."""
    return RandomState(np.random.MT19937(np.random.SeedSequence((seed, index, *split.encode()))))


def truth(rng: RandomState, size: tuple[int, int]) -> tuple[Scene, Truth]:
    """A scene and what is to be seen of it, without noise; what is drawn does not depend on the size."""
    made = scene(rng)
    ambient = rng.uniform(0.15, 0.6) * (1 + 0.05 * rng.standard_normal(3))
    fx, fy, cx, cy = camera(size)
    v, u = np.mgrid[0 : size[0], 0 : size[1]].reshape(2, -1)
    seen_along = np.stack([(u - cx) / fx, -(v - cy) / fy, np.full(u.shape, -1.0)])
    rays = product(made.turn, seen_along)
    hits = first_hits(made.pieces, made.eye, rays)
    points = made.eye[:, None] + hits.far * rays
    seen = surfaces(made.pieces, hits.part, points)
    length = np.sqrt((rays**2).sum(0))
    facing = -(rays * seen.normals).sum(0) / length
    bodies = [part for piece in made.pieces for part in piece.parts]
    footprint = hits.far * length / fx / np.maximum(0.1, np.sqrt(np.maximum(facing, 0)))
    looks = Looks([part.material for part in bodies], hits.part, seen, footprint)
    light = radiance(made, seen, looks, ambient.astype(np.float32))
    return made, Truth(
        np.array([part.label for part in bodies], np.int8)[hits.part].reshape(size),
        hits.far.reshape(size),
        product(made.turn.T, seen.normals).reshape(3, *size),
        light.reshape(3, *size),
        facing.reshape(size),
    )


def view(seed: int, split: str, index: int, size: tuple[int, int]) -> View:
    """Scene `index` of a split as a sensor sees it; it depends on these numbers alone."""
    rng = stream(seed, split, index)
    _, exact = truth(rng, size)
    shiny = np.isin(exact.labels, [CLASSES.index("window"), CLASSES.index("tv")])
    image = photograph(rng, exact.light)
    depth = measured(rng, exact.depth, exact.facing, shiny)
    return View(image, labelled(rng, exact.labels), depth, exact.normals.astype(np.float32))
