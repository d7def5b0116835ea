"""The task as a whole: splits, learning, scores of every objective, what is told and what is drawn."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mtlbench.catalogue.variants import resolve, task_data
from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks import nyuv2
from mtlbench.tasks.nyuv2 import NYUv2, preparing
from mtlbench.tasks.nyuv2.baselines import baselines
from mtlbench.tasks.nyuv2.metrics import Scores
from mtlbench.tasks.nyuv2.preparing import SELECTED_ON_TEST, carved
from mtlbench.tasks.nyuv2.previews import PICTURES, preview
from mtlbench.tasks.nyuv2.views import Source, Views

CPU = torch.device("cpu")
SMALL = {"size": [32, 48], "rooms.train": 9, "rooms.val": 3, "rooms.test": 5}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def build(variant="rooms", protocol=None, **options):
    changed = {f"options.{key}": value for key, value in {**SMALL, **options}.items()}
    changed |= {"batch_size": 4}
    variant, found = resolve("nyuv2", variant, protocol, changed)
    return NYUv2(variant, found, None, CPU)


@pytest.fixture(scope="module")
def task():
    return build()


def views(count, seed=0, size=(8, 12)):
    """Views of anything, with everything that can be missing missing somewhere."""
    draw = np.random.RandomState(seed)
    labels = draw.randint(-1, 13, (count, *size)).astype(np.int8)
    depths = draw.uniform(1, 5, (count, *size)).astype(np.float32) * (draw.uniform(size=(count, *size)) > 0.2)
    normals = draw.normal(size=(count, 3, *size)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    images = draw.randint(0, 256, (count, 3, *size)).astype(np.uint8)
    return Views(images, labels, depths.astype(np.float32), normals)


def drawn(task, epoch=0, seed=3):
    return list(task.batches(epoch, torch.Generator().manual_seed(seed)))


# --- batches


def test_an_epoch_shows_each_view_once_at_most_and_whole_batches_only(task):
    plain = build(**{"augmentation.flip": False})
    batches = drawn(plain)
    assert [len(b.images) for b in batches] == [4, 4]
    assert plain.steps_per_epoch == 2
    train = plain.data.splits["train"].batch(range(9))
    where = [(train.images == image).flatten(1).all(1).nonzero().item() for b in batches for image in b.images]
    assert len(set(where)) == 8
    for batch, chosen in zip(batches, (where[:4], where[4:]), strict=True):
        for part, whole in zip(batch, train, strict=True):
            assert torch.equal(part, whole[chosen])


def test_batches_follow_from_the_generator_alone(task):
    same, again, other = drawn(task), drawn(task), drawn(task, seed=4)
    for one, two in zip(same, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(same[0].images, other[0].images)


def test_images_are_scaled_to_one_whatever_they_are_kept_as():
    whole = views(2)
    floats = Views((whole.images / 255).astype(np.float32), whole.labels, whole.depths, whole.normals)
    torch.testing.assert_close(whole.batch([1, 0]).images, floats.batch([1, 0]).images)
    assert whole.batch([0]).images.max() <= 1


# --- learning and scores


def test_each_objective_learns_a_batch_by_heart_and_its_scores_say_so(task):
    torch.manual_seed(0)
    model, batch = task.model(), drawn(task)[0]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = torch.stack(task.losses(model, batch, range(3))).detach()
    for _ in range(60):
        optimizer.zero_grad()
        sum(task.losses(model, batch, range(3))).backward()
        optimizer.step()
    after = torch.stack(task.losses(model, batch, range(3))).detach()
    assert (after < 0.6 * before).all(), (before, after)
    scores = Scores(nyuv2.NAMES)
    scores.update(model(batch.images, nyuv2.NAMES), batch)
    found = scores.result()
    assert found["segmentation"]["pixel_accuracy"].value > 60
    assert found["depth"]["abs_err"].value == pytest.approx(after[1].item(), rel=1e-4)


def test_evaluation_covers_the_whole_split_whatever_the_batches_and_names_every_declared_metric(task):
    torch.manual_seed(0)
    model = task.model().eval()
    with torch.no_grad():
        found = task.evaluate(model, "test", [0, 1, 2])
        other = build(scoring_batch=2).evaluate(model, "test", [0, 1, 2])
        part = task.evaluate(model, "test", [2])
    assert {o.name: [m.name for m in o.metrics] for o in task.objectives} == {o: [*m] for o, m in found.items()}
    for objective, by_metric in found.items():
        for metric, score in by_metric.items():
            assert score.count == 5
            assert other[objective][metric].value == pytest.approx(score.value, rel=1e-4)
    assert part["normal"]["mean"].value == pytest.approx(found["normal"]["mean"].value, rel=1e-5)


def test_scores_of_batches_are_another_thing_and_signed_so(task):
    torch.manual_seed(0)
    model = task.model().eval()
    by_batch = build(scoring="batches", scoring_batch=2)
    with torch.no_grad():
        one, two = (t.evaluate(model, "test", [2])["normal"] for t in (task, by_batch))
    assert two["median"] != one["median"].value
    first, second = (t.objectives[2].metrics[1].signature for t in (task, by_batch))
    assert first != second


def test_what_is_shared_is_reached_by_every_objective(task):
    torch.manual_seed(0)
    model, batch = task.model(), drawn(task)[0]
    names, shared = zip(*task.shared(model), strict=True)
    for loss in task.losses(model, batch, range(3)):
        for name, gradient in zip(names, torch.autograd.grad(loss, shared, retain_graph=True), strict=True):
            assert gradient.abs().max() > 0, name
    heads = {name.split(".")[0] for name, _ in model.named_parameters() if name not in names}
    assert heads == {"heads"}


# --- splits


def test_carving_keeps_scenes_whole_and_takes_the_share_that_is_asked_for():
    scenes = [n % 100 for n in range(700)]
    train, val = carved(scenes, 0.1)
    assert sorted(train + val) == list(range(700))
    assert not {scenes[n] for n in train} & {scenes[n] for n in val}
    assert 70 <= len(val) < 77
    assert (train, val) == carved(scenes, 0.1)


def test_one_scene_is_left_to_train_on_however_large_the_share_and_a_single_one_is_refused():
    train, val = carved([0, 0, 0, 1], 0.5)
    assert train
    assert val
    with pytest.raises(UsageError, match="of one scene"):
        carved([4, 4, 4], 0.5)


def with_source(monkeypatch, protocol):
    source = Source({"train": views(40), "test": views(6, 1)}, scenes=[n // 4 for n in range(40)])
    monkeypatch.setitem(preparing.LOADERS, "mtan", lambda o, root: source)
    variant, found = resolve("nyuv2", "mtan", protocol, {"options.trunk": "small"})
    return NYUv2(variant, found, None, CPU)


def test_validation_is_whole_scenes_of_train_where_the_data_have_none(monkeypatch):
    task = with_source(monkeypatch, "segnet")
    assert task.facts["views"] == {"train": 36, "val": 4, "test": 6}
    assert task.facts["validation"] == "scenes"
    assert "caveats" not in task.facts


def test_validation_on_the_test_set_is_told_in_record_table_and_before_training(monkeypatch):
    task = with_source(monkeypatch, "mtan-line")
    assert task.facts["views"] == {"train": 40, "val": 6, "test": 6}
    assert task.facts["validation"] == "test"
    assert SELECTED_ON_TEST in task.facts["caveats"]
    assert SELECTED_ON_TEST in task.notices


def test_published_protocols_select_as_published_and_every_other_one_never_on_test():
    for name, protocol in task_data("nyuv2").protocols.items():
        on_test = protocol.options.get("validation") == "test"
        assert on_test == (name in ("mtan-line", "resnet50")), name


def test_views_on_disk_that_are_of_another_size_than_the_protocol_says_are_refused(tmp_path):
    for folder, count in (("train", 4), ("val", 2)):
        for kind, shape in (("image", (6, 8, 3)), ("label", (6, 8)), ("depth", (6, 8, 1)), ("normal", (6, 8, 3))):
            (tmp_path / "mtan" / folder / kind).mkdir(parents=True)
            for n in range(count):
                np.save(tmp_path / "mtan" / folder / kind / f"{n}.npy", np.full(shape, 1 if kind == "label" else 0.5))
    variant, protocol = resolve("nyuv2", "mtan", "segnet", {"options.trunk": "small"})
    with pytest.raises(
        UsageError, match=r"size=\[288, 384\] does not fit .* measure 6 x 8: protocol.options.size=none"
    ):
        NYUv2(variant, protocol, tmp_path, CPU)


@pytest.mark.parametrize("variant", ["mtan", "labeled", "folder"])
def test_data_that_are_not_there_are_asked_for_with_their_official_source(variant, tmp_path):
    found, protocol = resolve("nyuv2", variant, None, {})
    for root in (tmp_path, None):
        with pytest.raises(DataMissing, match=r"(?s)https://.*put it(s files)? into"):
            NYUv2(found, protocol, root, CPU)


# --- what is told


def test_answers_that_look_at_no_image_are_scored_by_the_same_metrics():
    train, test = views(30), views(7, 1)
    found = baselines(train, test, "whole", 4)
    most = np.bincount(train.labels[train.labels >= 0], minlength=13).argmax()
    known = test.labels[test.labels >= 0]
    assert found["segmentation"]["constant"]["pixel_accuracy"] == pytest.approx(100 * (known == most).mean())
    middle = np.median(train.depths[train.depths > 0])
    measured = test.depths[test.depths > 0]
    assert found["depth"]["constant"]["abs_err"] == pytest.approx(np.abs(measured - middle).mean(), rel=1e-5)
    mean = train.normals.mean((0, 2, 3))
    cosines = np.tensordot(test.normals, mean / np.linalg.norm(mean), axes=(1, 0))
    assert found["normal"]["constant"]["mean"] == pytest.approx(np.degrees(np.arccos(cosines)).mean(), rel=1e-4)
    place = np.array([np.median(column[column > 0]) for column in train.depths.reshape(30, -1).T]).reshape(8, 12)
    errors = np.abs(test.depths - place)[test.depths > 0]
    assert found["depth"]["by place"]["abs_err"] == pytest.approx(errors.mean(), rel=1e-5)


def test_a_pixel_that_no_training_view_measured_has_an_answer_all_the_same():
    train = views(3)
    train.depths[:, 0, 0] = 0
    assert np.isfinite(baselines(train, views(2, 1), "whole", 2)["depth"]["by place"]["abs_err"])


def test_previews_show_images_truth_and_prediction_of_each_objective(task):
    torch.manual_seed(0)
    model = task.model().eval()
    with torch.no_grad():
        files = task.predictions(model, "test", [0, 2])
    assert [*files] == ["segmentation.png", "normal.png"]
    for content in files.values():
        picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert picture.shape[0] > 300
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("objective", nyuv2.NAMES)
def test_a_preview_of_a_view_without_any_truth_is_drawn(objective):
    batch = views(1).batch([0])
    empty = batch._replace(
        labels=torch.full_like(batch.labels, -1),
        depths=torch.zeros_like(batch.depths),
        normals=torch.zeros_like(batch.normals),
    )
    channels = {"segmentation": 13, "depth": 1, "normal": 3}[objective]
    assert preview(objective, empty, torch.rand(1, channels, 8, 12)).startswith(b"\x89PNG")


def test_the_truth_looks_the_same_as_a_perfect_prediction():
    batch = views(2).batch([0, 1])
    batch = batch._replace(labels=batch.labels.clamp(min=0), depths=batch.depths.clamp(min=1))
    perfect = {
        "segmentation": torch.nn.functional.one_hot(batch.labels, 13).permute(0, 3, 1, 2).float(),
        "depth": batch.depths[:, None],
        "normal": batch.normals * 5,
    }
    for name, prediction in perfect.items():
        truth, guess, _ = PICTURES[name](batch, prediction)
        np.testing.assert_allclose(np.asarray(truth, dtype=float), np.asarray(guess, dtype=float), atol=1e-5)


# --- mistakes


def test_unknown_options_and_values_are_refused_by_name():
    with pytest.raises(UsageError, match=r"protocol.options.trunk"):
        build(trunk="vgg")
    with pytest.raises(UsageError, match=r"protocol.options.rooms.train"):
        build(**{"rooms.train": 0})
