"""The metrics by hand: both conventions, what is unknown, what is empty, and an exact median."""

import math

import numpy as np
import pytest
import torch

from mtlbench import Estimate, UsageError
from mtlbench.tasks.nyuv2.median import Median
from mtlbench.tasks.nyuv2.metrics import Scores, angle, objectives
from mtlbench.tasks.nyuv2.views import Batch

EVERY = ("segmentation", "depth", "normal")


def logits(classes):
    """(N, 13, H, W) of predicted classes (N, H, W)."""
    return torch.nn.functional.one_hot(torch.as_tensor(classes), 13).movedim(-1, 1).float()


def batch(labels=None, depths=None, normals=None):
    """Only what is given; the rest is of no importance."""
    nothing = torch.zeros(0)
    return Batch(
        nothing,
        nothing if labels is None else torch.as_tensor(labels),
        nothing if depths is None else torch.as_tensor(depths),
        nothing if normals is None else torch.as_tensor(normals),
    )


def tilted(degrees):
    """(N, 3, H, W) unit vectors so many degrees from (0, 0, 1)."""
    a = torch.as_tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([a.sin(), torch.zeros_like(a), a.cos()], 1).float()


def upright(shape):
    return torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(shape[0], 3, *shape[1:])


def scored(name, steps, convention="whole"):
    """The scores of one objective after steps of (prediction, truth)."""
    field = {"segmentation": "labels", "depth": "depths", "normal": "normals"}[name]
    scores = Scores([name], convention)
    for prediction, truth in steps:
        scores.update([prediction], batch(**{field: truth}))
    return scores.result()[name]


def values(found):
    return {name: e.value if isinstance(e, Estimate) else e for name, e in found.items()}


# --- segmentation


def test_miou_and_accuracy_of_a_confusion_matrix_by_hand():
    truth = [[[0, 0, 0, 1], [1, 1, 2, -1]]]
    said = [[[0, 0, 1, 1], [1, 2, 2, 5]]]
    found = values(scored("segmentation", [(logits(said), torch.tensor(truth))]))
    assert found["miou"] == pytest.approx(100 * (2 / 3 + 2 / 4 + 1 / 2) / 3)
    assert found["pixel_accuracy"] == pytest.approx(100 * 5 / 7)


def test_a_class_that_is_only_predicted_counts_as_zero_and_one_that_occurs_nowhere_not_at_all():
    found = values(scored("segmentation", [(logits([[[4, 9]]]), torch.tensor([[[4, 4]]]))]))
    assert found == {"miou": pytest.approx(25.0), "pixel_accuracy": pytest.approx(50.0)}


def test_what_is_predicted_for_ignored_pixels_makes_no_class_occur():
    found = values(scored("segmentation", [(logits([[[4, 9]]]), torch.tensor([[[4, -1]]]))]))
    assert found == {"miou": 100.0, "pixel_accuracy": 100.0}


def test_one_matrix_over_all_batches_and_not_a_mean_of_their_scores_in_both_conventions():
    steps = [(logits([[[0, 0, 0, 0]]]), torch.tensor([[[0, 0, 0, 1]]])), (logits([[[1]]]), torch.tensor([[[1]]]))]
    for convention in ("whole", "batches"):
        found = values(scored("segmentation", steps, convention))
        assert found == {"miou": pytest.approx(100 * (3 / 4 + 1 / 2) / 2), "pixel_accuracy": pytest.approx(80.0)}


def test_an_image_that_is_ignored_altogether_changes_no_value():
    some = (logits([[[0, 1]]]), torch.tensor([[[0, 0]]]))
    none = (logits([[[7, 7]]]), torch.tensor([[[-1, -1]]]))
    assert values(scored("segmentation", [some, none])) == values(scored("segmentation", [some]))


# --- depth


