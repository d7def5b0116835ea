"""Small things: on tables, on cabinets, on the floor and on walls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import RandomState

from .casting import BALL, ROD, Part, about
from .furniture import (
    BOOKS,
    FURNITURE,
    OBJECTS,
    PICTURE,
    TV,
    WALL,
    WINDOW,
    Thing,
    Top,
    block,
    books_row,
    middle,
    picture_on,
    screen,
    spines,
    still,
)  # fmt: skip
from .materials import (
    CHECKS,
    DARKS,
    OUTDOORS,
    PAINTING,
    PAINTS,
    PANELS,
    ROUGH,
    SLATS,
    STONES,
    STRIPES,
    WOODS,
    Material,
    any_of,
    darker,
    patterned,
    plain,
    wood,
)  # fmt: skip

GREENS = ((0.08, 0.2, 0.05), (0.14, 0.28, 0.08), (0.2, 0.26, 0.1))


def small(rng: RandomState, width: float, depth: float, room: float) -> Thing | None:
    """Something to stand on a top of this size, or nothing where there is no room."""
    if min(width, depth) < 0.1 or room < 0.12:
        return None
    makers = (_box, _vase, _bottle, _ball, _plant, _lamp, _pile, _row, _pile, _monitor, _frame)
    thing = makers[rng.randint(len(makers))](rng)
    return thing if thing.size[0] <= width and thing.size[2] <= depth and thing.size[1] <= room else None


def clutter(rng: RandomState) -> Thing:
    """Something to stand on the floor."""
    makers = (_carton, _bin, _big_plant, _football, _pile, _bag, _carton)
    return makers[rng.randint(len(makers))](rng)


def _sized(parts: list[Part], angle: float = 0.0) -> Thing:
    low = np.min([part.low for part in parts], 0)
    high = np.max([part.high for part in parts], 0)
    reach = np.maximum(high, -low)
    w, d = 2 * reach[0], 2 * reach[2]
    c, s = abs(np.cos(angle)), abs(np.sin(angle))
    return Thing((w * c + d * s, reach[1], w * s + d * c), [still(parts, about(1, angle))])


def _box(rng: RandomState) -> Thing:
    w, h, d = rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.25), rng.uniform(0.08, 0.25)
    return _sized([block(OBJECTS, any_of(rng), middle(w), (0, h), middle(d))], rng.uniform(-0.8, 0.8))


def _carton(rng: RandomState) -> Thing:
    w, h, d = rng.uniform(0.25, 0.6), rng.uniform(0.2, 0.55), rng.uniform(0.25, 0.5)
    cover = any_of(rng) if rng.uniform() < 0.5 else wood(rng)
    return _sized([block(OBJECTS, cover, middle(w), (0, h), middle(d))], rng.uniform(-0.8, 0.8))


def _vase(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.1, 0.2), rng.uniform(0.12, 0.3)
    cover = any_of(rng, 0.6)
    neck = block(OBJECTS, cover, middle(r * 0.5), (h * 0.6, h * 1.2), middle(r * 0.5), ROD)
    return _sized([block(OBJECTS, cover, middle(r), (0, h), middle(r), BALL), neck])


def _bottle(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.06, 0.11), rng.uniform(0.1, 0.3)
    return _sized([block(OBJECTS, any_of(rng, 0.6), middle(r), (0, h), middle(r), ROD)])


def _ball(rng: RandomState) -> Thing:
    r = rng.uniform(0.08, 0.22)
    return _sized([block(OBJECTS, any_of(rng, 0.6), middle(r), (0, r), middle(r), BALL)])


def _football(rng: RandomState) -> Thing:
    r = rng.uniform(0.2, 0.55)
    return _sized([block(OBJECTS, any_of(rng, 0.6), middle(r), (0, r), middle(r), BALL)])


def _bin(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.22, 0.36), rng.uniform(0.28, 0.6)
    return _sized([block(OBJECTS, any_of(rng), middle(r), (0, h), middle(r), ROD)])


def _bag(rng: RandomState) -> Thing:
    w, h, d = rng.uniform(0.3, 0.45), rng.uniform(0.3, 0.5), rng.uniform(0.18, 0.3)
    return _sized([block(OBJECTS, any_of(rng, 0.1), middle(w), (0, h), middle(d), BALL)], rng.uniform(-0.8, 0.8))


def _leaves(rng: RandomState, r: float, low: float, high: float) -> list[Part]:
    green = patterned(rng, ROUGH, GREENS, 0.05, 0.1)
    return [
        block(OBJECTS, green, middle(r * q, r * x), (low, low + (high - low) * y), middle(r * q, r * z), BALL)
        for q, x, y, z in zip(
            rng.uniform(0.5, 0.9, 3), rng.uniform(-0.3, 0.3, 3), rng.uniform(0.6, 1.0, 3), rng.uniform(-0.3, 0.3, 3),
            strict=True,
        )
    ]  # fmt: skip


def _plant(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.1, 0.18), rng.uniform(0.1, 0.16)
    pot = block(OBJECTS, any_of(rng), middle(r), (0, h), middle(r), ROD)
    return _sized([pot, *_leaves(rng, 1.6 * r, h * 0.9, h + rng.uniform(0.12, 0.3))])


def _big_plant(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.22, 0.36), rng.uniform(0.22, 0.4)
    pot = block(OBJECTS, any_of(rng), middle(r), (0, h), middle(r), ROD)
    return _sized([pot, *_leaves(rng, rng.uniform(1.5, 2.2) * r, h * 0.9, h + rng.uniform(0.4, 1.0))])


def _lamp(rng: RandomState) -> Thing:
    r, h = rng.uniform(0.2, 0.34), rng.uniform(0.32, 0.52)
    foot = any_of(rng, 0.5)
    shade = any_of(rng)._replace(glow=float(rng.choice([0.0, 1.0])))
    return _sized(
        [
            block(OBJECTS, foot, middle(r * 0.5), (0, h * 0.6), middle(r * 0.5), BALL if rng.uniform() < 0.5 else ROD),
            block(OBJECTS, shade, middle(r), (h * 0.55, h), middle(r), ROD),
        ]
    )


def _pile(rng: RandomState) -> Thing:
    """Books on each other."""
    pieces, y, reach = [], 0.0, 0.0
    for _ in range(rng.randint(1, 7)):
        w, d, h = rng.uniform(0.15, 0.24), rng.uniform(0.2, 0.31), rng.uniform(0.02, 0.06)
        cover = block(BOOKS, plain(rng, PAINTS, 0.8), middle(w), (0, h), middle(d))
        pieces.append(still([cover], about(1, rng.uniform(-0.4, 0.4)), (0, y, 0)))
        y, reach = y + h, max(reach, float(np.hypot(w, d)))
    return Thing((reach, y, reach), pieces)


def _row(rng: RandomState) -> Thing:
    """Books side by side."""
    w, h, d = rng.uniform(0.15, 0.5), rng.uniform(0.18, 0.3), rng.uniform(0.14, 0.2)
    return _sized([block(BOOKS, spines(rng), middle(w), (0, h), middle(d))], rng.uniform(-0.2, 0.2))


def _monitor(rng: RandomState) -> Thing:
    wide = rng.uniform(0.4, 0.62)
    return Thing((wide, wide * 0.8, 0.2), screen(rng, wide, about(1, rng.uniform(-0.3, 0.3)), (0, 0, 0)))


def _frame(rng: RandomState) -> Thing:
    """A photograph that stands."""
    w, h = rng.uniform(0.12, 0.25), rng.uniform(0.15, 0.3)
    parts = [
        block(PICTURE, wood(rng, 0.4), middle(w), (0, h), middle(0.02)),
        block(PICTURE, painting(rng), middle(w - 0.03), (0.015, h - 0.015), (0.01, 0.014)),
    ]
    return Thing((w, h, 0.14), [still(parts, about(0, -0.25), (0, 0.01, 0.02))])


def painting(rng: RandomState) -> Material:
    """What is on a picture: a landscape, blots, stripes or checks."""
    kind = int(rng.choice([PAINTING, PAINTING, PAINTING, OUTDOORS, OUTDOORS, STRIPES, CHECKS]))
    return patterned(rng, kind, PAINTS, rng.uniform(0.08, 0.3), 0.8)


def picture(rng: RandomState) -> Thing:
    """A framed picture; its frame is as for all things at a wall: z = -d/2 is the wall."""
    w, h = rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.9)
    edge = rng.uniform(0.015, 0.06)
    parts = [
        block(PICTURE, wood(rng, 0.4), middle(w), (0, h), middle(0.03)),
        block(PICTURE, painting(rng), middle(w - 2 * edge), (edge, h - edge), (0.015, 0.02)),
    ]
    if rng.uniform() < 0.3:
        mat = plain(rng, PAINTS[:2], 0.2)
        inner = edge + rng.uniform(0.04, 0.1)
        parts[1] = block(PICTURE, mat, middle(w - 2 * edge), (edge, h - edge), (0.015, 0.018))
        parts.append(block(PICTURE, painting(rng), middle(w - 2 * inner), (inner, h - inner), (0.015, 0.02)))
    return Thing((w, h, 0.04), [still(parts)])


def window(rng: RandomState) -> Thing:
    """Pane, frame and bars; some have blinds. It is hung from y = 0 upwards."""
    w, h = rng.uniform(0.6, 1.7), rng.uniform(0.8, 1.4)
    frame = plain(rng, PAINTS[:1] + WOODS, 0.1)
    glow = rng.uniform(0.6, 1.6) if rng.uniform() < 0.8 else 0.03
    pane = patterned(rng, OUTDOORS, ((0.5, 0.6, 0.75), (0.3, 0.35, 0.3), (0.7, 0.72, 0.75)), h, 0.1, glow)
    if rng.uniform() < 0.3:
        pane = patterned(rng, SLATS, PAINTS, rng.uniform(0.05, 0.12), 0.1, glow * 0.5)
    t = rng.uniform(0.04, 0.08)
    bars = [
        block(WINDOW, pane, middle(w), (0, h), middle(0.02)),
        block(WINDOW, frame, (-w / 2 - t, -w / 2), (-t, h + t), middle(0.06)),
        block(WINDOW, frame, (w / 2, w / 2 + t), (-t, h + t), middle(0.06)),
        block(WINDOW, frame, middle(w), (h, h + t), middle(0.06)),
        block(WINDOW, frame, middle(w), (-t, 0), (-0.03, rng.uniform(0.03, 0.14))),
    ]
    bars += [block(WINDOW, frame, middle(0.04, x * w), (0, h), (0, 0.03)) for x in _bars(rng)]
    bars += [block(WINDOW, frame, middle(w), middle(0.03, y * h + h / 2), (0, 0.03)) for y in _bars(rng)]
    return Thing((w + 2 * t, h + t, 0.06), [still(bars)])


def _bars(rng: RandomState) -> list[float]:
    return [[], [0.0], [-1 / 6, 1 / 6]][rng.randint(3)]


def wall_screen(rng: RandomState) -> Thing:
    """A television on the wall."""
    w = rng.uniform(0.8, 1.4)
    h = w * 0.58
    parts = [
        block(TV, plain(rng, DARKS, 0.05, 0.4), middle(w), (0, h), middle(0.08)),
        block(TV, picture_on(rng), middle(w - 0.05), (0.025, h - 0.025), (0.04, 0.045)),
    ]
    return Thing((w, h, 0.09), [still(parts)])


def door(rng: RandomState) -> Thing:
    """A closed door; it belongs to the wall."""
    w, h = rng.uniform(0.8, 0.95), rng.uniform(1.98, 2.1)
    leaf = wood(rng)
    leaf = leaf._replace(pattern=PANELS, scale=rng.uniform(0.5, 1.0), second=darker(leaf.colour, 0.6), strength=0.7)
    frame = wood(rng) if rng.uniform() < 0.5 else plain(rng, PAINTS[:1])
    parts = [
        block(WALL, leaf, middle(w), (0, h), middle(0.03)),
        block(WALL, frame, (-w / 2 - 0.07, -w / 2), (0, h + 0.07), middle(0.05)),
        block(WALL, frame, (w / 2, w / 2 + 0.07), (0, h + 0.07), middle(0.05)),
        block(WALL, frame, middle(w), (h, h + 0.07), middle(0.05)),
        block(WALL, plain(rng, STONES, 0, 0.5), middle(0.1, w / 2 - 0.1), middle(0.03, 1.0), (0.01, 0.06)),
    ]
    return Thing((w + 0.14, h + 0.07, 0.05), [still(parts)])


def board(rng: RandomState) -> Thing:
    """A shelf of one board on the wall, with its books."""
    w, d = rng.uniform(0.5, 1.3), rng.uniform(0.2, 0.28)
    parts = [block(FURNITURE, wood(rng), middle(w), (0, 0.03), middle(d))]
    cut = rng.uniform(-w / 2 + 0.1, w / 2 - 0.1)
    if rng.uniform() < 0.8:
        parts.append(books_row(rng, (-w / 2 + 0.02, cut), 0.03, 0.4, d))
    return Thing((w, 0.35, d), [still(parts)], [Top((cut + 0.02, w / 2), (-d / 2, d / 2), 0.03, 0.3)])


def ceiling_lamp(rng: RandomState, height: float, on: bool) -> Thing:
    """A lamp that hangs from the ceiling; it is an object. Its frame begins at the floor as for furniture."""
    drop, r = rng.uniform(0.05, 0.6), rng.uniform(0.25, 0.5)
    shade = plain(rng, PAINTS[:2], 0.2)._replace(glow=1.6 if on else 0.0)
    flat = rng.uniform(0.12, 0.3)
    low = height - drop - flat
    parts = [block(OBJECTS, shade, middle(r), (low, low + flat), middle(r), BALL if rng.uniform() < 0.5 else ROD)]
    if drop > 0.1:
        parts.append(block(OBJECTS, plain(rng, DARKS), middle(0.025), (low + flat - 0.02, height), middle(0.025), ROD))
    return Thing((r, height, r), [replace(still(parts), casts=False)])  # the light is about it, not below it
