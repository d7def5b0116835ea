"""Meanings put into the words of a language, token by token, by its grammar alone: nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .concepts import ENTITIES, NAMES, TAGS
from .languages import Language
from .meaning import Clause, Meaning, NounPhrase, Relative
from .writing import spelt

_ENTITY = {part: ENTITIES[kind] for kind, parts in NAMES.items() if kind in ENTITIES for part in parts}


class Token(NamedTuple):
    """One word of a sentence."""

    form: str
    pos: str
    """A part of speech of Universal Dependencies."""
    entity: str
    """`O`, or `B-` or `I-` and PER, LOC or ORG."""
    concept: str
    """What it means; words that only grammar needs have upper-case names. It aligns parallel sentences."""


class Sentence(NamedTuple):
    """A sentence of one language."""

    tokens: tuple[Token, ...]
    meaning: Meaning

    @property
    def text(self) -> str:
        """The words, separated by spaces."""
        return " ".join(token.form for token in self.tokens)


class Realiser:
    """Says meanings in one language."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._grammar = language.grammar
        self._tokens: dict[tuple[str, ...], Token] = {}

    def sentence(self, meaning: Meaning) -> Sentence:
        """The one sentence of the language that says `meaning`."""
        tokens = self._clause(meaning.clause)
        if meaning.coordinate:
            tokens += [self._token("AND"), *self._clause(meaning.coordinate)]
        return Sentence(tuple(tokens), meaning)

    def _token(self, concept: str, *affixes: str, entity: str = "O") -> Token:
        key = (concept, entity, *affixes)
        if key not in self._tokens:
            form = self._language.inflected(self._language.words[concept], *affixes)
            self._tokens[key] = Token(spelt(form, self._language.alphabet), TAGS[concept], entity, concept)
        return self._tokens[key]

    def _clause(self, clause: Clause) -> list[Token]:
        grammar = self._grammar
        oblique: list[Token] = []
        if clause.adposition and clause.oblique:
            oblique = self._around(self._phrase(clause.oblique), (grammar.adposition, [self._token(clause.adposition)]))
        subject = self._phrase(clause.subject)
        if grammar.oblique == "medial":
            subject, oblique = subject + oblique, []
        tokens = self._core(subject, self._verb(clause.verb, clause.tense, clause.negative), clause.object) + oblique
        if clause.adverb:
            adverb = [self._token(clause.adverb)]
            tokens = adverb + tokens if grammar.adverb == "initial" else tokens + adverb
        if clause.complement:
            tokens += [self._token("COMP"), *self._clause(clause.complement)]
        return tokens

    def _core(self, subject: list[Token], verb: list[Token], object: NounPhrase | None) -> list[Token]:
        parts = {"S": subject, "V": verb, "O": self._phrase(object, "ACC") if object else []}
        return [token for part in self._grammar.verb for token in parts[part]]

    def _verb(self, verb: str, tense: str | None, negative: bool) -> list[Token]:
        grammar = self._grammar
        if tense and grammar.tense == "auxiliary":
            tokens = self._around([self._token(verb)], (grammar.auxiliary, [self._token(tense)]))
        else:
            tokens = [self._token(verb, tense) if tense else self._token(verb)]
        return self._around(tokens, (grammar.negation, [self._token("NOT")] if negative else []))

    def _phrase(self, phrase: NounPhrase, case: str | None = None) -> list[Token]:
        """The noun phrase; `case` is ACC or GEN for objects and possessors."""
        grammar = self._grammar
        affix = case if grammar.case == "affix" else None
        number = "PL" if phrase.plural and not (phrase.numeral and grammar.counted == "singular") else None
        tokens = self._name(phrase, affix) or [self._token(phrase.head, *(a for a in (number, affix) if a))]
        adjective_number = [number] if number and grammar.agreement == "yes" else []
        tokens = self._around(
            tokens,
            (grammar.adjective, [self._token(phrase.adjective, *adjective_number)] if phrase.adjective else []),
            (grammar.numeral, [self._token(phrase.numeral)] if phrase.numeral else []),
            (grammar.determiner, [self._token(phrase.determiner)] if phrase.determiner else []),
            (grammar.genitive, self._phrase(phrase.possessor, "GEN") if phrase.possessor else []),
            (grammar.relative, self._relative(phrase.relative) if phrase.relative else []),
        )
        if case and not affix and (case == "GEN" or grammar.case == "particle"):
            particle = self._token("OF" if case == "GEN" else "ACC")
            tokens = self._around(tokens, (grammar.adposition, [particle]))
        if phrase.coordinate:
            tokens += [self._token("AND"), *self._phrase(phrase.coordinate, case)]
        return tokens

    def _name(self, phrase: NounPhrase, affix: str | None) -> list[Token]:
        """A proper name, part by part; the affix is at the edge of the whole. Empty where the head is a noun."""
        entity = _ENTITY.get(phrase.head)
        if not entity:
            return []
        parts = [phrase.head, phrase.name] if phrase.name else [phrase.head]
        marked = len(parts) - 1 if self._grammar.noun_affix == "suffix" else 0
        return [
            self._token(part, *([affix] if affix and i == marked else []), entity=f"{'I' if i else 'B'}-{entity}")
            for i, part in enumerate(parts)
        ]

    def _relative(self, relative: Relative) -> list[Token]:
        clause = self._core([], self._verb(relative.verb, relative.tense, False), relative.object)
        marker = [self._token("REL")]
        return clause + marker if self._grammar.relative == "before" else marker + clause

    @staticmethod
    def _around(tokens: list[Token], *dependents: tuple[str, Sequence[Token]]) -> list[Token]:
        """`tokens` with each dependent before or after all that stands there already."""
        for side, dependent in dependents:
            tokens = [*dependent, *tokens] if side == "before" else [*tokens, *dependent]
        return tokens
