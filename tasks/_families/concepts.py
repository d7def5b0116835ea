"""The concepts that sentences are about, by class; each list is in order of falling frequency."""

from __future__ import annotations

from typing import NamedTuple


def _listed(concepts: str) -> tuple[str, ...]:
    return tuple(concepts.split())


NOUNS = {
    "human": _listed(
        "man woman child king friend farmer mother father teacher soldier merchant sister brother hunter singer "
        "doctor baker smith priest stranger neighbour thief sailor guard queen"
    ),
    "animal": _listed(
        "dog horse bird cow fish cat wolf sheep goat bear snake hen fox mouse duck lion crow frog bee ox"
    ),
    "thing": _listed(
        "stone knife book boat rope pot letter key axe ring lamp coin drum basket cloth hammer wheel bow cup nail "
        "spear mirror flag needle coat"
    ),
    "food": _listed("bread water meat milk apple salt honey egg soup nut grape onion cheese bean wine"),
    "place": _listed(
        "house field river village forest road market hill temple bridge garden island sea cave mill harbour tower "
        "valley well wall"
    ),
}
NAMES = {
    "given": tuple(f"given{number}" for number in range(1, 25)),
    "surname": tuple(f"surname{number}" for number in range(1, 17)),
    "town": tuple(f"town{number}" for number in range(1, 21)),
    "company": tuple(f"company{number}" for number in range(1, 15)),
}
"""Parts of proper names: persons have a given name and perhaps a surname, organisations perhaps a town."""

ENTITIES = {"given": "PER", "town": "LOC", "company": "ORG"}
"""What kind of entity a name is, by the class of its first part."""

PRONOUNS = _listed("she i they you we")
ADJECTIVES = _listed(
    "big good old small new red young black white long strong beautiful heavy poor rich green wise cold quiet "
    "brave sick round broken sweet"
)
NUMERALS = _listed("two three four five six ten seven eight nine")
DETERMINERS = _listed("this that every some")
ADVERBS = _listed("often now again here always slowly quickly there early late")


class Verb(NamedTuple):
    """A verb with the classes of noun that its subject and its object come from; None takes no object."""

    concept: str
    subject: str
    object: str | None


def _verbs(subject: str, object: str | None, concepts: str) -> list[Verb]:
    return [Verb(concept, subject, object) for concept in concepts.split()]


INTRANSITIVE = [
    *_verbs("animate", None, "come sleep run fall wait swim stand"),
    *_verbs("human", None, "laugh sing dance work cry"),
]
TRANSITIVE = [
    *_verbs("animate", "animate", "see follow hear"),
    *_verbs("animate", "food", "eat want"),
    *_verbs("human", "thing", "make take find"),
    *_verbs("human", "animate", "help love"),
    *_verbs("human", "place", "leave build"),
    *_verbs("human", "thing", "carry buy lose sell hide break throw"),
    *_verbs("human", "human", "meet call teach praise"),
    *_verbs("animal", "animate", "bite chase fear"),
    *_verbs("human", "food", "cook taste steal"),
    *_verbs("human", "place", "visit defend paint"),
]
CLAUSAL = _verbs("human", None, "say know think hope forget")
"""Verbs whose object is a clause."""

ADPOSITIONS = {
    "place": _listed("in to from near behind through"),
    "thing": _listed("on under"),
    "human": _listed("with without"),
}
"""By the class of the noun that they govern."""

MARKERS = _listed("AND REL COMP NOT OF ACC PAST FUT")
"""Words that only grammar needs; which of them a language uses depends on its grammar."""

AFFIXES = {"noun": ("PL", "ACC", "GEN"), "verb": ("PAST", "FUT")}

TAGS = {
    **{concept: "NOUN" for nouns in NOUNS.values() for concept in nouns},
    **{concept: "PROPN" for names in NAMES.values() for concept in names},
    **dict.fromkeys(PRONOUNS, "PRON"),
    **dict.fromkeys(ADJECTIVES, "ADJ"),
    **dict.fromkeys(NUMERALS, "NUM"),
    **dict.fromkeys(DETERMINERS, "DET"),
    **dict.fromkeys(ADVERBS, "ADV"),
    **{verb.concept: "VERB" for verb in [*INTRANSITIVE, *TRANSITIVE, *CLAUSAL]},
    **{concept: "ADP" for group in ADPOSITIONS.values() for concept in group},
    "AND": "CCONJ",
    "REL": "SCONJ",
    "COMP": "SCONJ",
    "NOT": "PART",
    "OF": "ADP",
    "ACC": "ADP",
    "PAST": "AUX",
    "FUT": "AUX",
}
"""Every concept -> its part of speech, in the tags of Universal Dependencies (universaldependencies.org/u/pos)."""

SHORT = frozenset(
    concept for concept, tag in TAGS.items() if tag in ("PRON", "DET", "ADP", "CCONJ", "SCONJ", "PART", "AUX")
)
"""The concepts of closed classes; their words are short."""
