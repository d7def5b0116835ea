"""Furniture, made of boxes. Its frame: x to its right, y up from the floor, z to its front, the origin amid it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

from ..views import CLASSES
from .casting import BALL, BOX, ROD, Part, Piece, about
from .materials import (
    DARKS,
    PAINTING,
    PAINTS,
    PANELS,
    PLAIN,
    SPINES,
    Material,
    any_of,
    cloth,
    darker,
    doors,
    patterned,
    plain,
    wood,
)  # fmt: skip

BED, BOOKS, CEILING, CHAIR, FLOOR, FURNITURE, OBJECTS, PICTURE, SOFA, TABLE, TV, WALL, WINDOW = range(len(CLASSES))


class Top(NamedTuple):
    """A level surface that things can stand on."""

    x: tuple[float, float]
    z: tuple[float, float]
    y: float
    room: float
    """Height above it, metres."""


@dataclass
class Thing:
    """Something to be placed in a room as a whole."""

    size: tuple[float, float, float]
    """Width, height and depth of the cuboid that it keeps free, metres."""
    pieces: list[Piece] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)


def still(parts: Sequence[Part], turn: np.ndarray | None = None, place: Sequence[float] = (0, 0, 0)) -> Piece:
    """A piece of a thing."""
    return Piece(tuple(parts), np.eye(3) if turn is None else turn, np.array(place, float))


def block(
    label: int,
    material: Material,
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    shape: int = BOX,
) -> Part:
    """A part by its extent along each axis."""
    return Part(label, material, (x[0], y[0], z[0]), (x[1], y[1], z[1]), shape)


def middle(width: float, at: float = 0.0) -> tuple[float, float]:
    """The interval of this width about `at`."""
    return at - width / 2, at + width / 2


def legs(label: int, material: Material, w: float, d: float, h: float, thick: float) -> list[Part]:
    """Four legs at the corners of w by d."""
    x, z = (w - thick) / 2, (d - thick) / 2
    return [
        block(label, material, middle(thick, i * x), (0, h), middle(thick, j * z)) for i in (-1, 1) for j in (-1, 1)
    ]


def bed(rng: RandomState) -> Thing:
    """Frame, mattress, blanket, headboard, pillows."""
    w, d, h = rng.uniform(0.9, 1.9), rng.uniform(1.95, 2.15), rng.uniform(0.38, 0.6)
    frame, sheet, blanket = wood(rng), cloth(rng), cloth(rng, 0.4)
    head = rng.uniform(0.75, 1.25)
    fold = -d / 2 + rng.uniform(0.5, 0.85)
    parts = [
        block(BED, frame, middle(w), (0.0 if rng.uniform() < 0.5 else 0.1, h * 0.55), middle(d)),
        block(BED, sheet, middle(w - 0.04), (h * 0.55, h), middle(d - 0.04)),
        block(BED, blanket, middle(w + 0.02), (h * rng.uniform(0.2, 0.6), h + 0.03), (fold, d / 2 + 0.01)),
        block(BED, frame, middle(w + 0.04), (0, head), (-d / 2 - 0.05, -d / 2 + 0.02)),
    ]
    if rng.uniform() < 0.3:
        parts.append(block(BED, frame, middle(w + 0.04), (0, h + rng.uniform(0.05, 0.3)), (d / 2 + 0.01, d / 2 + 0.05)))
    pieces = [still(parts)]
    cover = cloth(rng, 0.4)
    number = 1 if w < 1.2 else 2
    for n in range(number):
        x = (n - (number - 1) / 2) * w / number
        pillow = block(BED, cover, middle(min(0.7, w / number - 0.08)), (0, 0.18), middle(0.45), BALL)
        place = (x, h - 0.02, -d / 2 + rng.uniform(0.27, 0.33))
        pieces.append(still([pillow], about(1, rng.uniform(-0.2, 0.2)), place))
    on = [Top((-w / 2.5, w / 2.5), (fold, d / 2 - 0.1), h + 0.03, 0.3)] if rng.uniform() < 0.4 else []
    return Thing((w + 0.04, head, d + 0.1), pieces, on)


def sofa(rng: RandomState) -> Thing:
    """Base, cushions, a back that leans, arms, loose cushions."""
    seats = rng.randint(2, 4)
    arm, d = rng.uniform(0.1, 0.24), rng.uniform(0.8, 1.0)
    w = seats * rng.uniform(0.52, 0.72) + 2 * arm
    return _seating(rng, SOFA, seats, w, d, arm)


def armchair(rng: RandomState) -> Thing:
    """A sofa for one, which is a chair."""
    arm = rng.uniform(0.1, 0.2)
    return _seating(rng, CHAIR, 1, rng.uniform(0.5, 0.62) + 2 * arm, rng.uniform(0.7, 0.9), arm)


def _seating(rng: RandomState, label: int, seats: int, w: float, d: float, arm: float) -> Thing:
    seat, back, height = rng.uniform(0.36, 0.46), rng.uniform(0.72, 0.95), rng.uniform(0.52, 0.66)
    cover = cloth(rng)
    cushion = cover if rng.uniform() < 0.6 else cloth(rng)
    inner = w - 2 * arm
    parts = [
        block(label, cover, middle(inner), (0.06, seat - 0.12), middle(d - 0.02)),
        block(label, cover, (-w / 2, -w / 2 + arm), (0.03, height), middle(d)),
        block(label, cover, (w / 2 - arm, w / 2), (0.03, height), middle(d)),
    ]
    wide = inner / seats
    for n in range(seats):
        x = (n - (seats - 1) / 2) * wide
        parts.append(block(label, cushion, middle(wide - 0.02, x), (seat - 0.12, seat), (-d / 2 + 0.15, d / 2 + 0.01)))
    leaning = [
        block(label, cushion, middle(wide - 0.02, (n - (seats - 1) / 2) * wide), (0.1, back - 0.1), (-0.02, 0.16))
        for n in range(seats)
    ] + [block(label, cover, middle(inner), (0, back - 0.05), (-0.08, 0.02))]
    pieces = [still(parts), still(leaning, about(0, -rng.uniform(0.1, 0.25)), (0, 0.05, -d / 2 + 0.3))]
    for _ in range(rng.randint(0, seats + 1)):
        size = rng.uniform(0.35, 0.48)
        loose = block(label, cloth(rng, 0.6), middle(size), (0, size), middle(0.16), BALL)
        x = rng.uniform(-inner / 2 + size / 2, inner / 2 - size / 2) if inner > size else 0.0
        pieces.append(still([loose], about(0, -0.4), (x, seat - 0.01, -d / 2 + 0.46)))
    return Thing((w, back, d + 0.04), pieces)


def chair(rng: RandomState) -> Thing:
    """Seat, back and four legs."""
    w, d, seat = rng.uniform(0.4, 0.5), rng.uniform(0.4, 0.5), rng.uniform(0.43, 0.48)
    back = rng.uniform(0.78, 1.05)
    frame = wood(rng, 0.25)
    cover = cloth(rng) if rng.uniform() < 0.5 else frame
    parts = legs(CHAIR, frame, w, d, seat - 0.03, 0.04)
    parts.append(block(CHAIR, cover, middle(w), (seat - 0.05, seat), middle(d)))
    if rng.uniform() < 0.25:
        parts += [block(CHAIR, frame, middle(0.04, x), (seat + 0.17, seat + 0.21), middle(d)) for x in (-w / 2, w / 2)]
    rest = [block(CHAIR, frame, middle(0.04, x), (0, back - seat), middle(0.04)) for x in (-w / 2 + 0.02, w / 2 - 0.02)]
    if rng.uniform() < 0.5:
        rest.append(block(CHAIR, cover, middle(w), (0.12, back - seat), middle(0.05)))
    else:
        rest += [block(CHAIR, frame, middle(w), (y, y + 0.07), middle(0.03)) for y in (0.12, 0.25, back - seat - 0.08)]
    lean = rng.uniform(0, 0.2)
    leaning = still(rest, about(0, -lean), (0, seat, -d / 2 + 0.03))
    return Thing((w + 0.04, back, d + 2 * lean * (back - seat)), [still(parts), leaning])


def _arms(material: Material, w: float, d: float, seat: float) -> list[Part]:
    return [
        block(CHAIR, material, middle(0.04, x), y, z)
        for x in (-w / 2, w / 2)
        for y, z in (((seat + 0.17, seat + 0.21), middle(0.9 * d)), ((seat - 0.04, seat + 0.18), middle(0.04, 0.2 * d)))
    ]


def office_chair(rng: RandomState) -> Thing:
    """Seat and back on a column with a cross."""
    w, seat, back = rng.uniform(0.46, 0.54), rng.uniform(0.43, 0.52), rng.uniform(0.85, 1.15)
    cover, metal = cloth(rng), plain(rng, DARKS, 0.3, 0.3)
    foot = [
        block(CHAIR, metal, middle(0.6), (0.03, 0.08), middle(0.05)),
        block(CHAIR, metal, middle(0.05), (0.03, 0.08), middle(0.6)),
        block(CHAIR, metal, middle(0.07), (0.05, seat), middle(0.07), ROD),
        block(CHAIR, cover, middle(w), (seat - 0.08, seat), middle(w)),
        *(_arms(metal, w, w, seat) if rng.uniform() < 0.6 else ()),
    ]
    rest = [block(CHAIR, cover, middle(w - 0.04), (0.1, back - seat), middle(0.07))]
    return Thing((0.62, back, 0.72), [still(foot), still(rest, about(0, -0.15), (0, seat, -w / 2))])


def table(rng: RandomState) -> Thing:
    """A dining table, with legs or round on a column."""
    w, d, h = rng.uniform(0.9, 2.0), rng.uniform(0.75, 1.05), rng.uniform(0.7, 0.78)
    return _table(rng, w, d, h, round_=rng.uniform() < 0.25)


def coffee_table(rng: RandomState) -> Thing:
    """A low table."""
    return _table(rng, rng.uniform(0.7, 1.3), rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.5), rng.uniform() < 0.2)


def desk(rng: RandomState) -> Thing:
    """A table with sides, or with drawers below; what it needs at a wall."""
    w, d, h = rng.uniform(1.0, 1.8), rng.uniform(0.55, 0.8), rng.uniform(0.7, 0.78)
    if rng.uniform() < 0.4:
        return _table(rng, w, d, h, round_=False)
    made = wood(rng)
    parts = [
        block(TABLE, made, middle(w), (h - 0.04, h), middle(d)),
        block(TABLE, made, (-w / 2, -w / 2 + 0.03), (0, h - 0.04), middle(d - 0.04)),
        block(TABLE, made, middle(w - 0.06), (h * 0.4, h - 0.04), (-d / 2 + 0.03, -d / 2 + 0.05)),
    ]
    drawers = made._replace(pattern=PANELS, second=darker(made.colour, 0.3), scale=0.25)
    parts.append(block(TABLE, drawers, (w / 2 - 0.4, w / 2), (0, h - 0.04), middle(d - 0.04)))
    return Thing((w, h, d), [still(parts)], [Top((-w / 2, w / 2), (-d / 2, d / 2), h, 1.0)])


def _table(rng: RandomState, w: float, d: float, h: float, round_: bool) -> Thing:
    made = wood(rng, 0.2)
    thick = rng.uniform(0.025, 0.06)
    if round_:
        w = d = max(d, 0.7)
        parts = [
            block(TABLE, made, middle(w), (h - thick, h), middle(w), ROD),
            block(TABLE, made, middle(0.12), (0, h - thick), middle(0.12), ROD),
            block(TABLE, made, middle(w * 0.5), (0, 0.04), middle(w * 0.5), ROD),
        ]
        return Thing((w, h, w), [still(parts)], [Top((-w / 3, w / 3), (-w / 3, w / 3), h, 1.0)])
    under = made if rng.uniform() < 0.7 else wood(rng)
    parts = [
        block(TABLE, made, middle(w), (h - thick, h), middle(d)),
        *legs(TABLE, under, w - 0.06, d - 0.06, h - thick, rng.uniform(0.04, 0.09)),
    ]
    if rng.uniform() < 0.4:
        parts.append(block(TABLE, under, middle(w - 0.14), (h - thick - 0.08, h - thick), middle(d - 0.14)))
    return Thing((w, h, d), [still(parts)], [Top((-w / 2, w / 2), (-d / 2, d / 2), h, 1.0)])


def _cabinet(rng: RandomState, w: float, h: float, d: float, scale: float, room: float = 0.8) -> Thing:
    front = doors(rng, scale)
    body = front._replace(pattern=PLAIN)
    foot = rng.uniform(0.0, 0.1)
    parts = [
        block(FURNITURE, body, middle(w), (foot, h), (-d / 2, d / 2 - 0.02)),
        block(FURNITURE, front, middle(w - 0.02), (foot + 0.02, h - 0.03), (d / 2 - 0.02, d / 2)),
        block(FURNITURE, body, middle(w + 0.02), (h - 0.03, h), (-d / 2, d / 2 + 0.01)),
    ]
    if foot > 0.03:
        parts += legs(FURNITURE, body, w - 0.04, d - 0.04, foot, 0.05)
    return Thing((w + 0.02, h, d + 0.02), [still(parts)], [Top((-w / 2, w / 2), (-d / 2, d / 2), h, room)])


def cabinet(rng: RandomState) -> Thing:
    """A low cabinet, a dresser or a sideboard."""
    return _cabinet(
        rng, rng.uniform(0.7, 1.8), rng.uniform(0.65, 1.15), rng.uniform(0.38, 0.55), rng.uniform(0.25, 0.5)
    )


def wardrobe(rng: RandomState) -> Thing:
    """A cabinet as high as a person."""
    return _cabinet(
        rng, rng.uniform(0.8, 1.8), rng.uniform(1.75, 2.2), rng.uniform(0.5, 0.62), rng.uniform(0.45, 1.0), 0
    )


def nightstand(rng: RandomState) -> Thing:
    """A small cabinet."""
    return _cabinet(rng, rng.uniform(0.4, 0.55), rng.uniform(0.45, 0.65), rng.uniform(0.35, 0.45), 0.22)


def stand(rng: RandomState) -> Thing:
    """A low cabinet with a television on it."""
    made = _cabinet(rng, rng.uniform(1.0, 1.7), rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.5), rng.uniform(0.3, 0.5))
    w, h = made.size[0], made.size[1]
    wide = rng.uniform(0.7, min(1.25, w))
    made.pieces += screen(rng, wide, turn=about(1, rng.uniform(-0.15, 0.15)), place=(0, h, 0))
    end = w / 2 - wide / 2 - 0.05
    made.tops = [Top((-w / 2, -w / 2 + end), (-0.15, 0.15), h, 0.4)] if end > 0.15 else []
    return Thing((w, h + wide * 0.7, made.size[2]), made.pieces, made.tops)


def screen(rng: RandomState, wide: float, turn: np.ndarray, place: Sequence[float]) -> list[Piece]:
    """A television or a monitor on its foot."""
    dark = plain(rng, DARKS, 0.05, 0.4)
    high = wide * rng.uniform(0.56, 0.66)
    lift = 0.04 + 0.08 * wide
    parts = [
        block(TV, dark, middle(wide * 0.4), (0, 0.02), middle(0.16)),
        block(TV, dark, middle(wide * 0.1), (0, lift + 0.05), middle(0.04)),
        block(TV, dark, middle(wide), (lift, lift + high), middle(0.06)),
        block(TV, picture_on(rng), middle(wide - 0.05), (lift + 0.025, lift + high - 0.025), (0.02, 0.034)),
    ]
    return [still(parts, turn, place)]


def picture_on(rng: RandomState) -> Material:
    """What a screen shows; most are off."""
    if rng.uniform() < 0.55:
        return plain(rng, DARKS, 0.0)._replace(gloss=0.6)
    return patterned(rng, PAINTING, PAINTS, rng.uniform(0.08, 0.3), 0.8, glow=rng.uniform(0.3, 0.9))


def shelf(rng: RandomState) -> Thing:
    """Open boards with books and objects between them."""
    w, h, d = rng.uniform(0.6, 1.6), rng.uniform(0.9, 2.1), rng.uniform(0.26, 0.36)
    made = wood(rng)
    thick, number = 0.03, max(2, round(h / rng.uniform(0.32, 0.42)))
    levels = np.linspace(thick, h, number + 1)
    parts = [
        block(FURNITURE, made, (-w / 2, -w / 2 + thick), (0, h), middle(d)),
        block(FURNITURE, made, (w / 2 - thick, w / 2), (0, h), middle(d)),
        *(block(FURNITURE, made, middle(w - thick), (y - thick, y), middle(d)) for y in levels),
    ]
    if rng.uniform() < 0.75:
        parts.append(block(FURNITURE, made, middle(w), (0, h), (-d / 2, -d / 2 + 0.01)))
    full = rng.uniform(0.3, 1.0)
    pieces = [still(parts)]
    tops = [Top((-w / 2, w / 2), (-d / 2, d / 2), h, 0.5)]
    for y, above in itertools.pairwise(levels.tolist()):
        room, left = above - y - thick, -w / 2 + thick
        while left < w / 2 - 0.15:
            wide = min(rng.uniform(0.15, 0.7), w / 2 - thick - left)
            if rng.uniform() < full:
                pieces.append(still([books_row(rng, (left, left + wide), y, room, d)]))
            elif rng.uniform() < 0.5 and wide > 0.12:
                tops.append(Top((left, left + wide), (-d / 2 + 0.02, d / 2), y, room - 0.02))
            left += wide + 0.005
    return Thing((w, h, d), pieces, tops)


def books_row(rng: RandomState, x: tuple[float, float], y: float, room: float, d: float) -> Part:
    """Books side by side."""
    high = min(rng.uniform(0.18, 0.31), room - 0.02)
    back = -d / 2 + 0.02
    return block(BOOKS, spines(rng), x, (y, y + high), (back, back + min(rng.uniform(0.15, 0.24), d - 0.04)))


def spines(rng: RandomState) -> Material:
    """The backs of books."""
    return patterned(rng, SPINES, PAINTS, rng.uniform(0.025, 0.055), 0.8)


def counter(rng: RandomState) -> Thing:
    """A kitchen's counter with cabinets above it."""
    low = _cabinet(rng, rng.uniform(1.2, 2.6), rng.uniform(0.86, 0.95), rng.uniform(0.55, 0.65), rng.uniform(0.4, 0.6))
    w, h, d = low.size
    if rng.uniform() < 0.65:
        low.tops = [low.tops[0]._replace(room=0.45)]
        front = doors(rng, rng.uniform(0.35, 0.5))
        body = front._replace(pattern=PLAIN)
        bottom, top = h + 0.5, h + rng.uniform(0.95, 1.2)
        upper = [
            block(FURNITURE, body, middle(w), (bottom, top), (-d / 2, -d / 2 + 0.33)),
            block(FURNITURE, front, middle(w), (bottom, top), (-d / 2 + 0.33, -d / 2 + 0.35)),
        ]
        return Thing((w, top, d), [*low.pieces, still(upper)], low.tops)
    return low


def floor_lamp(rng: RandomState) -> Thing:
    """A lamp on a pole; it is an object."""
    h, r = rng.uniform(1.3, 1.7), rng.uniform(0.3, 0.45)
    pole = plain(rng, DARKS, 0.4, 0.3)
    shade = any_of(rng)._replace(glow=rng.choice([0.0, 1.2]))
    parts = [
        block(OBJECTS, pole, middle(0.28), (0, 0.03), middle(0.28), ROD),
        block(OBJECTS, pole, middle(0.03), (0, h - 0.2), middle(0.03), ROD),
        block(OBJECTS, shade, middle(r), (h - 0.3, h), middle(r), ROD),
    ]
    return Thing((r, h, r), [still(parts)])


Maker = Callable[[RandomState], Thing]
