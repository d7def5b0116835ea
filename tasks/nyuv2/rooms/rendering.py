"""One view of a room: rays from the camera, and what they see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from ..geometry import KINECT, KINECT_SIZE, Camera
from ..views import CLASSES, View
from .casting import Floats, first_hits, product, surfaces
from .scenes import Scene, scene
from .sensing import labelled, measured, photograph
from .shading import looks, radiance


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


def stream(seed: int, split: str, index: int) -> RandomState:
    """What scene `index` of a split is drawn from. NumPy has frozen all parts of it."""
    return RandomState(np.random.MT19937(np.random.SeedSequence((seed, index, *split.encode()))))


def truth(rng: RandomState, size: tuple[int, int]) -> tuple[Scene, Truth]:
    """A scene and what is to be seen of it, without noise; what is drawn does not depend on the size."""
    made = scene(rng)
    ambient = rng.uniform(0.15, 0.6) * (1 + 0.05 * rng.standard_normal(3))
    v, u = np.mgrid[0.0 : size[0], 0.0 : size[1]].reshape(2, -1)
    rays = _rays(made, size, u, v)
    hits = first_hits(made.pieces, made.eye, rays)
    (edge,) = np.nonzero(_outlines(hits.part.reshape(size)).ravel())
    more = [_rays(made, size, u[edge] + x, v[edge] + y) for x, y in OFF_CENTRE]
    extra = first_hits(made.pieces, made.eye, np.concatenate(more, 1))
    rays = np.concatenate([rays, *more], 1)
    part, far = (np.concatenate(both) for both in zip(hits, extra, strict=True))
    seen = surfaces(made.pieces, part, made.eye[:, None] + far * rays)
    length = np.sqrt((rays**2).sum(0))
    facing = -(rays * seen.normals).sum(0) / length
    bodies = [part for piece in made.pieces for part in piece.parts]
    footprint = far * length / camera(size).fx / np.sqrt(np.maximum(facing, 0.01))
    on = looks([part.material for part in bodies], part, seen, footprint)
    light = radiance(made, seen, on, ambient.astype(np.float32))
    count = len(u)
    inner = light[:, count:].reshape(3, len(OFF_CENTRE), len(edge)).sum(1)
    light[:, edge] = (light[:, edge] + inner) / (1 + len(OFF_CENTRE))
    return made, Truth(
        np.array([part.label for part in bodies], np.int8)[part[:count]].reshape(size),
        far[:count].reshape(size),
        product(made.turn.T, seen.normals[:, :count]).reshape(3, *size),
        light[:, :count].reshape(3, *size),
        facing[:count].reshape(size),
    )


OFF_CENTRE = ((-0.3, 0.15), (0.15, -0.3), (0.3, 0.3))
"""Where else, in pixels, light falls on the pixels along outlines; else thin things would come and go."""


def _rays(made: Scene, size: tuple[int, int], u: Floats, v: Floats) -> Floats:
    """(3, P): directions in the world through pixels, as long as one metre along the axis asks for."""
    fx, fy, cx, cy = camera(size)
    return product(made.turn, np.stack([(u - cx) / fx, (cy - v) / fy, np.full_like(u, -1.0)]))


def _outlines(part: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(H, W): the pixels on both sides of every border between parts."""
    found = np.zeros(part.shape, bool)
    for side, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differs = part[side] != part[other]
        found[side] |= differs
        found[other] |= differs
    return found


def view(seed: int, split: str, index: int, size: tuple[int, int]) -> View:
    """Scene `index` of a split as a sensor sees it; it depends on these numbers alone."""
    rng = stream(seed, split, index)
    _, exact = truth(rng, size)
    shiny = np.isin(exact.labels, [CLASSES.index("window"), CLASSES.index("tv")])
    image = photograph(rng, exact.light)
    depth = measured(rng, exact.depth, exact.facing, shiny)
    return View(image, labelled(rng, exact.labels), depth, exact.normals.astype(np.float32))