def test_depth_errors_by_hand_are_means_over_all_measured_pixels():
    steps = [
        (torch.tensor([[[[1.0, 5.0, 9.0]]]]), torch.tensor([[[2.0, 4.0, 0.0]]])),
        (torch.tensor([[[[8.0, 0.0, 0.0]]]]), torch.tensor([[[4.0, 0.0, 0.0]]])),
    ]
    found = values(scored("depth", steps))
    assert found == {"abs_err": pytest.approx(6 / 3), "rel_err": pytest.approx((0.5 + 0.25 + 1.0) / 3)}


def test_the_mean_of_batch_values_is_another_number():
    steps = [
        (torch.tensor([[[[1.0, 5.0, 9.0]]]]), torch.tensor([[[2.0, 4.0, 0.0]]])),
        (torch.tensor([[[[8.0, 0.0, 0.0]]]]), torch.tensor([[[4.0, 0.0, 0.0]]])),
        (torch.tensor([[[[3.0, 0.0, 0.0]]]]), torch.tensor([[[0.0, 0.0, 0.0]]])),  # no value of its own
    ]
    found = scored("depth", steps, "batches")
    assert found == {"abs_err": pytest.approx((1 + 4) / 2), "rel_err": pytest.approx((0.375 + 1.0) / 2)}


# --- normals


def test_angles_by_hand_and_shares_strictly_below_each_limit():
    degrees = torch.tensor([[[0.0, 11.25, 20.0, 22.5, 30.0, 90.0]]])
    found = values(scored("normal", [(7 * tilted(degrees), upright(degrees.shape))]))
    assert found == {
        "mean": pytest.approx(173.75 / 6, abs=1e-5),
        "median": pytest.approx(21.25, abs=1e-5),
        "within_11.25": pytest.approx(100 / 6),
        "within_22.5": pytest.approx(100 * 3 / 6),
        "within_30": pytest.approx(100 * 4 / 6),
    }


def test_an_angle_of_exactly_thirty_degrees_is_not_within_thirty():
    prediction = torch.tensor([0.0, 1.0, math.sqrt(3)]).view(1, 3, 1, 1)
    truth = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert angle(prediction, truth).item() == 30.0
    assert values(scored("normal", [(prediction, truth)]))["within_30"] == 0.0


def test_small_and_large_angles_are_exact_where_the_arc_cosine_is_not():
    degrees = torch.tensor([[[1e-3, 1e-2, 0.1, 179.9, 180.0]]])
    assert angle(tilted(degrees), upright(degrees.shape)).flatten().tolist() == pytest.approx(
        degrees.flatten().tolist(), rel=1e-5
    )


def test_the_length_of_a_prediction_is_of_no_importance_and_none_at_all_is_a_right_angle():
    truth = upright((1, 1, 1))
    for length in (1e-30, 1.0, 1e30):
        assert angle(length * tilted([[[40.0]]]), truth).item() == pytest.approx(40.0, abs=1e-4)
    assert angle(torch.zeros(1, 3, 1, 1), truth).item() == 90.0


def test_medians_of_batches_are_averaged_in_their_convention_and_joined_in_the_other():
    first, second = torch.tensor([[[1.0, 2.0, 30.0]]]), torch.tensor([[[50.0, 70.0, 80.0]]])
    steps = [(tilted(d), upright(d.shape)) for d in (first, second)]
    assert values(scored("normal", steps))["median"] == pytest.approx(40.0, abs=1e-4)
    found = scored("normal", steps, "batches")
    assert found["median"] == pytest.approx((2 + 70) / 2, abs=1e-4)
    assert found["mean"] == pytest.approx((11 + 200 / 3) / 2, abs=1e-4)
    assert found["within_30"] == pytest.approx((200 / 3 + 0) / 2, abs=1e-4)


def test_unknown_normals_do_not_count():
    truth = upright((1, 1, 2)).clone()
    truth[..., 1] = 0
    found = values(scored("normal", [(tilted([[[10.0, 60.0]]]), truth)]))
    assert (found["mean"], found["median"], found["within_11.25"]) == (*[pytest.approx(10.0, abs=1e-5)] * 2, 100.0)


