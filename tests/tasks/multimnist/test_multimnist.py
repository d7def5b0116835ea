"""MultiMNIST: the published construction and network, its data sources, and learning on it."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mtlbench.catalogue.building import task_class
from mtlbench.catalogue.variants import resolve, task_data
from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.multimnist import DEVIATION, MEAN, MultiMNIST
from mtlbench.tasks.multimnist.compose import compose, overlay
from mtlbench.tasks.multimnist.model import LeNet, as_input
from mtlbench.tasks.multimnist.preparing import composed
from mtlbench.tasks.multimnist.sources import SPLITS, Sources, digits, enlarge, read_idx

CPU = torch.device("cpu")
RAW = {"mnist": "mnist/MNIST/raw", "fashion": "fashion/FashionMNIST/raw"}


def build(variant="digits", root=None, **overrides):
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    variant, protocol = resolve("multimnist", variant, None, changed)
    return MultiMNIST(variant, protocol, root, CPU)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task():
    return build()


def random_sources(n, seed):
    rng = np.random.RandomState(seed)
    return Sources(rng.randint(0, 256, (n, 28, 28)).astype(np.uint8), rng.randint(0, 10, n))


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_official(root, name, train=60, test=10, seed=0, plain=False):
    """Small files in the official layout; returns the sources in them."""
    folder = root / RAW[name]
    folder.mkdir(parents=True)
    written = {}
    for part, n in (("train", train), ("t10k", test)):
        written[part] = random_sources(n, [seed, n])
        for kind, array in zip(("images-idx3", "labels-idx1"), written[part], strict=True):
            path = folder / f"{part}-{kind}-ubyte"
            if plain:
                path.write_bytes(idx(array))
            else:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
    return written


# --- construction ------------------------------------------------------------------------------------------


def literal_composite(a, b):
    """One composite, pixel by pixel, as the loader of Sener and Koltun is described."""
    canvas = [[0] * 36 for _ in range(36)]
    for row in range(28):
        for column in range(28):
            canvas[row][column] = int(a[row][column])
    for row in range(28):
        for column in range(28):
            canvas[6 + row][6 + column] = max(canvas[6 + row][6 + column], int(b[row][column]))
    nearest = [int((i + 0.5) * 36 / 28) for i in range(28)]
    return [[canvas[row][column] for column in nearest] for row in nearest]


def test_overlay_is_the_published_construction_pixel_by_pixel():
    a, b = random_sources(5, 1).images, random_sources(5, 2).images
    expected = np.array([literal_composite(x, y) for x, y in zip(a, b, strict=True)], dtype=np.uint8)
    np.testing.assert_array_equal(overlay(a, b), expected)


def test_every_composite_shows_the_two_images_that_its_labels_name():
    left, right = random_sources(7, 3), random_sources(11, 4)
    images, labels = compose(left, right, 3, np.random.RandomState(0))
    assert images.shape == (21, 28, 28)
    assert labels.shape == (21, 2)
    for n in range(21):
        a = left.images[n // 3]
        partners = [m for m in range(11) if np.array_equal(overlay(a[None], right.images[m : m + 1])[0], images[n])]
        assert len(partners) == 1
        assert tuple(labels[n]) == (left.labels[n // 3], right.labels[partners[0]])


def test_composition_depends_on_its_seed_alone():
    left = random_sources(50, 5)
    first, again = (compose(left, left, 1, np.random.RandomState(1)) for _ in range(2))
    other = compose(left, left, 1, np.random.RandomState(2))
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.labels, other.labels)


def test_partners_are_drawn_uniformly():
    left = random_sources(2, 6)
    right = Sources(np.zeros((10, 28, 28), np.uint8), np.arange(10))
    drawn = compose(left, right, 5000, np.random.RandomState(0)).labels[:, 1]
    counts = np.bincount(drawn, minlength=10)
    assert abs(counts - 1000).max() < 5 * 30  # the standard deviation of a count is 30


# --- embedded digits ---------------------------------------------------------------------------------------


def test_the_embedded_splits_share_no_source_image_and_are_stratified():
    splits = digits(0)
    assert {name: len(s.labels) for name, s in splits.items()} == {"train": 1197, "val": 300, "test": 300}
    images = [image.tobytes() for s in splits.values() for image in s.images]
    assert len(images) == 1797 == len(set(images))
    for s in splits.values():
        share = np.bincount(s.labels, minlength=10) / len(s.labels)
        assert abs(share - 0.1).max() < 0.01
    assert not np.array_equal(digits(1)["test"].images, splits["test"].images)


def test_enlargement_is_bilinear():
    from sklearn.datasets import load_digits

    small = load_digits().images[:20]
    expected = functional.interpolate(
        torch.from_numpy(small)[:, None] * (255 / 16), size=(28, 28), mode="bilinear", align_corners=False
    )
    enlarged = enlarge(small.astype(np.int64), 28)
    assert np.abs(enlarged - expected[:, 0].numpy()).max() <= 0.5 + 1e-4


def test_the_embedded_data_are_these_very_bytes(task):
    assert task.data_digest == build().data_digest
    assert task.data_digest != build(options__composition_seed=1).data_digest
    assert task.data_digest == "a2a98fe521a98b8eac0e6fd5148b3ff21f2a05d2f26183f662fe01c1340e48dd"


# --- official files ----------------------------------------------------------------------------------------


def test_read_idx_reads_plain_and_packed(tmp_path):
    array = random_sources(3, 7).images
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", 3), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", 3), array)


GOOD = idx(random_sources(3, 8).images)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD[:-1], "announces 2352 bytes and only 2351 follow"),
        (GOOD + b"\0", "announces 2352 bytes and more follow"),
        (GOOD[:3], "does not start like an idx file"),
        (b"\1" + GOOD[1:], "does not start like an idx file"),
        (GOOD[:2] + b"\x0d" + GOOD[3:], "does not start like an idx file"),
        (idx(np.zeros(5)), "does not start like an idx file"),
        (b"\0\0\x08\3" + b"\xff" * 12, "more than any such file holds"),
        (b"", "does not start like an idx file"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_read_idx_refuses_damaged_files(tmp_path, content, reason, packed):
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UsageError, match=reason) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_read_idx_refuses_a_damaged_archive(tmp_path):
    whole = gzip.compress(np.random.RandomState(0).bytes(5000))
    for content in (GOOD, gzip.compress(GOOD)[:-20], whole[:200] + b"\0" * 50 + whole[250:]):
        path = tmp_path / "images.gz"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"images\.gz is not usable"):
            read_idx(path, 3)


@pytest.mark.parametrize("variant", ["mnist", "fashion"])
@pytest.mark.parametrize("plain", [False, True])
def test_official_layouts_load_with_the_last_sixth_of_train_for_validation(tmp_path, variant, plain):
    written = write_official(tmp_path, variant, plain=plain)
    splits = composed(variant, build(variant, tmp_path).options, tmp_path)
    train, test = written["train"], written["t10k"]
    np.testing.assert_array_equal(splits["train"].labels[:, 0], train.labels[:50])
    np.testing.assert_array_equal(splits["val"].labels[:, 0], train.labels[50:])
    np.testing.assert_array_equal(splits["test"].labels[:, 0], test.labels)
    for split, source in (("train", train.images[:50]), ("val", train.images[50:]), ("test", test.images)):
        for a, image in zip(source, splits[split].images, strict=True):
            # Only a partner from the same split explains the picture.
            assert any(np.array_equal(overlay(a[None], b[None])[0], image) for b in source)


def test_fashion_and_mnist_has_the_item_at_the_top_left_and_the_digit_at_the_bottom_right(tmp_path):
    item = write_official(tmp_path, "fashion", seed=1)["t10k"]
    digit = write_official(tmp_path, "mnist", seed=2)["t10k"]
    task = build("fashion_and_mnist", tmp_path)
    images, labels = composed("fashion_and_mnist", task.options, tmp_path)["test"]
    np.testing.assert_array_equal(labels[:, 0], item.labels)
    for a, image, label in zip(item.images, images, labels, strict=True):
        partners = [m for m in range(10) if np.array_equal(overlay(a[None], digit.images[m : m + 1])[0], image)]
        assert [digit.labels[m] for m in partners] == [label[1]]


def test_torchvisions_own_folder_is_accepted(tmp_path):
    write_official(tmp_path / "deep", "mnist")
    (tmp_path / "deep/mnist/MNIST").rename(tmp_path / "MNIST")
    assert len(list(build("mnist", tmp_path).batches(0, torch.Generator()))) == 1


@pytest.mark.parametrize(
    ("variant", "missing"), [("mnist", "MNIST"), ("fashion", "Fashion-MNIST"), ("fashion_and_mnist", "MNIST")]
)
def test_missing_files_say_how_to_get_them(tmp_path, variant, missing):
    if variant == "fashion_and_mnist":
        write_official(tmp_path, "fashion")
    with pytest.raises(DataMissing, match=rf"multimnist/{variant} needs {missing}, ") as caught:
        build(variant, tmp_path)
    assert f"mtlbench data fetch multimnist/{variant} data_root={tmp_path}" in str(caught.value)
    with pytest.raises(DataMissing, match="MTLBENCH_DATA"):
        build(variant, None)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_official(tmp_path, "mnist")
    labels = tmp_path / RAW["mnist"] / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.zeros(59))))
    with pytest.raises(UsageError, match="59 labels for the 60 images"):
        build("mnist", tmp_path)
    labels.write_bytes(gzip.compress(idx(np.full(60, 10))))
    with pytest.raises(UsageError, match="label 10"):
        build("mnist", tmp_path)


def test_the_official_mnist_files_give_the_published_sizes():
    root = os.environ.get("MTLBENCH_DATA")
    if not root or not any((Path(root) / f).is_dir() for f in ("mnist/MNIST/raw", "MNIST/raw")):
        pytest.skip("MTLBENCH_DATA names no folder with MNIST")
    task = build("mnist", Path(root))
    splits = composed("mnist", task.options, Path(root))
    assert {s: len(c.labels) for s, c in splits.items()} == {"train": 50_000, "val": 10_000, "test": 10_000}
    assert task.steps_per_epoch == 196
    assert task.data_digest == "3c6b318fe295331fd9954fec81ac152ed705bb82e63019b60a6df4e2ef23dd5e"
    # The first ten digits of the official test file.
    assert splits["test"].labels[:10, 0].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


# --- network -----------------------------------------------------------------------------------------------


def test_the_network_has_the_published_shapes():
    shapes = {name: tuple(p.shape) for name, p in LeNet().named_parameters()}
    trunk = {
        "encoder.conv1.weight": (10, 1, 5, 5),
        "encoder.conv1.bias": (10,),
        "encoder.conv2.weight": (20, 10, 5, 5),
        "encoder.conv2.bias": (20,),
        "encoder.fc.weight": (50, 320),
        "encoder.fc.bias": (50,),
    }
    head = {"fc1.weight": (50, 50), "fc1.bias": (50,), "fc2.weight": (10, 50), "fc2.bias": (10,)}
    heads = {f"heads.{side}.{name}": shape for side in ("left", "right") for name, shape in head.items()}
    assert shapes == trunk | heads
    assert sum(np.prod(s) for s in shapes.values()) == 260 + 5020 + 16050 + 2 * (2550 + 510)


def test_the_network_is_the_published_one_literally():
    torch.manual_seed(0)
    model = LeNet(0.5)
    images = torch.randn(6, 1, 28, 28)
    e = model.encoder

    def literal(side):
        x = functional.relu(functional.max_pool2d(e.conv1(images), 2))
        x = functional.dropout2d(e.conv2(x), 0.5, training=model.training)
        x = functional.relu(functional.max_pool2d(x, 2)).view(-1, 320)
        x = functional.relu(e.fc(x))
        head = model.heads[side]
        x = functional.dropout(functional.relu(head.fc1(x)), 0.5, training=model.training)
        return functional.log_softmax(head.fc2(x), dim=1)

    for mode in (True, False):
        model.train(mode)
        torch.manual_seed(1)
        (found,) = model(images, ["left"])
        torch.manual_seed(1)
        torch.testing.assert_close(found, literal("left"))


def test_inputs_are_normalised_whatever_their_memory_order():
    images = torch.from_numpy(random_sources(4, 9).images)
    expected = ((images.double() / 255 - MEAN) / DEVIATION)[:, None]
    torch.testing.assert_close(as_input(images, MEAN, DEVIATION).double(), expected, atol=1e-6, rtol=0)


def test_the_registry_finds_the_task():
    assert task_class("multimnist") is MultiMNIST


# --- the task contract -------------------------------------------------------------------------------------


def test_the_shared_parameters_are_exactly_those_that_both_losses_reach(task):
    torch.manual_seed(0)
    model = task.model()
    batch = next(task.batches(0, torch.Generator().manual_seed(0)))
    reached = []
    for loss in task.losses(model, batch, [0, 1]):
        model.zero_grad()
        loss.backward(retain_graph=True)
        reached.append({n for n, p in model.named_parameters() if p.grad is not None})
    assert [name for name, _ in task.shared(model)] == [n for n, _ in model.named_parameters() if "encoder" in n]
    assert {name for name, _ in task.shared(model)} == reached[0] & reached[1]
    assert all(p is dict(model.named_parameters())[n] for n, p in task.shared(model))


def test_losses_are_those_of_the_asked_objectives_in_their_order(task):
    torch.manual_seed(0)
    model = task.model().eval()
    images, labels = next(task.batches(0, torch.Generator().manual_seed(0)))
    left, right = task.losses(model, (images, labels), [0, 1])
    swapped = task.losses(model, (images, labels), [1, 0])
    (alone,) = task.losses(model, (images, labels), [1])
    assert [x.item() for x in swapped] == [right.item(), left.item()]
    assert alone.item() == right.item()
    expected = functional.nll_loss(model(images)[0], labels[:, 0])
    assert left.item() == expected.item()


def test_an_epoch_shows_every_composite_once_in_an_order_from_the_generator_alone(task):
    def epoch(seed, number=0):
        torch.manual_seed(seed + 100)  # the global generator must not matter
        return list(task.batches(number, torch.Generator().manual_seed(seed)))

    first, again, other = epoch(0), epoch(0), epoch(1)
    assert len(first) == task.steps_per_epoch
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][1], other[0][1])
    seen = torch.cat([images for images, _ in first]).sum(dim=(1, 2, 3)).sort().values
    everything = as_input(task.data.splits["train"].images, MEAN, DEVIATION).sum(dim=(1, 2, 3)).sort().values
    torch.testing.assert_close(seen, everything)


def test_a_smaller_last_batch_completes_the_epoch():
    task = build(batch_size=1000)
    sizes = [len(labels) for _, labels in task.batches(0, torch.Generator())]
    assert sizes == [1000] * (len(sizes) - 1) + [task.data.splits["train"].labels.shape[0] % 1000]


def test_evaluation_counts_every_composite(task):
    torch.manual_seed(0)
    model = task.model().eval()
    with torch.no_grad():
        found = task.evaluate(model, "test", [0, 1])
        alone = task.evaluate(model, "test", [1])
        predictions = model(as_input(task.data.splits["test"].images, MEAN, DEVIATION))
    for k, name in enumerate(("left", "right")):
        truth = task.data.splits["test"].labels[:, k]
        accuracy = 100 * (predictions[k].argmax(1) == truth).double().mean().item()
        assert found[name]["accuracy"] == pytest.approx(accuracy, abs=1e-9)
        assert found[name]["nll"] == pytest.approx(functional.nll_loss(predictions[k], truth).item(), rel=1e-5)
    assert alone.keys() == {"right"}
    assert alone["right"] == pytest.approx(found["right"])


def test_one_epoch_on_the_embedded_digits_teaches_both_objectives(task):
    torch.manual_seed(0)
    model, generator = task.model(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for batch in task.batches(0, generator):
        optimizer.zero_grad()
        sum(task.losses(model, batch, [0, 1])).backward()
        optimizer.step()
    with torch.no_grad():
        scores = task.evaluate(model.eval(), "val", [0, 1])
    assert min(score["accuracy"] for score in scores.values()) > 40  # chance is 10


# --- protocols ---------------------------------------------------------------------------------------------


def test_every_variant_has_its_protocol_and_the_published_one_is_there():
    stated = task_data("multimnist")
    assert list(stated.variants) == ["digits", "mnist", "fashion", "fashion_and_mnist"]
    assert stated.variants["digits"].needs == ()
    published = stated.protocols["sener2018"]
    assert set(published.variants) == {"mnist", "fashion", "fashion_and_mnist"}
    assert (published.epochs, published.batch_size) == (100, 256)
    assert (published.schedule.name, published.schedule.every_epochs, published.schedule.factor) == (
        "step",
        10,
        0.85,
    )
    assert published.options["dropout"] == 0.5
    for protocol in stated.protocols.values():
        assert set(protocol.options["composites_per_image"]) == set(SPLITS)


@pytest.mark.parametrize(
    ("key", "value"), [("dropout", 1.0), ("composition_seed", -1), ("composites_per_image.train", 0)]
)
def test_options_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(UsageError, match=rf"protocol\.options\.{key}"):
        build(**{f"options.{key}": value})


def test_an_unknown_variant_is_refused():
    _, protocol = resolve("multimnist", "digits", None, {})
    with pytest.raises(UsageError, match="Did you mean 'mnist'"):
        MultiMNIST("mnists", protocol, None, CPU)
