"""The artificial languages: that they descend from their tree as stated, and that their text is parallel."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mtlbench.catalogue.variants import resolve
from mtlbench.errors import UsageError
from mtlbench.tasks._families import (
    CENTRE,
    CHOICES,
    TRAIN,
    TREE,
    WORD_ORDER,
    cognate_share,
    generate,
    order_distance,
)
from mtlbench.tasks._families.concepts import NAMES, TAGS
from mtlbench.tasks._families.phonology import Linking, changed, joined
from mtlbench.tasks._families.realisation import Realiser
from mtlbench.tasks.nmt import NMT

VOCABULARY = [concept for concept, tag in TAGS.items() if tag != "PROPN"]
SHA256 = "af474c5165ba91c3d80d322aa33556070b7a06363e8ad3f2995c429e1858d7b0"


@pytest.fixture(scope="module")
def families():
    return generate()


@pytest.fixture(scope="module")
def other():
    return generate(seed=1, train=dict.fromkeys(TRAIN, 40), val=20, test=150)


def edit_distance(a, b):
    """Levenshtein's, in shares of the longer word."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1] / max(len(a), len(b))


def word_distance(a, b):
    return float(np.mean([edit_distance(a.words[concept], b.words[concept]) for concept in VOCABULARY]))


def pairs(families):
    return [(families.nodes[a], families.nodes[b]) for a, b in combinations(families.tree.leaves, 2)]


def correlation(families, measure):
    """Spearman's, of a measure of two languages with their distance in the tree."""
    truth = [families.tree.distance(a.name, b.name) for a, b in pairs(families)]
    return spearmanr(truth, [measure(a, b) for a, b in pairs(families)]).statistic


def test_the_text_of_seed_0_is_the_same_everywhere(families):
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for language in families.languages:
            for side in families.bitext(language, split):
                digest.update("\n".join([f"{split} {language}", *side, ""]).encode())
    assert digest.hexdigest() == SHA256


def test_another_seed_is_another_world_with_the_same_tree(families, other):
    assert other.tree == families.tree
    assert other.bitext("dalu", "test")[0][:20] != families.bitext("dalu", "test")[0][:20]
    assert other.meanings["test"]["dalu"] != families.meanings["test"]["dalu"]
    shared = sum(families.nodes["dalu"].words[c] == other.nodes["dalu"].words[c] for c in TAGS)
    assert shared < 0.05 * len(TAGS)


def test_the_number_of_sentences_moves_no_language_and_no_other_sentence(families):
    small = generate(train={"dalu": 50})
    assert small.nodes == families.nodes
    assert small.bitext("dalu", "train")[0] == families.bitext("dalu", "train")[0][:50]
    assert small.meanings["train"]["demi"] == families.meanings["train"]["demi"]


def test_distance_in_the_tree_is_the_length_of_the_way_between_two_leaves():
    assert TREE.distance("dalu", "demi") == pytest.approx(0.18)
    assert TREE.distance("dalu", "doran") == pytest.approx(0.40)
    assert TREE.distance("dalu", CENTRE) == pytest.approx(0.08 + 0.12 + 0.3 + 0.2 + 0.45)
    matrix = TREE.distances(TREE.leaves)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    # The four-point condition: of the three sums of two distances, the two largest are equal (Buneman, 1974).
    for a, b, c, d in combinations(range(len(matrix)), 4):
        sums = sorted((matrix[a, b] + matrix[c, d], matrix[a, c] + matrix[b, d], matrix[a, d] + matrix[b, c]))
        assert sums[2] == pytest.approx(sums[1])


def test_the_tree_has_four_families_of_three_and_a_centre_outside_them():
    assert [len(members) for members in TREE.families().values()] == [3, 3, 3, 3]
    assert sorted([CENTRE, *(m for members in TREE.families().values() for m in members)]) == sorted(TREE.leaves)
    assert TREE.parents[CENTRE] == TREE.root


def test_newick_and_json_carry_the_whole_truth(families):
    truth = json.loads(json.dumps(families.as_dict()))
    tree = truth["tree"]
    assert tree["newick"].endswith(")proto;")
    assert all(f"{node}:{length:g}" in tree["newick"] for node, length in TREE.lengths.items())
    assert tree["newick"].count("(") == tree["newick"].count(")") == len(set(TREE.parents.values()))
    first, second = tree["languages"].index("dalu"), tree["languages"].index("demi")
    assert tree["distances"][first][second] == TREE.distance("dalu", "demi")
    assert truth["cognate_share"][first][second] == cognate_share(families.nodes["dalu"], families.nodes["demi"])


