"""The benchmarks of translation: whole steps of some language pairs, and decoding with and without the cache."""

import pytest
import torch

from mtlbench.bench import memory, stepping, workloads
from mtlbench.bench.result import Bench, Spread, medians
from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError
from mtlbench.tasks.nmt import bench as decoding_bench
from mtlbench.tasks.nmt.bench import Decoding, Settings

SMALL = ["length=4", "sentences=2", "vocabulary=20", "repeats=2"]
PAIRS = ["task=nmt/families", "direction=both", "languages=[dalu,mora]", "protocol.batch_size=300"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def of_families(objectives=None):
    overrides = {
        "options.direction": "both",
        "options.languages": ["dalu", "mora"],
        "options.dropout": 0.0,
        "batch_size": 300,
    }
    return workloads.of_task("nmt", "families", None, overrides, None, "cpu", objectives)


def test_steps_of_language_pairs_take_words_of_the_task_and_a_number_of_pairs():
    result = run_bench(["steps", *PAIRS, "K=2,4", "method=gradvac", "repeats=1", "memory=no", "threads=1"])
    methods = ("uniform", "gradvac", stepping.PLAIN, stepping.KEPT)
    assert [(r.labels["K"], r.labels["method"]) for r in result.rows] == [(k, m) for k in (2, 4) for m in methods]
    assert len({r.labels["P"] for r in result.rows}) == 1  # the same model
    assert all(row.seconds["step"] > 0 and not row.note for row in result.rows)
    assert Bench.from_json(result.to_json()) == result
    with pytest.raises(UsageError, match=r"K=5 .* holds 4 objectives"):
        run_bench(["steps", *PAIRS, "K=5"])


def test_workloads_of_one_task_share_its_first_batch():
    fewer, whole = workloads.build_all([of_families(2), of_families()])
    assert (fewer.objectives, whole.objectives) == (2, 4)
    model = whole.model()
    two, four = ([loss.item() for loss in w.losses(model, range(w.objectives))] for w in (fewer, whole))
    assert two == four[:2]
    assert len(set(four)) == 4


def test_memory_of_a_step_can_be_measured_at_every_granularity():
    action = stepping.prepared(of_families(2), "gradvac", "enc_dec")
    assert action.held == 0
    action.call()


@pytest.mark.parametrize("beams", [1, 3])
def test_both_ways_to_decode_write_the_same_translations_of_exactly_the_given_length(beams):
    settings = Settings(length=6, sentences=3, vocabulary=20)
    cached, uncached = (Decoding(settings, beams, way)() for way in (True, False))
    assert [len(h.subwords) for h in (*cached, *uncached)] == [5] * 6  # and the end
    for one, other in zip(cached, uncached, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, rel=1e-5)


def test_decoding_has_a_row_for_each_search_whose_ratios_follow_from_its_samples(monkeypatch):
    peaks = {True: 1000, False: 3000}
    monkeypatch.setattr(memory, "peak", lambda prepare, question, device: peaks[question["cached"]])
    calls = []
    threads = torch.get_num_threads()
    result = run_bench(["nmt", *SMALL, "beams=3", "threads=2"], progress=lambda *call: calls.append(call))
    assert result.kind == "decoding"
    assert (result.environment.threads, torch.get_num_threads()) == (2, threads)
    assert [row.labels for row in result.rows] == [
        {"search": "greedy", "beams": 1, "length": 4, "sentences": 2},
        {"search": "beam", "beams": 3, "length": 4, "sentences": 2},
    ]
    for row in result.rows:
        assert row.ratios == {"uncached/cached": Spread.of(row.samples, "uncached", "cached")}
        assert row.seconds == medians(row.samples, ["cached", "uncached"])
        assert {len(values) for values in row.samples.values()} == {2}
        assert row.bytes == {"cached": 1000, "uncached": 3000}
        assert row.bytes_ratios == {"uncached/cached memory": 3.0}
    assert [call[:2] for call in calls] == [(done, 12) for done in range(1, 13)]
    assert Bench.from_json(result.to_json()) == result


def test_memory_of_decoding_is_left_out_where_it_is_not_asked_for_and_explained_where_it_fails(monkeypatch):
    (row,) = run_bench(["nmt", *SMALL, "beams=1", "memory=no"]).rows
    assert row.labels["search"] == "greedy"
    assert row.bytes == {"cached": None, "uncached": None}
    monkeypatch.setattr(memory, "peak", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory today")))
    (row,) = run_bench(["nmt", *SMALL, "beams=1"]).rows
    assert row.note == "no memory today"
    assert row.bytes_ratios == {"uncached/cached memory": None}


@pytest.mark.skipif(not memory._STATUS.exists(), reason="peak memory needs /proc")
def test_the_process_that_measures_memory_decodes():
    question = {"settings": Settings(length=8, sentences=8).model_dump(), "beams": 2, "cached": False}
    size = memory.peak(f"{decoding_bench.__name__}:prepared", question, "cpu")
    assert size >= 8 * 2 * 8000 * 4  # the logits of a step


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("length=0", "length=0 is not allowed"),
        ("size=huge", "tiny"),
        ("vocabulary=3", "vocabulary=3 is not allowed"),
        ("beam=4", "Did you mean 'beams'"),
        ("beams=1,4", "one value, not 2"),
        ("device=gpu", "device=gpu is not allowed"),
        ("memory=perhaps", "memory=perhaps is not allowed"),
    ],
)
def test_bad_words_of_decoding_are_refused(word, message):
    with pytest.raises(UsageError, match=message):
        run_bench(["nmt", word])
