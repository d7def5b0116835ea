"""The benchmarks: what they measure, what their tables say, and that nothing they need is optional in disguise."""

import sys
import time

import pytest
import torch

import mtlbench
from mtlbench.bench import combining, memory, peers, stepping, workloads
from mtlbench.bench.combining import combination
from mtlbench.bench.result import Bench, Environment, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.bench.stepping import steps
from mtlbench.bench.tabulating import tables
from mtlbench.bench.words import run_bench
from mtlbench.bench.workloads import Scale
from mtlbench.catalogue import building, registry
from mtlbench.cells.request import parse
from mtlbench.errors import DataMissing, UsageError
from mtlbench.running.trainee import Trainee

TINY = Scale(width=8, layers=1, feedforward=8, attention_heads=1, vocabulary=8, sequences=2, tokens=2)


@pytest.fixture
def without_torchjd(monkeypatch):
    loaded = [name for name in sys.modules if name.split(".")[0] == "torchjd"]
    for name in {"torchjd", "torchjd.aggregation", "torchjd.autojac", *loaded}:
        monkeypatch.setitem(sys.modules, name, None)  # Python refuses to import it


@pytest.fixture(scope="module")
def combined():
    calls = []
    result = combination(
        objectives=(2, 3),
        parameters=(3000,),
        methods=("gradvac", "pcgrad"),
        layouts=("flat", "whole_model", "all_layer"),
        repeats=2,
        sample_seconds=0,
        measure_memory=False,
        progress=lambda done, total, label: calls.append((done, total, label)),
    )
    return result, calls


@pytest.fixture(scope="module")
def stepped():
    calls = []
    result = steps(
        objectives=(2,),
        methods=("gradvac", "single_task"),
        scale=TINY,
        repeats=2,
        sample_seconds=0,
        measure_memory=False,
        progress=lambda done, total, label: calls.append((done, total, label)),
    )
    return result, calls


def test_the_table_command_is_timed_and_its_own_memory_measured():
    calls = []
    result = tables(records=(120,), repeats=1, progress=lambda *call: calls.append(call))
    assert [row.labels for row in result.rows] == [
        {"records": 120, "output": "terminal"},
        {"records": 120, "output": "html"},
    ]
    for row in result.rows:
        assert row.ratios["/json"].median > 1
        assert 50e6 < row.bytes["peak"] < 250e6  # numpy and scipy, and no torch
    assert [call[:2] for call in calls] == [(1, 3), (2, 3), (3, 3)]
    assert Bench.from_json(result.to_json()) == result


def by_method(result, **labels):
    return {r.labels["method"]: r for r in result.rows if labels.items() <= r.labels.items()}


