"""Augmented views: whatever was done to them, image, labels, depth and normals are those of one scene and camera."""

import numpy as np
import pytest
import torch

from mtlbench.tasks.nyuv2 import geometry
from mtlbench.tasks.nyuv2.augmentation import Moves, augment, draw, moved
from mtlbench.tasks.nyuv2.geometry import Camera
from mtlbench.tasks.nyuv2.views import Batch

SIZE = H, W = 24, 36
CAMERA = Camera(fx=30.0, fy=33.0, cx=15.0, cy=13.5)
SCALES = (1.0, 1.2, 1.5)
PLANE = torch.tensor([0.3, -0.4, 0.866]).div(torch.tensor([0.3, -0.4, 0.866]).norm())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count, known=None):
    """Views that say of each pixel where it comes from: in its label, its depth, its normal, and its image.

    `known` (count, H, W): elsewhere the truth is missing.
    """
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    labels = (row * W + column).expand(count, H, W)
    normals = torch.nn.functional.normalize(torch.stack([column + 1.0, row + 1.0, torch.ones(H, W)]), dim=0)
    images = torch.stack([row / H, column / W, torch.ones(H, W)]).expand(count, 3, H, W)
    known = torch.ones(count, H, W, dtype=torch.bool) if known is None else known
    return Batch(images, torch.where(known, labels, -1), (labels + 1.0) * known, normals * known[:, None])


def planes(count):
    """Views of a plane at a distance of 3 metres; labels number the pixels."""
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    rays = torch.stack([(column - CAMERA.cx) / CAMERA.fx, (CAMERA.cy - row) / CAMERA.fy, -torch.ones(H, W)])
    depth = -3 / torch.einsum("c,chw->hw", PLANE, rays)
    assert (depth > 0).all()
    batch = numbered(count)
    return batch._replace(depths=depth.expand(count, H, W), normals=PLANE.view(1, 3, 1, 1).expand(count, 3, H, W))


