"""What a camera makes of light and depth: exposure, noise, and depth that is missing."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from ..views import IGNORED
from .casting import Floats
from .shading import noise


def photograph(rng: RandomState, light: Floats) -> NDArray[np.uint8]:
    """An image (3, H, W) of the light (3, H, W), linear: exposed, blurred a little, vignetted, noisy, with gamma."""
    height, width = light.shape[1:]
    level = float(np.percentile(light.mean(0), 75))
    gains = np.exp(0.07 * rng.standard_normal(3) + rng.normal(0, 0.1) * np.array([1.0, 0.0, -1.0]))
    exposed: Floats = light * (gains * rng.uniform(0.3, 0.62) / max(level, 1e-6))[:, None, None]
    exposed = _blurred(exposed, rng.uniform(0.05, 0.2))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    exposed = exposed * (1 - rng.uniform(0.0, 0.25) * (x * x + y * y) / 2)
    shot, read = rng.uniform(0.01, 0.035), rng.uniform(0.002, 0.008)
    exposed = np.maximum(exposed, 0)
    noisy = exposed + rng.standard_normal(exposed.shape) * np.sqrt(read**2 + shot**2 * exposed)
    return np.round(255 * np.clip(noisy, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _blurred(image: Floats, share: float) -> Floats:
    """Each pixel gives `share` of itself to its neighbours, along rows and then along columns."""
    for axis in (1, 2):
        padded = np.pad(image, [(0, 0), *((1, 1) if a == axis else (0, 0) for a in (1, 2))], "edge")
        before, after = np.take(padded, range(image.shape[axis]), axis), np.delete(padded, (0, 1), axis)
        image = (1 - share) * image + share / 2 * (before + after)
    return image


def measured(rng: RandomState, depth: Floats, facing: Floats, shiny: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Depth (H, W) as a structured-light sensor has it: noisy, in steps that grow with it, 0 where it is missing.

    Args:
        rng: what is drawn.
        depth: true depth, metres.
        facing: (H, W), the cosine between the surface and the way to the camera.
        shiny: (H, W), window panes and screens, which are seen in patches.
    """
    steps = rng.uniform(0.0008, 0.002)
    noisy = depth + rng.standard_normal(depth.shape) * (0.001 + 0.0006 * depth**2)
    noisy = 1 / (np.round(1 / (noisy * steps)) * steps)
    return np.where(_missing(rng, depth, facing, shiny), 0, noisy).astype(np.float32)


def _missing(rng: RandomState, depth: Floats, facing: Floats, shiny: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): in patches, where surfaces are seen from the side, far away, on shiny ones, and along edges."""
    rough = _patches(rng, depth.shape, 6)
    missing = rough > 0.9
    missing |= facing < rng.uniform(0.08, 0.2) * (0.5 + rough)
    missing |= depth > rng.uniform(8, 10) * (0.85 + 0.3 * rough)
    missing |= shiny & (_patches(rng, depth.shape, 10) > rng.uniform(0.2, 0.7))
    draw = rng.uniform(size=depth.shape)
    step = np.diff(depth, axis=1)  # the projector is to the right: what stands out has a shadow on its left
    far = 0.08 + 0.06 * depth
    missing[:, :-1] |= (step < -far[:, :-1]) & (draw[:, :-1] < 0.85)
    missing[:, 1:] |= (step > far[:, 1:]) & (draw[:, 1:] < 0.3)
    missing[:-1] |= (np.diff(depth, axis=0) < -far[:-1]) & (draw[:-1] < 0.5)
    return missing


def labelled(rng: RandomState, labels: NDArray[np.int8]) -> NDArray[np.int8]:
    """Labels (H, W) with a band one pixel wide ignored along some of the outlines, as where people have drawn them."""
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    unsure = _patches(rng, labels.shape, 5) > rng.uniform(0.25, 0.6)
    return np.where(border & unsure, IGNORED, labels).astype(np.int8)


def _patches(rng: RandomState, shape: tuple[int, ...], across: float) -> Floats:
    """Smooth noise (H, W), 0 to 1, with patches of which about `across` lie side by side."""
    height, width = shape
    v, u = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(across / width)
    seed = np.full(shape, rng.randint(1 << 16), np.int64)
    return 0.6 * noise(u, v, seed) + 0.4 * noise(u * 3, v * 3, seed + 1)
