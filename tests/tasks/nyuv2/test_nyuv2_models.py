"""The models: shapes, what is shared, parameters as published, SegNet's unpooling and masks, weights from files."""

import copy
import hashlib
import subprocess
import sys
import urllib.error
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mtlbench.errors import UsageError
from mtlbench.tasks._vision import declare_operators
from mtlbench.tasks.nyuv2.models import CHANNELS, TRUNKS, build
from mtlbench.tasks.nyuv2.models.segnet import Split

NAMES = list(CHANNELS)


@pytest.fixture
def vision():
    declare_operators()
    return pytest.importorskip("torchvision")


@cache
def built(trunk):
    torch.manual_seed(0)
    return build(trunk).eval()


@pytest.fixture(params=TRUNKS)
def trunk(request):
    if request.param == "resnet50":
        request.getfixturevalue("vision")
    return request.param


@pytest.fixture
def model(trunk):
    return built(trunk)


@pytest.fixture
def shape(trunk):
    """The model without memory: what is connected to what costs nothing to find out."""
    with torch.device("meta"):
        return build(trunk)


def images(*size, seed=0):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def predict(model, *size, names=NAMES):
    with torch.no_grad():
        return model(images(*size), names)


@pytest.mark.parametrize("size", [(32, 64), (33, 47)])
def test_predictions_have_the_size_of_the_image_whatever_it_is(model, size):
    found = predict(model, *size)
    assert [tuple(p.shape) for p in found] == [(2, 13, *size), (2, 1, *size), (2, 3, *size)]
    assert all(p.isfinite().all() for p in found)


def test_a_step_reaches_every_parameter_with_a_finite_gradient(model):
    training = copy.deepcopy(model).train()
    sum(p.square().mean() for p in training(images(32, 64), NAMES)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in training.parameters())
    assert all(p.grad.any() for name, p in training.named_parameters() if name.endswith("weight"))


def test_heads_that_are_asked_for_answer_the_same_alone_and_no_other_runs(model):
    ran = []
    trunk = getattr(model, "trunk", None) or model.encoder
    counted = {"trunk": trunk, **model.heads}
    hooks = [m.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, m in counted.items()]
    try:
        whole = predict(model, 32, 48)
        assert ran == ["trunk", *NAMES]
        ran.clear()
        some = predict(model, 32, 48, names=["normal", "segmentation"])
        assert ran == ["trunk", "normal", "segmentation"]
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(some, [whole[2], whole[0]], rtol=0, atol=0)


