"""Expectations of controls: what holds, what fails and says why, and which files are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydantic
import pytest
from handmade import ACCURACY, ERROR, record

from mtlbench.catalogue import registry
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import MetricInfo
from mtlbench.tables.expected import Control, Verdict, controls, judge

NOISE = (0.0, 1.3, -0.8, 0.4, -1.1, 0.6)
OTHER = (0.5, -0.9, 1.0, -0.2, 0.3, -1.2)


def runs(method: str, scores: Sequence[float], metric: MetricInfo = ACCURACY, words: str = "") -> list[Run]:
    """A cell for each seed with this mean over both objectives."""
    made = []
    for seed, score in enumerate(scores):
        curve = {"left": score - 1.0, "right": score + 1.0}
        made.append(Run.of(record(method, seed, [(curve, curve)], metric, words=words)))
    return made


def around(level: float, noise: Sequence[float] = NOISE) -> list[float]:
    return [level + 0.5 * each for each in noise]


def verdict(expectation: dict[str, object], *groups: list[Run]) -> Verdict:
    control = Control.model_validate(
        {"about": "", "settings": ("method=uniform",), "seeds": "0", "expected": [expectation]}
    )
    _, (found,) = judge(control, Collection([run for group in groups for run in group]))
    return found


def test_a_clear_gain_of_the_stated_size_holds_and_a_smaller_one_or_a_loss_does_not() -> None:
    rows = runs("uniform", around(60)), runs("pcgrad", around(80, OTHER))
    by = {"row": "pcgrad", "better_than": "uniform", "by": 15}
    assert verdict(by, *rows).holds
    assert "+19.9" in verdict(by, *rows).found
    assert not verdict({**by, "by": 25}, *rows).holds
    assert not verdict({"row": "uniform", "better_than": "pcgrad"}, *rows).holds


def test_where_lower_is_better_a_gain_is_a_fall() -> None:
    rows = runs("uniform", around(60), ERROR), runs("pcgrad", around(40, OTHER), ERROR)
    assert verdict({"row": "pcgrad", "better_than": "uniform", "by": 15}, *rows).holds
    assert not verdict({"row": "uniform", "better_than": "pcgrad"}, *rows).holds


def test_a_gain_within_the_noise_is_none_however_large() -> None:
    rows = runs("uniform", (10, 50, 90, 30)), runs("pcgrad", (60, 40, 95, 55))
    found = verdict({"row": "pcgrad", "better_than": "uniform"}, *rows)
    assert not found.holds
    assert "p = " in found.found


def test_what_scatters_alike_is_like_and_what_is_always_better_is_not() -> None:
    uniform, like = runs("uniform", around(60)), {"row": "pcgrad", "like": "uniform"}
    found = verdict(like, uniform, runs("pcgrad", around(60, OTHER)))
    assert found.holds
    assert "single seeds differ with a standard deviation of" in found.found
    assert not verdict(like, uniform, runs("pcgrad", around(70, OTHER))).holds


def test_an_ordinary_coincidence_is_no_false_alarm() -> None:
    """One difference in twenty has a p-value below .05 where there is nothing."""
    rows = runs("uniform", around(60)), runs("pcgrad", [61.0, 60.9, 60.4, 61.3, 60.0, 60.9])
    found = verdict({"row": "pcgrad", "like": "uniform"}, *rows)
    assert "p = 0.0" in found.found
    assert found.holds
    assert not verdict({"row": "pcgrad", "better_than": "uniform", "by": 2}, *rows).holds


def test_the_same_method_under_other_seeds_is_the_second_half_of_its_seeds() -> None:
    assert verdict({"repeated": "uniform"}, runs("uniform", around(60))).holds
    jump = [60.0, 60.4, 59.8, 80.0, 80.3, 80.5]
    found = verdict({"repeated": "uniform"}, runs("uniform", jump), runs("pcgrad", around(60)))
    assert not found.holds
    assert "+20" in found.found
    assert "is not told apart from itself" in found.claim
    short = verdict({"repeated": "uniform"}, runs("uniform", around(60)[:3]))
    assert not short.holds
    assert "3 seeds" in short.found


def test_nothing_but_what_is_expected_may_be_bold() -> None:
    rows = runs("uniform", around(60)), runs("pcgrad", around(80)), runs("gradvac", around(80, OTHER))
    assert verdict({"bold": ["pcgrad", "gradvac"]}, *rows).holds
    assert verdict({"bold": ["pcgrad", "gradvac", "uniform"]}, *rows).holds
    found = verdict({"bold": ["pcgrad"]}, *rows)
    assert not found.holds
    assert "gradvac" in found.found


def test_what_cannot_be_judged_fails_and_says_why() -> None:
    uniform = runs("uniform", around(60))
    for expectation in (
        {"row": "pcgrad", "better_than": "uniform"},
        {"bold": ["pcgrad"]},
        {"row": "pcgrad", "like": "uniform"},
    ):
        found = verdict(expectation, uniform)
        assert not found.holds
        assert "no result of pcgrad" in found.found
    single = verdict({"row": "pcgrad", "like": "uniform"}, runs("uniform", [60.0]), runs("pcgrad", [70.0]))
    assert not single.holds
    assert "two seeds" in single.found
    nothing = verdict({"bold": ["pcgrad"]})
    assert not nothing.holds
    assert "0 tables" in nothing.found
    gone = verdict({"row": "pcgrad", "better_than": "uniform"}, runs("pcgrad", around(60)))
    assert not gone.holds
    assert "uniform" in gone.found


def test_two_protocols_at_once_are_not_one_table() -> None:
    rows = runs("uniform", around(60)), runs("pcgrad", around(80), words="protocol.epochs=3")
    found = verdict({"bold": ["pcgrad"]}, *rows)
    assert not found.holds
    assert "2 tables" in found.found


def test_the_controls_of_the_suite_are_found_with_their_variants() -> None:
    assert [*controls()] == ["controls/scale", "controls/twin", "controls/surgery"]
    assert all(control.about and control.expected for control in controls().values())


PROTOCOLS = """
variants: {small: {description: a, protocol: short}}
protocols:
  short:
    {version: 1, description: b, variants: [small], epochs: 1, batch_size: 1, optimizer: {name: sgd, lr: 0.1}}
"""
EXPECTED = "{about: c, settings: [method=uniform], seeds: '0..2', expected: [{repeated: uniform}]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"small: {EXPECTED}", ""),
        (f"large: {EXPECTED}", "unknown variant 'large'"),
        (f"small: {EXPECTED.replace('seeds', 'seed')}", "expectations.yaml cannot be read"),
        (f"small: {EXPECTED.replace('repeated', 'repaeted')}", "expectations.yaml cannot be read"),
    ],
)
def test_any_task_may_state_expectations_and_a_file_that_makes_no_sense_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "protocols.yaml").write_text(PROTOCOLS)
    (tmp_path / "expectations.yaml").write_text(text)
    name = f"mine{len(text)}{len(message)}"  # what a task states is read once
    entry = registry.Registered(name, "here", protocols=tmp_path / "protocols.yaml")
    monkeypatch.setitem(registry.tasks.entries(), name, entry)
    if message:
        with pytest.raises(UsageError, match=message):
            controls()
    else:
        assert f"{name}/small" in controls()


def test_an_expectation_is_of_one_kind() -> None:
    with pytest.raises(pydantic.ValidationError):
        Control.model_validate(
            {
                "about": "",
                "settings": ["method=uniform"],
                "seeds": "0",
                "expected": [{"row": "a", "like": "b", "bold": ["c"]}],
            }
        )