def test_a_ratio_is_the_median_of_the_ratios_within_repeats():
    samples = {"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}  # ratios 2, 3, 1; the ratio of medians is 4 / 3
    assert Spread.of(samples, "a", "b") == Spread(median=2.0, low=1.5, high=2.5)
    assert Spread.of(samples, "a", "absent") is None
    assert medians(samples, ["a", "absent"]) == {"a": 4.0, "absent": None}


def test_there_is_a_row_for_every_k_layout_and_method(combined):
    result, _ = combined
    found = [(r.labels["K"], r.labels["layout"], r.labels["method"]) for r in result.rows]
    layouts, methods = ("flat", "whole_model", "all_layer"), ("gradvac", "pcgrad")
    assert found == [(k, layout, method) for k in (2, 3) for layout in layouts for method in methods]
    assert {r.labels["layout"]: r.labels["groups"] for r in result.rows} == {
        "flat": 1,
        "whole_model": 1,
        "all_layer": 11,
    }


def test_ratios_follow_from_the_samples_of_the_row(combined):
    result, _ = combined
    whole_model = by_method(result, K=3, layout="whole_model")
    for name, row in by_method(result, K=3, layout="all_layer").items():
        assert row.ratios["whole/floor"] == Spread.of(row.samples, "whole", "floor")
        reference = {"own": row.samples["whole"], "reference": whole_model[name].samples["whole"]}
        assert row.ratios["whole/whole_model"] == Spread.of(reference, "own", "reference")
        assert row.seconds["whole"] == medians(row.samples, ["whole"])["whole"]
        assert {len(values) for values in row.samples.values()} == {2}
        assert row.ratios["torchjd/whole"] is None  # one aggregator on one matrix has no groups


def test_progress_counts_every_sample_up_to_its_total(combined, stepped):
    for _, calls in (combined, stepped):
        total = calls[0][1]
        assert [call[:2] for call in calls] == [(done, total) for done in range(1, total + 1)]


def test_the_table_has_ratios_before_times_and_fits_its_columns(combined, stepped):
    for result, _ in (combined, stepped):
        columns = result.columns
        kinds = ["(IQR)" in c for c in columns], ["[ms]" in c for c in columns]
        assert max(i for i, is_ratio in enumerate(kinds[0]) if is_ratio) < kinds[1].index(True)
        table = result.table()
        assert len(table) == len(result.rows)
        assert {len(row) for row in table} == {len(columns)}


def test_the_record_survives_json(combined, stepped):
    for result, _ in (combined, stepped):
        assert Bench.from_json(result.to_json()) == result
        assert result.environment.torch_version == torch.__version__
        assert result.environment.threads == torch.get_num_threads()


def test_torchjd_is_compared_with_on_the_same_matrix_where_it_is_installed(combined):
    pytest.importorskip("torchjd")
    result, _ = combined
    row = by_method(result, K=2, layout="flat")["gradvac"]
    assert row.ratios["torchjd/whole"] == Spread.of(row.samples, "torchjd", "whole")
    assert result.environment.torchjd_version


def test_everything_runs_without_torchjd(without_torchjd):
    assert peers.version() is None
    result = combination((2,), (500,), ("pcgrad",), repeats=1, sample_seconds=0, measure_memory=False)
    assert [row.ratios["torchjd/whole"] for row in result.rows] == [None]
    assert result.environment.torchjd_version is None
    result = steps(("heads",), (2,), ("pcgrad",), scale=TINY, repeats=1, sample_seconds=0, measure_memory=False)
    assert stepping.TORCHJD not in by_method(result)


def test_steps_compare_every_method_with_uniform_and_the_references(stepped):
    result, _ = stepped
    heads = by_method(result, workload="one input, K heads")
    separate = by_method(result, workload="K separate graphs")
    methods = {"uniform", "gradvac", "single_task", stepping.PLAIN}
    peer = {stepping.TORCHJD} if peers.autojac() else set()
    assert set(heads) == methods | {stepping.GRADS} | peer
    assert set(separate) == methods | {stepping.KEPT} | peer
    ratio = Spread.of({"a": heads["gradvac"].samples["step"], "b": heads["uniform"].samples["step"]}, "a", "b")
    assert heads["gradvac"].ratios["/uniform"] == ratio
    inverse = Spread.of({"a": heads["uniform"].samples["step"], "b": heads["gradvac"].samples["step"]}, "a", "b")
    assert heads["gradvac"].ratios["throughput/uniform"] == inverse
    assert separate["gradvac"].ratios["/K x autograd.grad"] is None


def test_a_method_that_keeps_weights_is_timed_over_whole_periods_and_by_the_step(monkeypatch):
    clock = [0.0]

    class Slow(mtlbench.Backward):
        def __call__(self, *args, **kwargs):
            found = super().__call__(*args, **kwargs)
            clock[0] += 7.0 if self.gramian is not None else 1.0
            return found

    def read():
        clock[0] += 1e-6
        return clock[0]

    monkeypatch.setattr(stepping, "Backward", Slow)
    monkeypatch.setattr("mtlbench.bench.sampling.time.perf_counter", read)
    quick = {"scale": TINY, "sample_seconds": 0, "measure_memory": False, "compare": False}
    rows = by_method(steps(("heads",), (2,), ("gradvac", "graddrop"), refresh=3, repeats=1, **quick))
    assert set(rows) == {"uniform", "gradvac refresh=3", "graddrop", stepping.PLAIN, stepping.GRADS}
    assert rows["gradvac refresh=3"].seconds["step"] == pytest.approx((7 + 1 + 1) / 3, rel=1e-4)
    assert rows["graddrop"].seconds["step"] == pytest.approx(1, rel=1e-4)


def test_steps_with_respect_to_the_representation_are_rows_of_their_own():
    quick = {"scale": TINY, "sample_seconds": 0, "measure_memory": False, "compare": False, "repeats": 1}
    rows = by_method(steps(("heads",), (2,), ("mgda", "graddrop", "gradnorm"), wrt="representation", **quick))
    timed = {name for name, row in rows.items() if row.seconds["step"] is not None}
    own = {"mgda wrt=representation", "graddrop wrt=representation"}
    assert timed == {"uniform", stepping.PLAIN, stepping.GRADS} | own
    assert "last shared layer" in rows["gradnorm wrt=representation"].note
    rows = by_method(steps(("separate",), (2,), ("mgda",), wrt="representation", **quick))
    assert "no input in common" in rows["mgda wrt=representation"].note
    of_task = {"task": "multimnist", "methods": ("mgda",), **quick}
    assert by_method(steps((), None, wrt="representation", **of_task))["mgda wrt=representation"].seconds["step"] > 0
    with pytest.raises(UsageError, match="wrt"):
        steps(("heads",), (2,), ("mgda",), wrt="features", **quick)


def test_by_default_every_registered_method_is_timed():
    result = steps(("separate",), (2,), scale=TINY, repeats=1, sample_seconds=0, measure_memory=False, compare=False)
    assert set(by_method(result)) == {*registry.methods.names(), stepping.PLAIN, stepping.KEPT}
    assert all(row.seconds["step"] > 0 for row in result.rows)


def test_a_task_is_timed_on_its_own_batch():
    result = steps(
        (), (), ("pcgrad", "single_task"), task="multimnist", repeats=1, sample_seconds=0, measure_memory=False
    )
    assert {row.labels["workload"] for row in result.rows} == {"multimnist/digits"}
    assert set(by_method(result)) == {"uniform", "pcgrad", "single_task", stepping.PLAIN, stepping.GRADS}


def digits(**overrides):
    return workloads.build(workloads.of_task("multimnist", "digits", None, overrides, None, "cpu"))


def test_k_takes_the_first_objectives_of_the_batch_of_a_task_one_workload_for_each_k():
    calls = []
    result = run_bench(
        ["steps", "task=multimnist/digits", "K=1,2", "method=uniform", "repeats=1", "memory=no"],
        progress=lambda done, total, label: calls.append((done, total)),
    )
    rows = [(r.labels["K"], r.labels["method"]) for r in result.rows]
    assert rows == [(k, method) for k in (1, 2) for method in ("uniform", stepping.PLAIN, stepping.GRADS)]
    assert calls == [(done, 6) for done in range(1, 7)]
    whole = digits(**{"options.dropout": 0.0})
    first, second = whole.losses(whole.model(), range(2))
    (alone,) = whole.first(1).losses(whole.model(), range(1))
    assert alone == first != second
    assert whole.first(1).parameters == whole.parameters
    assert whole.objectives == 2


def test_real_data_is_found_by_the_environment_and_its_place_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLBENCH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataMissing, match=str(tmp_path / "mine")):
        run_bench(["steps", "task=multimnist/mnist", "method=uniform"])
    with pytest.raises(DataMissing, match=str(tmp_path / "named")):
        run_bench(["steps", "task=multimnist/mnist", "method=uniform", f"data_root={tmp_path / 'named'}"])
    words = ["steps", "task=multimnist/digits", "method=uniform", "repeats=1", "memory=no", f"data_root={tmp_path}"]
    assert str(tmp_path) not in run_bench(words).model_dump_json()


