"""Artificial languages of a known family tree, with parallel text in them; what tasks on language draw from.

No download, one seed: `generate(seed)` answers `Families`, which holds the text and the truth behind it.
"""

from .corpus import CENTRE, TRAIN, Families, generate
from .languages import CHOICES, WORD_ORDER, Descent, Grammar, Language, cognate_share, order_distance
from .realisation import Sentence, Token
from .tree import TREE, Tree

__all__ = [
    "CENTRE",
    "CHOICES",
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
