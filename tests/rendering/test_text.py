"""Foreign text on its way to a terminal, a page or a file."""

from __future__ import annotations

import pytest

from mtlbench.rendering.text import one_line, several_lines

FOREIGN = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07 \x9b2J",
    "a\u202eb\u2066c\u200fd",
    "bell\x07 back\x08 null\x00",
    "half \ud800 a character",
    "a\u2028b\u2029c\x85d\ve",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_no_control_code_and_no_change_of_direction_reaches_a_reader(text: str) -> None:
    assert one_line(text).isprintable()
    assert several_lines(text).replace("\n", "").isprintable()


def test_what_can_be_seen_stays() -> None:
    text = "Ångström 東京 ↑ ± 5 % — наука"
    assert one_line(text) == several_lines(text) == text


def test_one_line_is_one_line_and_several_keep_their_indentation() -> None:
    text = "first\n\tsecond \x1b[1m\r\n  third  "
    assert one_line(text) == "first second [1m third"
    assert several_lines(text) == "first\n    second [1m\n  third"