@pytest.mark.parametrize("precision", ["float32", "bfloat16 autocast"])
def test_a_step_on_a_task_is_a_step_of_its_training(precision, monkeypatch):
    monkeypatch.setattr(workloads.precision, "precision", lambda autocast, device: precision)
    words = "method=gradvac task=multimnist protocol.autocast=true protocol.clip_norm=0.01 protocol.options.dropout=0"
    (cell,) = parse([*words.split(), "against=none"]).cells
    workload = digits(autocast=True, clip_norm=0.01, **{"options.dropout": 0.0})
    task = building.task_class("multimnist")(cell.variant, cell.protocol, None, torch.device("cpu"))
    trained = Trainee(cell, task, workload.model(), mtlbench.method("gradvac"), range(2))
    batch = next(iter(task.batches(0, torch.Generator().manual_seed(0))))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32"):
        trained.step(batch, 0.0)

    models = []
    monkeypatch.setattr(workload, "model", lambda build=workload.model: models.append(build()) or models[-1])
    stepping.step(workload, "gradvac", "whole_model")()
    assert not torch.is_autocast_enabled("cpu")
    found, expected = ([p.grad for p in model.parameters()] for model in (models[0], trained.model))
    assert torch.cat([g.flatten() for g in expected]).norm() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (workload.label == "multimnist/digits") == (precision == "float32")


