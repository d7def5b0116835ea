"""Data with exactly the declared keys, and what is wrong with other data in words."""

from __future__ import annotations

from typing import Any

import pydantic

from mtlbench.errors import UsageError

LONGEST_VALUE = 80
"""Characters of a refused value that a message shows."""


class Strict(pydantic.BaseModel):
    """Data with exactly the declared keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def refused(error: pydantic.ValidationError, prefix: str = "") -> UsageError:
    """The error for what somebody typed: `protocol.epochs=0 is not allowed: input should be ...`.

    Args:
        error: what validation found; the first of it is told.
        prefix: of the keys, `protocol.`.
    """
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(map(str, first["loc"]))
    given = "" if first["type"] == "missing" else f"={shown(first['input'])}"
    hint = " A list is written in brackets: [de,fr]." if first["type"] in ("tuple_type", "list_type") else ""
    return UsageError(f"{prefix}{key}{given} is not allowed: {_reason(first['msg'])}.{hint}")


def first_error(error: pydantic.ValidationError) -> str:
    """Where data that was read is wrong and how, `protocols.cpu.epochs: field required`, the first place alone."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where + ': ' if where else ''}{_reason(first['msg'])}"


def _reason(message: str) -> str:
    """Pydantic's sentence as the end of one of ours."""
    plain = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return plain if plain is not message else plain[:1].lower() + plain[1:]


def shown(value: Any) -> str:
    """A value as it was typed, on one line, short and without control characters."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except ValueError:  # a number of more digits than Python writes
        return "(a number of thousands of digits)"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
