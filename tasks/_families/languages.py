"""Languages, and how each descends from its ancestor along a branch of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import NamedTuple, cast

from .concepts import AFFIXES, SHORT, TAGS
from .phonology import Linking, changed, drawn_changes, joined, linking, new_word, proto_word
from .streams import Stream
from .tree import Tree

CHANGES_PER_LENGTH = 14
"""Sound changes on a branch of length 1; every branch has at least one."""
GRAMMAR_PER_LENGTH = 0.5
"""The share of the parameters of grammar that a branch of length 1 would change."""


class Grammar(NamedTuple):
    """The parameters of a language's sentences; `CHOICES` holds their values."""

    verb: str
    """The order of subject, verb and object."""
    oblique: str
    """The adpositional phrase: at the end of the clause, or medial, right after the subject."""
    adverb: str
    """At the beginning or the end of the clause."""
    adposition: str
    """Before or after its noun phrase. So the next five stand before or after their noun, and then the auxiliary
    and the negation before or after their verb."""
    genitive: str
    relative: str
    adjective: str
    numeral: str
    determiner: str
    auxiliary: str
    negation: str
    noun_affix: str
    verb_affix: str
    case: str
    """How objects and possessors are marked: by affixes, by particles that stand where adpositions do, or, with
    `none`, possessors by a particle and objects by their place alone."""
    tense: str
    """Past and future by affixes or by auxiliaries; the present is unmarked."""
    agreement: str
    """Whether adjectives take the plural affix with their noun."""
    counted: str
    """The number of a noun after a numeral."""


WORD_ORDER: Mapping[str, tuple[str, ...]] = {
    "verb": ("SVO", "SOV", "VSO"),
    "oblique": ("final", "medial"),
    "adverb": ("final", "initial"),
    **dict.fromkeys(Grammar._fields[3:11], ("before", "after")),
}
"""The parameters of word order, with their values."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    **WORD_ORDER,
    "noun_affix": ("suffix", "prefix"),
    "verb_affix": ("suffix", "prefix"),
    "case": ("affix", "particle", "none"),
    "tense": ("affix", "auxiliary"),
    "agreement": ("no", "yes"),
    "counted": ("plural", "singular"),
}
"""All parameters, with their values."""


@dataclass(frozen=True)
class Language:
    """One node of the tree: a language of today or an ancestor."""

    name: str
    grammar: Grammar
    words: Mapping[str, str]
    """Concept -> stem."""
    affixes: Mapping[str, str]
    """Grammatical meaning -> affix, with a hyphen where it meets the stem."""
    origins: Mapping[str, str]
    """Concept or affix -> the node where its root was coined. Two words of a concept are cognate if they agree."""
    alphabet: str = ""
    """Its letters for `writing.SOUNDS`; empty where sounds are written as themselves."""

    @cached_property
    def link(self) -> Linking:
        """What stands between parts of a word that do not meet well."""
        return linking(self.words.values())

    def inflected(self, stem: str, *meanings: str) -> str:
        """`stem` with the affixes of `meanings`, the first next to it."""
        for meaning in meanings:
            affix = self.affixes[meaning]
            bare = affix.strip("-")
            stem = joined(stem, bare, self.link) if affix.startswith("-") else joined(bare, stem, self.link)
        return stem

    def with_grammar(self, grammar: Grammar) -> Language:
        """The same words and affixes with another grammar; affixes go to the side of the stem that it asks for."""
        affixes = {}
        for kind, meanings in AFFIXES.items():
            suffixed = getattr(grammar, f"{kind}_affix") == "suffix"
            for meaning in meanings:
                bare = self.affixes[meaning].strip("-")
                affixes[meaning] = f"-{bare}" if suffixed else f"{bare}-"
        return replace(self, grammar=grammar, affixes=affixes)


def cognate_share(a: Language, b: Language) -> float:
    """The share of the concepts, names left out, for which two languages have words of one root."""
    vocabulary = [concept for concept, tag in TAGS.items() if tag != "PROPN"]
    return sum(a.origins[concept] == b.origins[concept] for concept in vocabulary) / len(vocabulary)


def order_distance(a: Language, b: Language) -> float:
    """The share of the parameters of word order in which two languages differ."""
    return sum(getattr(a.grammar, name) != getattr(b.grammar, name) for name in WORD_ORDER) / len(WORD_ORDER)


class Descent(NamedTuple):
    """What happened on the branch from `parent` to `child`."""

    parent: str
    child: str
    changes: tuple[str, ...]
    """The sound changes, in order, in the notation of `phonology.SOUND_CHANGES`."""
    replaced: frozenset[str]
    """The concepts and affixes that have a new root; all others are their ancestor's after the sound changes."""


def descend(tree: Tree, seed: int) -> tuple[dict[str, Language], dict[str, Descent]]:
    """The language of every node of `tree`, and the history of every node but the root."""
    languages = {tree.root: _ancestor(tree.root, Stream(seed, f"language/{tree.root}"))}
    history = {}
    for child, parent in tree.parents.items():
        stream = Stream(seed, f"language/{child}")
        languages[child], history[child] = _descendant(languages[parent], child, tree.lengths[child], stream)
    return languages, history


