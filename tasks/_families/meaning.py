"""What a sentence says, in no language: clauses, noun phrases, and how they are drawn."""

from __future__ import annotations

from typing import NamedTuple

from . import concepts
from .concepts import Verb
from .streams import Stream, Zipfian


class NounPhrase(NamedTuple):
    """A noun, a name or a pronoun with what belongs to it."""

    head: str
    name: str | None = None
    """The second part of a proper name: a person's surname, the town of an organisation."""
    plural: bool = False
    determiner: str | None = None
    numeral: str | None = None
    adjective: str | None = None
    possessor: NounPhrase | None = None
    relative: Relative | None = None
    coordinate: NounPhrase | None = None


class Relative(NamedTuple):
    """A clause about a noun that is its subject."""

    verb: str
    tense: str | None
    object: NounPhrase | None


class Clause(NamedTuple):
    """Who does what, when (None is the present), how, where; and what is said or thought."""

    subject: NounPhrase
    verb: str
    tense: str | None
    negative: bool
    object: NounPhrase | None
    adverb: str | None
    adposition: str | None
    oblique: NounPhrase | None
    complement: Clause | None


class Meaning(NamedTuple):
    """What one sentence says: a clause, perhaps with a second one after `and`."""

    clause: Clause
    coordinate: Clause | None


class Speaker:
    """Draws meanings; the classes of nouns that a verb or an adposition takes are respected."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def meaning(self) -> Meaning:
        """One sentence's."""
        if self._stream.chance(0.08):
            return Meaning(self._clause(simple=True), self._clause(simple=True))
        if self._stream.chance(0.09):
            verb = _CLAUSAL.draw(self._stream)
            main = Clause(
                self._subject("human"), verb.concept, self._tense(), self._stream.chance(0.1), None, None, None, None,
                self._clause(simple=True),
            )  # fmt: skip
            return Meaning(main, None)
        return Meaning(self._clause(simple=False), None)

    def _clause(self, simple: bool) -> Clause:
        chance = self._stream.chance
        verb = (_INTRANSITIVE if chance(0.35) else _TRANSITIVE).draw(self._stream)
        subject = self._subject(verb.subject, simple)
        object = self._phrase(verb.object, simple) if verb.object else None
        adposition = oblique = None
        if chance(0.25 if simple else 0.6):
            adposition, governed = _ADPOSITIONS.draw(self._stream)
            oblique = self._phrase(governed, simple=True)
        adverb = _ADVERBS.draw(self._stream) if chance(0.2) else None
        return Clause(subject, verb.concept, self._tense(), chance(0.12), object, adverb, adposition, oblique, None)

    def _tense(self) -> str | None:
        draw = self._stream.uniform()
        return "PAST" if draw < 0.4 else "FUT" if draw < 0.6 else None

    def _subject(self, kind: str, simple: bool = True) -> NounPhrase:
        if kind != "animal" and self._stream.chance(0.2):
            return NounPhrase(_PRONOUNS.draw(self._stream))
        return self._phrase(kind, simple)

    def _phrase(self, kind: str, simple: bool) -> NounPhrase:
        """A noun phrase about something of the class `kind`; a simple one holds no other phrase or clause."""
        chance = self._stream.chance
        if kind == "animate":
            kind = "human" if chance(0.6) else "animal"
        if kind in ("human", "place") and chance(0.3):
            return self._name(kind)
        phrase = NounPhrase(
            head=_NOUNS[kind].draw(self._stream),
            plural=chance(0.25),
            determiner=_DETERMINERS.draw(self._stream) if chance(0.2) else None,
            adjective=_ADJECTIVES.draw(self._stream) if chance(0.4) else None,
        )
        if chance(0.1):
            phrase = phrase._replace(numeral=_NUMERALS.draw(self._stream), plural=True)
        if simple:
            return phrase
        if chance(0.15):
            return phrase._replace(possessor=self._subject("human"))
        if kind in ("human", "animal") and chance(0.12):
            return phrase._replace(relative=self._relative(kind))
        return phrase._replace(coordinate=self._phrase(kind, simple=True)) if chance(0.1) else phrase

    def _name(self, kind: str) -> NounPhrase:
        if kind == "place":
            return NounPhrase(_NAMES["town"].draw(self._stream))
        first, second, share = ("company", "town", 0.4) if self._stream.chance(0.3) else ("given", "surname", 0.35)
        head = _NAMES[first].draw(self._stream)
        return NounPhrase(head, _NAMES[second].draw(self._stream) if self._stream.chance(share) else None)

    def _relative(self, kind: str) -> Relative:
        verb = _INTRANSITIVE.draw(self._stream)
        while verb.subject not in (kind, "animate"):
            verb = (_INTRANSITIVE if self._stream.chance(0.4) else _TRANSITIVE).draw(self._stream)
        return Relative(verb.concept, self._tense(), self._phrase(verb.object, simple=True) if verb.object else None)


_NOUNS = {kind: Zipfian(nouns) for kind, nouns in concepts.NOUNS.items()}
_NAMES = {kind: Zipfian(names) for kind, names in concepts.NAMES.items()}
_PRONOUNS = Zipfian(concepts.PRONOUNS)
_ADJECTIVES = Zipfian(concepts.ADJECTIVES)
_NUMERALS = Zipfian(concepts.NUMERALS)
_DETERMINERS = Zipfian(concepts.DETERMINERS)
_ADVERBS = Zipfian(concepts.ADVERBS)
_INTRANSITIVE: Zipfian[Verb] = Zipfian(concepts.INTRANSITIVE)
_TRANSITIVE: Zipfian[Verb] = Zipfian(concepts.TRANSITIVE)
_CLAUSAL: Zipfian[Verb] = Zipfian(concepts.CLAUSAL)
_ADPOSITIONS = Zipfian(
    [(adposition, kind) for kind, adpositions in concepts.ADPOSITIONS.items() for adposition in adpositions]
)
