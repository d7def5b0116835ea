"""Exact match and F1 of answers by hand, as XTREME's two evaluations define them, and the baseline."""

import pytest
from xtreme_questions import question

from mtlbench.tasks.xtreme.answers.scoring import likeliest_sentence, metrics, normalised, scores


def scored(predicted, gold, problem, language):
    found = scores([question(" / ".join(gold), *gold)], [predicted], problem, language)
    return found["f1"].value, found["exact_match"].value


TWO_THIRDS = pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("problem", "language", "predicted", "gold", "f1", "exact"),
    [
        ("xquad", "en", "The big, bang", "a BIG bang", 100, 100),
        ("xquad", "en", "big bang theory", "the big bang", 80, 0),
        ("xquad", "en", "well-known", "well known", 0, 0),  # a hyphen is removed, not a space
        ("xquad", "en", "“big”", "big", 0, 0),  # ASCII punctuation alone
        ("xquad", "en", "the", "a", 0, 100),  # nothing is left of both: equal, and no word in common
        ("xquad", "en", "dogs and dogs", "dogs", 50, 0),
        ("xquad", "de", "der Hund", "Hund", TWO_THIRDS, 0),  # English articles in every language
        ("xquad", "zh", "北京大学", "北京", 0, 0),
        ("xquad", "zh", "北京", "北京", 100, 100),
        ("xquad", "th", "กรุงเทพ มหานคร", "กรุงเทพ", TWO_THIRDS, 0),
        ("xquad", "th", "กรุงเทพมหานคร", "กรุงเทพ", 0, 0),
        ("xquad", "ar", "الكتاب", "كتاب", 0, 0),
        ("xquad", "hi", "राम।", "राम", 0, 0),
        ("tydiqa", "ko", "서울, 한국", "서울 한국", 100, 100),
        ("mlqa", "en", "“the big”", "big", 100, 100),
        ("mlqa", "de", "der große Hund", "Großen Hund", 50, 0),
        ("mlqa", "de", "eines Hundes!", "Hundes", 100, 100),
        ("mlqa", "es", "¿La casa?", "unas casa", 100, 100),
        ("mlqa", "es", "the casa", "casa", TWO_THIRDS, 0),
        ("mlqa", "vi", "cái bàn của tôi", "bàn tôi", 100, 100),
        ("mlqa", "hi", "राम।", "राम", 100, 100),
        ("mlqa", "hi", "the राम", "राम", TWO_THIRDS, 0),
        ("mlqa", "ar", "الكتاب", "كتاب؟", 100, 100),
        ("mlqa", "ar", "قال", "ق", 100, 100),  # the two letters go wherever they stand
        ("mlqa", "zh", "《北京》大学", "北京大学", 100, 100),
        ("mlqa", "zh", "北京大学", "北京", TWO_THIRDS, 0),
        ("mlqa", "zh", "iPhone手机", "iphone 手机", 100, 100),
        ("mlqa", "zh", "1999年", "1999", TWO_THIRDS, 0),
    ],
)
def test_an_answer_is_scored_as_xtremes_evaluations_define_it(problem, language, predicted, gold, f1, exact):
    assert scored(predicted, [gold], problem, language) == (f1, exact)
    assert scored(gold, [predicted], problem, language) == (f1, exact)


def test_the_best_of_several_right_answers_counts_for_each_metric():
    assert scored("big bang", ["bang theory", "the big bang theory", "big bang"], "xquad", "en") == (100, 100)
    assert scored("big bang", ["bang theory", "the big bang theory"], "xquad", "en") == (80, 0)


def test_a_chinese_character_is_a_word_and_other_scripts_have_words_between_spaces():
    assert normalised("  iPhone 4S，手机。ok ", "mlqa", "zh") == "iphone 4s 手 机 ok"
    assert normalised("한국어 조선말", "mlqa", "zh") == "한국어 조선말"
    assert normalised("手机", "mlqa", "en") == "手机"


def test_scores_are_means_over_questions_with_the_error_of_the_mean():
    questions = [question("k b c d", "k b"), question("k b c d", "b c"), question("x y", "y"), question("x y", "x")]
    found = scores(questions, ["b", "b c", "y", "y"], "xquad", "de")
    assert found["f1"].value == pytest.approx((200 / 3 + 100 + 100) / 4)
    assert found["exact_match"].value == 50
    assert found["exact_match"].error == pytest.approx(100 * (1 / 3) ** 0.5 / 2)
    assert found["f1"].count == found["exact_match"].count == 4


def test_f1_is_the_main_metric_and_its_definition_names_evaluation_and_cut():
    first, second = metrics("mlqa", "zh", "scored on 1/4 of dev")
    assert (first.name, second.name) == ("f1", "exact_match")
    assert first.signature == "MLQA's evaluation, zh; scored on 1/4 of dev"
    assert metrics("xquad", "zh", "")[0].signature == "SQuAD v1.1's evaluation"


@pytest.mark.parametrize(
    ("context", "asked", "sentence"),
    [
        ("A cat sat. The dog ran! It rained.", "Who ran, the dog?", "The dog ran!"),
        ("北京很大。上海更大！", "上海大吗？", "上海更大！"),
        ("राम आया। सीता गई।", "सीता कहाँ गई", "सीता गई।"),
        ("no sentence at all", "which?", "no sentence at all"),
        ("...", "which?", "..."),
    ],
)
def test_the_baseline_is_the_sentence_with_most_words_of_the_question(context, asked, sentence):
    assert likeliest_sentence(question(context, text=asked)) == sentence
