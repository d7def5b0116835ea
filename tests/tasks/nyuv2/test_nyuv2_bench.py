"""The benchmarks of NYUv2: the memory of the exact median, and the share of the input in a training step."""

import importlib

import pytest
import torch

from mtlbench.bench import memory
from mtlbench.bench.result import Bench
from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError
from mtlbench.tasks.nyuv2 import bench

TINY = ["views=2", "height=16", "width=32"]


def test_both_ways_to_take_a_median_answer_the_same():
    for count in (1, 10, bench.PART + 3):
        assert sum(len(part) for part in bench.angles(count)) == count
        assert bench.streaming(count) == pytest.approx(bench.joined(count), rel=1e-6)


def test_each_part_is_a_row_with_its_ratio():
    told = []
    words = [*TINY, "values=1000", "repeats=1", "memory=no"]
    found = run_bench(["nyuv2", *words], progress=lambda *call: told.append(call))
    median, share = found.rows
    assert (median.labels["part"], list(median.ratios)) == ("median", ["joined/streaming"])
    assert (share.labels["part"], list(share.ratios)) == ("input", ["input/step"])
    assert share.ratios["input/step"].median == share.samples["input"][0] / share.samples["step"][0] > 0
    assert told[-1][:2] == (4, 4)
    assert Bench.from_json(found.to_json()) == found


def test_memory_is_asked_for_each_way_and_told_as_a_ratio(monkeypatch):
    def peak(prepare, settings, device):
        module, name = prepare.split(":")
        action = getattr(importlib.import_module(module), name)(**settings)
        assert action.held == 0
        assert action.call() == bench.WAYS[settings["way"]](settings["count"])
        return {"streaming": 4, "joined": 10}[settings["way"]] * settings["count"]

    monkeypatch.setattr(memory, "peak", peak)
    (row,) = run_bench(["nyuv2", "part=median", "values=1000", "repeats=1"]).rows
    assert row.bytes == {"streaming": 4000, "joined": 10000}
    assert row.bytes_ratios == {"joined/streaming memory": 2.5}


def test_every_step_trains_on_another_batch():
    settings = bench._settings(TINY)
    seen = []
    batches = bench.Batches(settings)

    def next_batch():
        seen.append(batches())
        return seen[-1]

    step = bench.training(settings, next_batch)
    step()
    step()
    first, second = seen
    assert first.images.shape == (2, 3, 16, 32)
    assert not torch.equal(first.images, second.images)
    known = first.labels >= 0
    assert torch.equal(known, first.depths > 0)
    torch.testing.assert_close(first.normals.norm(dim=1), known.float())


@pytest.mark.parametrize(
    ("word", "says"),
    [("part=mean", "part"), ("repeats=0", "repeats"), ("height=8", "height"), ("speed=1", "Unknown key"),
     ("views=2,4", "views takes one value"), ("trunk=tree", "Unknown trunk"), ("method=magic", "magic")],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(word, says):
    asked = [w for w in [*TINY, "part=input"] if not w.startswith(f"{word.partition('=')[0]}=")]
    with pytest.raises(UsageError, match=says):
        run_bench(["nyuv2", *asked, word])