# --- what all have in common


def test_objectives_are_scored_in_the_order_asked_for_with_the_metrics_that_are_declared():
    generator = torch.Generator().manual_seed(0)
    depths = 1 + torch.rand(2, 2, 3, generator=generator)
    given = batch(torch.randint(13, (2, 2, 3), generator=generator), depths, upright((2, 2, 3)))
    predictions = {
        "segmentation": torch.randn(2, 13, 2, 3, generator=generator),
        "depth": torch.ones(2, 1, 2, 3),
        "normal": torch.randn(2, 3, 2, 3, generator=generator),
    }
    names = ("normal", "segmentation")
    for convention in ("whole", "batches"):
        declared = {o.name: [m.name for m in o.metrics] for o in objectives(convention)}
        assert list(declared) == list(EVERY)
        scores = Scores(names, convention)
        scores.update([predictions[name] for name in names], given)
        assert [(o, list(metrics)) for o, metrics in scores.result().items()] == [(n, declared[n]) for n in names]


def test_conventions_cannot_be_mixed_up_in_tables():
    whole, batches = (
        {(o.name, m.name): m.signature for o in objectives(c) for m in o.metrics} for c in ("whole", "batches")
    )
    assert all((whole[key] != batches[key]) == (key[0] != "segmentation") for key in whole)


@pytest.mark.parametrize("convention", ["whole", "batches"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", EVERY)
def test_a_prediction_that_is_not_finite_shows_in_every_score(name, bad, convention):
    channels, truth = {
        "segmentation": (13, torch.zeros(1, 1, 3, dtype=torch.int64)),
        "depth": (1, torch.ones(1, 1, 3)),
        "normal": (3, upright((1, 1, 3))),
    }[name]
    prediction = torch.ones(1, channels, 1, 3)
    prediction[0, -1, 0, 1] = bad
    found = values(scored(name, [(prediction, truth)], convention))
    assert not any(map(math.isfinite, found.values()))


@pytest.mark.parametrize("name", EVERY)
def test_a_split_without_a_known_pixel_says_so(name):
    truth = {
        "segmentation": torch.full((1, 1, 2), -1),
        "depth": torch.zeros(1, 1, 2),
        "normal": torch.zeros(1, 3, 1, 2),
    }
    with pytest.raises(UsageError, match="No image of the split has a pixel with a known"):
        scored(name, [(torch.ones(1, {"segmentation": 13, "depth": 1, "normal": 3}[name], 1, 2), truth[name])])


def test_batches_of_any_size_give_the_same_scores_over_the_whole_split():
    generator = torch.Generator().manual_seed(1)
    n, h, w = 7, 4, 5
    depths = torch.rand(n, h, w, generator=generator) - 0.3
    given = batch(
        torch.randint(-1, 13, (n, h, w), generator=generator),
        depths.clamp(min=0),
        torch.randn(n, 3, h, w, generator=generator) * (depths > 0)[:, None],
    )
    predictions = [torch.randn(n, c, h, w, generator=generator) for c in (13, 1, 3)]
    results = []
    for size in (1, 2, 7):
        scores = Scores(EVERY)
        for part in torch.arange(n).split(size):
            scores.update([p[part] for p in predictions], Batch(given.images, *(x[part] for x in given[1:])))
        results.append(scores.result())
    assert results[0] == results[1] == results[2]


def test_errors_are_those_of_a_bootstrap_over_images():
    generator = torch.Generator().manual_seed(2)
    n, h, w = 120, 6, 8
    hard = torch.rand(n, 1, 1, generator=generator)  # an image is easy or hard as a whole
    labels = torch.randint(5, (n, h, w), generator=generator)
    wrong = torch.rand(n, h, w, generator=generator) < hard
    said = torch.where(wrong, torch.randint(5, (n, h, w), generator=generator), labels)
    labels[torch.rand(n, h, w, generator=generator) < 0.5 * hard] = -1
    depths = (torch.rand(n, h, w, generator=generator) * 4 - 1).clamp(min=0)
    predictions = [
        logits(said),
        (depths + hard * torch.rand(n, h, w, generator=generator))[:, None],
        tilted(60 * hard.expand(n, h, w)),
    ]
    given = batch(labels, depths, upright((n, h, w)) * (depths > 0)[:, None])

    def result(chosen):
        scores = Scores(EVERY)
        scores.update([p[chosen] for p in predictions], Batch(given.images, *(x[chosen] for x in given[1:])))
        return {(o, m): e for o, metrics in scores.result().items() for m, e in metrics.items()}

    found = result(torch.arange(n))
    drawn = [result(torch.randint(n, (n,), generator=generator)) for _ in range(200)]
    for key, estimate in found.items():
        assert estimate.count == n
        if key == ("normal", "median"):
            assert estimate.error is None
        else:
            assert estimate.error == pytest.approx(np.std([d[key].value for d in drawn]), rel=0.2), key


def test_one_image_tells_no_error():
    found = scored("segmentation", [(logits([[[0, 1]]]), torch.tensor([[[0, 0]]]))])
    assert {e.error for e in found.values()} == {None}


# --- the median


def median(values, parts):
    """Of an array, added in so many parts."""
    found = Median()
    for part in np.array_split(values, parts):
        found.add(part)
    return found.result()


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101, 5000])
@pytest.mark.parametrize("kind", ["angles", "ties", "wide", "two"])
def test_the_median_is_exact_however_values_come_in(kind, count):
    generator = np.random.default_rng(count)
    drawn = {
        "angles": lambda: 180 * generator.random(count) ** 3,
        "ties": lambda: generator.integers(0, 5, count),
        "wide": lambda: np.exp(generator.normal(0, 15, count)),
        "two": lambda: np.where(np.arange(count) % 2, 1.0, 1e6),  # both middle values are far apart
    }[kind]().astype(np.float32)
    right = float(np.median(drawn.astype(np.float64)))
    for parts in (1, 2, 7, 300):
        assert median(drawn, parts) == right


