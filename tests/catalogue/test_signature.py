"""Hyper-parameters from signatures: what is accepted, what is refused, and in which words."""

from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

import mtlbench
from mtlbench.catalogue.signature import parameters, validated
from mtlbench.errors import UsageError


class Example:
    def __init__(
        self,
        rate: Annotated[float, Gt(0)] = 1e-2,
        share: Annotated[float, Interval(ge=-1, lt=1)] | None = None,
        steps: Annotated[int, Ge(1), Le(9)] = 3,
        below: Annotated[float, Lt(2)] = 0.0,
        flag: bool = True,
        mode: Literal["none", "l2"] = "none",
        weights: tuple[Annotated[float, Ge(0)], ...] | None = None,
    ) -> None: ...


class Nothing:
    def __init__(self) -> None: ...


class Required:
    def __init__(self, rate: float) -> None: ...


def test_defaults_are_used_where_nothing_is_given():
    expected = {"rate": 0.01, "share": None, "steps": 3, "below": 0.0, "flag": True, "mode": "none", "weights": None}
    assert validated("example", Example, {}) == expected


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("rate", "1e-3", 1e-3),
        ("rate", 1, 1.0),
        ("share", "none", None),
        ("share", "null", None),
        ("share", "-1", -1.0),
        ("steps", "4", 4),
        ("flag", "no", False),
        ("flag", "true", True),
        ("mode", "none", "none"),
        ("weights", [1, "0.5"], (1.0, 0.5)),
    ],
)
def test_words_are_read_as_the_declared_type(key, given, value):
    found = validated("example", Example, {key: given})[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "given", "allowed"),
    [
        ("rate", 0, "float in (0, inf)"),
        ("rate", "fast", "float in (0, inf)"),
        ("rate", float("nan"), "float in (0, inf)"),
        ("share", 1.0, "float in [-1, 1) or none"),
        ("share", -1.5, "float in [-1, 1) or none"),
        ("steps", 10, "int in [1, 9]"),
        ("steps", 1.5, "int in [1, 9]"),
        ("below", 2, "float in (-inf, 2)"),
        ("flag", "perhaps", "bool"),
        ("mode", "l3", "one of none, l2"),
        ("weights", [-1.0], "[float in [0, inf), ...] or none"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_value_and_what_is_allowed(key, given, allowed):
    with pytest.raises(UsageError) as caught:
        validated("example", Example, {key: given})
    assert str(caught.value) == f"example: {key}={given} is not allowed; it takes {allowed}."
    assert parameters(Example)[key].allowed == allowed


def test_an_unknown_parameter_names_the_nearest_and_all():
    with pytest.raises(UsageError, match=r"Unknown parameter of example: 'rat'\. Did you mean 'rate'\?.*below, flag"):
        validated("example", Example, {"rat": 1})
    with pytest.raises(UsageError, match="nothing has no parameters"):
        validated("nothing", Nothing, {"rate": 1})


def test_a_required_parameter_is_asked_for():
    with pytest.raises(UsageError, match=r"required needs method\.rate=\.\.\.: float"):
        validated("required", Required, {})
    assert parameters(Required)["rate"].required


def test_a_class_without_a_constructor_of_its_own_has_no_parameters():
    for name in ("uniform", "single_task"):
        assert parameters(type(mtlbench.method(name))) == {}


def test_the_published_defaults_and_ranges_of_the_built_in_methods():
    defaults = {
        name: {key: p.default for key, p in parameters(type(mtlbench.method(name))).items()}
        for name in ("gradvac", "pcgrad", "mgda", "gradnorm", "scalarization")
    }
    assert defaults == {
        "gradvac": {"beta": 0.01, "target": None, "shuffle": True},
        "pcgrad": {"shuffle": True},
        "mgda": {"normalize": "none", "applied": "original"},
        "gradnorm": {"alpha": 1.5, "lr": 0.025, "layer": "last", "step": "published", "warmup": 0},
        "scalarization": {"weights": None},
    }
    for name, bad in (
        ("gradvac", {"beta": 0}),
        ("gradvac", {"beta": 1.1}),
        ("gradvac", {"target": 1}),
        ("mgda", {"normalize": "l1"}),
        ("gradnorm", {"lr": 0}),
        ("gradnorm", {"alpha": -0.1}),
    ):
        with pytest.raises(UsageError, match=f"{name}: {next(iter(bad))}=.* is not allowed"):
            mtlbench.method(name, **bad)


def test_a_parameter_that_is_a_number_or_a_list_takes_and_names_both():
    assert parameters(type(mtlbench.method("pcd")))["tau"].allowed == "float in [0, 1] or [float in [0, 1], ...]"
    for given, read in (("0.3", 0.3), (0.3, 0.3), ([0.3, 0], (0.3, 0.0))):
        assert validated("pcd", type(mtlbench.method("pcd")), {"tau": given})["tau"] == read
    with pytest.raises(UsageError, match=r"pcd: tau=.* is not allowed; it takes float in \[0, 1\] or \["):
        mtlbench.method("pcd", tau=[0.3, 2])
