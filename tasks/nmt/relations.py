"""What is known, without any model, of how the languages of a corpus relate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.relation import Relation

from .._text.genealogy import GENEALOGY, SOURCE, distance
from .preparing import Prepared

Array = NDArray[Any]


def known_relations(data: Prepared) -> list[Relation]:
    """Families first, known ones or those of the genealogical table; then `resource`, `overlap` and what else there is.

    Objectives of one language and both directions are alike in all of them but `direction`.
    """
    languages = [pair.language for pair in data.pairs]
    truth = data.corpus_facts.get("families")
    known = _artificial(truth, languages) if truth else _genealogical(languages)
    return [*known, _resource(data), overlap(data), *_scripts(data, languages), *_directions(data)]


def overlap(data: Prepared) -> Relation:
    """How alike two languages use subwords: sum_v sqrt(p_v q_v), where p and q are the shares of subword v.

    This is Bhattacharyya's coefficient: 1 for equal shares and 0 where no subword is in both. Counted are the training
    pairs, on the side that is not the central language's, without end symbols and tags.
    """
    counts = np.array([_subwords(data, k) for k in range(len(data.pairs))])
    roots = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    values = roots @ roots.T
    about = "overlap of the subword unigrams of the training texts (Bhattacharyya coefficient, 0 to 1), without a model"
    return Relation("overlap", "similarity", about, (values + values.T) / 2)


def _subwords(data: Prepared, k: int) -> Array:
    """(V,) how often each subword is in the training text of objective k that is not in the central language."""
    examples = data.train[k]
    side = examples.source if data.pairs[k].target == data.centre else examples.target
    ends = np.zeros(len(side.ids) + 1, dtype=np.int64)
    np.add.at(ends, side.starts, 1)
    np.add.at(ends, side.starts + side.lengths, -1)
    return np.bincount(side.ids, weights=np.cumsum(ends)[:-1], minlength=data.subwords.size)


def _resource(data: Prepared) -> Relation:
    sizes = [data.train[k].size for k in range(len(data.pairs))]
    return Relation("resource", "amount", "training sentence pairs", np.array(sizes))


def _directions(data: Prepared) -> list[Relation]:
    """Nothing where there is one."""
    into = [pair.target == data.centre for pair in data.pairs]
    if len(set(into)) == 1:
        return []
    labels = np.array(["into" if towards else "out of" for towards in into])
    return [Relation("direction", "label", f"into {data.centre} or out of it", labels)]


def _artificial(truth: Mapping[str, Any], languages: Sequence[str]) -> list[Relation]:
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


def _genealogical(languages: Sequence[str]) -> list[Relation]:
    """Nothing where the table lacks a language."""
    if not all(language in GENEALOGY for language in languages):
        return []
    known = [GENEALOGY[language] for language in languages]
    steps = [[float(distance(a, b)) for b in known] for a in known]
    about = f"0 in one branch, 1 in one family, 2 otherwise: coarse ({SOURCE})"
    return [
        Relation("family", "label", f"family of the language ({SOURCE})", np.array([one.family for one in known])),
        Relation("branch", "label", f"branch of the family ({SOURCE})", np.array([one.branch for one in known])),
        Relation("genealogy", "distance", about, np.array(steps)),
    ]


def _scripts(data: Prepared, languages: Sequence[str]) -> list[Relation]:
    """The scripts, where the reader of the corpus knows all of them."""
    known = data.corpus_facts.get("languages", {})
    scripts = [known.get(language, {}).get("script") for language in languages]
    return [Relation("script", "label", "script of the text (ISO 15924)", np.array(scripts))] if all(scripts) else []
