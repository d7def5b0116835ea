"""Private alphabets and crossed trees: that they change what they say, and nothing else."""

import json
import unicodedata
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from mtlbench.errors import UsageError
from mtlbench.tasks._families import (
    CENTRE,
    CHOICES,
    GRAMMAR_TREE,
    TRAIN,
    TREE,
    cognate_share,
    generate,
    order_distance,
)
from mtlbench.tasks._families.tree import Tree
from mtlbench.tasks._families.writing import SOUNDS, private

SIZES = {"train": dict.fromkeys(TRAIN, 60), "val": 20, "test": 20}
LANGUAGES = [leaf for leaf in TREE.leaves if leaf != CENTRE]


@pytest.fixture(scope="module")
def shared():
    return generate(**SIZES)


@pytest.fixture(scope="module")
def apart():
    return generate(**SIZES, alphabets="private")


@pytest.fixture(scope="module")
def crossed():
    return generate(**SIZES, grammar_tree=GRAMMAR_TREE)


def texts(families, split):
    """Language -> its sentences, the central one's being those that translate the others'."""
    found = {language: families.bitext(language, split)[0] for language in families.languages}
    return {**found, CENTRE: [s for language in families.languages for s in families.bitext(language, split)[1]]}


def family_of(tree):
    families = {member: name for name, members in tree.families().items() for member in members}
    return [families[language] for language in LANGUAGES]


def matrix(families, measure):
    return np.array([[measure(families.nodes[a], families.nodes[b]) for b in LANGUAGES] for a in LANGUAGES])


def within_and_between(values, tree):
    """Means over the pairs of languages of one family of `tree`, and over all others."""
    of = np.array(family_of(tree))
    rows, columns = np.triu_indices(len(of), 1)
    same = of[rows] == of[columns]
    found = values[rows, columns]
    return found[same].mean(), found[~same].mean()


def test_no_two_languages_share_a_letter_under_private_alphabets(apart):
    letters = {}
    for split in ("train", "val", "test"):
        for language, sentences in texts(apart, split).items():
            letters.setdefault(language, set()).update("".join(sentences).replace(" ", ""))
    assert len(letters) == 13
    for a, b in combinations(letters, 2):
        assert not letters[a] & letters[b]
    assert all(len(found) > 15 for found in letters.values())


def test_letters_are_left_alone_by_normalisation_and_have_no_case():
    letters = "".join(private(TREE.leaves).values())
    assert len(set(letters)) == len(letters) == 13 * len(set(SOUNDS))
    assert {unicodedata.category(letter) for letter in letters} == {"Lo"}
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert unicodedata.normalize(form, letters) == letters
    assert letters.upper() == letters.lower() == letters


def test_private_text_is_letter_for_letter_the_shared_text(shared, apart):
    for split in ("train", "val"):
        for language, sentences in texts(shared, split).items():
            written = texts(apart, split)[language]
            alphabet = apart.nodes[language].alphabet
            back = str.maketrans(dict(zip(alphabet, SOUNDS, strict=True)))
            assert written != sentences
            assert [sentence.translate(back) for sentence in written] == sentences


def test_private_and_crossed_worlds_say_the_same_in_the_same_tree_of_words(shared, apart, crossed):
    for other in (apart, crossed):
        assert other.meanings == shared.meanings
        assert other.tree == shared.tree
        assert {n: lang.words for n, lang in other.nodes.items()} == {n: lang.words for n, lang in shared.nodes.items()}
        assert other.history == shared.history
    assert apart.grammar_tree == apart.tree
    assert [apart.nodes[leaf].grammar for leaf in TREE.leaves] == [shared.nodes[leaf].grammar for leaf in TREE.leaves]


def test_the_two_trees_have_one_shape_and_no_family_in_common():
    assert set(GRAMMAR_TREE.leaves) == set(TREE.leaves)
    assert sorted(GRAMMAR_TREE.lengths.values()) == sorted(TREE.lengths.values())
    for a, b in combinations(LANGUAGES, 2):
        in_words, in_grammar = (dict(zip(LANGUAGES, family_of(tree), strict=True)) for tree in (TREE, GRAMMAR_TREE))
        assert not (in_words[a] == in_words[b] and in_grammar[a] == in_grammar[b])
    assert adjusted_rand_score(family_of(TREE), family_of(GRAMMAR_TREE)) == pytest.approx(-2 / 9)
    upper = np.triu_indices(len(LANGUAGES), 1)
    by_words, by_grammar = (tree.distances(LANGUAGES)[upper] for tree in (TREE, GRAMMAR_TREE))
    assert np.corrcoef(by_words, by_grammar)[0, 1] == pytest.approx(-0.095, abs=0.0005)


