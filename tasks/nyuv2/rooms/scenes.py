"""Rooms: their walls, what stands where in them, their lamps, and where the camera is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

from . import furniture as f
from . import objects
from .casting import Floats, Part, Piece, about, product
from .furniture import CEILING, FLOOR, WALL, Maker, Thing, block, still
from .materials import PAINTS, Material, cloth, ground, paint, plain


class Light(NamedTuple):
    """What shines into the room."""

    place: Floats
    """(3,) metres, in the world."""
    colour: Floats
    """(3,) its power in red, green and blue."""
    facing: Floats | None = None
    """(3,) for a window: the direction into the room."""
    shadows: bool = True


@dataclass
class Scene:
    """A room that is furnished and seen. The world: x and z level from 0 to the room's size, y up from the floor."""

    room: tuple[float, float, float]
    """Its extent along x, y and z, metres."""
    eye: Floats
    """(3,) where the camera is."""
    turn: Floats
    """(3, 3): a direction in the camera's frame, x to the right, y up, z backwards, times this is one in the world."""
    pieces: list[Piece] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    taken: list[tuple[list[float], list[float]]] = field(default_factory=list)
    """Lowest and highest corners of what stands there."""


class Theme(NamedTuple):
    """What a kind of room holds: makers, each with the number to expect; whole numbers are certain."""

    sides: tuple[float, float]
    """Between which both sides of the room are, metres."""
    walls: Sequence[tuple[Maker, float]]
    """Things with their backs at a wall; the first one has its place before windows and doors."""
    free: Sequence[tuple[Maker, float]]
    """Things anywhere."""


BEDROOM = Theme(
    (3.0, 5.4),
    [(f.bed, 1.3), (f.nightstand, 1.6), (f.wardrobe, 0.9), (f.cabinet, 0.9), (f.desk, 0.5), (f.shelf, 0.7),
     (f.stand, 0.5), (f.sofa, 0.2)],
    [(f.chair, 0.7), (f.armchair, 0.4), (objects.clutter, 2.2)],
)  # fmt: skip
LIVING = Theme(
    (3.6, 6.8),
    [(f.sofa, 1.6), (f.stand, 0.9), (f.shelf, 1.2), (f.cabinet, 0.9), (f.desk, 0.3), (f.floor_lamp, 0.7)],
    [(f.coffee_table, 1), (f.armchair, 1), (f.chair, 0.5), (f.sofa, 0.3), (objects.clutter, 2.2)],
)  # fmt: skip
STUDY = Theme(
    (3.0, 5.6),
    [(f.desk, 1.8), (f.shelf, 2.0), (f.cabinet, 1), (f.sofa, 0.4), (f.bed, 0.4), (f.wardrobe, 0.6), (f.stand, 0.4)],
    [(f.office_chair, 1.6), (f.chair, 0.9), (f.table, 0.4), (objects.clutter, 2.4)],
)  # fmt: skip
DINING = Theme(
    (3.4, 7.0),
    [(f.counter, 0.9), (f.cabinet, 1.2), (f.wardrobe, 0.5), (f.shelf, 0.8), (f.sofa, 0.4), (f.stand, 0.4)],
    [(f.table, 1.4), (f.chair, 1), (objects.clutter, 1.6), (f.armchair, 0.4)],
)  # fmt: skip
HALL = Theme(
    (6.5, 12.0),
    [(f.sofa, 2), (f.shelf, 3), (f.cabinet, 2), (f.stand, 1.2), (f.desk, 1.5), (f.bed, 0.6), (f.counter, 1)],
    [(f.table, 2.5), (f.chair, 4), (f.coffee_table, 1), (f.armchair, 2), (objects.clutter, 4), (f.office_chair, 1.5)],
)  # fmt: skip
THEMES = ((BEDROOM, 0.35), (LIVING, 0.23), (STUDY, 0.19), (DINING, 0.16), (HALL, 0.07))
"""Each with its share of scenes."""

THICK = 0.3
"""Of walls, metres."""