def test_shared_are_exactly_the_parameters_that_all_objectives_reach(shape):
    parameters = dict(shape.named_parameters())
    reached = {name: set() for name in parameters}
    predictions = shape(torch.empty(2, 3, 32, 64, device="meta"), NAMES)
    for objective, prediction in zip(NAMES, predictions, strict=True):
        gradients = torch.autograd.grad(prediction.sum(), parameters.values(), allow_unused=True, retain_graph=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            reached[name] |= {objective} if gradient is not None else set()
    shared = dict(shape.shared())
    assert all(parameters[name] is parameter for name, parameter in shared.items())
    assert {name for name, by in reached.items() if by == set(NAMES)} == set(shared)
    own = {name: by for name, by in reached.items() if name not in shared}
    assert all(len(by) == 1 and next(iter(by)) in name.split(".") for name, by in own.items())


def test_shared_parameters_come_in_the_order_of_the_forward_pass(shape):
    order = []
    for name, module in shape.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    shape(torch.empty(2, 3, 32, 64, device="meta"), NAMES)
    first = {name: place for place, name in reversed(list(enumerate(order)))}
    places = [first[name.rpartition(".")[0]] for name, _ in shape.shared()]
    assert all(a <= b for a, b in pairwise(places))


def test_a_state_loads_into_a_fresh_model(model, shape):
    shape.load_state_dict(model.state_dict(), assign=True)
    torch.testing.assert_close(predict(shape.eval(), 32, 32), predict(model, 32, 32), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("trunk", "weights", "told"),
    [
        ("resnet", "none", "Did you mean 'resnet50'?"),
        ("resnet50", "coco", "Known: imagenet, none"),
        ("small", "imagenet", "is for trunk=resnet50"),
    ],
)
def test_what_there_is_not_is_refused_by_name(trunk, weights, told):
    with pytest.raises(UsageError, match=told.replace("?", r"\?")):
        build(trunk, weights)


# The small one


def test_the_small_model_costs_a_quarter_of_a_gigaflop_an_image():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build("small").eval()(torch.empty(1, 3, 96, 128), NAMES)
    assert counter.get_total_flops() < 0.26e9


def test_a_prediction_of_the_small_model_depends_on_the_whole_image():
    asked = images(96, 128).requires_grad_()
    depth = built("small")(asked, ["depth"])[0]
    (gradient,) = torch.autograd.grad(depth[:, :, 5, 5].sum(), asked)
    assert (functional.max_pool2d(gradient.abs(), 16) > 0).all()


# SegNet, as published


def convolution(read, written, side=3):
    return side * side * read * written + written  # with a bias


def normalised(read, written, side=3):
    return convolution(read, written, side) + 2 * written


def chain(*channels):
    return sum(normalised(a, b) for a, b in pairwise(channels))


def segnet_head(count):
    return convolution(64, 64) + convolution(64, count, side=1)


ENCODER = [(3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)]
DECODER = [(512, 512, 512, 512), (512, 256, 256, 256), (256, 128, 128, 128), (128, 64, 64), (64, 64, 64)]
SEGNET = sum(chain(*level) for level in ENCODER + DECODER)
SEGNET_HEADS = sum(segnet_head(count) for count in (13, 1, 3))
CARRIERS = [(64, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
CARRIERS += [(512, 512), (512, 256), (256, 128), (128, 64), (64, 64)]
MASKS = [(64, 64), (256, 128), (512, 256), (1024, 512), (1024, 512)]
MASKS += [(1024, 512), (768, 256), (384, 128), (192, 64), (128, 64)]


def counted(model):
    return sum(p.numel() for p in model.parameters())


def test_segnet_for_one_task_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert counted(Split({"segmentation": 13})) == 24_981_069  # the unit in which MTAN's code counts the others


@pytest.mark.parametrize(
    ("trunk", "shared", "own"),
    [
        ("segnet_split", SEGNET, SEGNET_HEADS),
        (
            "segnet_mtan",
            SEGNET + sum(chain(*pair) for pair in CARRIERS),
            SEGNET_HEADS + 3 * sum(normalised(a, b, side=1) + normalised(b, b, side=1) for a, b in MASKS),
        ),
    ],
)
def test_segnets_have_the_parameters_of_the_published_layers(trunk, shared, own):
    with torch.device("meta"):
        model = build(trunk)
    assert sum(p.numel() for _, p in model.shared()) == shared
    assert counted(model) == shared + own


def test_segnet_begins_with_normal_weights_of_glorots_variance_and_no_bias():
    for module in built("segnet_split").modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            fan = (module.in_channels + module.out_channels) * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)
            assert not module.bias.any()


@pytest.mark.parametrize("size", [(32, 64), (33, 47)])
def test_unpooling_puts_maxima_where_they_were_and_nothing_elsewhere(size):
    with torch.no_grad():
        features = built("segnet_split").trunk(images(*size))
    lasts = [last for _, last in reversed(features.encoded)]
    poured = [functional.max_pool2d(lasts[0], 2, ceil_mode=True), *features.decoded[:-1]]
    for last, read, unpooled in zip(lasts, poured, features.unpooled, strict=True):
        assert unpooled.shape == last.shape
        blocks = functional.max_pool2d(last, 2, ceil_mode=True).repeat_interleave(2, 2).repeat_interleave(2, 3)
        maxima = last == blocks[..., : last.shape[2], : last.shape[3]]
        assert maxima[unpooled != 0].all()
        # The convolutions' results are not negative, so that what was read is the maximum of its block again.
        torch.testing.assert_close(functional.max_pool2d(unpooled, 2, ceil_mode=True), read, rtol=0, atol=0)
        assert (unpooled != 0).sum() == (read != 0).sum()


def test_masks_choose_among_the_features_of_the_trunk():
    model = copy.deepcopy(built("segnet_mtan"))
    asked = images(32, 64)
    for name, opening in (("depth", 60.0), ("normal", -200.0)):
        for part in model.masks[name].modules():
            if isinstance(part, nn.Sequential):
                nn.init.zeros_(part[-2].weight)
                nn.init.constant_(part[-2].bias, opening)
    carried = []
    for carrier in model.carriers.encoder:
        carrier.register_forward_pre_hook(lambda _, given: carried.append(given[0].clone()))
    with torch.no_grad():
        features = model.trunk(asked)
        lasts = [last for _, last in features.encoded]
        through, nothing = model(asked, ["depth", "normal"])
        torch.testing.assert_close(carried, [*lasts, *map(torch.zeros_like, lasts)])
        torch.testing.assert_close(through, model.heads["depth"](features.decoded[-1]))
        torch.testing.assert_close(nothing, model.heads["normal"](torch.zeros_like(features.decoded[-1])))


# ResNet-50, as published


def test_the_resnet_has_the_parameters_of_the_published_layers(vision):
    with torch.device("meta"):
        model = build("resnet50")
    published = vision.models.ResNet50_Weights.IMAGENET1K_V1.meta["num_params"]
    classifier = 2048 * 1000 + 1000
    assert sum(p.numel() for _, p in model.shared()) == published - classifier == 23_508_032
    plain = {  # read, written, side: without a bias, and normalised
        "branches": [(2048, 256, 1), *[(2048, 256, 3)] * 3, (2048, 256, 1)],
        "joined": [(5 * 256, 256, 1), (256, 256, 3)],
    }
    body = sum(normalised(a, b, side) - b for layers in plain.values() for a, b, side in layers)
    for name, count in CHANNELS.items():
        assert counted(model.heads[name]) == body + 256 * count + count


def test_the_resnet_keeps_an_eighth_of_the_image_and_looks_far_by_dilation(vision):
    with torch.device("meta"):
        model = build("resnet50")
        assert model.trunk(torch.empty(2, 3, 64, 96)).shape == (2, 2048, 8, 12)

    def dilations(part):
        return [m.dilation[0] for m in part.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]

    assert dilations(model.trunk.layer3) == [1, 2, 2, 2, 2, 2]
    assert dilations(model.trunk.layer4) == [2, 4, 4]
    assert dilations(model.heads["depth"]) == [12, 24, 36, 1]


def test_the_resnets_predictions_meet_the_corners_of_the_image(vision):
    model = built("resnet50")
    with torch.no_grad():
        coarse = model.heads["normal"](model.trunk(images(32, 64)))
    (fine,) = predict(model, 32, 64, names=["normal"])
    torch.testing.assert_close(fine[..., :: 32 - 1, :: 64 - 1], coarse[..., :: 4 - 1, :: 8 - 1])


class Weights:
    """A small file in the manner of torchvision's: the beginning of its digest is part of its name."""

    def __init__(self, folder, content, digest=None):
        file = folder / "content"
        torch.save(content, file)
        digest = digest or hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        self.url = file.rename(folder / f"resnet50-{digest}.pth").as_uri()

    def get_state_dict(self, **options):
        return torch.hub.load_state_dict_from_url(self.url, **options)


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"


def fetched(weights):
    from mtlbench.tasks.nyuv2.models import resnet

    return resnet.fetched(weights)


def test_weights_are_fetched_once_and_kept_without_a_word_on_standard_output(tmp_path, checkpoints, capsys):
    weights = Weights(tmp_path, {"a": torch.arange(3)})
    assert fetched(weights)["a"].tolist() == [0, 1, 2]
    (kept,) = checkpoints.iterdir()
    Path(weights.url.removeprefix("file://")).unlink()
    assert kept.name in weights.url
    assert fetched(weights)["a"].tolist() == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_weights_whose_digest_is_not_that_of_their_name_are_refused(tmp_path, checkpoints):
    weights = Weights(tmp_path, {"a": torch.arange(3)}, digest="0123abcd")
    with pytest.raises(UsageError, match="invalid hash"):
        fetched(weights)
    brought = checkpoints / "resnet50-0123abcd.pth"
    brought.write_bytes(b"something else")
    with pytest.raises(UsageError, match="damaged or another file") as told:
        fetched(weights)
    assert str(brought) in str(told.value)


def test_a_file_with_more_than_tensors_is_refused(tmp_path, checkpoints):
    with pytest.raises(UsageError, match="weights=none"):
        fetched(Weights(tmp_path, {"a": Path("/")}))


def test_without_network_the_message_says_where_the_file_belongs(vision, checkpoints, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UsageError, match="no network") as told, torch.device("meta"):
        build("resnet50", "imagenet")
    assert str(checkpoints / "resnet50-0676ba61.pth") in str(told.value)
    assert "weights=none" in str(told.value)


def test_the_trunk_begins_with_the_weights_that_are_asked_for(vision, monkeypatch):
    from mtlbench.tasks.nyuv2.models import resnet

    whole = vision.models.resnet50(weights=None).state_dict()
    monkeypatch.setattr(resnet, "fetched", lambda weights: whole)
    found = build("resnet50", "imagenet").trunk.state_dict()
    assert set(whole) - set(found) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(found[name], whole[name]) for name in found)


def test_without_torchvision_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match=r'resnet50 needs torchvision: pip install "mtlbench\[vision\]"'):
        build("resnet50")


