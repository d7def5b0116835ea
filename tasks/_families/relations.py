"""The known trees of artificial languages, as relations of objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mtlbench.catalogue.relation import Relation


def descent(truth: Mapping[str, Any], languages: Sequence[str]) -> list[Relation]:
    """The trees that `Families.as_dict` tells, for these objectives.

    Not what descent brought about, such as the share of words of one root: to hold that fixed where a tree is asked
    about is to take away what the tree did.
    """
    rows = np.array([truth["tree"]["languages"].index(language) for language in languages])
    crossed = "grammar_tree" in truth

    def pairwise(name: str, kind: str, about: str, values: Sequence[Sequence[float]]) -> Relation:
        return Relation(name, cast("Any", kind), about, np.array(values)[np.ix_(rows, rows)])

    def family(name: str, about: str, tree: Mapping[str, Any]) -> Relation:
        of = {member: family for family, members in tree["families"].items() for member in members}
        return Relation(name, "label", about, np.array([of[language] for language in languages]))

    of_words = "lexicon_tree" if crossed else "tree"
    inherited = "words and sound changes" if crossed else "words, sound changes and grammar"
    found = [
        family("family", f"family of the language in the known tree of its {inherited}", truth["tree"]),
        pairwise(of_words, "distance", f"distance in the known tree of {inherited}", truth["tree"]["distances"]),
    ]
    if crossed:
        tree = truth["grammar_tree"]
        found += [
            family("grammar_family", "family of the language in the known tree of its grammar", tree),
            pairwise("grammar_tree", "distance", "distance in the known tree of grammars", tree["distances"]),
        ]
    return found
