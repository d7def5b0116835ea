"""Private alphabets: every language writes the same sounds in letters that no other one has."""

from __future__ import annotations

from collections.abc import Sequence

from .phonology import CONSONANTS, VOWELS

SOUNDS = VOWELS + CONSONANTS
"""What an alphabet has letters for, in this order."""

_FIRST = 0x1401
"""The first of 620 letters in a row of one script, Unified Canadian Aboriginal Syllabics: they have no upper case, no
canonical or compatibility mapping (Unicode's NFKC leaves them as they are), and the same number of bytes in UTF-8."""


def private(languages: Sequence[str]) -> dict[str, str]:
    """For each language as many letters as there are `SOUNDS`, and none for two languages."""
    size = len(SOUNDS)
    return {
        language: "".join(chr(_FIRST + place * size + i) for i in range(size))
        for place, language in enumerate(languages)
    }


def spelt(form: str, alphabet: str) -> str:
    """A word's sounds in the letters of an alphabet; as they are where it is empty."""
    return form.translate(dict(zip(map(ord, SOUNDS), alphabet, strict=True))) if alphabet else form