VISION_STEPS = """
import sys
from pathlib import Path
import torch
from mtlbench.tasks._vision import declare_operators

def there():
    return hasattr(torch.ops.torchvision, "nms")

folder = Path(sys.argv[1])
sys.path[:] = [place for place in sys.path if not (Path(place) / "torchvision").exists()]
declare_operators()
print("not installed:", there())
(folder / "torchvision").mkdir()
described = 'import torch; torch.library.register_fake("torchvision::nms")(print)'
(folder / "torchvision" / "__init__.py").write_text(described)
sys.path.insert(0, str(folder))
library = folder / "torchvision" / "_C.so"
library.symlink_to(torch._C.__file__)
declare_operators()
print("fits:", there())
library.unlink()
library.write_text("no library")
declare_operators()
print("does not fit:", there())
declare_operators()
import torchvision
"""


def test_operators_are_declared_where_torchvisions_library_cannot_be_loaded_and_nowhere_else(tmp_path):
    command = [sys.executable, "-c", VISION_STEPS, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["not installed: False", "fits: False", "does not fit: True"], done.stderr
    assert done.returncode == 0, done.stderr


def test_the_small_model_begins_without_a_checkerboard() -> None:
    torch.manual_seed(0)
    model = build("small").eval()
    inner = torch.rand(1, 32, 3, 4)
    for head in model.heads.values():
        fine = torch.nn.functional.pixel_shuffle(head[-1](inner), 2)
        assert torch.equal(fine[..., ::2, ::2], fine[..., 1::2, 1::2])
        assert torch.equal(fine[..., ::2, 1::2], fine[..., 1::2, ::2])


def test_heads_that_read_one_tensor_reach_the_trunk_through_it_alone(model, trunk):
    if trunk == "segnet_mtan":  # heads choose among the features of every level
        assert not hasattr(model, "features")
        return
    features = model.features(images(32, 64))
    total = sum(answer.square().sum() for answer in model.answers(features, NAMES, (32, 64)))
    shared = [p for _, p in model.shared()]
    (seed,) = torch.autograd.grad(total, features, retain_graph=True)
    through = torch.autograd.grad(features, shared, seed, retain_graph=True)
    for one, other in zip(through, torch.autograd.grad(total, shared), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
