"""Colours of surfaces in the light of a room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .casting import Floats, Surfaces, lit
from .materials import (
    BOARDS,
    CHECKS,
    GRAIN,
    OUTDOORS,
    PAINTING,
    PANELS,
    ROUGH,
    SLATS,
    SPINES,
    STRIPES,
    Material,
)  # fmt: skip
from .scenes import Scene


@dataclass(frozen=True)
class Looks:
    """The materials of P points, and where the points are on them; see `Material` and `Surfaces`."""

    colour: Floats
    """(3, P), as is"""
    second: Floats
    pattern: NDArray[np.int64]
    """(P,), as are all others"""
    scale: Floats
    strength: Floats
    glow: Floats
    gloss: Floats
    seed: NDArray[np.int64]
    u: Floats
    v: Floats
    width: Floats
    height: Floats
    footprint: Floats
    """Metres of the surface that one pixel sees."""

    def at(self, chosen: NDArray[np.intp]) -> Looks:
        """Those of some of the points."""
        return Looks(**{name: value[..., chosen] for name, value in vars(self).items()})


def looks(materials: Sequence[Material], part: NDArray[np.intp], seen: Surfaces, footprint: Floats) -> Looks:
    """The looks of points that are on these parts (P,); a material for each part."""

    def gathered(name: str, kind: type = np.float32) -> NDArray[Any]:
        return np.array([getattr(material, name) for material in materials], kind).T[..., part]

    names = ("colour", "second", "scale", "strength", "glow", "gloss")
    turned = gathered("turned", bool)
    u, v, w, h = (x.astype(np.float32) for x in (seen.u, seen.v, seen.width, seen.height))
    return Looks(
        **{name: gathered(name) for name in names},
        **{name: gathered(name, np.int64) for name in ("pattern", "seed")},
        u=np.where(turned, v, u),
        v=np.where(turned, u, v),
        width=np.where(turned, h, w),
        height=np.where(turned, w, h),
        footprint=footprint.astype(np.float32),
    )


def noise(u: Floats, v: Floats, seed: NDArray[np.int64]) -> Floats:
    """Value noise: 0 to 1, smooth between the points of the lattice of whole numbers; another one for each seed."""
    left, low = np.floor(u), np.floor(v)
    a, b = u - left, v - low
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = left.astype(np.int64), low.astype(np.int64)
    corners = [[chance(i + k, j + m, seed) for m in (0, 1)] for k in (0, 1)]
    lower = corners[0][0] * (1 - a) + corners[1][0] * a
    upper = corners[0][1] * (1 - a) + corners[1][1] * a
    return lower * (1 - b) + upper * b


def chance(i: NDArray[np.int64], j: NDArray[np.int64], seed: NDArray[np.int64]) -> Floats:
    """A number from 0 to 1 for each pair of whole numbers, without a pattern that is seen."""
    mixed = (i * 73856093 ^ j * 19349663 ^ seed * 83492791).astype(np.uint32)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    return mixed.astype(np.float32) / np.float32(2**32)


def albedo(on: Looks) -> Floats:
    """(3, P): the colours with their patterns. Patterns too fine for the camera fade to their mean."""
    mix = np.zeros(len(on.u), np.float32)
    colour = on.colour.copy()
    for pattern, mixed in MIXED.items():
        (chosen,) = np.nonzero(on.pattern == pattern)
        if len(chosen):
            part = on.at(chosen)
            value, mean, period = mixed(part)
            clear = np.clip(1.6 - 1.6 * part.footprint / period, 0, 1)
            mix[chosen] = part.strength * (mean + clear * (value - mean))
    for pattern, painted in PAINTED.items():
        (chosen,) = np.nonzero(on.pattern == pattern)
        if len(chosen):
            colour[:, chosen] = painted(on.at(chosen))
    return colour + mix * (on.second - colour)


def _grain(x: Looks) -> tuple[Floats, float, Floats]:
    long, across = np.where(x.width > x.height, x.u, x.v), np.where(x.width > x.height, x.v, x.u)
    rough = noise(long * 1.5, across / x.scale, x.seed)
    fine = noise(long * 4, across / x.scale * 4, x.seed + 1)
    return 0.65 * rough + 0.35 * fine, 0.5, x.scale


def _checks(x: Looks) -> tuple[Floats, float, Floats]:
    return (np.floor(x.u / x.scale) + np.floor(x.v / x.scale)) % 2, 0.5, 2 * x.scale


def _stripes(x: Looks) -> tuple[Floats, float, Floats]:
    return np.floor(2 * x.u / x.scale) % 2, 0.5, x.scale


def _rough(x: Looks) -> tuple[Floats, float, Floats]:
    coarse = noise(x.u / x.scale, x.v / x.scale, x.seed)
    return 0.6 * coarse + 0.4 * noise(x.u / x.scale * 3, x.v / x.scale * 3, x.seed + 1), 0.5, 1.5 * x.scale


def _boards(x: Looks) -> tuple[Floats, float, Floats]:
    """Each board or tile of its own tone, with dark gaps."""
    row = np.floor(x.v / x.scale)
    along = x.u / (x.scale * 4) + chance(row.astype(np.int64), x.seed, x.seed)
    tone = chance(row.astype(np.int64), np.floor(along).astype(np.int64), x.seed)
    gap = (np.abs(x.v / x.scale - row - 0.5) > 0.46) | (np.abs(along - np.floor(along) - 0.5) > 0.49)
    return np.maximum(0.7 * tone, gap), 0.45, x.scale


def _panels(x: Looks) -> tuple[Floats, float, Floats]:
    """Doors or drawers of about the scale, with gaps and handles."""
    cells, inner = [], []
    for at, extent in ((x.u, x.width), (x.v, x.height)):
        size = extent / np.maximum(1, np.round(extent / x.scale))
        place = (at + extent / 2) / size
        cells.append(size)
        inner.append((place - np.floor(place) - 0.5) * size)
    gap = np.minimum(cells[0] / 2 - np.abs(inner[0]), cells[1] / 2 - np.abs(inner[1])) < 0.012
    handle = (np.abs(inner[0]) < 0.06) & (np.abs(inner[1] - 0.3 * cells[1]) < 0.015)
    return np.maximum(gap, handle).astype(np.float32), 0.05, np.full_like(x.u, 0.04)


def _slats(x: Looks) -> tuple[Floats, float, Floats]:
    return np.abs((x.v / x.scale) % 1 - 0.5) * 2, 0.5, x.scale


def _spines(x: Looks) -> Floats:
    """Books of their own colours, some darker at the top."""
    n = np.floor(x.u / x.scale + 0.7 * noise(x.u / x.scale, np.zeros_like(x.u), x.seed)).astype(np.int64)
    hue = np.stack([chance(n, np.full_like(n, k), x.seed) for k in range(3)])
    tone = 0.15 + 0.85 * chance(n, np.full_like(n, 3), x.seed)
    short = x.v / x.height + 0.5 > 0.72 + 0.5 * chance(n, np.full_like(n, 4), x.seed)
    return (0.5 * hue**1.5 + 0.5 * x.colour * hue) * tone * np.where(short, 0.12, 1.0)


def _painting(x: Looks) -> Floats:
    """Blots of several colours."""
    one = noise(x.u / x.scale, x.v / x.scale, x.seed)
    other = noise(x.u / x.scale * 1.7 + 9, x.v / x.scale * 1.7, x.seed + 2)
    third = np.stack([chance(x.seed, np.full_like(x.seed, k), x.seed) for k in range(3)])
    step = np.clip(np.round(one * 3) / 2 - 0.25, 0, 1)
    mixed = x.colour * (1 - step) + x.second * step
    return np.where(other > 0.6, third, mixed)


def _outdoors(x: Looks) -> Floats:
    """Sky above, something darker below."""
    horizon = 0.3 + 0.3 * chance(x.seed, x.seed, x.seed) - 0.5
    line = horizon + 0.25 * (noise(x.u * 3, np.zeros_like(x.u), x.seed) - 0.5)
    below = x.second * (0.15 + 0.5 * noise(x.u * 8, x.v * 8, x.seed))
    above = x.colour * (0.8 + 0.4 * (x.v / x.height + 0.5))
    return np.where(x.v / x.height < line, below, above)


MIXED = {
    GRAIN: _grain, CHECKS: _checks, STRIPES: _stripes, ROUGH: _rough, BOARDS: _boards, PANELS: _panels, SLATS: _slats,
}  # fmt: skip
"""Patterns of two colours: how much of the second one there is, its mean, and the length of a period in metres."""
PAINTED = {SPINES: _spines, PAINTING: _painting, OUTDOORS: _outdoors}
"""Patterns with colours of their own."""


def radiance(scene: Scene, seen: Surfaces, on: Looks, ambient: Floats) -> Floats:
    """(3, P): the light that P points send to the camera, linear."""
    points, normals = seen.points.astype(np.float32), seen.normals.astype(np.float32)
    got = ambient[:, None] * _open(scene, points, normals)
    shine = np.zeros_like(got)
    towards = scene.eye.astype(np.float32)[:, None] - points
    towards /= np.sqrt((towards**2).sum(0))
    for light in scene.lights:
        apart = light.place.astype(np.float32)[:, None] - points
        square = (apart**2).sum(0)
        to = apart / np.sqrt(square)
        level = np.maximum(0, (to * normals).sum(0)) / (0.4 + square)
        if light.facing is not None:
            level *= np.maximum(0, -(to * light.facing.astype(np.float32)[:, None]).sum(0))
        (chosen,) = np.nonzero(level > 0.004)
        if light.shadows:
            free = lit(scene.pieces, light.place.astype(np.float32), points[:, chosen])
            level[chosen[~free]] = 0
        colour = light.colour.astype(np.float32)[:, None]
        got += colour * level
        half = to + towards
        half /= np.maximum(1e-6, np.sqrt((half**2).sum(0)))
        shine += colour * level * np.maximum(0, (half * normals).sum(0)) ** 40
    surface = albedo(on)
    return surface * got + on.gloss * shine * 2 + on.glow * surface


def _open(scene: Scene, points: Floats, normals: Floats) -> Floats:
    """(P,): the share of the diffuse light that arrives: less near walls, floor and ceiling, and less from below."""
    share = 0.8 + 0.2 * normals[1] + 0.08 * normals[0]
    for axis, extent in enumerate(scene.room):
        for far, n in ((points[axis], normals[axis]), (np.float32(extent) - points[axis], -normals[axis])):
            share = share * (1 - 0.45 * np.exp(-np.maximum(far, 0) / 0.3) * (1 - np.maximum(n, 0)))
    return share