def scene(rng: RandomState) -> Scene:
    """A room, drawn."""
    theme = THEMES[int(np.searchsorted(np.cumsum([share for _, share in THEMES]), rng.uniform()))][0]
    room = (rng.uniform(*theme.sides), rng.uniform(2.3, 2.9), rng.uniform(*theme.sides))
    made = _seen(rng, room)
    ceiling = _shell(rng, made)
    if rng.uniform() < 0.12:
        _slope(rng, made, ceiling)
    for n, (maker, expected) in enumerate(theme.walls):
        for _ in range(_number(rng, expected)):
            _at_wall(rng, made, maker(rng))
        if n == 0:
            _openings(rng, made)
    for maker, expected in theme.free:
        for _ in range(_number(rng, expected)):
            _anywhere(rng, made, maker)
    for maker, expected in ((objects.picture, 2.0), (objects.board, 0.5), (objects.wall_screen, 0.25)):
        for _ in range(_number(rng, expected)):
            thing = maker(rng)
            low = rng.uniform(1.1, 1.9)
            if low + thing.size[1] < room[1] - 0.1:
                _at_wall(rng, made, thing, low)
    _lamps(rng, made)
    return made


def _number(rng: RandomState, expected: float) -> int:
    whole = int(expected)
    return whole + int(rng.uniform() < expected - whole)


def _seen(rng: RandomState, room: tuple[float, float, float]) -> Scene:
    """The camera: of some drawn places and directions that from which most of the room is seen."""
    poses = [
        (rng.uniform(0.4, room[0] - 0.4), rng.uniform(0.4, room[2] - 0.4), rng.uniform(-np.pi, np.pi)) for _ in range(5)
    ]
    x, z, angle = max(poses, key=lambda pose: _overlooked(room, *pose))
    y = min(rng.uniform(1.2, 1.7), room[1] - 0.5)
    pitch, roll = np.radians(rng.uniform(-24, 2)), np.radians(np.clip(1.5 * rng.standard_normal(), -4, 4))
    turn = product(about(1, angle), product(about(0, pitch), about(2, roll)))
    return Scene(room, np.array([x, y, z]), turn)


def _overlooked(room: tuple[float, float, float], x: float, z: float, angle: float) -> float:
    """About how much of the floor lies in the angle of view, square metres."""
    area = 0.0
    for side in (-0.45, -0.15, 0.15, 0.45):
        right, back = -np.sin(angle + side), -np.cos(angle + side)
        wall = min((room[0] - x if right > 0 else -x) / right, (room[2] - z if back > 0 else -z) / back)
        area += 0.15 * min(wall, 6.0) ** 2
    return area


def _shell(rng: RandomState, made: Scene) -> Material:
    """Floor, ceiling, walls, skirting, a rug, a pillar; what the ceiling is made of."""
    w, h, d = made.room
    t = THICK
    wall, floor, ceiling = paint(rng), ground(rng), plain(rng, PAINTS[:2], 0.1)
    accent = paint(rng, 0.3) if rng.uniform() < 0.3 else wall
    wide, high, deep = (-t, w + t), (-t, h + t), (-t, d + t)  # they overlap, so that no ray slips out
    parts = [
        block(FLOOR, floor, wide, (-t, 0), deep),
        block(CEILING, ceiling, wide, (h, h + t), deep),
        block(WALL, accent, wide, high, (-t, 0)),
        block(WALL, wall, (-t, 0), high, deep),
        block(WALL, wall, wide, high, (d, d + t)),
        block(WALL, wall, (w, w + t), high, deep),
    ]
    made.pieces.append(Piece(still(parts).parts, np.eye(3), np.zeros(3), casts=False))
    if rng.uniform() < 0.5:
        low, s = plain(rng, PAINTS[:1], 0.3), 0.015
        y = (0, rng.uniform(0.06, 0.12))
        skirting = [
            block(WALL, low, (0, w), y, (0, s)), block(WALL, low, (0, w), y, (d - s, d)),
            block(WALL, low, (0, s), y, (0, d)), block(WALL, low, (w - s, w), y, (0, d)),
        ]  # fmt: skip
        made.pieces.append(Piece(tuple(skirting), np.eye(3), np.zeros(3), casts=False))
    if rng.uniform() < 0.4:
        x, z, a, b = rng.uniform(0.8, w - 0.8), rng.uniform(0.8, d - 0.8), rng.uniform(0.6, 1.2), rng.uniform(0.6, 1.2)
        rug = block(FLOOR, cloth(rng, 0.4), (max(x - a, 0.1), min(x + a, w - 0.1)), (0, 0.012),
                    (max(z - b, 0.1), min(z + b, d - 0.1)))  # fmt: skip
        made.pieces.append(Piece((rug,), np.eye(3), np.zeros(3), casts=False))
    if rng.uniform() < 0.15:
        a, b = rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.45)
        pillar = Thing((a, h, b), [still([Part(WALL, wall, (-a / 2, 0, -b / 2), (a / 2, h, b / 2))])])
        _at_wall(rng, made, pillar)
    return ceiling


