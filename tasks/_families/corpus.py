"""Parallel text in artificial languages of a known family tree, all of it from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mtlbench.errors import UsageError, unknown

from .languages import Descent, Language, cognate_share, descend, descend_grammar, order_distance
from .meaning import Meaning, Speaker
from .realisation import Realiser, Sentence
from .streams import Stream
from .tree import TREE, Tree
from .writing import private

CENTRE = "ansa"

ALPHABETS = ("shared", "private")

TRAIN: Mapping[str, int] = {
    "dalu": 6000,
    "demi": 300,
    "doran": 6000,
    "mora": 6000,
    "mesk": 300,
    "mirin": 300,
    "tesa": 300,
    "tolk": 6000,
    "tuvi": 6000,
    "ukar": 6000,
    "ulen": 300,
    "usti": 300,
    CENTRE: 6000,
}
"""Training sentences by language: high and low in every family, twenty to one."""


@dataclass(frozen=True)
class Families:
    """The languages of today, their ancestors, and what is said in them."""

    tree: Tree
    """Along which words and sound changes are inherited."""
    grammar_tree: Tree
    """Along which grammar is: the same one, unless `generate` was given another."""
    seed: int
    centre: str
    """The language into which all others are translated; it is in no family."""
    nodes: Mapping[str, Language]
    """Every node of the tree -> its language, ancestors included. Under another `grammar_tree` the grammars of
    ancestors are those that their descendants would have had without it."""
    history: Mapping[str, Descent]
    """Every node but the root -> what happened on the branch above it."""
    meanings: Mapping[str, Mapping[str, tuple[Meaning, ...]]]
    """Split -> language -> what its sentences say; the same in all languages for `val` and `test`."""

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages of today but the central one, family by family."""
        return tuple(leaf for leaf in self.tree.leaves if leaf != self.centre)

    @property
    def high(self) -> tuple[str, ...]:
        """The languages with much training text: at least the geometric mean of the most and the least."""
        sizes = {language: len(self.meanings["train"][language]) for language in self.languages}
        bound = max(sizes.values()) * min(sizes.values())
        return tuple(language for language, size in sizes.items() if size * size >= bound)

    @property
    def low(self) -> tuple[str, ...]:
        """The other languages."""
        return tuple(language for language in self.languages if language not in self.high)

    def sentences(self, language: str, split: str) -> list[Sentence]:
        """The sentences of `split` (train, val or test) in `language`.

        The central language has a training text of its own, which is no translation of the others'.

        Raises:
            UsageError: there is no such language or split.
        """
        return self._said(language, language, split)

    def bitext(self, language: str, split: str) -> tuple[list[str], list[str]]:
        """The text of `split` in `language` and in the central language, line by line.

        Raises:
            UsageError: there is no such language or split.
        """
        if language not in self.languages:
            raise unknown("language to translate:", language, self.languages)
        foreign, central = self._said(language, language, split), self._said(self.centre, language, split)
        return [sentence.text for sentence in foreign], [sentence.text for sentence in central]

    def central(self, language: str, split: str) -> list[Sentence]:
        """The sentences of `split` in the central language that translate those of `language`.

        Raises:
            UsageError: there is no such language or split.
        """
        return self._said(self.centre, language, split)

    def as_dict(self) -> dict[str, object]:
        """The truth behind the text as data that JSON can hold.

        The seed, the centre, the tree (`Tree.as_dict`), the number of training sentences and the grammar of every
        language, the sound changes of every branch, and, in the order of the tree's languages, the matrices of
        `cognate_share` and `order_distance`. Besides, where they are not the usual ones, the tree of the grammars
        (`grammar_tree`, whose languages are in the same order) and the alphabet of every language.
        """
        leaves = [self.nodes[leaf] for leaf in self.tree.leaves]
        unusual: dict[str, object] = {}
        if self.grammar_tree != self.tree:
            unusual["grammar_tree"] = self.grammar_tree.as_dict(self.tree.leaves)
        if any(language.alphabet for language in leaves):
            unusual["alphabets"] = {language.name: language.alphabet for language in leaves}
        return {
            "seed": self.seed,
            "centre": self.centre,
            "tree": self.tree.as_dict(),
            "train": {language: len(meanings) for language, meanings in self.meanings["train"].items()},
            "grammar": {language.name: language.grammar._asdict() for language in leaves},
            "sound_changes": {name: list(descent.changes) for name, descent in self.history.items()},
            "cognate_share": [[cognate_share(a, b) for b in leaves] for a in leaves],
            "order_distance": [[order_distance(a, b) for b in leaves] for a in leaves],
            **unusual,
        }

    def _said(self, in_language: str, of_language: str, split: str) -> list[Sentence]:
        if of_language not in self.tree.leaves:
            raise unknown("language:", of_language, self.tree.leaves)
        if split not in self.meanings:
            raise unknown("split:", split, self.meanings)
        realiser = Realiser(self.nodes[in_language])
        return [realiser.sentence(meaning) for meaning in self.meanings[split][of_language]]


