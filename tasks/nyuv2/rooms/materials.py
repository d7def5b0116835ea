"""What surfaces are made of: colours, the patterns on them, and what is typical of which class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

PLAIN, GRAIN, CHECKS, STRIPES, ROUGH, BOARDS, PANELS, SPINES, PAINTING, OUTDOORS, SLATS = range(11)
"""Patterns: none; wood; checks; stripes; plaster and cloth; boards and tiles; doors and drawers; the backs of books;
a picture; what is seen through a window; blinds."""

Colour = tuple[float, float, float]
"""Linear red, green and blue, 0 to 1."""


class Material(NamedTuple):
    """How a surface looks."""

    colour: Colour
    second: Colour
    """What the pattern mixes in."""
    pattern: int = PLAIN
    scale: float = 1.0
    """Length of one period of the pattern, metres."""
    strength: float = 1.0
    """How much of the second colour is mixed in at most."""
    turned: bool = False
    """Whether the pattern runs the other way."""
    glow: float = 0.0
    """Light that it gives, in units of its colour."""
    gloss: float = 0.0
    """Strength of highlights."""
    seed: int = 0
    """Of the pattern's noise."""


WOODS: tuple[Colour, ...] = (
    (0.50, 0.32, 0.16), (0.36, 0.19, 0.09), (0.22, 0.11, 0.06), (0.62, 0.46, 0.28), (0.42, 0.16, 0.08),
    (0.10, 0.07, 0.05), (0.75, 0.72, 0.66),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (0.78, 0.77, 0.74), (0.70, 0.64, 0.50), (0.55, 0.60, 0.62), (0.62, 0.50, 0.40), (0.50, 0.58, 0.45),
    (0.66, 0.42, 0.34), (0.36, 0.44, 0.56), (0.74, 0.68, 0.38), (0.40, 0.38, 0.37),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (0.24, 0.23, 0.24), (0.46, 0.38, 0.29), (0.12, 0.15, 0.28), (0.36, 0.09, 0.09), (0.10, 0.09, 0.09),
    (0.60, 0.56, 0.48), (0.20, 0.28, 0.18), (0.22, 0.12, 0.07), (0.70, 0.70, 0.72), (0.30, 0.38, 0.46),
)  # fmt: skip
STONES: tuple[Colour, ...] = ((0.62, 0.58, 0.52), (0.40, 0.40, 0.41), (0.70, 0.70, 0.68), (0.50, 0.36, 0.28))
DARKS: tuple[Colour, ...] = ((0.02, 0.02, 0.02), (0.04, 0.04, 0.05), (0.07, 0.07, 0.07))


def shade(rng: RandomState, palette: Sequence[Colour], odd: float = 0.15) -> Colour:
    """A colour near one of the palette; any colour, most of them not bright, in a share `odd` of cases."""
    near = np.array(palette[rng.randint(len(palette))])
    mixed = near * rng.uniform(0.7, 1.3) * (1 + 0.12 * rng.standard_normal(3)) + 0.01 * rng.standard_normal(3)
    free = rng.uniform(0.03, 0.75, 3)
    free += rng.uniform(0.1, 0.8) * (free.mean() - free)
    r, g, b = np.clip(free if rng.uniform() < odd else mixed, 0.01, 0.9).tolist()
    return r, g, b


def darker(colour: Colour, factor: float) -> Colour:
    """The colour times a factor, which may also brighten it."""
    r, g, b = (min(0.95, factor * c) for c in colour)
    return r, g, b


def wood(rng: RandomState, odd: float = 0.1) -> Material:
    """Grained or painted wood."""
    colour = shade(rng, WOODS, odd)
    second = darker(colour, rng.uniform(0.45, 0.85))
    pattern = GRAIN if rng.uniform() < 0.75 else PLAIN
    return Material(colour, second, pattern, rng.uniform(0.05, 0.12), 0.9, False, 0.0, rng.uniform(0, 0.25), _seed(rng))