def _slope(rng: RandomState, made: Scene, ceiling: Material) -> None:
    """A ceiling that comes down along one side, as below a roof."""
    drop, deep, side = rng.uniform(0.4, 1.1), rng.uniform(0.6, 1.4), rng.randint(4)
    along = made.room[2 * (side % 2)]
    slab = Part(CEILING, ceiling, (-along, 0, -2), (along, THICK, 2))
    tilt = about(0, float(np.arctan2(-drop, deep)))
    thing = Thing((along, drop, deep), [Piece((slab,), tilt, np.array([0, drop, deep / 2]), casts=False)])
    _put(made, thing, *_beside(made, side, along / 2, made.room[1] - drop, deep / 2))


def _openings(rng: RandomState, made: Scene) -> None:
    """Windows, which give light, and doors."""
    lit = rng.uniform() < 0.8
    for _ in range(_number(rng, 1.3)):
        thing, low = objects.window(rng), rng.uniform(0.7, 1.0)
        if low + thing.size[1] < made.room[1] - 0.1 and (placed := _at_wall(rng, made, thing, low)) is not None:
            turn, place = placed
            inwards = turn[:, 2]
            pane = thing.pieces[0].parts[0]
            power = 0.5 + 2.5 * pane.material.glow if lit else 0.3
            area = thing.size[0] * thing.size[1]
            colour = power * area * np.array([0.95, 1.0, 1.1]) * (1 + 0.08 * rng.standard_normal(3))
            made.lights.append(Light(place + np.array([0, thing.size[1] / 2, 0]) + 0.06 * inwards, colour, inwards))
    for _ in range(_number(rng, 0.6)):
        _at_wall(rng, made, objects.door(rng))


def _lamps(rng: RandomState, made: Scene) -> None:
    w, h, d = made.room
    on = not made.lights or rng.uniform() < 0.7
    for x, z in [(w / 2, d / 2)] if max(w, d) < 6 else [(w / 4, d / 4), (3 * w / 4, 3 * d / 4)]:
        thing = objects.ceiling_lamp(rng, h, on)
        x, z = x + rng.uniform(-0.5, 0.5), z + rng.uniform(-0.5, 0.5)
        reach = thing.size[0] / 2
        low = thing.pieces[0].bounds[0][1]
        if not _collides(made, (x - reach, low, z - reach), (x + reach, h, z + reach)):
            made.pieces += [piece.moved(np.eye(3), np.array([x, 0, z])) for piece in thing.pieces]
        if on:
            colour = rng.uniform(1.5, 5.0) * np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.0)])
            made.lights.append(Light(np.array([x, low - 0.1, z]), colour))
    for piece in made.pieces:
        for part in piece.parts:
            if part.material.glow > 0.9 and part.label == f.OBJECTS and part.high[1] < 1.8:
                at = product(piece.turn, np.array([0, part.high[1] + 0.05, 0])) + piece.place
                made.lights.append(Light(at, rng.uniform(0.3, 0.9) * np.array([1.0, 0.85, 0.6]), None, shadows=False))


def _collides(made: Scene, low: Sequence[float], high: Sequence[float]) -> bool:
    """Whether something stands there, or the camera is too near."""
    for here, there in made.taken:  # a few numbers: arrays would take longer
        if (
            low[0] < there[0] and here[0] < high[0]
            and low[1] < there[1] and here[1] < high[1]
            and low[2] < there[2] and here[2] < high[2]
        ):  # fmt: skip
            return True
    x, _, z = made.eye.tolist()
    level = math.hypot(min(max(x, low[0]), high[0]) - x, min(max(z, low[2]), high[2]) - z)
    return level < (0.45 if high[1] < 0.9 else 1.1)