def test_every_family_of_the_grammars_has_languages_with_much_and_with_little_text():
    for members in GRAMMAR_TREE.families().values():
        assert {TRAIN[member] for member in members} == {300, 6000}


def test_words_follow_their_own_tree_and_word_order_the_other_one(crossed):
    shares, orders = matrix(crossed, cognate_share), matrix(crossed, order_distance)
    within, between = within_and_between(shares, TREE)
    assert within > between + 0.25
    within, between = within_and_between(shares, GRAMMAR_TREE)
    assert within < between
    within, between = within_and_between(orders, GRAMMAR_TREE)
    assert within < between - 0.1
    within, between = within_and_between(orders, TREE)
    assert within > between - 0.05


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_grammars_of_any_seed_follow_the_tree_of_grammars_and_not_that_of_words(seed):
    world = generate(seed, **SIZES, grammar_tree=GRAMMAR_TREE)

    def differing(a, b):
        return np.mean([getattr(a.grammar, name) != getattr(b.grammar, name) for name in CHOICES])

    within, between = within_and_between(matrix(world, differing), GRAMMAR_TREE)
    assert within < between - 0.15
    within, between = within_and_between(matrix(world, differing), TREE)
    assert within > between - 0.05


def test_affixes_of_a_crossed_language_are_its_own_on_the_side_that_its_grammar_says(shared, crossed):
    moved = 0
    for leaf in TREE.leaves:
        language, before = crossed.nodes[leaf], shared.nodes[leaf]
        for meaning, affix in language.affixes.items():
            assert affix.strip("-") == before.affixes[meaning].strip("-")
            kind = "noun_affix" if meaning in ("PL", "ACC", "GEN") else "verb_affix"
            assert affix.startswith("-") == (getattr(language.grammar, kind) == "suffix")
            moved += affix != before.affixes[meaning]
        for paradigm in (("", "PL", "ACC", "GEN"), ("", "PAST", "FUT")):
            assert len({language.inflected("tan", *[m] if m else []) for m in paradigm}) == len(paradigm)
    assert moved > 5


def test_the_truth_names_the_second_tree_and_the_alphabets_only_where_there_are_any(shared, apart, crossed):
    assert not {"grammar_tree", "alphabets"} & set(shared.as_dict())
    truth = json.loads(json.dumps(crossed.as_dict()))
    assert truth["grammar_tree"]["families"]["norric"] == ["dalu", "mora", "usti"]
    assert truth["grammar_tree"]["languages"] == truth["tree"]["languages"]
    first, second = (truth["tree"]["languages"].index(name) for name in ("dalu", "mora"))
    assert truth["grammar_tree"]["distances"][first][second] == pytest.approx(0.18)
    assert truth["tree"]["distances"][first][second] > 1
    assert apart.as_dict()["alphabets"]["dalu"] == apart.nodes["dalu"].alphabet
    assert {**apart.as_dict(), "alphabets": None} == {**shared.as_dict(), "alphabets": None}


def test_alphabets_and_crossed_trees_go_together():
    both = generate(**SIZES, alphabets="private", grammar_tree=GRAMMAR_TREE)
    assert set(both.as_dict()) > {"grammar_tree", "alphabets"}
    assert both.nodes["dalu"].grammar == generate(**SIZES, grammar_tree=GRAMMAR_TREE).nodes["dalu"].grammar


def test_unknown_alphabets_and_trees_of_other_languages_are_refused():
    with pytest.raises(UsageError, match="privat"):
        generate(alphabets="privat")
    with pytest.raises(UsageError, match="over the languages ansa, dalu"):
        generate(grammar_tree=Tree({"a": "root", "b": "root"}, {"a": 0.1, "b": 0.1}, ()))
