"""Pinhole cameras, the points that a depth image shows, and the surface normals that follow from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Height and width in pixels."""
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Places = NDArray[np.intp]

SAMPLES = 15
"""Of a window at most this many rows and columns are looked at, evenly spread."""
_STRIP = 24
"""Rows worked on at a time, so that they stay in the processor's cache."""


class Camera(NamedTuple):
    """A pinhole camera in pixels; the centre of the first pixel is at (0, 0)."""

    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, old: Size, new: Size) -> Camera:
        """The camera of the same view with another number of pixels; the outer borders of the image stay."""
        down, right = new[0] / old[0], new[1] / old[1]
        return Camera(self.fx * right, self.fy * down, (self.cx + 0.5) * right - 0.5, (self.cy + 0.5) * down - 0.5)

    def mirrored(self, width: int) -> Camera:
        """The camera of the image mirrored left-right."""
        return self._replace(cx=width - 1 - self.cx)


KINECT = Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
"""The RGB camera of NYU Depth V2 at 480 x 640, to which its labelled depth is aligned (the official toolbox,
`camera_params.m`)."""
KINECT_SIZE = (480, 640)


def points(depth: Floats, camera: Camera) -> Floats:
    """(3, H, W) metres: x to the right, y up, z towards the camera; the origin where `depth` (H, W) is 0."""
    height, width = depth.shape
    right = (np.arange(width, dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    up = (np.float32(camera.cy) - np.arange(height, dtype=np.float32)) / np.float32(camera.fy)
    return np.stack([depth * right, depth * up[:, None], -depth])


def nearest(old: Size, new: Size) -> tuple[Places, Places]:
    """The rows and the columns of an image of size `old` that lie nearest to the pixel centres of one of size `new`."""
    rows, columns = (((np.arange(n) + 0.5) * o / n).astype(np.intp) for o, n in zip(old, new, strict=True))
    return rows, columns


def normals(
    depth: Floats,
    camera: Camera,
    window: int = 5,
    jump: float = 0.03,
    step: float = 0.0,
    at: tuple[Places, Places] | None = None,
) -> Floats:
    """Surface normals from depth: a plane fitted by least squares to the surroundings of each pixel.

    The inverse depth of a plane is linear in the pixel's place, so the fit is a linear one, exact for planes of any
    tilt. Neighbours that lie off the surface are left out, judged first by the smaller of the slopes to both sides,
    then, twice as strictly, by the plane itself, so that surfaces in front of and behind an edge do not mix.

    Args:
        depth: (H, W) metres along the optical axis; 0 where it was not measured.
        camera: of this image.
        window: height and width of the surroundings in pixels; odd.
        jump: a neighbour that is off by more than this fraction of the depth belongs to another surface.
        step: what depth is rounded to, in metres; to be off by twice this much is no jump.
        at: the rows and columns of the pixels whose normals are wanted; all, if None.

    Returns:
        (3, H, W) float32, or (3, rows, columns) of `at`: unit vectors, x to the right, y up, z towards the camera. 0
        where the depth is missing, or where fewer than a quarter of the surroundings lie on the surface.
    """
    radius = window // 2
    rows, columns = at if at is not None else (np.arange(depth.shape[0]), np.arange(depth.shape[1]))
    known = depth > 0
    inverse = np.pad(np.divide(1, depth, out=np.zeros(depth.shape, np.float32), where=known), radius)
    across = (columns.astype(np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    found = np.zeros((3, len(rows), len(columns)), np.float32)
    for first in range(0, len(rows), _STRIP):
        chosen = rows[first : first + _STRIP]
        near = _Surroundings(inverse, chosen, columns, radius)
        allowed = near.middle * np.maximum(np.float32(jump), np.float32(2 * step) * near.middle)
        right, down, middle, good = near.fit(*near.slopes(), near.middle, allowed)
        right, down, middle, good = near.fit(right, down, np.where(good, middle, near.middle), allowed / 2)
        up = (np.float32(camera.cy) - chosen.astype(np.float32)) / np.float32(camera.fy)
        x, y = right * np.float32(camera.fx), -down * np.float32(camera.fy)
        normal = np.stack([-x, -y, middle - x * across - y * up[:, None]])
        length = np.sqrt(np.square(normal).sum(0))
        good &= length > 0
        np.divide(normal, length, out=found[:, first : first + _STRIP], where=good)
    return found


class _Surroundings:
    """The inverse depths around some pixels, which lie on rows and columns; all arrays are (rows, columns)."""

    def __init__(self, inverse: Floats, rows: Places, columns: Places, radius: int) -> None:
        """`inverse` is 0 where it is not known, and has a border of `radius` pixels."""
        self.inverse, self.rows, self.columns, self.radius = inverse, rows + radius, columns + radius, radius
        self.middle = self._moved(0, 0)
        self.offsets = np.unique(
            np.rint(np.linspace(-radius, radius, min(2 * radius + 1, SAMPLES))).astype(int)
        ).tolist()

    def slopes(self) -> tuple[Floats, Floats]:
        """To the right and down, per pixel: of both sides the one that changes less; 0 where neither is known."""
        far = max(1, self.radius // 2)
        return self._slope(0, far), self._slope(far, 0)

    def fit(self, right: Floats, down: Floats, middle: Floats, allowed: Floats) -> tuple[Floats, Floats, Floats, Flags]:
        """The plane through the neighbours that are off the given one by no more than `allowed`.

        Returns:
            Its slopes per pixel to the right and down, its inverse depth at the pixel, and whether there is one.
        """
        total = np.zeros((9, *middle.shape), np.float32)
        count, x, y, xx, xy, yy, w, xw, yw = total
        for dy in self.offsets:
            predicted = middle + down * np.float32(dy)
            n, nx, nxx, nw, nxw = np.zeros((5, *middle.shape), np.float32)
            lines = self.inverse[self.rows + dy]
            for dx in self.offsets:
                value = lines[:, self.columns + dx]
                off = value - predicted
                off -= right * np.float32(dx)
                on = ((np.abs(off) <= allowed) & (value > 0)).astype(np.float32)
                off = (value - middle) * on
                n += on
                nw += off
                nx += on * np.float32(dx)
                nxx += on * np.float32(dx * dx)
                nxw += off * np.float32(dx)
            count += n
            x += nx
            xx += nxx
            w += nw
            xw += nxw
            y += n * np.float32(dy)
            yy += n * np.float32(dy * dy)
            xy += nx * np.float32(dy)
            yw += nw * np.float32(dy)
        return _solved(total, middle, len(self.offsets) ** 2)

    def _moved(self, dy: int, dx: int) -> Floats:
        moved: Floats = self.inverse[self.rows + dy][:, self.columns + dx]
        return moved

    def _slope(self, dy: int, dx: int) -> Floats:
        after, before = self._moved(dy, dx), self._moved(-dy, -dx)
        distance = np.float32(dy + dx)
        unknown = np.float32(np.inf)
        ahead = np.where(after > 0, (after - self.middle) / distance, unknown)
        behind = np.where(before > 0, (self.middle - before) / distance, unknown)
        least = np.where(np.abs(ahead) <= np.abs(behind), ahead, behind)
        return np.where(np.isfinite(least), least, np.float32(0))


def _solved(sums: Floats, middle: Floats, most: int) -> tuple[Floats, Floats, Floats, Flags]:
    """The least squares plane from its sums: 1, x, y, xx, xy, yy, w, xw, yw, with w counted from `middle`."""
    count = np.maximum(sums[0], 1)
    mean_x, mean_y, mean_w = (sums[n] / count for n in (1, 2, 6))
    xx, yy = sums[3] / count - mean_x**2, sums[5] / count - mean_y**2
    xy = sums[4] / count - mean_x * mean_y
    xw, yw = sums[7] / count - mean_x * mean_w, sums[8] / count - mean_y * mean_w
    area = xx * yy - xy * xy
    good = (middle > 0) & (sums[0] >= 0.25 * most) & (area > 0.05 * np.maximum(xx, yy) ** 2)
    area = np.where(good, area, np.float32(1))
    right, down = (yy * xw - xy * yw) / area, (xx * yw - xy * xw) / area
    right, down = np.where(good, right, np.float32(0)), np.where(good, down, np.float32(0))
    return right, down, middle + mean_w - right * mean_x - down * mean_y, good