def descend_grammar(tree: Tree, seed: int) -> dict[str, Grammar]:
    """The grammar of every node of `tree`, drawn apart from all words."""
    grammars = {tree.root: _first_grammar(Stream(seed, f"grammar/{tree.root}"))}
    for child, parent in tree.parents.items():
        grammars[child] = _reformed(grammars[parent], tree.lengths[child], Stream(seed, f"grammar/{child}"))
    return grammars


def _ancestor(name: str, stream: Stream) -> Language:
    words: dict[str, str] = {}
    for concept in TAGS:
        word = ""
        while len(word) < 2 or word in words.values():
            word = proto_word(1 if concept in SHORT else 3 if stream.chance(0.3) else 2, stream)
        words[concept] = word
    grammar = _first_grammar(stream)
    affixes = _affixes({}, grammar, words, stream)
    return Language(name, grammar, words, affixes, dict.fromkeys([*words, *affixes], name))


def _first_grammar(stream: Stream) -> Grammar:
    return Grammar(**{parameter: stream.pick(values) for parameter, values in CHOICES.items()})


def _descendant(parent: Language, name: str, length: float, stream: Stream) -> tuple[Language, Descent]:
    count = max(1, round(CHANGES_PER_LENGTH * length))
    changes = drawn_changes(count, parent.words.values(), stream)
    words = {concept: changed(word, changes) for concept, word in parent.words.items()}
    replaced = _replaced(words, length, stream)
    kept = {concept: word for concept, word in words.items() if concept not in replaced}
    models = {short: [w for c, w in kept.items() if (c in SHORT) == short] for short in (True, False)}
    for concept in words:
        if concept in replaced:
            kept[concept] = new_word(models[concept in SHORT], set(kept.values()), stream)
    words = {concept: kept[concept] for concept in words}

    grammar = _reformed(parent.grammar, length, stream)
    inherited = {m: changed(a, changes) for m, a in parent.affixes.items() if not stream.chance(length)}
    affixes = _affixes(inherited, grammar, words, stream)
    coined = replaced | {meaning for meaning in affixes if affixes[meaning] != inherited.get(meaning)}
    origins = {item: name if item in coined else origin for item, origin in parent.origins.items()}
    child = Language(name, grammar, words, affixes, origins)
    return child, Descent(parent.name, name, changes, frozenset(coined))


def _reformed(grammar: Grammar, length: float, stream: Stream) -> Grammar:
    """`grammar` with the share GRAMMAR_PER_LENGTH * length of its parameters changed."""
    changing = stream.shuffled(tuple(CHOICES))[: round(GRAMMAR_PER_LENGTH * length * len(CHOICES))]
    others = {name: [value for value in CHOICES[name] if value != getattr(grammar, name)] for name in changing}
    return grammar._replace(**{name: stream.pick(values) for name, values in others.items()})


def _replaced(words: Mapping[str, str], share: float, stream: Stream) -> frozenset[str]:
    """The concepts whose roots are given up: the share `share` of all but names.

    Words that the sound changes have worn down to one sound or made the same as an earlier one go first, names
    too, even when they exceed the share: a language avoids homophones.
    """
    seen: set[str] = set()
    unfit = []
    for concept, word in words.items():
        if len(word) < 2 or word in seen:
            unfit.append(concept)
        seen.add(word)
    vocabulary = [concept for concept in words if TAGS[concept] != "PROPN"]
    first = [concept for concept in unfit if concept in vocabulary]
    others = [concept for concept in stream.shuffled(vocabulary) if concept not in first]
    return frozenset([*unfit, *others[: max(0, round(share * len(vocabulary)) - len(first))]])


def _affixes(
    inherited: Mapping[str, str], grammar: Grammar, words: Mapping[str, str], stream: Stream
) -> dict[str, str]:
    """An affix for every meaning: the inherited one where it still is one, on the right side and unlike the others.

    New ones are taken from the edges of the language's own words, so that they sound like it.
    """
    models = [word for concept, word in words.items() if concept not in SHORT and len(word) > 3]
    affixes: dict[str, str] = {}
    for kind, meanings in AFFIXES.items():
        suffixed = cast("str", getattr(grammar, f"{kind}_affix")) == "suffix"
        for place, meaning in enumerate(meanings):
            rivals = [affixes[rival].strip("-") for rival in meanings[:place]]
            affix = inherited.get(meaning, "")
            while not affix.strip("-") or affix.startswith("-") != suffixed or _confusable([*rivals, affix.strip("-")]):
                size = 1 if stream.chance(0.25) else 2
                model = stream.pick(models)
                affix = f"-{model[-size:]}" if suffixed else f"{model[:size]}-"
            affixes[meaning] = affix
    return affixes


def _confusable(affixes: list[str]) -> bool:
    """Whether two of these are the same, or two in a row the same as another."""
    return len(set(affixes)) < len(affixes) or any(a + b in affixes for a, b in permutations(affixes, 2))