def test_every_kept_word_is_its_ancestors_after_the_sound_changes_of_the_branch(families):
    for child, descent in families.history.items():
        before, after = families.nodes[descent.parent], families.nodes[child]
        for concept, word in before.words.items():
            if concept not in descent.replaced:
                assert changed(word, descent.changes) == after.words[concept]
                assert after.origins[concept] == before.origins[concept]
        for meaning, affix in before.affixes.items():
            if meaning not in descent.replaced:
                assert changed(affix, descent.changes) == after.affixes[meaning]
        assert {concept for concept, origin in after.origins.items() if origin == child} == descent.replaced


def test_a_branch_replaces_words_and_changes_sounds_in_proportion_to_its_length(families):
    for child, descent in families.history.items():
        share = len(descent.replaced.intersection(VOCABULARY)) / len(VOCABULARY)
        assert share == pytest.approx(TREE.lengths[child], abs=0.015)
        assert len(descent.changes) == max(1, round(14 * TREE.lengths[child]))


def test_a_cognate_share_is_the_product_of_what_the_branches_keep(families):
    for a, b in pairs(families):
        way = set(TREE.path(a.name)) ^ set(TREE.path(b.name))
        assert cognate_share(a, b) == pytest.approx(np.prod([1 - TREE.lengths[node] for node in way]), abs=0.1)


def test_sound_changes_act_on_all_places_at_once_and_only_in_their_context():
    assert changed("pataka", ["p t k > b d g / V_V"]) == "padaga"
    assert changed("kiko", ["k > č / _[ei]"]) == "čiko"
    assert changed("mitalo", ["V > 0 / VC_#"]) == "mital"
    assert changed("mi", ["V > 0 / VC_#"]) == "mi"
    assert changed("stem", ["0 > e / #_sC"]) == "estem"
    assert changed("rar", ["r > l / #_", "l > w / #_"]) == "war"
    # The edge of an affix that meets its stem is no edge of the word.
    assert changed("-pap", ["p > f / #_", "b d g > p t k / _#"]) == "-pap"
    assert changed("-ab", ["b d g > p t k / _#"]) == "-ap"


def test_parts_of_a_word_meet_in_pronounceable_clusters():
    link = Linking("e", "j")
    assert [joined(*parts, link) for parts in (("tal", "ka"), ("tala", "i"), ("talt", "ka"), ("tal", "n"))] == [
        "talka",
        "talaji",
        "talteka",
        "talen",
    ]


def test_no_language_has_homophones_and_none_has_ambiguous_affixes(families, other):
    for world in (families, other):
        for language in world.nodes.values():
            assert len(set(language.words.values())) == len(TAGS)
            assert min(map(len, language.words.values())) >= 2
            for paradigm in (("", "PL", "ACC", "GEN"), ("", "PAST", "FUT")):
                assert len({language.inflected("tan", *[m] if m else []) for m in paradigm}) == len(paradigm)


def test_distance_in_the_tree_is_distance_between_words(families):
    assert correlation(families, word_distance) > 0.8
    assert correlation(families, lambda a, b: -cognate_share(a, b)) > 0.85


def test_distance_in_the_tree_tends_to_be_distance_in_word_order(families):
    assert correlation(families, order_distance) > 0.3


@pytest.mark.parametrize("measure", [word_distance, order_distance])
def test_every_language_is_nearer_to_its_family_than_to_the_others(families, measure):
    for members in TREE.families().values():
        for name in members:
            inside = [measure(families.nodes[name], families.nodes[m]) for m in members if m != name]
            outside = [measure(families.nodes[name], families.nodes[m]) for m in TREE.leaves if m not in members]
            assert np.mean(inside) < np.mean(outside)


def test_names_are_never_replaced_but_by_homophones_and_sound_adapted(families):
    names = [name for group in NAMES.values() for name in group]
    proto = families.nodes[TREE.root].words
    for leaf in TREE.leaves:
        language = families.nodes[leaf]
        kept = [name for name in names if language.origins[name] == TREE.root]
        assert len(kept) > 0.85 * len(names)
        assert any(language.words[name] != proto[name] for name in kept)


