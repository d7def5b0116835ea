"""Text that others wrote, made fit to be shown: in records, reasons of failures, answers of servers, notes, labels."""

from __future__ import annotations

import re
import textwrap


def one_line(text: str) -> str:
    """Text without line breaks and characters that cannot be seen.

    What cannot be seen are control codes (a terminal's escape sequences begin with one), changes of writing direction,
    joiners, and half characters.
    """
    return _visible(" ".join(text.split()))


def several_lines(text: str) -> str:
    """The same with line breaks and indentation kept, for messages of several lines; a tab is four spaces."""
    return "\n".join(_visible(line.expandtabs(4)).rstrip() for line in text.splitlines())


def _visible(line: str) -> str:
    return "".join(character for character in line if character.isprintable())


def heading_lines(heading: str, width: int) -> list[str]:
    """A column's heading in lines no wider than `width` where words allow; the arrow stays with the last word."""
    words = re.sub(" (?=[↑↓]$)", "\u00a0", one_line(heading))
    width = max(width, *map(len, words.split(" ")))
    lines = textwrap.wrap(words, width, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines]