def test_memory_beyond_that_of_uniform_is_told_in_matrices_of_k_rows(monkeypatch):
    parameters = digits().parameters
    peaks = {"uniform": 10_000, "pcgrad": 10_000 + 9 * parameters, stepping.PLAIN: 8_000, stepping.GRADS: 10_000}
    monkeypatch.setattr(memory, "peak", lambda prepare, question, *_: peaks[question["subject"]])
    result = run_bench(["steps", "task=multimnist", "K=2", "method=pcgrad", "repeats=1"])
    rows = by_method(result)
    assert {row.labels["P"] for row in result.rows} == {parameters}
    assert rows["uniform"].bytes_ratios["(peak - uniform)/4KP"] == 0
    assert rows["pcgrad"].bytes_ratios["(peak - uniform)/4KP"] == pytest.approx(9 / 8)
    assert rows[stepping.PLAIN].bytes_ratios["(peak - uniform)/4KP"] == pytest.approx(-2_000 / (8 * parameters))
    assert "(peak - uniform)/4KP" in result.columns


def test_a_method_that_does_not_fit_is_a_row_with_its_reason():
    result = steps(
        ("heads",),
        (2,),
        ("gradvac",),
        granularity="enc_dec",
        scale=TINY,
        repeats=1,
        sample_seconds=0,
        measure_memory=False,
        compare=False,
    )
    row = by_method(result)["gradvac"]
    assert "decoder" in row.note
    assert row.seconds["step"] is None
    assert "note" in result.columns


@pytest.mark.parametrize("shape", workloads.SHAPES)
def test_all_ways_to_sum_the_losses_give_the_same_gradients(shape):
    workload = workloads.build(workloads.built_in(shape, 3, TINY, "cpu"))
    found = []
    for method in (None, "uniform", "scalarization"):
        torch.manual_seed(0)  # dropout
        training = stepping._Training(workload)
        if method is None:
            training.plain()
        else:
            shared = workload.shared(training.model)
            training.combined(mtlbench.Backward(mtlbench.method(method), shared, objectives=3), False)
        found.append([p.grad for p in training.model.parameters()])
    for other in found[1:]:
        torch.testing.assert_close(found[0], other)


def test_half_of_the_pairs_conflict():
    gramian = combining.filled(16, 20_000, "flat", "cpu", "float32").gramian(16)[0]
    off_diagonal = gramian[~torch.eye(16, dtype=torch.bool)]
    assert 0.35 < (off_diagonal < 0).double().mean() < 0.65


@pytest.mark.parametrize("size", [1000, 50_000, 10_000_000])
def test_the_transformer_has_about_200_tensors_and_p_entries(size):
    shapes = combining.transformer(size)
    assert len(shapes) == 201
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == pytest.approx(size, rel=0.02)


def test_the_small_transformer_of_whole_steps_has_five_million_parameters():
    model = workloads.build(workloads.built_in("separate", 1, Scale(), "cpu")).model()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(5e6, rel=0.01)