def test_neighbouring_floats_of_one_high_half_and_of_two_are_told_apart():
    start = np.float32(22.5)
    for first in (start, np.nextafter(start, np.float32(0)), np.float32(0), np.float32(65535 * 2.0**-149)):
        second = np.nextafter(first, np.float32(np.inf))
        assert median(np.array([second, first, second], dtype=np.float32), 1) == float(second)
        assert median(np.array([second, first], dtype=np.float32), 2) == (float(first) + float(second)) / 2


def test_the_median_of_many_blocks(monkeypatch):
    monkeypatch.setattr("mtlbench.tasks.nyuv2.median.BLOCK", 64)
    drawn = np.random.default_rng(0).random(1000, dtype=np.float32)
    assert median(drawn, 3) == float(np.median(drawn.astype(np.float64)))


def test_added_values_may_change_afterwards():
    found, drawn = Median(), np.ones(3, dtype=np.float32)
    found.add(drawn)
    drawn[:] = 5
    assert found.result() == 1.0


def test_a_negative_zero_is_a_zero_and_other_negative_values_are_refused():
    assert median(np.array([-0.0, 1.0, 2.0], dtype=np.float32), 1) == 1.0
    with pytest.raises(ValueError, match=r"no negative values, such as -1\.0"):
        median(np.array([1.0, -1.0], dtype=np.float32), 1)
    with pytest.raises(ValueError, match="float32 values, not float64"):
        Median().add(np.ones(2))


def test_nothing_and_not_a_number_have_no_median():
    assert math.isnan(Median().result())
    assert math.isnan(median(np.array([1.0, math.nan, 2.0], dtype=np.float32), 2))
    assert median(np.array([1.0, math.inf, math.inf], dtype=np.float32), 2) == math.inf