def test_no_meaning_is_in_two_splits_and_none_twice_in_one(families):
    held = [meaning for split in ("val", "test") for meaning in families.meanings[split][CENTRE]]
    assert len(set(held)) == len(held) == 500
    for language in TREE.leaves:
        train = families.meanings["train"][language]
        assert len(set(train)) == len(train)
        assert not set(train).intersection(held)


def test_no_sentence_of_val_and_test_is_in_the_training_text(families):
    for language in families.languages:
        train = {*families.bitext(language, "train")[0]}
        held = families.bitext(language, "val")[0] + families.bitext(language, "test")[0]
        assert not train.intersection(held)
        assert len(set(held)) == len(held)


def test_val_and_test_say_the_same_in_all_languages_and_training_texts_do_not(families):
    for split in ("val", "test"):
        assert len({families.meanings[split][language] for language in TREE.leaves}) == 1
    assert not set(families.meanings["train"]["dalu"][:300]) & set(families.meanings["train"]["doran"][:300])


def test_resources_are_unequal_twenty_to_one_within_every_family(families):
    sizes = {language: len(families.bitext(language, "train")[0]) for language in families.languages}
    assert sizes == {language: size for language, size in TRAIN.items() if language != CENTRE}
    assert set(families.high) | set(families.low) == set(families.languages)
    assert min(sizes[h] for h in families.high) >= 20 * max(sizes[low] for low in families.low)
    for members in TREE.families().values():
        assert set(members) & set(families.high)
        assert set(members) & set(families.low)


def test_translation_groups_the_languages_by_their_resources_and_records_the_truth(families, monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path))
    variant, protocol = resolve("nmt", "families", None, {"options.subword_sentences": 1000})
    task = NMT(variant, protocol, None, torch.device("cpu"))
    groups = {name: [task.objectives[k].name for k in members] for name, members in task.groups.items()}
    assert groups == {
        "hrl": [f"{language}-{CENTRE}" for language in families.high],
        "lrl": [f"{language}-{CENTRE}" for language in families.low],
    }
    assert task.facts["families"] == families.as_dict()


def content(sentence):
    return Counter(token.concept for token in sentence.tokens if not token.concept.isupper())


def test_both_sides_of_a_pair_name_the_same_concepts(families):
    for language in families.languages:
        foreign, central = families.sentences(language, "test"), families.central(language, "test")
        assert [content(s) for s in foreign] == [content(s) for s in central]
        texts = families.bitext(language, "test")
        assert ([s.text for s in foreign], [s.text for s in central]) == texts


def test_what_is_not_a_word_of_its_own_shows_in_the_forms(families):
    """Tense, number and case tell sentences apart: different meanings are different sentences, in every language."""
    meanings = list(dict.fromkeys(m for name in families.low for m in families.meanings["train"][name]))
    for language in TREE.leaves:
        realiser = Realiser(families.nodes[language])
        base = meanings[:500]
        for tense in (None, "PAST", "FUT"):
            base += [m._replace(clause=m.clause._replace(tense=tense)) for m in meanings[:500]]
        distinct = set(base)
        assert len({realiser.sentence(m).text for m in distinct}) == len(distinct)


