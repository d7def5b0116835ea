"""Rays against boxes, ellipsoids and upright cylinders: what is hit first, and what stands in a light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .materials import Material

BOX, BALL, ROD = range(3)
"""Shapes within an upright cuboid: all of it, the ellipsoid that touches its sides, the upright elliptic cylinder."""

Floats = NDArray[np.floating[Any]]


class Part(NamedTuple):
    """One convex body."""

    label: int
    material: Material
    low: tuple[float, float, float]
    """The lowest corner of its cuboid in the frame of its piece, metres."""
    high: tuple[float, float, float]
    shape: int = BOX


@dataclass(frozen=True)
class Piece:
    """Parts in one frame. A point p of it is `turn @ p + place` in the world, where y is up."""

    parts: tuple[Part, ...]
    turn: Floats
    """(3, 3), a rotation."""
    place: Floats
    """(3,) metres."""
    casts: bool = True
    """Whether it stands in the light of lamps and windows."""

    def moved(self, turn: Floats, place: Floats) -> Piece:
        """It as part of something that is turned and put somewhere itself."""
        return Piece(self.parts, product(turn, self.turn), product(turn, self.place) + place, self.casts)

    @cached_property
    def bounds(self) -> tuple[list[float], list[float]]:
        """The lowest and the highest corner of a cuboid in the world that all of it is in."""
        lows, highs = (np.array(corners) for corners in zip(*((p.low, p.high) for p in self.parts), strict=True))
        low, high = lows.min(0), highs.max(0)
        centre = product(self.turn, (low + high) / 2) + self.place
        half = product(np.abs(self.turn), (high - low) / 2) + 1e-6
        return (centre - half).tolist(), (centre + half).tolist()


class Hits(NamedTuple):
    """Where P rays end."""

    part: NDArray[np.intp]
    """(P,) numbers of parts, piece after piece; -1 where nothing is hit."""
    far: Floats
    """(P,) in units of the rays' directions; infinite where nothing is hit."""


def product(a: Floats, b: Floats) -> Floats:
    """The matrix product, without the threads of a linear algebra library: (3, 3) times (3, N) or (3,)."""
    return sum(a[:, k].reshape(3, *[1] * (b.ndim - 1)) * b[k] for k in range(3))


