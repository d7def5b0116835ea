"""Random enlargements and mirror images of views, with truths that stay true.

A part of the view, smaller than the whole by a factor s, is enlarged to the whole, and its depth divided by s. That is
what the camera, with its focal length in pixels unchanged, sees of a scene whose points (x, y, z) have moved to
(x, y, z / s). Such a scene has the normals (nx, ny, s nz), scaled to unit length.

The scales and the division of depth are those of the code of Liu et al., "End-to-End Multi-Task Learning with
Attention", CVPR 2019, for NYUv2. It leaves normals as they were. Apart from that choice, three things are done with
more care here: the part measures H / s by W / s and not whole pixels, images and truths are sampled at the same places,
and normals come from the nearest pixel, so that unknown ones do not mix with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .geometry import Camera, Size
from .views import Batch

Normals = Literal["geometric", "published"]

SHORTEST = 0.5
"""Normals of unit length get no shorter; what is shorter is unknown, and 0."""


class Moves(NamedTuple):
    """What happens to each of N views, on one device."""

    scales: Tensor
    """(N,) float64, 1 or more."""
    tops: Tensor
    """(N,) float64: rows above the part that is enlarged; whole numbers."""
    lefts: Tensor
    """(N,) float64: columns to its left."""
    mirrored: Tensor
    """(N,) bool: left to right, afterwards."""

    def rows(self, height: int) -> Tensor:
        """(N, H) float64: where each row of the result lies in the original; pixel centres are whole numbers."""
        centres = torch.arange(height, device=self.scales.device) + 0.5
        return self.tops[:, None] + centres / self.scales[:, None] - 0.5

    def columns(self, width: int) -> Tensor:
        """(N, W) float64, as `rows`."""
        centres = torch.arange(width, device=self.scales.device) + 0.5
        centres = torch.where(self.mirrored[:, None], width - centres, centres)
        return self.lefts[:, None] + centres / self.scales[:, None] - 0.5

    def camera(self, view: int, camera: Camera, size: Size) -> Camera:
        """The camera in which depth and normals of the moved view agree, for one with `camera` and `size` before."""
        scale, top, left = (float(values[view]) for values in (self.scales, self.tops, self.lefts))
        moved = camera._replace(
            cx=(camera.cx + 0.5 - left) * scale - 0.5,
            cy=(camera.cy + 0.5 - top) * scale - 0.5,
        )
        return moved.mirrored(size[1]) if self.mirrored[view] else moved


def draw(count: int, size: Size, scales: Sequence[float], flip: bool, generator: torch.Generator) -> Moves:
    """Moves of `count` views: a scale, a place among all whole-pixel ones, and every other view mirrored on average.

    Each view takes four numbers from the generator, whatever they decide.

    Raises:
        ValueError: a scale below 1.
    """
    if min(scales) < 1:
        raise ValueError(f"a scale is 1 or more, not {min(scales)}")
    # float64, since in float32 a number just below 1 times 129 can be 129.
    chance = torch.rand(count, 4, generator=generator, device=generator.device, dtype=torch.float64)
    choices = torch.tensor(scales, dtype=torch.float64, device=generator.device)
    chosen = choices[(chance[:, 0] * len(choices)).long()]
    tops, lefts = (
        (chance[:, 1 + axis] * ((length - length / chosen).floor() + 1)).floor() for axis, length in enumerate(size)
    )
    return Moves(chosen, tops, lefts, (chance[:, 3] < 0.5) & flip)


def augment(
    batch: Batch,
    scales: Sequence[float],
    flip: bool,
    generator: torch.Generator,
    normals: Normals = "geometric",
) -> Batch:
    """The views of a batch, each moved at random; see `draw` and `moved`. Nothing is drawn where nothing can happen."""
    if not flip and set(scales) == {1}:
        return batch
    count, height, width = batch.labels.shape
    return moved(batch, draw(count, (height, width), scales, flip, generator), normals)


def moved(batch: Batch, moves: Moves, normals: Normals = "geometric") -> Batch:
    """The views of a batch after some moves.

    Images are sampled bilinearly. Labels, depths and normals are those of the nearest pixel, and what is unknown there
    stays unknown. A view of scale 1 keeps all its values.

    Args:
        batch: on any device.
        moves: one for each view.
        normals: `geometric`, those of the moved scene; or `published`, unchanged but for the mirror image.
    """
    moves = Moves(*(values.to(batch.images.device) for values in moves))
    height, width = batch.labels.shape[-2:]
    rows, columns = moves.rows(height), moves.columns(width)
    places = _nearest(rows, height)[:, :, None] * width + _nearest(columns, width)[:, None]
    labels, depths, images, turned = (
        _taken(values, places) for values in (batch.labels, batch.depths, batch.images, batch.normals)
    )
    depths /= moves.scales.float()[:, None, None]
    turned[:, 0] *= torch.where(moves.mirrored, -1, 1)[:, None, None]
    enlarged = (moves.scales > 1).nonzero().flatten()
    if len(enlarged):
        images[enlarged] = _bilinear(batch.images[enlarged], rows[enlarged], columns[enlarged])
        if normals == "geometric":
            turned[enlarged] = _squeezed(turned[enlarged], moves.scales[enlarged].float())
    return Batch(images, labels, depths, turned)


def _nearest(places: Tensor, length: int) -> Tensor:
    return (places + 0.5).floor().long().clamp(0, length - 1)


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """The pixels of (N, H, W) or (N, C, H, W) at flat places (N, H, W)."""
    flat, index = values.flatten(-2), places.flatten(-2)
    return flat.gather(-1, index if flat.dim() == 2 else index[:, None].expand_as(flat)).view_as(values)


def _bilinear(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, C, H, W) at rows (N, H) and columns (N, W); beyond the border are the pixels on it."""
    height, width = images.shape[-2:]
    down, right = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = images.new_empty(len(images), height, width, 2)
    grid[..., 0], grid[..., 1] = right[:, None], down[:, :, None]
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _squeezed(normals: Tensor, scales: Tensor) -> Tensor:
    """(N, 3, H, W) normals of scenes whose depths were divided by scales (N,); 0 stays 0."""
    x, y, z = normals.unbind(1)
    z = z * scales[:, None, None]
    length = (x * x + y * y + z * z).sqrt().clamp(min=SHORTEST)
    return torch.stack([x / length, y / length, z / length], 1)
