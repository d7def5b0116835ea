"""XTREME's scores on hand-made predictions, and the baselines without a model."""

import numpy as np
import pytest

from mtlbench.tasks.xtreme.tagging.scoring import baselines, metrics
from mtlbench.tasks.xtreme.tagging.scoring import scores as estimates
from mtlbench.tasks.xtreme.tagging.sentences import Sentence


def scores(kind, gold, predicted):
    return {metric: found.value for metric, found in estimates(kind, gold, predicted).items()}


def pos(gold, predicted):
    return scores("pos", [gold.split()], [predicted.split()])


def test_entities_count_by_their_whole_span_and_type():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "I-ORG"]]
    found = scores("ner", gold, predicted)  # 1 of 3 right, on both sides
    assert found["f1"] == pytest.approx(100 / 3)
    assert found["accuracy"] == pytest.approx(100 * 4 / 6)


def test_an_entity_that_begins_with_inside_counts_as_one_as_in_the_conll_script():
    assert scores("ner", [["B-PER", "I-PER"]], [["I-PER", "I-PER"]])["f1"] == 100


def test_spans_do_not_run_on_into_the_next_sentence():
    assert scores("ner", [["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]])["f1"] == 100
    assert scores("ner", [["B-PER"], ["I-PER"]], [["B-PER"], ["O"]])["f1"] == pytest.approx(100 * 2 / 3)


def test_no_entity_found_is_a_score_of_nought():
    assert scores("ner", [["B-PER", "O"]], [["O", "O"]]) == {"f1": 0.0, "accuracy": 50.0}


def test_the_f1_of_parts_of_speech_counts_runs_of_equal_tags_as_xtreme_does():
    found = pos("NOUN NOUN VERB", "NOUN VERB VERB")  # spans NOUN+NOUN, VERB against NOUN, VERB+VERB
    assert found == {"f1": 0.0, "accuracy": pytest.approx(100 * 2 / 3)}
    assert pos("DET NOUN VERB", "DET NOUN NOUN")["f1"] == pytest.approx(100 * 2 * (1 / 3 * 1 / 2) / (1 / 3 + 1 / 2))
    assert pos("NOUN VERB ADJ", "NOUN VERB ADV")["f1"] == pytest.approx(100 * 2 / 3)


def test_the_two_conjunctions_are_different_tags():
    assert pos("CCONJ NOUN", "SCONJ NOUN")["f1"] == 50
    assert pos("CCONJ", "SCONJ") == {"f1": 0.0, "accuracy": 0.0}


def test_tags_that_begin_with_the_letter_of_a_single_span_never_form_a_run():
    assert pos("SYM SYM NOUN", "SYM NOUN NOUN")["f1"] == pytest.approx(100 * 2 * (1 / 2 * 1 / 3) / (1 / 2 + 1 / 3))
    assert pos("SCONJ SCONJ", "SCONJ X")["f1"] == 50


def test_the_definition_of_a_metric_names_the_library_and_what_is_scored():
    f1, accuracy = metrics("ner", "scored on 1/2 of dev")
    assert (f1.name, accuracy.name) == ("f1", "accuracy")
    assert f1.signature.startswith("seqeval ")
    assert f1.signature.endswith("; scored on 1/2 of dev")


def test_baselines_know_the_most_frequent_tag_and_that_of_each_word():
    train = [Sentence(("a", "b", "b"), ("DET", "NOUN", "VERB")), Sentence(("b", "c"), ("NOUN", "NOUN"))]
    test = [Sentence(("a", "b", "new", "c"), ("DET", "NOUN", "VERB", "VERB"))]
    found = baselines("pos", train, test)
    assert found["tag"]["accuracy"] == 25
    assert found["word"]["accuracy"] == 50


def test_errors_are_those_of_a_bootstrap_over_sentences():
    draw = np.random.default_rng(0)
    tags = np.array(["O", "O", "B-PER", "I-PER", "B-LOC"])
    gold = [list(draw.choice(tags, draw.integers(3, 12))) for _ in range(300)]
    predicted = [[tag if draw.random() < 0.8 else str(draw.choice(tags)) for tag in row] for row in gold]
    found = estimates("ner", gold, predicted)
    rows = [draw.integers(0, 300, 300) for _ in range(200)]
    again = [scores("ner", [gold[i] for i in row], [predicted[i] for i in row]) for row in rows]
    for metric in ("f1", "accuracy"):
        assert found[metric].count == 300
        assert found[metric].error == pytest.approx(np.std([one[metric] for one in again], ddof=1), rel=0.15)