def test_sentences_have_six_to_ten_words_on_average_and_rare_words_exist(families):
    for language in TREE.leaves:
        assert 6 <= np.mean([len(s.tokens) for s in families.sentences(language, "val")]) <= 10
    counts = Counter(t.concept for s in families.sentences("dalu", "train") for t in s.tokens)
    assert set(counts) >= set(VOCABULARY) - {"REL", "COMP", "NOT", "OF", "ACC", "PAST", "FUT"}
    ordered = sorted(counts.values())
    assert ordered[-1] > 50 * ordered[len(ordered) // 10]
    few = Counter(t.concept for s in families.sentences("demi", "train") for t in s.tokens)
    assert 0 < len(set(VOCABULARY) - set(few)) < 0.2 * len(VOCABULARY)


def test_parts_of_speech_and_entities_are_those_of_the_concepts(families):
    kinds = Counter()
    for language in TREE.leaves:
        for sentence in families.sentences(language, "test"):
            before = "O"
            for token in sentence.tokens:
                assert token.pos == TAGS[token.concept]
                assert (token.entity != "O") == (token.pos == "PROPN")
                if token.entity.startswith("I-"):
                    assert before[2:] == token.entity[2:]
                before = token.entity
                kinds[token.entity] += 1
    assert set(kinds) == {"O", "B-PER", "I-PER", "B-LOC", "B-ORG", "I-ORG"}


def simple_clauses(families, language):
    """(meaning, concepts in order) of the test sentences that are one clause with a bare object."""
    for sentence in families.sentences(language, "test"):
        clause = sentence.meaning.clause
        if sentence.meaning.coordinate or clause.complement or not clause.object:
            continue
        concepts = [token.concept for token in sentence.tokens]
        if all(concepts.count(c) == 1 for c in (clause.subject.head, clause.verb, clause.object.head)):
            yield clause, concepts


def test_verb_subject_and_object_stand_in_the_order_of_the_grammar(families, other):
    seen = set()
    for world in (families, other):
        for language in TREE.leaves:
            order = world.nodes[language].grammar.verb
            clauses = list(simple_clauses(world, language))
            assert len(clauses) > 30
            for clause, concepts in clauses:
                place = {"S": clause.subject.head, "V": clause.verb, "O": clause.object.head}
                assert "".join(sorted("SVO", key=lambda part: concepts.index(place[part]))) == order
            seen.add(order)
    assert seen == set(WORD_ORDER["verb"])


def test_modifiers_stand_on_the_side_that_the_grammar_says(families, other):
    seen = set()
    for world in (families, other):
        for language in TREE.leaves:
            grammar = world.nodes[language].grammar
            for clause, concepts in simple_clauses(world, language):
                head = concepts.index(clause.object.head)
                sides = {
                    "adjective": clause.object.adjective,
                    "numeral": clause.object.numeral,
                    "determiner": clause.object.determiner,
                    "genitive": clause.object.possessor and clause.object.possessor.head,
                }
                for parameter, concept in sides.items():
                    if concept and concepts.count(concept) == 1:
                        side = "before" if concepts.index(concept) < head else "after"
                        assert side == getattr(grammar, parameter)
                        seen.add((parameter, side))
                if clause.oblique and clause.adposition in concepts:
                    noun, adposition = concepts.index(clause.oblique.head), concepts.index(clause.adposition)
                    if concepts.count(clause.oblique.head) == 1:
                        assert ("before" if adposition < noun else "after") == grammar.adposition
    assert len(seen) == 8


@pytest.mark.parametrize("case", CHOICES["case"])
def test_objects_are_marked_by_affix_by_particle_or_not_at_all(families, case):
    dalu = families.nodes["dalu"]
    realiser = Realiser(replace(dalu, grammar=dalu.grammar._replace(case=case)))
    checked = 0
    for meaning in families.meanings["test"]["dalu"]:
        tokens = realiser.sentence(meaning).tokens
        found = meaning.clause.object
        if found and not (found.plural or found.name or found.coordinate):
            forms = {token.form for token in tokens if token.concept == found.head}
            assert (dalu.inflected(dalu.words[found.head], "ACC") in forms) == (case == "affix")
            assert any(token.concept == "ACC" for token in tokens) == (case == "particle")
            assert any(token.concept == "OF" for token in tokens) == (
                case != "affix" and bool(found.possessor or meaning.clause.subject.possessor)
            )
            checked += 1
    assert checked > 30


def test_the_centre_has_a_training_text_of_its_own(families):
    assert len(families.sentences(CENTRE, "train")) == TRAIN[CENTRE]
    with pytest.raises(UsageError, match="language to translate"):
        families.bitext(CENTRE, "train")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.bitext("dallu", "train"), "Did you mean 'dalu'"),
        (lambda f: f.sentences("dalu", "tests"), "Did you mean 'test'"),
        (lambda f: f.central("dal", "test"), "dalu"),
        (lambda f: f.tree.path("dalik"), "Did you mean 'dalic'"),
        (lambda _: generate(train={"french": 3}), "french"),
        (lambda _: generate(train={"dalu": 0}), "for dalu is 0; it must be at least 1"),
        (lambda _: generate(test=-1), "for test is -1"),
    ],
)
def test_wrong_names_and_numbers_are_refused(families, call, message):
    with pytest.raises(UsageError, match=message):
        call(families)
