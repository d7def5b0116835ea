"""A run's geometry read back: from where, what it is asked and answers by name, several runs together, and refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import record, save
from planted_gradients import blocks, cosines, gradients, planted, trajectory

import mtlbench.geometry
from mtlbench.errors import UsageError
from mtlbench.geometry import combined, estimates
from mtlbench.geometry.corrections import corrections
from mtlbench.geometry.loading import Geometry, load
from mtlbench.record.reading import Unreadable
from mtlbench.record.schema import Record
from mtlbench.record.trajectory import GEOMETRY, Group, MethodTrace, Trajectory, write

GROUPS = (
    Group("embedding", "", 5),
    Group("one", "encoder", 5),
    Group("two", "encoder", 5),
    Group("three", "decoder", 5),
)


def recorded(seed: int = 0, snapshots: int = 3, cell: str = "a cell", between: float = 0.2) -> Trajectory:
    generator = np.random.default_rng(seed)
    several = planted(cosines(0.6, between), 0.4, generator, simulations=4 * snapshots, batches=6)
    return trajectory(several.reshape(snapshots, 4, 6, 6, 6, 6), GROUPS, cell=cell)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Record]:
    """The folder of a finished cell with geometry, and its record."""
    made = record()
    (path,) = save([made], tmp_path)
    write(path.parent / GEOMETRY, recorded(cell=made.id))
    return path.parent, made


@pytest.fixture
def geometry() -> Geometry:
    return Geometry(recorded())


# --- from where


def test_a_run_is_its_folder_its_files_or_its_record(finished: tuple[Path, Record], tmp_path: Path) -> None:
    folder, made = finished
    for run in (folder, str(folder), folder / "record.json", folder / GEOMETRY):
        found = load(run)
        assert found.record == made
        assert found.path == folder / GEOMETRY
    assert load(made, tmp_path).path == folder / GEOMETRY
    assert load(folder).label == "uniform"
    assert load(folder).seed == 0


def test_geometry_of_a_run_that_has_no_record_yet_is_read(tmp_path: Path) -> None:
    write(tmp_path / GEOMETRY, recorded())
    assert load(tmp_path).record is None
    assert load(tmp_path).label == "a cell"


def test_a_run_without_geometry_says_how_to_record_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no geometry\.npz in .*geometry\.every="):
        load(tmp_path)


def test_the_geometry_of_another_cell_is_refused(finished: tuple[Path, Record]) -> None:
    folder, made = finished
    write(folder / GEOMETRY, recorded(cell="another"))
    with pytest.raises(UsageError, match=rf"of the cell another, and the record beside it of {made.id}"):
        load(folder)


def test_a_file_that_is_not_whole_is_named(tmp_path: Path) -> None:
    (tmp_path / GEOMETRY).write_bytes(b"no archive")
    with pytest.raises(Unreadable, match=GEOMETRY):
        load(tmp_path)


def test_the_face_of_the_room_waits_for_nothing_until_it_is_used() -> None:
    code = (
        "import sys, mtlbench.geometry as face\n"
        "assert not {'scipy', 'sklearn', 'torch', 'pydantic'} & {*sys.modules}, 'early'\n"
        "face.load\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert mtlbench.geometry.load is load
    assert "Labelled" in dir(mtlbench.geometry)
    with pytest.raises(AttributeError, match="nothing"):
        mtlbench.geometry.nothing  # noqa: B018


# --- questions and answers


def test_cosines_are_answered_by_name_with_their_interval(geometry: Geometry) -> None:
    answer = geometry.cosine()
    found = answer.at("u", "v")
    whole = estimates.cosine(estimates.block(geometry.trajectory.gramians[-1]))
    assert found.mean == pytest.approx(whole.value[0, 1])
    assert found.low < found.mean < found.high
    assert answer.axes == ("objective", "other")
    rows = list(answer.rows())
    assert len(rows) == 36
    assert rows[1] == {
        **{"objective": "u", "other": "v", "value": found.mean, "low": found.low, "high": found.high},
        **{"unknown": 0, "runs": 1},
    }


def test_parts_names_and_lists_of_groups_are_sums_over_them(geometry: Geometry) -> None:
    gramians = geometry.trajectory.gramians[-1]
    for words, places in (
        ("encoder", [1, 2]),
        ("three", [3]),
        (["embedding", "decoder"], [0, 3]),
        (["one", "encoder"], [1, 2]),
        (None, [0, 1, 2, 3]),
    ):
        expected = estimates.cosine(estimates.block(gramians, places)).value
        np.testing.assert_allclose(geometry.cosine(groups=words).values, expected)
    assert geometry.parts == ("encoder", "decoder")


def test_a_step_is_completed_steps_or_counts_from_the_last(geometry: Geometry) -> None:
    assert geometry.steps.tolist() == [0, 10, 20]
    for step, place in ((20, 2), (-1, 2), (-3, 0), (0, 0), (10, 1)):
        expected = estimates.cosine(estimates.block(geometry.trajectory.gramians[place])).value
        np.testing.assert_allclose(geometry.cosine(step=step).values, expected)
    trained = [estimates.cosine(estimates.block(geometry.trajectory.gramians[t])).value for t in (1, 2)]
    np.testing.assert_allclose(geometry.cosine(step="mean").values, np.mean(trained, 0))


def test_the_error_of_a_mean_over_snapshots_is_that_of_common_batches() -> None:
    """Snapshots share their probe batches: three equal ones are no better known than one."""
    one = recorded(snapshots=1).gramians
    same = Geometry(trajectory(np.concatenate([one] * 3), GROUPS))
    np.testing.assert_allclose(same.cosine(step="mean").low, same.cosine(step=10).low)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda g: g.cosine(step=15), "no snapshot at step 15, but at 0, 10, 20"),
        (lambda g: g.cosine(step=-4), "no snapshot at step -4"),
        (lambda g: g.cosine(groups="encode"), "Did you mean 'encoder'"),
        (lambda g: g.cosine(kind="plain"), "Unknown kind of cosine 'plain'"),
        (lambda g: g.mean("inside"), "Unknown set of pairs 'inside'"),
        (lambda g: g.mean("within", by="families"), "Did you mean 'family'"),
        (lambda g: g.cosine().at("u"), "1 names were given; 2 are needed, for objective, other"),
        (lambda g: g.cosine().at("u", "a"), "Unknown other 'a'"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(geometry: Geometry, ask, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(geometry)


def test_families_are_needed_only_where_they_are_asked_for() -> None:
    run = trajectory(planted(cosines(0.5, 0.5), 0.5, np.random.default_rng(0), simulations=2, batches=4)[None])
    bare = Geometry(replace(run, relations=()))
    assert bare.families() is None
    assert np.isfinite(bare.mean("all").values).all()
    with pytest.raises(UsageError, match="needs families"):
        bare.mean("within")


def test_trajectories_and_layers_are_means_over_pairs_at_every_snapshot(geometry: Geometry) -> None:
    within, between = geometry.mean("within"), geometry.mean("between")
    last = geometry.cosine().values
    assert within.at(20).mean == pytest.approx(np.mean([last[0, 1], last[2, 3], last[4, 5]]))
    assert between.at(20).mean == pytest.approx((last[np.triu_indices(6, 1)].sum() - 3 * within.at(20).mean) / 12)
    contrast = geometry.mean("contrast")
    np.testing.assert_allclose(contrast.values, within.values - between.values)
    pair = np.zeros((6, 6), dtype=bool)
    pair[5, 0] = True
    assert geometry.mean(pair).at(20).mean == pytest.approx(last[0, 5])
    layers = geometry.layers("within", kind="unaligned")
    assert layers.values.shape == (4, 3)
    assert layers.at("two", 10).mean == pytest.approx(geometry.mean("within", "unaligned", "two").at(10).mean)
    assert geometry.share("encoder").at(0, "w").mean == pytest.approx(0.4, abs=0.15)


def test_conflicts_are_shares_of_negative_cosines_of_the_model_and_of_each_group() -> None:
    """Two objectives that agree in one group and conflict, more strongly, in the other."""
    generator = np.random.default_rng(3)
    agree, conflict = np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.9], [-0.9, 1.0]])
    first = gradients(agree, 0.95, generator, batches=4, size=20)[0]
    second = 3 * gradients(conflict, 0.95, generator, batches=4, size=20)[0]
    run = trajectory(np.stack([blocks(first), blocks(second)])[None], families=("a", "a"))
    answer = combined.conflicts([run])
    assert [answer.at(group, "u", "v").mean for group in ("all", "first", "second")] == [1, 0, 1]
    assert 0.4 < answer.at("second", "u", "v").low < 1


# --- what the method did


def traced(corrected: list[float], negative: list[float], steps: list[int], group: str = "model") -> MethodTrace:
    """One group, two objectives, the same numbers for both pairs in each window."""

    def pairs(values: list[float]) -> np.ndarray:
        return np.broadcast_to(np.array(values, dtype=np.float32)[:, None, None, None], (len(values), 1, 2, 2)).copy()

    return MethodTrace(
        groups=(group,),
        steps=np.array(steps, dtype=np.int64),
        corrected=pairs(corrected),
        negative=pairs(negative),
        cosine=pairs([0.1] * len(steps)),
        target=pairs([np.nan] * len(steps)),
        norm_ratio=np.full((len(steps), 1), 0.9, dtype=np.float32),
        update_cosine=np.full((len(steps), 1, 2), 0.5, dtype=np.float32),
    )


def two_objectives(trace: MethodTrace | None) -> Trajectory:
    inside = planted(np.eye(2), 0.5, np.random.default_rng(0), simulations=6, batches=3, size=9)
    return trajectory(inside.reshape(3, 2, 3, 2, 3, 2), families=("a", "a"), method=trace)


def test_corrections_over_training_weigh_windows_by_their_steps() -> None:
    nan = float("nan")
    found = corrections([two_objectives(traced([nan, 0.5, 0.2], [nan, 0.1, 0.4], [0, 10, 30]))])
    assert found is not None
    assert found.did.at("model", "u", "v").mean == pytest.approx((0.5 * 10 + 0.2 * 30) / 40)
    assert found.would.at("model", "u", "v").mean == pytest.approx((0.1 * 10 + 0.4 * 30) / 40)
    assert found.would_by_step.at(20).mean == pytest.approx(0.4)
    assert np.isnan(found.would_by_step.at(0).mean)
    assert np.isnan(found.did.at("model", "u", "u").mean)
    assert np.isnan(found.target.values).all()
    assert found.target.unknown.sum() == 4


def test_corrections_of_several_runs_have_the_interval_of_their_spread() -> None:
    nan = float("nan")
    runs = [two_objectives(traced([nan, x, x], [nan, x, x], [0, 10, 10])) for x in (0.2, 0.3, 0.4)]
    found = corrections(runs)
    assert found is not None
    interval = found.did.at("model", "u", "v")
    assert interval.n == 3
    assert interval.mean == pytest.approx(0.3)
    assert interval.high - interval.mean == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)


def test_methods_that_see_no_gradients_have_no_corrections() -> None:
    assert Geometry(two_objectives(None)).corrections() is None
    assert corrections([two_objectives(traced([0.1] * 3, [0.1] * 3, [0, 1, 1])), two_objectives(None)]) is None


# --- several runs


def test_several_runs_are_combined_into_their_mean(geometry: Geometry) -> None:
    runs = [recorded(seed) for seed in range(3)]
    together = combined.cosine(runs)
    alone = [Geometry(run).cosine().values for run in runs]
    np.testing.assert_allclose(together.values, np.mean(alone, 0))
    assert together.runs == 3
    assert together.at("u", "v").n == 3
    assert combined.mean(runs, "contrast").values.shape == (3,)
    assert combined.layers(runs).values.shape == (4, 3)
    assert combined.share(runs).values.shape == (3, 6)
    assert combined.conflicts(runs).values.shape == (5, 6, 6)


def test_runs_that_differ_more_have_longer_intervals_on_the_same_probes() -> None:
    """The same noise around other means: what differs is the runs."""
    answers = [
        combined.mean([recorded(between=0.2 + apart * step) for step in (-1, 0, 1)], "between")
        for apart in (0.0, 0.05, 0.2)
    ]
    widths = [float(answer.high[1] - answer.low[1]) for answer in answers]
    assert 0 < widths[0] < widths[1] < widths[2]
    assert widths[2] > 2 * 4.3 * 0.2 / np.sqrt(3) * 0.9  # Student's t of three runs


def test_runs_that_do_not_fit_each_other_are_refused() -> None:
    one, longer = recorded(), recorded(snapshots=4)
    with pytest.raises(UsageError, match="have other snapshots and cannot be combined"):
        combined.cosine([one, longer])
    with pytest.raises(UsageError, match="have other objectives"):
        combined.mean([one, two_objectives(None)])
    with pytest.raises(UsageError, match="No run was given"):
        combined.cosine([])
    traces = [two_objectives(traced([0.1] * 3, [0.1] * 3, [0, 1, last], group)) for last, group in ((1, "a"), (2, "b"))]
    with pytest.raises(UsageError, match="other objectives, groups of the method or snapshots"):
        corrections(traces)