def _put(made: Scene, thing: Thing, turn: Floats, place: Floats) -> bool:
    """Put it there, unless something is in the way."""
    half = (np.abs(turn[:, 0]) * thing.size[0] + np.abs(turn[:, 2]) * thing.size[2]) / 2 - 1e-3
    low, high = (place - half).tolist(), (place + half).tolist()
    low[1], high[1] = place[1] + 1e-3, place[1] + thing.size[1] - 1e-3
    if min(low) < 0 or any(x > room for x, room in zip(high, made.room, strict=True)) or _collides(made, low, high):
        return False
    made.taken.append((low, high))
    made.pieces += [piece.moved(turn, place) for piece in thing.pieces]
    return True


def _in_view(made: Scene, x: float, z: float) -> bool:
    right, back = x - float(made.eye[0]), z - float(made.eye[2])
    ahead = -float(made.turn[0, 2]), -float(made.turn[2, 2])
    far = math.hypot(right, back)
    return right * ahead[0] + back * ahead[1] > 0.85 * far * math.hypot(*ahead) and far < 7


def _beside(made: Scene, side: int, u: float, y: float, away: float) -> tuple[Floats, Floats]:
    """The turn and the place of what has a wall in its back: u along the wall, y above the floor, so far away."""
    w, _, d = made.room
    x, z = ((u, away), (away, u), (u, d - away), (w - away, u))[side]
    return about(1, side * np.pi / 2).round(12), np.array([x, y, z])


def _at_wall(rng: RandomState, made: Scene, thing: Thing, y: float = 0.0) -> tuple[Floats, Floats] | None:
    """Put something with its back at a wall, rather in view; where it is then, or None."""
    away = thing.size[2] / 2 + (rng.uniform(0.0, 0.05) if y == 0 and thing.size[2] > 0.1 else 0.0)
    for _ in range(40):
        side = rng.randint(4)
        along = made.room[2 * (side % 2)]
        if along < thing.size[0]:
            continue
        u = rng.uniform(thing.size[0] / 2, along - thing.size[0] / 2)
        turn, place = _beside(made, side, u, y, away)
        if (_in_view(made, place[0], place[2]) or rng.uniform() < 0.12) and _put(made, thing, turn, place):
            _furnish(rng, made, thing, turn, place)
            return turn, place
    return None


def _anywhere(rng: RandomState, made: Scene, maker: Maker) -> None:
    """Put something somewhere; chairs come to tables."""
    thing = maker(rng)
    w, _, d = made.room
    for _ in range(40):
        x, z = rng.uniform(0.3, w - 0.3), rng.uniform(0.3, d - 0.3)
        angle = rng.randint(4) * np.pi / 2 if maker in (f.table, f.sofa) else rng.uniform(-np.pi, np.pi)
        turn, place = about(1, angle), np.array([x, 0.0, z])
        if (_in_view(made, x, z) or rng.uniform() < 0.12) and _put(made, thing, turn, place):
            _furnish(rng, made, thing, turn, place)
            if maker is f.table:
                _seats(rng, made, thing, turn, place)
            return


def _seats(rng: RandomState, made: Scene, thing: Thing, turn: Floats, place: Floats) -> None:
    """Chairs of one kind around a table."""
    state = rng.randint(1 << 30)
    w, _, d = thing.size
    for side in range(4):
        along, reach = (w, d / 2) if side % 2 == 0 else (d, w / 2)
        for at in (-along / 4, along / 4) if along > 1.2 else (0.0,):
            if rng.uniform() < 0.7:
                seat = f.chair(RandomState(state))
                local = np.array([at, 0, -reach - seat.size[2] / 2 - rng.uniform(0.02, 0.25)])
                around = about(1, side * np.pi / 2)
                facing = product(turn, product(around, about(1, rng.uniform(-0.2, 0.2))))
                _put(made, seat, facing, product(turn, product(around, local)) + place)


def _furnish(rng: RandomState, made: Scene, thing: Thing, turn: Floats, place: Floats) -> None:
    """Small things on its tops, from left to right."""
    for top in thing.tops:
        x = top.x[0]
        while x < top.x[1] - 0.1:
            x += rng.uniform(0.02, 0.35)
            it = objects.small(rng, top.x[1] - x, top.z[1] - top.z[0], top.room)
            if it is not None:
                reach = it.size[2] / 2
                local = np.array([x + it.size[0] / 2, top.y, rng.uniform(top.z[0] + reach, top.z[1] - reach)])
                made.pieces += [piece.moved(turn, product(turn, local) + place) for piece in it.pieces]
                x += it.size[0]
