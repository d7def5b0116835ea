"""Artificial languages of a known family tree, with parallel text in them; what tasks on language draw from.

No download, one seed: `generate(seed)` answers `Families`, which holds the text and the truth behind it.
"""

from .corpus import ALPHABETS, CENTRE, TRAIN, Families, generate
from .languages import CHOICES, WORD_ORDER, Descent, Grammar, Language, cognate_share, order_distance
from .realisation import Sentence, Token
from .tree import GRAMMAR_TREE, TREE, Tree

__all__ = [
    "ALPHABETS",
    "CENTRE",
    "CHOICES",
    "GRAMMAR_TREE",
    "TRAIN",
    "TREE",
    "WORD_ORDER",
    "Descent",
    "Families",
    "Grammar",
    "Language",
    "Sentence",
    "Token",
    "Tree",
    "cognate_share",
    "generate",
    "order_distance",
]