@pytest.mark.parametrize("seed", range(3))
def test_labels_depths_and_normals_come_from_one_pixel_and_the_image_from_its_place(seed):
    given = numbered(16)
    moves = draw(16, SIZE, SCALES, True, seeded(seed))
    found = augment(given, SCALES, True, seeded(seed))
    source = found.labels
    scale = moves.scales.float()[:, None, None]
    torch.testing.assert_close(found.depths * scale, source + 1.0)
    x, y, z = given.normals[0].flatten(1)[:, source]
    x = torch.where(moves.mirrored[:, None, None], -x, x)
    right = torch.nn.functional.normalize(torch.stack([x, y, z * scale], 1), dim=1)
    torch.testing.assert_close(found.normals, right)
    rows, columns = found.images[:, 0] * H, found.images[:, 1] * W
    assert ((rows - source // W).abs() <= 0.5 + 1e-4).all()
    assert ((columns - source % W).abs() <= 0.5 + 1e-4).all()
    # The image is sampled between pixels, at even steps of 1 / scale.
    inside = (rows > 0) & (rows < H - 1)
    steps = torch.where(inside[:, 1:] & inside[:, :-1], rows.diff(dim=1) * scale, 1)
    torch.testing.assert_close(steps, torch.ones_like(steps), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_moved_points_lie_on_a_plane_with_the_moved_normal(scale, mirrored):
    given = planes(1)
    moves = Moves(torch.tensor([scale]).double(), torch.tensor([3.0]), torch.tensor([5.0]), torch.tensor([mirrored]))
    camera = moves.camera(0, CAMERA, SIZE)
    assert (camera.fx, camera.fy) == (CAMERA.fx, CAMERA.fy)
    for normals in ("geometric", "published"):
        found = moved(given, moves, normals)
        # Where in the new image the centres of the pixels are that values were taken from.
        column = (found.labels[0] % W - 5 + 0.5) * scale - 0.5
        row = (found.labels[0] // W - 3 + 0.5) * scale - 0.5
        column = W - 1 - column if mirrored else column
        depth = found.depths[0]
        points = torch.stack([(column - camera.cx) / camera.fx * depth, (camera.cy - row) / camera.fy * depth, -depth])
        distance = (found.normals[0] * points).sum(0)
        assert distance.min().item() < 0
        flat = (distance - distance.mean()).abs().max().item() < 1e-5
        assert flat == (normals == "geometric" or scale == 1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_normals_derived_from_the_moved_depth_are_the_moved_normals(mirrored):
    moves = Moves(torch.tensor([1.5]).double(), torch.tensor([4.0]), torch.tensor([7.0]), torch.tensor([mirrored]))
    off = {}
    for normals in ("geometric", "published"):
        found = moved(planes(1), moves, normals)
        derived = geometry.normals(found.depths[0].numpy(), moves.camera(0, CAMERA, SIZE), window=9)
        inner = np.s_[:, 4:-4, 4:-4]
        cosines = (derived[inner] * found.normals[0].numpy()[inner]).sum(0)
        off[normals] = np.degrees(np.arccos(cosines.clip(-1, 1))).mean()
    assert off["geometric"] < 1.5
    assert off["published"] > 8


def test_what_is_missing_stays_missing_and_is_never_blended():
    known = torch.rand(12, H, W, generator=seeded(1)) < 0.6
    given = numbered(12, known)
    found = augment(given, SCALES, True, seeded())
    missing = found.labels == -1
    assert 0.3 < missing.float().mean() < 0.5
    assert torch.equal(missing, found.depths == 0)
    assert torch.equal(missing, (found.normals == 0).all(1))
    length = found.normals.norm(dim=1)
    torch.testing.assert_close(length, (~missing).float())


def test_a_mirrored_view_has_all_its_columns_turned_round_and_the_normals_too():
    given = numbered(16)
    found = augment(given, (1.0,), True, seeded())
    mirrored = draw(16, SIZE, (1.0,), True, seeded()).mirrored
    assert 0 < mirrored.sum() < 16
    for n in range(16):
        for before, after in zip(given, found, strict=True):
            assert torch.equal(after[n].abs(), before[n].flip(-1) if mirrored[n] else before[n])
        assert (found.normals[n, 0] < 0).all() == mirrored[n]
        assert (found.normals[n, 1:] > 0).all()


def test_views_of_scale_one_among_others_keep_every_bit():
    noise = torch.rand(16, 3, H, W, generator=seeded(2))
    given = numbered(16)._replace(images=noise)
    moves = draw(16, SIZE, SCALES, False, seeded())
    kept = moves.scales == 1
    assert 0 < kept.sum() < 16
    for before, after in zip(given, augment(given, SCALES, False, seeded()), strict=True):
        assert torch.equal(after[kept], before[kept])
        assert not torch.equal(after[~kept], before[~kept])


def test_the_given_batch_is_left_alone():
    given = numbered(8)
    copies = [values.clone() for values in given]
    augment(given, SCALES, True, seeded())
    assert all(map(torch.equal, given, copies))


def test_every_view_takes_the_same_share_of_the_stream():
    few, many = (draw(count, SIZE, SCALES, True, seeded()) for count in (3, 8))
    assert all(torch.equal(a, b[:3]) for a, b in zip(few, many, strict=True))
    states = []
    for scales, flip in (((1.0,), True), ((1.0, 4.0), False), (SCALES, True)):
        generator = seeded()
        augment(numbered(5), scales, flip, generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_scales_places_and_mirror_images_are_drawn_evenly():
    moves = draw(30_000, SIZE, (1.0, 1.5), True, seeded())
    assert moves.mirrored.double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert moves.scales.mean().item() == pytest.approx(1.25, abs=0.01)
    enlarged = moves.scales > 1
    assert (moves.tops[~enlarged] == 0).all()
    for places, length in ((moves.tops, H), (moves.lefts, W)):
        counts = torch.bincount(places[enlarged].long())
        assert len(counts) == length // 3 + 1  # the first and the last place are both possible
        assert (counts.double() / counts.sum() * len(counts) - 1).abs().max() < 0.1


@pytest.mark.parametrize("scale", [1.2, 1.37, 1.5, 4.0])
def test_the_last_place_reaches_the_border_and_nothing_lies_beyond_it(scale):
    for length in (H, W, 96, 129):
        last = torch.tensor([float(int(length - length / scale))])
        moves = Moves(torch.tensor([scale]).double(), last, last, torch.tensor([True]))
        for places in (moves.rows(length), moves.columns(length)):
            assert places.min() >= last - 0.5
            assert length - 2 < places.max() < length - 0.5


def test_views_are_not_shrunk():
    with pytest.raises(ValueError, match=r"1 or more, not 0\.5"):
        augment(numbered(1), (1.0, 0.5), False, seeded())
