"""Rendered rooms: geometry that agrees with the camera, scenes that follow from their numbers, files made once."""

import itertools
import logging

import numpy as np
import pytest

from mtlbench.tasks.nyuv2 import rooms
from mtlbench.tasks.nyuv2.geometry import normals, points
from mtlbench.tasks.nyuv2.rooms import camera, casting, load, rendering, sensing, shading
from mtlbench.tasks.nyuv2.rooms.casting import BALL, BOX, ROD, Part, Piece, about, first_hits, lit, surfaces
from mtlbench.tasks.nyuv2.rooms.materials import Material
from mtlbench.tasks.nyuv2.rooms.rendering import stream, truth, view
from mtlbench.tasks.nyuv2.rooms.scenes import scene
from mtlbench.tasks.nyuv2.views import CLASSES, IGNORED

SIZE = (24, 32)
BED, CEILING, FLOOR, WALL = (CLASSES.index(name) for name in ("bed", "ceiling", "floor", "wall"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def exact():
    """Twenty scenes with what is exactly to be seen of them."""
    return [truth(stream(0, "train", n), SIZE) for n in range(20)]


@pytest.fixture(scope="module")
def sensed():
    return [view(0, "train", n, SIZE) for n in range(60)]


def in_world(made, seen):
    """(3, H, W): the points that depth and camera give, in the coordinates of the room."""
    local = points(seen.depth.astype(np.float32), camera(seen.depth.shape))
    return np.tensordot(made.turn, local, 1) + made.eye[:, None, None]


def of_shape(shape, low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0), turn=None, place=(0.0, 0.0, 0.0)):
    part = Part(0, Material((1, 1, 1), (1, 1, 1)), low, high, shape)
    return Piece((part,), np.eye(3) if turn is None else turn, np.array(place))


def test_floors_and_ceilings_are_level_where_depth_and_camera_put_them(exact):
    floors, ceilings = 0, 0
    for made, seen in exact:
        y = in_world(made, seen)[1]
        floor = y[seen.labels == FLOOR]
        assert np.all((floor > -1e-4) & (floor < 0.0121))
        sides = np.minimum(abs(floor), abs(floor - 0.012)) > 1e-4
        assert sides.sum() <= 0.1 * floor.size, "the floor, or a rug with its sides"
        ceiling = y[seen.labels == CEILING]
        assert np.all(ceiling < made.room[1] + 1e-4)
        floors, ceilings = floors + floor.size, ceilings + np.isclose(ceiling, made.room[1], atol=1e-4).sum()
    assert floors > 200
    assert ceilings > 200


def test_everything_seen_is_in_the_room(exact):
    for made, seen in exact:
        at = in_world(made, seen)
        room = np.array(made.room)[:, None, None]
        assert np.all((at > -1e-4) & (at < room + 1e-4))


def test_normals_are_of_unit_length_and_towards_the_camera(exact):
    for _, seen in exact:
        rays = points(np.ones(SIZE, np.float32), camera(SIZE))
        np.testing.assert_allclose((seen.normals**2).sum(0), 1, atol=1e-9)
        towards = -(rays * seen.normals).sum(0)
        assert np.all(towards > 0)
        np.testing.assert_allclose(towards / np.sqrt((rays**2).sum(0)), seen.facing, atol=1e-6)


def test_floor_normals_point_up_in_the_room(exact):
    for made, seen in exact:
        up = np.tensordot(made.turn, seen.normals, 1)[:, (seen.labels == FLOOR) & (in_world(made, seen)[1] < 1e-4)]
        np.testing.assert_allclose(up, np.broadcast_to([[0], [1], [0]], up.shape), atol=1e-9)


def test_normals_derived_from_depth_are_the_exact_ones_away_from_edges():
    apart = []
    for n in range(6):
        _, seen = truth(stream(1, "test", n), (48, 64))
        depth = seen.depth.astype(np.float32)
        derived, at = normals(depth, camera((48, 64)), window=3), points(depth, camera((48, 64)))
        same = np.ones((48, 64), bool)
        for by in itertools.product((-1, 0, 1), repeat=2):
            apart_from = ((np.roll(at, by, (1, 2)) - at) * seen.normals).sum(0)
            same &= (abs(apart_from) < 1e-4) & (np.roll(seen.normals, by, (1, 2)) == seen.normals).all(0)
        same[[0, -1]] = same[:, [0, -1]] = False
        same &= np.abs(derived).max(0) > 0
        apart.append(np.degrees(np.arccos(np.clip((derived * seen.normals).sum(0)[same], -1, 1))))
    apart = np.concatenate(apart)
    assert len(apart) > 3000
    assert np.mean(apart < 1) > 0.999


def test_the_camera_is_at_the_height_of_a_person_and_outside_of_everything():
    for n in range(40):
        made = scene(stream(3, "train", n))
        assert 1.2 <= made.eye[1] <= 1.7
        assert all(0.3 < x < size - 0.3 for x, size in zip(made.eye, made.room, strict=True))
        for piece in made.pieces:
            local = piece.turn.T @ (made.eye - piece.place)
            for part in piece.parts:
                assert not np.all((np.array(part.low) < local) & (local < np.array(part.high)))


def test_things_do_not_stand_in_each_other_nor_in_walls():
    for n in range(40):
        made = scene(stream(4, "train", n))
        assert made.taken
        for low, high in made.taken:
            assert min(low) >= 0
            assert np.all(np.array(high) <= made.room)
        for (low, high), (here, there) in itertools.combinations(made.taken, 2):
            assert not np.all((np.array(low) < there) & (np.array(here) < high))


def test_a_scene_is_the_same_room_at_every_size():
    for n in range(5):
        small, large = truth(stream(0, "val", n), (24, 32)), truth(stream(0, "val", n), (72, 96))
        assert small[0].room == large[0].room
        middle = np.s_[1::3, 1::3]  # the pixels of the large image whose centres are those of the small one
        np.testing.assert_array_equal(small[1].labels, large[1].labels[middle])
        np.testing.assert_allclose(small[1].depth, large[1].depth[middle])
        np.testing.assert_allclose(small[1].normals, large[1].normals[(slice(None), *middle)])


def test_views_have_the_shapes_and_ranges_that_training_expects(sensed):
    for seen in sensed:
        image, label, depth, normal = seen
        assert (image.shape, image.dtype) == ((3, *SIZE), np.uint8)
        assert (label.shape, label.dtype) == (SIZE, np.int8)
        assert (depth.shape, depth.dtype) == (SIZE, np.float32)
        assert (normal.shape, normal.dtype) == ((3, *SIZE), np.float32)
        assert set(np.unique(label)) <= {IGNORED, *range(len(CLASSES))}
        assert np.all((depth == 0) | (depth > 0.1))
        assert 20 < image.mean() < 235
        assert image.std() > 5


def test_all_classes_are_seen_in_a_good_share_of_scenes(sensed):
    share = {name: np.mean([np.any(s.label == k) for s in sensed]) for k, name in enumerate(CLASSES)}
    assert min(share.values()) > 0.15, share
    pixels = np.bincount(np.concatenate([s.label[s.label >= 0] for s in sensed]), minlength=len(CLASSES))
    assert pixels.max() / pixels.sum() < 0.5


def test_some_depth_is_missing_but_never_most_of_it_and_few_labels_are(sensed):
    missing = [np.mean(s.depth == 0) for s in sensed]
    assert 0.03 < np.mean(missing) < 0.2
    assert max(missing) < 0.5
    assert 0.005 < np.mean([np.mean(s.label == IGNORED) for s in sensed]) < 0.15


def test_constant_predictions_of_depth_are_far_off(sensed):
    depth = np.concatenate([s.depth[s.depth > 0] for s in sensed])
    assert np.abs(depth / np.median(depth) - 1).mean() > 0.2


def test_measured_depth_is_the_true_one_but_for_a_few_percent():
    rng = stream(0, "train", 0)
    _, seen = truth(rng, (48, 64))
    got = sensing.measured(rng, seen.depth, seen.facing, np.zeros((48, 64), bool))
    known = got > 0
    off = np.abs(got / seen.depth - 1)[known]
    assert 0 < off.mean() < 0.01
    assert off.max() < 0.1


def test_depth_of_panes_and_of_what_is_far_away_is_missing_in_part():
    flat, facing = np.full((40, 60), 2.0), np.ones((40, 60))
    nothing, all_ = np.zeros((40, 60), bool), np.ones((40, 60), bool)

    def missing(depth, facing, shiny):
        got = [sensing.measured(stream(0, "train", n), depth, facing, shiny) for n in range(10)]
        return np.mean(np.array(got) == 0)

    usual = missing(flat, facing, nothing)
    assert 0 < usual < 0.05
    assert usual + 0.2 < missing(flat, facing, all_) < 0.95
    assert missing(np.full((40, 60), 12.0), facing, nothing) == 1
    assert missing(flat, np.full((40, 60), 0.02), nothing) == 1
    stepped = np.where(np.arange(60) < 30, 2.0, 3.0) * np.ones((40, 1))
    assert missing(stepped, facing, nothing) > usual


def test_labels_are_ignored_along_outlines_only():
    labels = np.zeros((30, 40), np.int8)
    labels[10:20, 10:30] = BED + 1
    got = sensing.labelled(stream(0, "train", 1), labels)
    changed = got != labels
    assert changed.any()
    assert np.all(got[changed] == IGNORED)
    outline = np.zeros_like(changed)
    for axis, by in ((0, 1), (1, 1)):
        outline |= np.roll(labels, by, axis) != labels
    assert np.all(outline[changed])


def test_a_scene_follows_from_seed_split_and_number_alone():
    one, again = view(0, "train", 3, SIZE), view(0, "train", 3, SIZE)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    others = [view(1, "train", 3, SIZE), view(0, "val", 3, SIZE), view(0, "test", 3, SIZE), view(0, "train", 4, SIZE)]
    for a, b in itertools.combinations([one, *others], 2):
        assert not np.array_equal(a.label, b.label)


def test_what_is_loaded_does_not_depend_on_how_many_views_there_are():
    few, more = load(SIZE, {"train": 2, "val": 1}), load(SIZE, {"train": 3, "test": 1})
    assert [len(few.splits["train"]), len(few.splits["val"]), len(more.splits["train"])] == [2, 1, 3]
    assert more.splits["train"].size == SIZE
    assert few.splits["train"].digest() == more.splits["train"].part([0, 1]).digest()
    assert few.splits["train"].part([0]).digest() != few.splits["val"].digest()
    batch = more.splits["train"].batch([2, 0])
    np.testing.assert_array_equal(batch.depths[0], view(0, "train", 2, SIZE).depth)


@pytest.fixture
def rendered(monkeypatch):
    """The views that were rendered."""
    found = []
    monkeypatch.setattr(rooms, "view", lambda *which: (found.append(which), view(*which))[1])
    return found


def test_rooms_are_rendered_once_and_again_when_anything_differs(rendered):
    load(SIZE, {"train": 2}, seed=5)
    load(SIZE, {"train": 2}, seed=5)
    assert rendered == [(5, "train", 0, SIZE), (5, "train", 1, SIZE)]
    for arguments in (((16, 24), {"train": 2}, 5), (SIZE, {"train": 1}, 5), (SIZE, {"train": 2}, 6)):
        before = len(rendered)
        load(*arguments)
        assert len(rendered) > before


def test_a_damaged_file_is_made_again(cache, rendered):
    digest = load(SIZE, {"train": 2}).splits["train"].digest()
    (path,) = cache.glob("*/train-depth.npy")
    data = bytearray(path.read_bytes())
    data[-5] ^= 255
    path.write_bytes(data)
    assert load(SIZE, {"train": 2}).splits["train"].digest() == digest
    assert len(rendered) == 4


def test_progress_is_told(caplog):
    with caplog.at_level(logging.INFO, "mtlbench.tasks.nyuv2"):
        load(SIZE, {"train": 2, "test": 1})
    told = [record.progress for record in caplog.records if hasattr(record, "progress")]
    assert told[0] == (0, 3)
    assert told[-1] == (3, 3)


def test_rays_end_where_geometry_says():
    rays = np.array([[0.0, 0, -1], [0, 0, -2], [0.3, 0, -1], [2, 0, -1]]).T
    eye = np.array([0.0, 0, 5])
    np.testing.assert_allclose(first_hits([of_shape(BOX)], eye, rays).far, [4, 2, np.inf, np.inf])
    np.testing.assert_allclose(first_hits([of_shape(BALL)], eye, rays).far, [4, 2, np.inf, np.inf])
    np.testing.assert_allclose(first_hits([of_shape(ROD)], eye, rays).far, [4, 2, np.inf, np.inf])
    turned = of_shape(BOX, turn=about(1, np.pi / 4))
    np.testing.assert_allclose(first_hits([turned], eye, rays).far[0], 5 - np.sqrt(2))
    both = first_hits([of_shape(BOX, (-5.0, -5, -1), (5.0, 5, 1), place=(0, 0, -9.0)), of_shape(BALL)], eye, rays)
    assert both.part.tolist() == [1, 1, 0, -1]
    behind = first_hits([of_shape(BOX)], np.array([0.0, 0, -5]), rays)
    assert np.all(np.isinf(behind.far))


def test_surfaces_have_their_normals_outwards():
    turn = casting.product(about(1, 0.7), about(0, 0.3))
    rng = np.random.RandomState(0)
    rays = rng.standard_normal((3, 400))
    eye = -3 * rays / np.sqrt((rays**2).sum(0))
    for shape in (BOX, BALL, ROD):
        piece = of_shape(shape, (-0.5, -1, -0.7), (0.5, 0.4, 0.7), turn, (0.1, 0.2, 0.3))
        for n in range(0, 400, 10):
            hits = first_hits([piece], eye[:, n], rays[:, n : n + 1])
            if hits.part[0] >= 0:
                at = eye[:, n : n + 1] + hits.far * rays[:, n : n + 1]
                normal = surfaces([piece], hits.part, at).normals
                np.testing.assert_allclose((normal**2).sum(), 1)
                for step, inside in ((1e-4, False), (-1e-4, True)):
                    local = (turn.T @ (at[:, 0] + step * normal[:, 0] - piece.place) - (0, -0.3, 0)) / (0.5, 0.7, 0.7)
                    within = {
                        BOX: np.abs(local).max() < 1,
                        BALL: (local**2).sum() < 1,
                        ROD: np.hypot(local[0], local[2]) < 1 and abs(local[1]) < 1,
                    }[shape]
                    assert within == inside


def test_what_stands_between_takes_the_light():
    light, things = np.array([0.0, 5, 0]), [of_shape(BOX)]
    places = np.array([[0.0, -3, 0], [0, 3, 0], [0, 1, 0], [4, -3, 0], [1.2, -3, 0]]).T
    assert lit(things, light, places).tolist() == [False, True, True, True, False]
    assert lit([Piece(things[0].parts, things[0].turn, things[0].place, casts=False)], light, places).all()


def test_noise_is_smooth_and_another_one_for_each_seed():
    u = np.linspace(-3, 3, 601)
    seed = np.zeros(601, np.int64)
    one = shading.noise(u, 0 * u, seed)
    assert one.min() >= 0
    assert one.max() <= 1
    assert one.std() > 0.1
    assert np.abs(np.diff(one)).max() < 0.03
    assert np.abs(shading.noise(u, 0 * u, seed + 1) - one).mean() > 0.1


def test_the_light_of_thin_things_is_mixed_with_what_is_behind(monkeypatch):
    """Averages over the pixels along outlines lie between the colours of both sides."""
    with_edges = truth(stream(0, "train", 5), SIZE)[1].light
    monkeypatch.setattr(rendering, "_outlines", lambda part: np.zeros(part.shape, bool))
    without = truth(stream(0, "train", 5), SIZE)[1].light
    changed = np.abs(with_edges - without).max(0) > 1e-6
    assert 0.02 < changed.mean() < 0.9
