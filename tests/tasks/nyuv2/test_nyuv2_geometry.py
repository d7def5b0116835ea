"""Cameras, points, and normals from depth: exact where the surface is a plane, within a stated angle elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mtlbench.tasks.nyuv2.geometry import KINECT, KINECT_SIZE, Camera, nearest, normals, points

SIZE = (60, 80)
CAMERA = KINECT.resized(KINECT_SIZE, SIZE)
Array = NDArray[np.float64]


def rays(camera: Camera, size: tuple[int, int] = SIZE) -> Array:
    """(3, H, W): the points at depth 1."""
    return points(np.ones(size, np.float32), camera).astype(float)


def plane(normal: Array, distance: float, camera: Camera = CAMERA, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    """The depth of the plane with this normal, so far from the camera; 0 where it is beyond 20 m or behind."""
    facing = -np.einsum("i,ihw->hw", normal, rays(camera, size))
    depth = np.divide(distance, facing, out=np.zeros(size), where=facing > distance / 20)
    return depth.astype(np.float32)


def tilted(tilt: float, towards: float) -> Array:
    """The unit normal at `tilt` degrees from the viewing direction, towards `towards` degrees from the right."""
    a, b = np.radians([tilt, towards])
    return np.array([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)])


def angles(found: NDArray[np.float32], truth: Array) -> Array:
    """Degrees between the two where the first is known; the second is (3,) or (3, H, W)."""
    truth = np.broadcast_to(truth.reshape(3, *truth.shape[1:] or (1, 1)), found.shape)
    known = found.any(0)
    return np.degrees(np.arccos(np.clip((found * truth).sum(0)[known], -1, 1)))


def test_a_point_follows_the_pinhole_equations_and_a_missing_one_is_the_origin() -> None:
    depth = np.full((3, 5), 2, np.float32)
    depth[0, 0] = 0
    found = points(depth, Camera(fx=10, fy=20, cx=2, cy=1))
    assert found[:, 1, 2] == pytest.approx([0, 0, -2])  # on the axis
    assert found[:, 2, 4] == pytest.approx([0.4, -0.1, -2])  # to the right and down
    assert not found[:, 0, 0].any()


def test_a_resized_camera_sees_the_same_rays_at_the_pixel_borders() -> None:
    small = KINECT.resized((480, 640), (96, 128))
    for border in (-0.5, 639.5):
        there = (border + 0.5) / 5 - 0.5
        assert (there - small.cx) / small.fx == pytest.approx((border - KINECT.cx) / KINECT.fx)
    assert small.resized((96, 128), (480, 640)) == pytest.approx(KINECT)


def test_nearest_pixels_have_their_centres_nearest() -> None:
    rows, columns = nearest((480, 640), (96, 128))
    assert rows[:3].tolist() == [2, 7, 12]  # 5 pixels become one: the middle one of them
    assert columns[-1] == 637
    assert [n.tolist() for n in nearest((2, 4), (2, 4))] == [[0, 1], [0, 1, 2, 3]]


@pytest.mark.parametrize("window", [3, 9, 31])
@pytest.mark.parametrize("tilt", [0, 30, 60, 80, 85])
def test_the_normals_of_a_plane_of_any_tilt_are_exact(tilt: float, window: int) -> None:
    for towards in (0, 45, 90, 200):
        depth = plane(tilted(tilt, towards), 1.5)
        found = normals(depth, CAMERA, window)
        assert angles(found, tilted(tilt, towards)).max() < 0.1
        assert found.any(0)[depth > 0].mean() > 0.9
        assert np.linalg.norm(found, axis=0)[found.any(0)] == pytest.approx(1, abs=1e-5)


def test_walls_and_floor_have_the_normals_of_the_convention() -> None:
    wall = normals(np.full(SIZE, 2, np.float32), CAMERA)
    assert angles(wall, np.array([0.0, 0, 1])).max() < 0.01
    floor = normals(plane(np.array([0.0, 1, 0]), 1.5), CAMERA)
    assert angles(floor, np.array([0.0, 1, 0])).max() < 0.1
    assert floor.any(0)[-1].all()
    assert not floor.any(0)[0].any()  # above the horizon


def test_the_normals_of_a_sphere_are_within_two_degrees() -> None:
    centre, radius = np.array([0.1, 0.05, -3]), 1.2
    camera, size = KINECT.resized(KINECT_SIZE, (120, 160)), (120, 160)
    towards = rays(camera, size)
    a, b = (towards**2).sum(0), np.einsum("i,ihw->hw", centre, towards)
    inside = b**2 - a * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0).astype(np.float32)
    truth = (points(depth, camera) - centre[:, None, None]) / radius
    found = normals(depth, camera)
    away = -(truth * towards).sum(0) / np.sqrt(a) > 0.5  # seen at less than 60 degrees
    found[:, ~away] = 0
    assert found.any(0)[away & (depth > 0)].all()
    assert angles(found, truth).max() < 2


def test_missing_depth_has_no_normal_and_does_not_change_its_neighbours() -> None:
    truth = tilted(50, 120)
    depth = plane(truth, 2)
    missing = np.random.RandomState(0).rand(*SIZE) < 0.3
    depth[missing] = 0
    found = normals(depth, CAMERA)
    assert not found[:, missing].any()
    assert angles(found, truth).max() < 0.1
    assert found.any(0)[~missing].mean() > 0.95
    assert not normals(np.zeros(SIZE, np.float32), CAMERA).any()


def test_a_few_pixels_alone_and_a_line_have_no_normal() -> None:
    depth = np.zeros(SIZE, np.float32)
    depth[10, 10:70] = 2
    assert not normals(depth, CAMERA, 3).any()
    depth[30:32, 40:42] = 2
    assert not normals(depth, CAMERA).any()


def test_surfaces_do_not_bleed_over_a_step() -> None:
    front, back = tilted(20, 0), tilted(40, 180)
    depth, behind = plane(front, 1.5), plane(back, 3)
    depth[:, 40:] = behind[:, 40:]
    assert np.abs(np.diff(depth[:, 39:41])).min() > 0.3
    found = normals(depth, CAMERA, 7)
    assert angles(found[:, :, :40], front).max() < 0.1  # up to the edge itself
    assert angles(found[:, :, 40:], back).max() < 0.1
    assert found.any(0).all()


def test_a_fold_is_rounded_within_the_window_alone() -> None:
    left, right = tilted(40, 0), tilted(40, 180)
    depth = np.minimum(plane(left, 2), plane(right, 2))  # the corner of a room
    fold = round(CAMERA.cx)
    found = normals(depth, CAMERA, 5)
    normal = np.where(np.arange(SIZE[1]) < CAMERA.cx, left[:, None], right[:, None])[:, None].repeat(SIZE[0], 1)
    for side in (slice(0, fold - 2), slice(fold + 3, None)):
        assert angles(found[:, :, side], normal[:, :, side]).max() < 0.1


def test_a_mirrored_image_has_mirrored_normals() -> None:
    depth = np.minimum(plane(tilted(35, 20), 2), plane(tilted(50, 160), 2.5))
    found = normals(depth, CAMERA)
    mirrored = normals(depth[:, ::-1].copy(), CAMERA.mirrored(SIZE[1]))[:, :, ::-1]
    assert mirrored * np.array([-1, 1, 1]).reshape(3, 1, 1) == pytest.approx(found, abs=1e-3)


def test_normals_at_chosen_pixels_are_those_of_the_whole_image() -> None:
    depth = np.minimum(plane(tilted(35, 20), 2), plane(tilted(50, 160), 2.5))
    rows, columns = nearest(SIZE, (10, 16))
    whole = normals(depth, CAMERA, 9)
    assert np.array_equal(normals(depth, CAMERA, 9, at=(rows, columns)), whole[:, rows][:, :, columns])


@pytest.mark.parametrize(("tilt", "distance"), [(0, 2.0), (20, 2.0), (45, 3.0), (70, 1.5)])
def test_a_wide_window_bears_depth_of_eight_bits(tilt: float, distance: float) -> None:
    """255 steps of 3.9 cm, as in copies of NYUv2 whose depth is in 8-bit images."""
    truth, at = tilted(tilt, 60), nearest(KINECT_SIZE, (48, 64))
    depth = plane(truth, distance, KINECT, KINECT_SIZE)
    seen = (depth > 0) & (depth < 10)
    rounded = np.where(seen, (np.floor(25.5 * depth) + 0.5) / 25.5, 0).astype(np.float32)
    wide = angles(normals(rounded, KINECT, 41, step=1 / 25.5, at=at), truth)
    assert np.median(wide) < 8
    assert wide.max() < 25
    if tilt:
        assert np.mean(angles(normals(rounded, KINECT, 11, step=1 / 25.5, at=at), truth)) > 2 * wide.mean()