def about(axis: int, angle: float) -> Floats:
    """The rotation (3, 3) about an axis by an angle in radians, counter-clockwise seen from its tip."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


def first_hits(pieces: Sequence[Piece], origin: Floats, directions: Floats) -> Hits:
    """What each ray from `origin` (3,) hits first; directions are (3, P), of any length."""
    part = np.full(directions.shape[1], -1, np.intp)
    far = np.full(directions.shape[1], np.inf, directions.dtype)
    inverse = _inverse(directions)
    number = 0
    for piece in pieces:
        enter, leave = _slabs(origin, inverse, *piece.bounds)
        (near,) = np.nonzero((enter < leave) & (leave > 0) & (enter < far))
        if len(near):
            start, rays = _in_frame(piece, origin, directions[:, near])
            within = _inverse(rays)
            best, which = far[near], part[near]
            for n, body in enumerate(piece.parts, number):
                enter, leave = _interval(body, start, rays, within)
                hit = (enter < leave) & (enter > 0) & (enter < best)
                best[hit], which[hit] = enter[hit], n
            far[near], part[near] = best, which
        number += len(piece.parts)
    return Hits(part, far)


def lit(pieces: Sequence[Piece], light: Floats, points: Floats) -> NDArray[np.bool_]:
    """Whether nothing stands between a light (3,) and points (3, P): (P,)."""
    free = np.ones(points.shape[1], bool)
    directions = points - light[:, None]
    inverse = _inverse(directions)
    for piece in pieces:
        if piece.casts:
            enter, leave = _slabs(light, inverse, *piece.bounds)
            (near,) = np.nonzero((enter < leave) & (leave > 0) & (enter < NEARLY) & free)
            if len(near):
                start, rays = _in_frame(piece, light, directions[:, near])
                within = _inverse(rays)
                for body in piece.parts:
                    enter, leave = _interval(body, start, rays, within)
                    free[near[(enter < leave) & (leave > 0) & (enter < NEARLY)]] = False
    return free


NEARLY = 1 - 1e-3
"""A surface does not stand in its own light."""


def _inverse(rays: Floats) -> Floats:
    """One over each component; rays that are parallel to a face meet it nowhere near."""
    inverse: Floats = 1 / np.where(rays == 0, rays.dtype.type(1e-9), rays)
    return inverse


def _in_frame(piece: Piece, origin: Floats, directions: Floats) -> tuple[Floats, Floats]:
    back = piece.turn.T
    rays = np.empty_like(directions)
    for row, out in zip(back.tolist(), rays, strict=True):  # most turns are about y: half of it is 0
        first, *rest = (k for k in range(3) if row[k])
        np.multiply(directions[first], row[first], out)
        for k in rest:
            out += directions[k] * row[k]
    return product(back, origin - piece.place), rays


def _slabs(start: Any, inverse: Floats, low: Any, high: Any) -> tuple[Floats, Floats]:
    """Where rays enter and leave a cuboid; they miss it where they leave before they enter."""
    enter, leave = _slab(start[0], inverse[0], low[0], high[0])
    for axis in (1, 2):
        one, other = _slab(start[axis], inverse[axis], low[axis], high[axis])
        np.maximum(enter, one, out=enter)
        np.minimum(leave, other, out=leave)
    return enter, leave


def _slab(start: Any, inverse: Floats, low: Any, high: Any) -> tuple[Floats, Floats]:
    one, other = inverse * float(low - start), inverse * float(high - start)
    return np.minimum(one, other), np.maximum(one, other)


def _interval(part: Part, start: Floats, rays: Floats, inverse: Floats) -> tuple[Floats, Floats]:
    """Where rays enter and leave a part, which is convex."""
    if part.shape == BOX:
        return _slabs(start, inverse, part.low, part.high)
    low, high = np.array(part.low), np.array(part.high)
    centre, half = (low + high) / 2, (high - low) / 2
    axes = (0, 1, 2) if part.shape == BALL else (0, 2)
    q = [float((start[a] - centre[a]) / half[a]) for a in axes]
    e = [rays[a] / float(half[a]) for a in axes]
    a = np.maximum(sum(x * x for x in e), 1e-12)
    b = sum(x * y for x, y in zip(q, e, strict=True))
    c = sum(x * x for x in q) - 1
    root = b * b - a * c
    missed = root < 0
    root = np.sqrt(np.where(missed, 0, root))
    enter, leave = (-b - root) / a, (-b + root) / a
    leave[missed] = -np.inf
    if part.shape == ROD:
        one, other = _slab(start[1], inverse[1], low[1], high[1])
        enter, leave = np.maximum(enter, one), np.minimum(leave, other)
    return enter, leave


class Surfaces(NamedTuple):
    """What is seen at P points."""

    points: Floats
    """(3, P) in the world, metres."""
    normals: Floats
    """(3, P) in the world, of unit length, outwards."""
    u: Floats
    """(P,) metres along the surface: horizontally, and"""
    v: Floats
    """(P,) upwards, or away on a level surface; 0 in the middle of a part."""
    width: Floats
    """(P,) of the face along u, metres, and"""
    height: Floats
    """(P,) along v."""


def surfaces(pieces: Sequence[Piece], part: NDArray[np.intp], points: Floats) -> Surfaces:
    """The surfaces of the parts (P,) at points (3, P) on them, which are in the world."""
    counts = [len(piece.parts) for piece in pieces]
    bodies = [body for piece in pieces for body in piece.parts]
    turns = np.repeat([piece.turn.ravel() for piece in pieces], counts, 0).T[:, part].reshape(3, 3, -1)
    places = np.repeat([piece.place for piece in pieces], counts, 0).T[:, part]
    low = np.array([body.low for body in bodies]).T[:, part]
    high = np.array([body.high for body in bodies]).T[:, part]
    shape = np.array([body.shape for body in bodies])[part]
    centre, half = (low + high) / 2, (high - low) / 2
    apart = points - places
    local = sum(turns[k] * apart[k] for k in range(3)) - centre
    unit = local / half
    face = np.abs(unit).argmax(0)
    flat = (np.arange(3)[:, None] == face) * np.sign(unit)
    side = (shape == ROD) & (np.hypot(unit[0], unit[2]) > np.abs(unit[1]))
    round_ = unit / half * np.where(shape == ROD, [[1.0], [0.0], [1.0]], 1.0)
    round_ /= np.maximum(np.sqrt((round_**2).sum(0)), 1e-12)
    curved = side | (shape == BALL)
    cap = (shape == ROD) & ~side
    face = np.where(cap, 1, face)
    flat = np.where(cap, np.array([[0.0], [1.0], [0.0]]) * np.sign(unit[1]), flat)
    normals = np.where(curved, round_, flat)
    across, up = np.where(face == 0, 2, 0), np.where(face == 1, 2, 1)
    index = np.arange(len(part))
    return Surfaces(
        points,
        sum(turns[:, k] * normals[k] for k in range(3)),
        local[across, index],
        local[up, index],
        2 * half[across, index],
        2 * half[up, index],
    )
