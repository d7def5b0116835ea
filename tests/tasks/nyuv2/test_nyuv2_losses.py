"""The losses of the three objectives: values by hand, and pixels without a known truth that move nothing."""

import math

import pytest
import torch

from mtlbench.tasks.nyuv2 import losses

H, W = 3, 4


def truth(generator):
    """Labels, depths and normals, a quarter of the pixels unknown, two images."""
    labels = torch.randint(13, (2, H, W), generator=generator)
    depths = 1 + torch.rand(2, H, W, generator=generator)
    normals = torch.nn.functional.normalize(torch.randn(2, 3, H, W, generator=generator), dim=1)
    unknown = torch.rand(2, H, W, generator=generator) < 0.25
    labels[unknown], depths[unknown] = -1, 0
    return labels, depths, normals * ~unknown[:, None], unknown


CASES = {"segmentation": 13, "depth": 1, "normal": 3}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def predicted(channels, generator):
    return torch.randn(2, channels, H, W, generator=generator, dtype=torch.float64).requires_grad_()


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    labels = torch.tensor([[[0, 12, -1]]])
    assert losses.segmentation(torch.zeros(1, 13, 1, 3), labels).item() == pytest.approx(math.log(13))


def test_cross_entropy_is_a_mean_over_pixels_of_the_batch_and_not_over_images():
    labels = torch.tensor([[[0, -1, -1]], [[1, 1, 1]]])
    logits = torch.zeros(2, 13, 1, 3)
    logits[1, 1] = 100.0  # three pixels without loss
    assert losses.segmentation(logits, labels).item() == pytest.approx(math.log(13) / 4)


def test_depth_is_the_mean_absolute_error_over_measured_pixels():
    prediction = torch.tensor([[[[1.0, 5.0, 7.0]]]])
    assert losses.depth(prediction, torch.tensor([[[2.0, 2.0, 0.0]]])).item() == pytest.approx(2.0)


def test_normal_is_one_minus_the_cosine_whatever_the_length_of_the_prediction():
    normals = torch.zeros(1, 3, 1, 4)
    normals[0, 2, 0, :3] = 1.0  # the fourth is unknown
    prediction = torch.tensor([[0.0, 0.0, 5.0], [0.0, 3.0, 0.0], [0.0, 0.0, -0.5], [1.0, 1.0, 1.0]]).T.view(1, 3, 1, 4)
    assert losses.normal(prediction, normals).item() == pytest.approx((0 + 1 + 2) / 3)


def test_a_normal_whose_components_sum_to_zero_is_known():
    normals = torch.tensor([0.6, -0.6, 0.0]).div(0.6 * math.sqrt(2)).view(1, 3, 1, 1)
    assert losses.normal(-normals, normals).item() == pytest.approx(2.0)


@pytest.mark.parametrize("name", CASES)
def test_only_pixels_with_a_known_truth_get_a_gradient(name, generator):
    *truths, unknown = truth(generator)
    prediction = predicted(CASES[name], generator)
    getattr(losses, name)(prediction, dict(zip(CASES, truths, strict=True))[name]).backward()
    assert (prediction.grad.movedim(1, -1)[unknown] == 0).all()
    assert (prediction.grad.abs().sum(1)[~unknown] > 0).all()


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name, generator):
    *truths, _ = truth(generator)
    known = dict(zip(CASES, truths, strict=True))[name]
    known = known.double() if known.is_floating_point() else known
    assert torch.autograd.gradcheck(lambda p: getattr(losses, name)(p, known), predicted(CASES[name], generator))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_without_a_known_pixel_has_loss_and_gradient_zero(name, generator):
    shape = (2, 3, H, W) if name == "normal" else (2, H, W)
    known = torch.full(shape, -1) if name == "segmentation" else torch.zeros(shape)
    prediction = predicted(CASES[name], generator)
    loss = getattr(losses, name)(prediction, known)
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


def test_depth_predicted_as_infinity_where_nothing_was_measured_does_no_harm():
    prediction = torch.tensor([[[[1.0, math.inf]]]], requires_grad=True)
    loss = losses.depth(prediction, torch.tensor([[[2.0, 0.0]]]))
    loss.backward()
    assert loss.item() == 1.0
    assert prediction.grad.tolist() == [[[[-1.0, 0.0]]]]


def test_a_predicted_normal_of_zero_has_a_bounded_gradient():
    prediction = torch.zeros(1, 3, 1, 1, requires_grad=True)
    loss = losses.normal(prediction, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1))
    loss.backward()
    assert loss.item() == 1.0
    assert prediction.grad.norm() <= 1 / losses.SHORTEST + 1


@pytest.mark.parametrize("name", CASES)
def test_losses_of_predictions_in_half_precision_are_summed_in_float32(name, generator):
    *truths, _ = truth(generator)
    known = dict(zip(CASES, truths, strict=True))[name].repeat_interleave(500, 0)
    prediction = predicted(CASES[name], generator).detach().repeat_interleave(500, 0).bfloat16()
    loss = getattr(losses, name)(prediction, known)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(getattr(losses, name)(prediction.double(), known).item(), rel=1e-4)
