"""The sounds of the artificial languages: words of the first ancestor, regular sound changes, new words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from .streams import Stream

VOWELS = "aeiouöü"
CONSONANTS = "ptkbdgmnfsšxhvzžčlrjw"
"""A letter is a sound, and a sound a letter, unless a language has an alphabet of its own (`writing`)."""

SOUND_CHANGES = (
    # Stops: softening between vowels and at the edges of the word, palatalisation.
    "p > f",
    "p > f / #_",
    "p t k > b d g / V_V",
    "b d g > p t k / _#",
    "b d g > p t k",
    "b > v / V_V",
    "b > w",
    "d > z / V_V",
    "d > r / V_V",
    "g > x / V_V",
    "g > j / _[ei]",
    "g > 0 / V_V",
    "k > č / _[ei]",
    "k > x / V_V",
    "k > x / #_",
    "t > č / _[iu]",
    "t > s / _[ei]",
    "t k > 0 / V_#",
    # Fricatives and affricates.
    "s > š / _[iu]",
    "s > h / V_V",
    "s > z / V_V",
    "s > š / _C",
    "x > h",
    "h > 0 / V_V",
    "h > 0 / #_",
    "f > h / _[ou]",
    "v > w",
    "č > š",
    "ž > š",
    "z > ž / _[iu]",
    # Sonorants.
    "l > r / V_V",
    "l > w / V_C",
    "r > l / #_",
    "r > l / _C",
    "r > š / _#",
    "r > 0 / V_C",
    "w > v",
    "w > 0 / _[ou]",
    "j > ž / #_",
    "j > 0 / _[ei]",
    "n > m / _[pbfv]",
    "n > 0 / V_[szš]",
    "m > n / _#",
    "n > 0 / VCV_#",
    # Vowels: chain shifts, umlaut, weakening and loss.
    "a > o / _C#",
    "a > o / C_C",
    "a > e / _Ci",
    "o > ö / _C[ei]",
    "u > ü / _C[ei]",
    "ö ü > e i",
    "o > u / _#",
    "o > u / _CC",
    "o > a",
    "e > a / _[rl]",
    "e > i / _#",
    "i > e / _C#",
    "i u > e o / _CC",
    "u > o / _Ca",
    "u > i",
    "a > e / _#",
    "V > 0 / VC_#",
    "V > 0 / VC_CV",
    "0 > e / #_sC",
)
"""What a branch draws from: `targets > results / left_right`, sound by sound.

V is any vowel, C any consonant, [..] one of these, # the edge of the word, 0 nothing.
"""

_ONSETS = "ttkkppssmmnnllrrbdgwjh"
_CODAS = "nnrrlssmtk"
_NUCLEI = "aaaaiiieeouuo"


@cache
def _compiled(change: str) -> tuple[re.Pattern[str], dict[str, str]]:
    sounds, _, context = change.partition(" / ")
    targets, results = (part.replace("0", "").split(" ") for part in sounds.split(" > "))
    targets = list(VOWELS) if targets == ["V"] else targets
    results = results * len(targets) if len(results) == 1 else results
    left, _, right = context.partition("_")
    classes = {"V": f"[{VOWELS}]", "C": f"[{CONSONANTS}]"}

    def pattern(side: str, edge: str) -> str:
        return "".join(classes.get(symbol, symbol) for symbol in side.replace("#", edge))

    body = f"[{''.join(targets)}]" if targets != [""] else ""
    return (
        re.compile(f"(?<={pattern(left, '^')}){body}(?={pattern(right, '$')})"),
        dict(zip(targets, results, strict=True)),
    )


def changed(word: str, changes: Iterable[str]) -> str:
    """`word` after the sound changes, each applied everywhere in the word at once, in order.

    Args:
        word: sounds; a hyphen marks the side on which an affix meets its stem. It counts neither as a sound
            nor as an edge of the word.
        changes: in the notation of `SOUND_CHANGES`.
    """
    for change in changes:
        expression, results = _compiled(change)
        word = expression.sub(lambda found, results=results: results[found.group()], word)  # type: ignore[misc]
    return word


def drawn_changes(count: int, words: Collection[str], stream: Stream) -> tuple[str, ...]:
    """Up to `count` sound changes, in order, each of which matters to these words and merges few of them.

    A change is passed over if it alters fewer than 5 % or more than 40 % of the words as the earlier ones left
    them (one sweeping change would outweigh the rest of the history), or makes more than 3 % of them alike.
    """
    words = list(words)
    chosen: list[str] = []
    for change in stream.shuffled(SOUND_CHANGES):
        if len(chosen) == count:
            break
        after = [changed(word, [change]) for word in words]
        altered = sum(a != b for a, b in zip(words, after, strict=True))
        merged = len(set(words)) - len(set(after))
        if 0.05 * len(words) <= altered <= 0.4 * len(words) and merged <= 0.03 * len(words):
            chosen.append(change)
            words = after
    return tuple(chosen)


def proto_word(syllables: int, stream: Stream) -> str:
    """A word of the first ancestor: syllables of consonant, vowel and at times a closing consonant."""
    word = ""
    for _ in range(syllables):
        word += stream.pick(_ONSETS) + stream.pick(_NUCLEI)
        if stream.chance(0.3):
            word += stream.pick(_CODAS)
    return word


def new_word(models: Sequence[str], taken: Collection[str], stream: Stream) -> str:
    """A word of at least two sounds that is not in `taken`, built of the beginnings and ends of `models`.

    So a language coins words that sound like its own.
    """
    for attempt in range(1000):
        word = _beginning(stream.pick(models))
        if attempt > 20 or stream.chance(0.15):
            word += _beginning(stream.pick(models))
        model = stream.pick(models)
        word += model[len(_beginning(model)) :]
        if len(word) >= 2 and word not in taken and _pronounceable(word):
            return word
    raise RuntimeError("The models are too few to build another word of.")


class Linking(NamedTuple):
    """The vowel and the consonant that a language puts between the parts of a word."""

    vowel: str
    glide: str


def linking(words: Iterable[str]) -> Linking:
    """The most frequent vowel and the most frequent of j, w, h and n in `words`."""
    counts = Counter("".join(words))
    return Linking(
        vowel=max(VOWELS, key=lambda sound: (counts[sound], sound)),
        glide=max("jwhn", key=lambda sound: (counts[sound], sound)),
    )


def joined(left: str, right: str, link: Linking) -> str:
    """Two parts of a word, with a linking sound where two vowels or too many consonants would meet."""
    if not left or not right:
        return left + right
    if left[-1] in VOWELS:
        return left + link.glide + right if right[0] in VOWELS else left + right
    single_coda, single_onset = left[-2:-1], right[1:2]
    if right[0] in VOWELS or (single_coda and single_coda in VOWELS and single_onset and single_onset in VOWELS):
        return left + right
    return left + link.vowel + right


def _beginning(word: str) -> str:
    """Up to and including the first vowel."""
    return word[: next((place for place, sound in enumerate(word) if sound in VOWELS), len(word)) + 1]


def _pronounceable(word: str) -> bool:
    runs = [len(run) for run in re.findall(f"[{VOWELS}]+", word)]
    return bool(runs) and max(runs) <= 2 and not re.search(f"[{CONSONANTS}]{{4}}", word)
