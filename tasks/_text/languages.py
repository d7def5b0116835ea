"""Which of the languages of a corpus are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mtlbench.errors import UsageError, unknown


def chosen(languages: Sequence[str] | None, available: Collection[str], wanted_by: str) -> list[str]:
    """Those of `available` that are asked for, in their order there; all of them for None.

    Raises:
        UsageError: a language that is not available or named twice, or none at all.
    """
    if languages is None:
        return list(available)
    for language in languages:
        if language not in available:
            raise unknown(f"language of {wanted_by}:", language, available)
    if len(set(languages)) < len(languages):
        raise UsageError(f"languages=[{','.join(languages)}] for {wanted_by} names one twice.")
    if not languages:
        raise UsageError(f"languages= names none for {wanted_by}. Known: {', '.join(available)}.")
    return [language for language in available if language in languages]
