"""Questions on a context, and the answers that stand in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
"""What stands between spaces; a Chinese character is a word of its own, since Chinese has no spaces."""


class Answer(NamedTuple):
    """A part of the context: `context[start : start + len(text)]`."""

    start: int
    text: str


class Question(NamedTuple):
    """A question with its context; without answers where its file has no labels."""

    name: str
    """Its id."""
    text: str
    context: str
    answers: tuple[Answer, ...]
    key: str
    """What is equal for questions that are to stay together when a file is cut: at first the context."""
    leads: bool
    """Whether it is the first one on its context."""


def words(text: str) -> Sequence[str]:
    """The words that an encoder is made from."""
    return _WORD.findall(text)
