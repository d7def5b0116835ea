"""What validation found, told in words: the first place, what stands there and what is allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
import pytest

from mtlbench.strict import Strict, first_error, refused


class Inner(Strict):
    size: Annotated[int, pydantic.Field(ge=1)]
    name: Literal["SGD", "Adam"] = "SGD"


class Outer(Strict):
    inner: Inner
    count: Annotated[int, pydantic.Field(ge=1)] = 1

    @pydantic.field_validator("count")
    @classmethod
    def _even(cls, count: int) -> int:
        if count % 2 == 0:
            raise ValueError("Even numbers are for others")
        return count


def found(content: Any) -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as caught:
        Outer.model_validate(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "word", "place"),
    [
        (
            {"inner": {"size": 0}},
            "a.inner.size=0 is not allowed: input should be greater than or equal to 1.",
            "inner.size: input should be greater than or equal to 1",
        ),
        (
            {"inner": {"size": 1, "name": "sgd"}},
            "a.inner.name=sgd is not allowed: input should be 'SGD' or 'Adam'.",  # names keep their letters
            "inner.name: input should be 'SGD' or 'Adam'",
        ),
        ({"inner": {}}, "a.inner.size is not allowed: field required.", "inner.size: field required"),
        (
            {"inner": {"size": 1}, "count": 2},
            "a.count=2 is not allowed: Even numbers are for others.",
            "count: Even numbers are for others",
        ),
        ({"inner": {"size": 0}, "count": 0}, "a.inner.size=0 is not allowed", "inner.size"),  # the first alone
    ],
)
def test_the_first_error_is_told_as_a_word_or_as_a_place(content: Any, word: str, place: str) -> None:
    assert str(refused(found(content), "a.")).startswith(word)
    assert first_error(found(content)).startswith(place)
    assert "\n" not in f"{refused(found(content))}{first_error(found(content))}"


def test_a_word_in_the_place_of_a_list_is_told_how_lists_are_written() -> None:
    class Listed(Strict):
        names: tuple[str, ...]

    with pytest.raises(pydantic.ValidationError) as caught:
        Listed.model_validate({"names": "de"})
    assert str(refused(caught.value)).startswith("names=de is not allowed: ")
    assert str(refused(caught.value)).endswith(" A list is written in brackets: [de,fr].")
    assert "brackets" not in str(refused(found({"inner": {"size": 0}})))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 5000, "x" * 80 + "... is not"),
        (10**5000, r"\(a number of thousands of digits\) is not"),
        ("\x1b[31mred", r"'\\x1b\[31mred' is not"),
        ("two\nlines", r"'two\\nlines' is not"),
    ],
    ids=["long", "digits", "escapes", "lines"],
)
def test_a_value_is_shown_short_on_one_line_and_without_control_characters(value: Any, shown: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Inner.model_validate({"size": 1, "name": value})
    assert re.match(f"name={shown}", str(refused(caught.value)))