@pytest.mark.skipif(not memory._STATUS.exists(), reason="peak memory needs /proc")
def test_peak_memory_is_what_an_action_holds_at_once(tmp_path, monkeypatch):
    (tmp_path / "allocator.py").write_text(
        "import torch\n"
        "from mtlbench.bench.memory import Action\n"
        "def prepare(entries, held):\n"
        "    return Action(lambda: torch.ones(entries).sum().item(), held)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    size = memory.peak("allocator:prepare", {"entries": 10_000_000, "held": 7_000_000}, "cpu")
    assert 47e6 <= size < 55e6


@pytest.mark.skipif(not memory._STATUS.exists(), reason="peak memory needs /proc")
def test_memory_is_positive_and_in_the_table():
    result = combination((2,), (200_000,), ("pcgrad",), repeats=1, sample_seconds=0, compare=False)
    (row,) = result.rows
    assert row.bytes["extra"] > 800_000  # the update alone
    assert row.bytes_ratios["extra/P floats"] == row.bytes["extra"] / 800_000
    assert "extra [MB]" in result.columns
    result = steps(
        ("separate",),
        (2,),
        ("gradvac",),
        scale=Scale(width=64, layers=1, feedforward=64),
        repeats=1,
        sample_seconds=0,
        compare=False,
    )
    rows = by_method(result)
    assert all(row.bytes["peak"] > 0 for row in rows.values())
    assert rows[stepping.KEPT].bytes_ratios["peak/K graphs kept"] == 1


@pytest.mark.skipif(not memory._STATUS.exists(), reason="peak memory needs /proc")
def test_a_failed_memory_process_leaves_its_reason(monkeypatch):
    with pytest.raises(RuntimeError, match="no_such_module"):
        memory.peak("no_such_module:function", {}, "cpu")
    monkeypatch.setattr(memory, "peak", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory today")))
    (row,) = combination((2,), (100,), ("pcgrad",), repeats=1, sample_seconds=0, compare=False).rows
    assert row.note == "no memory today"
    assert row.bytes == {}


def test_subjects_take_turns_and_keep_one_sample_per_repeat():
    order = []
    sampler = Sampler(lambda: None, sample_seconds=0.0, warm=False, attempts=1)
    subjects = {name: lambda name=name: (order.append(name), time.sleep(0.001)) for name in "ab"}
    samples = sampler.interleave(subjects, 3)
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3}
    assert order[4:] == ["a", "b"] * 3  # after one call and one calibration of each
    assert all(value >= 0.001 for values in samples.values() for value in values)


def test_a_disturbed_sample_is_taken_again(monkeypatch):
    from mtlbench.bench import sampling

    clock = iter([0.0, 9.0, 9.0, 9.0])  # others use 9 s during the first attempt, nothing during the second
    monkeypatch.setattr(sampling, "others", lambda: next(clock))
    sampler = Sampler(lambda: None, 0.0, warm=False, attempts=3)
    sampler._sample(lambda: time.sleep(0.001), 1)
    assert (sampler.kept, sampler.disturbed) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("gradvack",)}, "gradvac"),
        ({"methods": ("uniform",)}, "no weights for a Gramian"),
        ({"layouts": ("all_layers",)}, "all_layer"),
        ({"dtype": "float31"}, "float32"),
        ({"objectives": (0,)}, "at least 1"),
        ({"parameters": ()}, "at least one"),
    ],
)
def test_bad_words_are_refused_before_anything_is_measured(arguments, message):
    with pytest.raises(mtlbench.UsageError, match=message):
        combination(**{"repeats": 1, "sample_seconds": 0, **arguments})


def test_steps_refuse_bad_words():
    with pytest.raises(mtlbench.UsageError, match="separate"):
        steps(("separated",))
    with pytest.raises(mtlbench.UsageError, match="gradvac"):
        steps(methods=("gradvak",))
    with pytest.raises(mtlbench.UsageError, match="a workload or a task"):
        steps(())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("steps task=multimnist K=1,3", "K=3 is not allowed: a batch of multimnist/digits holds 2 objectives"),
        ("steps protocol.clip_norm=1", "say task=NAME"),
        ("steps task=multimnist refresh=0", "refresh=0 is not allowed"),
        ("steps task=multimnist protocol.clipnorm=1", "clip_norm"),
        ("steps task=multimnist protocol.clip_norm=1,2", "one value, not 2"),
        ("step task=multimnist", "Did you mean 'steps'"),
        ("multimnist repeats=1", "`mtlbench bench steps task=multimnist`"),
    ],
)
def test_words_of_a_task_are_refused_before_anything_is_measured(words, message, monkeypatch):
    monkeypatch.setattr(Sampler, "interleave", lambda *_: pytest.fail("measured"))
    with pytest.raises(mtlbench.UsageError, match=message):
        run_bench(words.split())


def test_a_task_of_a_single_file_has_no_benchmark_of_its_own(tiny):
    with pytest.raises(mtlbench.UsageError, match="no benchmark of its own"):
        run_bench(["tiny"])


def test_an_empty_column_is_left_out():
    here = Environment.here(torch.device("cpu"), None)
    rows = [Row(labels={"K": 2}, seconds={"step": 0.5, "never": None})]
    result = Bench(kind="steps", settings={}, environment=here, disturbed=0.0, rows=rows)
    assert result.columns == ["K", "step [ms]"]
    assert result.table() == [["2", "500"]]