def cloth(rng: RandomState, odd: float = 0.2) -> Material:
    """Woven, striped or checked cloth."""
    colour = shade(rng, CLOTHS, odd)
    second = shade(rng, CLOTHS, 0.5) if rng.uniform() < 0.5 else darker(colour, rng.uniform(0.5, 1.6))
    pattern = rng.choice([ROUGH, ROUGH, PLAIN, STRIPES, CHECKS])
    scale = rng.uniform(0.03, 0.08) if pattern == ROUGH else rng.uniform(0.08, 0.3)
    return Material(
        colour, second, int(pattern), scale, rng.uniform(0.3, 0.8), bool(rng.randint(2)), seed=_seed(rng)
    )  # fmt: skip


def paint(rng: RandomState, odd: float = 0.12) -> Material:
    """Plaster, wallpaper, bricks or panelling: what walls have."""
    colour = shade(rng, PAINTS, odd)
    kind = rng.choice([ROUGH, ROUGH, ROUGH, PLAIN, STRIPES, CHECKS, BOARDS, GRAIN])
    second = darker(colour, rng.uniform(0.75, 1.15)) if kind != BOARDS else darker(colour, rng.uniform(0.5, 0.8))
    scale = {ROUGH: rng.uniform(0.05, 0.4), BOARDS: rng.uniform(0.12, 0.3)}.get(int(kind), rng.uniform(0.1, 0.5))
    return Material(colour, second, int(kind), scale, rng.uniform(0.4, 1.0), bool(rng.randint(2)), seed=_seed(rng))


def ground(rng: RandomState) -> Material:
    """Boards, tiles or carpet."""
    kind = rng.choice([BOARDS, BOARDS, CHECKS, ROUGH, GRAIN])
    palette = {ROUGH: CLOTHS, CHECKS: STONES}.get(int(kind), WOODS if rng.uniform() < 0.7 else STONES)
    colour = shade(rng, palette)
    second = darker(colour, rng.uniform(0.4, 0.85))
    scale = {ROUGH: rng.uniform(0.03, 0.1), CHECKS: rng.uniform(0.25, 0.5)}.get(int(kind), rng.uniform(0.1, 0.35))
    return Material(
        colour, second, int(kind), scale, rng.uniform(0.5, 1.0), bool(rng.randint(2)), 0.0, rng.uniform(0, 0.3),
        _seed(rng),
    )  # fmt: skip


def doors(rng: RandomState, scale: float) -> Material:
    """The front of a cabinet with doors or drawers of about `scale` metres."""
    colour = shade(rng, WOODS + PAINTS[:3], 0.12)
    return Material(colour, darker(colour, rng.uniform(0.15, 0.5)), PANELS, scale, 1.0, seed=_seed(rng))


def any_of(rng: RandomState, gloss: float = 0.3) -> Material:
    """Anything: small objects."""
    colour = shade(rng, CLOTHS + PAINTS, 0.6)
    pattern = int(rng.choice([PLAIN, PLAIN, ROUGH, STRIPES, CHECKS]))
    return Material(
        colour, shade(rng, PAINTS, 0.6), pattern, rng.uniform(0.04, 0.12), rng.uniform(0.2, 0.9),
        bool(rng.randint(2)), 0.0, rng.uniform(0, gloss), _seed(rng),
    )  # fmt: skip


def plain(rng: RandomState, palette: Sequence[Colour], odd: float = 0.1, gloss: float = 0.0) -> Material:
    """One colour."""
    colour = shade(rng, palette, odd)
    return Material(colour, colour, gloss=gloss)


def patterned(
    rng: RandomState, pattern: int, palette: Sequence[Colour], scale: float, odd: float, glow: float = 0.0
) -> Material:
    """A pattern of two colours."""
    return Material(shade(rng, palette, odd), shade(rng, palette, odd), pattern, scale, glow=glow, seed=_seed(rng))


def _seed(rng: RandomState) -> int:
    return int(rng.randint(1 << 16))