def generate(
    seed: int = 0,
    train: Mapping[str, int] | None = None,
    val: int = 200,
    test: int = 300,
    *,
    alphabets: str = "shared",
    grammar_tree: Tree = TREE,
) -> Families:
    """The languages that `seed` lets descend along `tree.TREE`, with parallel text in them.

    The tree, the names of its nodes and the classes of concepts are the same for every seed; words, sound
    changes, grammars and meanings are drawn. No meaning is in two splits, or twice in one split of a language.

    Args:
        seed: any whole number.
        train: language -> number of training sentences, for those whose number is not to be that of `TRAIN`.
        val: number of validation sentences, the same meanings in every language.
        test: likewise.
        alphabets: `private` gives every language letters of its own (`writing.private`): letter for letter the same
            text, in which no two languages share a character but the space.
        grammar_tree: another tree over the same languages, such as `tree.GRAMMAR_TREE`. Words and sound changes are
            those that they are without it, affixes too but for their side, and grammars descend along it.

    Raises:
        UsageError: an unknown language or word for `alphabets`, a number of sentences below 1, or a tree over other
            languages.
    """
    if alphabets not in ALPHABETS:
        raise unknown("alphabets", alphabets, ALPHABETS)
    if set(grammar_tree.leaves) != set(TREE.leaves):
        raise UsageError(f"The tree of the grammars must be over the languages {', '.join(TREE.leaves)}.")
    sizes = {**TRAIN, **(train or {})}
    for name in sizes:
        if name not in TRAIN:
            raise unknown("language to train on:", name, TRAIN)
    for name, size in {**sizes, "val": val, "test": test}.items():
        if size < 1:
            raise UsageError(f"The number of sentences for {name} is {size}; it must be at least 1.")
    nodes, history = descend(TREE, seed)
    if grammar_tree != TREE:
        grammars = descend_grammar(grammar_tree, seed)
        nodes |= {leaf: nodes[leaf].with_grammar(grammars[leaf]) for leaf in TREE.leaves}
    if alphabets == "private":
        letters = private(TREE.leaves)
        nodes |= {leaf: replace(nodes[leaf], alphabet=letters[leaf]) for leaf in TREE.leaves}
    held = _meanings(val + test, Stream(seed, "meanings"), frozenset())
    meanings = {
        "train": {name: _meanings(sizes[name], Stream(seed, f"meanings/{name}"), frozenset(held)) for name in sizes},
        "val": dict.fromkeys(sizes, held[:val]),
        "test": dict.fromkeys(sizes, held[val:]),
    }
    return Families(TREE, grammar_tree, seed, CENTRE, nodes, history, meanings)


def _meanings(count: int, stream: Stream, excluded: frozenset[Meaning]) -> tuple[Meaning, ...]:
    speaker = Speaker(stream)
    drawn: dict[Meaning, None] = {}
    while len(drawn) < count:
        meaning = speaker.meaning()
        if meaning not in excluded:
            drawn[meaning] = None
    return tuple(drawn)
