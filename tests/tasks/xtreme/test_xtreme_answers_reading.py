"""Files of questions: the reader and its refusals, which file serves which split, and cuts across languages."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from xtreme_questions import FOLDERS, LANGUAGES, data_root, paragraph, save, squad

from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.xtreme.answers.files import FILES, joined
from mtlbench.tasks.xtreme.answers.questions import Answer, words
from mtlbench.tasks.xtreme.answers.squad import read
from mtlbench.tasks.xtreme.options import Shares

SPLITS = ("train", "val", "test")


def test_questions_are_read_with_their_context_and_all_their_answers(tmp_path):
    context = "\ufeffเมือง\u2028x 😀 ok"
    qas = [
        {"id": "7", "question": "a\u0085b", "answers": [{"text": "😀 ok", "answer_start": 9, "more": 1}]},
        {"id": "8", "question": "c", "answers": [{"text": "x", "answer_start": 7}, {"text": "ok", "answer_start": 11}]},
    ]
    path = save(tmp_path / "a.json", [{"context": context, "qas": qas}], zipped=True)
    first, second = read(path)
    assert (first.name, first.text, first.context) == ("7", "a\u0085b", context)
    assert first.answers == (Answer(9, "😀 ok"),)
    assert [answer.text for answer in second.answers] == ["x", "ok"]
    assert (first.leads, second.leads) == (True, False)


def test_a_byte_order_mark_and_articles_without_an_object_around_them_are_fine(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"paragraphs": [paragraph(0, "e")]}], indent=1), encoding="utf-8-sig")
    assert [question.name for question in read(path)] == ["0-0", "0-1"]


def test_a_file_whose_answers_xtreme_has_taken_out_has_questions_without_answers(tmp_path):
    one = paragraph(0, "e")
    for entry in one["qas"]:
        entry["answers"] = [{"text": "", "answer_start": 0}]
    assert [question.answers for question in read(save(tmp_path / "a.json", [one]))] == [(), ()]


def broken(change):
    paragraphs = [paragraph(n, "e") for n in range(2)]
    change(paragraphs[1])
    return paragraphs


def set_(*path_and_value):
    *path, value = path_and_value

    def change(found):
        for key in path[:-1]:
            found = found[key]
        if value is None:
            del found[path[-1]]
        else:
            found[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_("qas", 1, "id", None), "question 2 of paragraph 1 of article 2 has no 'id'"),
        (set_("qas", 1, "id", 5), "question 2 .* has a whole number for 'id', and expected is a text"),
        (set_("qas", 1, "id", " "), "question 2 .* has no text for 'id'"),
        (set_("qas", 1, "id", "0-1"), "question 0-1 is there twice"),
        (set_("qas", 0, "question", "\n"), "question 1-0 has no text for 'question'"),
        (set_("qas", 0, "question", None), "question 1-0 has no 'question'"),
        (set_("qas", 0, "answers", None), "question 1-0 has no 'answers'"),
        (set_("qas", 0, "answers", []), "question 1-0 has no answer, and others"),
        (set_("qas", 0, "answers", [{"text": "", "answer_start": 0}]), "question 1-0 has no answer, and others"),
        (set_("qas", 0, "answers", ["q"]), "question 1-0 holds a text, and expected is an object"),
        (set_("qas", 0, "answers", 0, "answer_start", 2), "question 1-0 has the answer 'q', which is not at 2"),
        (set_("qas", 0, "answers", 0, "answer_start", -1), "question 1-0 has the answer 'q', which is not at -1"),
        (set_("qas", 0, "answers", 0, "answer_start", True), "question 1-0 has true or false for 'answer_start'"),
        (set_("qas", 0, "answers", 0, "answer_start", 1.0), "question 1-0 has a number for 'answer_start'"),
        (set_("qas", 0, "answers", 0, "text", " "), "question 1-0 has an answer without text"),
        (set_("context", " \u2028"), "paragraph 1 of article 2, with question 1-0, has no text for 'context'"),
        (set_("context", "a \ud800"), r"article 2, with question 1-0,: character 2 of its 'context' .*\\ud800"),
        (set_("qas", 0, "question", "\udfff"), r"question 1-0: character 0 of its 'question' .*\\udfff"),
        (set_("qas", {}), "paragraph 1 of article 2 has an object for 'qas', and expected is a list"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_the_question(tmp_path, change, told):
    path = save(tmp_path / "a.json", broken(change))
    with pytest.raises(UsageError, match=f"{path} is not usable: .*{told}"):
        read(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"data": [\n  {"paragraphs": ]}\n]}', "line 2 is not JSON, at place 18"),
        (b'{"data": []}', "it has no question"),
        (b'{"paragraphs": []}', "the file has no 'data'"),
        (b"3", "it holds a whole number, and expected is an object with data"),
        (b'{"data": [null]}', "article 1 holds null"),
        (b'\n"\xff"', "line 2 is not UTF-8"),
        (b"[" * 200_000, "it cannot be read as JSON"),
        (b"", "line 1 is not JSON"),
    ],
)
def test_what_is_no_such_file_is_refused_with_the_line(tmp_path, content, told):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"{path} is not usable: {told}"):
        read(path)


def test_repeated_ids_are_told_apart_in_training_files_of_tydiqa(tmp_path):
    path = save(tmp_path / "a.json", [paragraph(0, "e"), paragraph(0, "e"), paragraph(1, "e")])
    names = ["0-0", "0-1", "0-0@3", "0-1@4", "1-0", "1-1"]
    assert [question.name for question in read(path, repeats=True)] == names
    with pytest.raises(UsageError, match="question 0-0 is there twice"):
        read(path)


def test_words_for_the_encoder_are_between_spaces_and_chinese_characters_alone():
    assert words("ab, c\u2028d 北京x。") == ["ab,", "c", "d", "北", "京", "x。"]


# --- splits ---------------------------------------------------------------------------------------------------


def load(root, problem="xquad", zero_shot=False, languages=None, shares=None):
    name = f"xtreme/{problem}{'-zeroshot' * zero_shot}"
    return FILES[problem](problem, root, name, zero_shot).load(languages, shares or Shares(), zero_shot)


def names(corpus, split, language):
    return [question.name for question in corpus.splits[split][language]]


def test_xquads_one_file_is_cut_alike_in_all_languages_whichever_are_asked_for(tmp_path):
    root = data_root(tmp_path)
    corpus = load(root)
    for split in SPLITS:
        assert names(corpus, split, "de") == names(corpus, split, "en") == names(corpus, split, "es")
        assert names(load(root, languages=("es",)), split, "es") == names(corpus, split, "es")
    assert sum(len(names(corpus, split, "de")) for split in SPLITS) == 120
    assert corpus.sources["de"] == {"train": "1/2 of XQuAD", "val": "1/4 of XQuAD", "test": "1/4 of XQuAD"}


def test_questions_stay_together_that_share_a_context_in_any_language(tmp_path):
    for language in LANGUAGES:
        rows = [paragraph(n, language[0], "dev-", questions=1) for n in range(60)]
        if language == "es":  # there, questions 2n and 2n + 1 are on one context
            for one, other in zip(rows[::2], rows[1::2], strict=True):
                one["qas"] += [{**other["qas"][0], "answers": one["qas"][0]["answers"]}]
            rows = rows[::2]
        save(tmp_path / FOLDERS["mlqa"].format(language=language, split="dev"), rows)
    corpus = load(tmp_path, "mlqa")
    for split in SPLITS:
        found = set(names(corpus, split, "de"))
        assert found == set(names(corpus, split, "es"))
        assert {f"dev-{int(name.split('-')[1]) ^ 1}-0" for name in found} == found
        assert names(load(tmp_path, "mlqa", languages=("de",)), split, "de") == names(corpus, split, "de")


def test_groups_of_questions_are_joined_through_several_languages(tmp_path):
    def on(language, *groups):
        path = tmp_path / f"{language}.json"
        rows = [paragraph(n, language, questions=0) | {"qas": []} for n, _ in enumerate(groups)]
        for row, group in zip(rows, groups, strict=True):
            answer = {"text": "q", "answer_start": row["context"].index("q")}
            row["qas"] = [{"id": name, "question": "a", "answers": [answer]} for name in group]
        return read(save(path, rows))

    found = joined([on("e", "ab", "c", "d", "e"), on("d", "bc", "d"), on("f", "ce")])
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "a"}


def test_mlqas_test_files_are_the_test_split_and_its_dev_is_cut(tmp_path):
    corpus = load(data_root(tmp_path, "mlqa", ("dev", "test")), "mlqa")
    assert all(name.startswith("test-") for name in names(corpus, "test", "es"))
    assert len(names(corpus, "test", "es")) == 120
    assert corpus.sources["es"] == {"train": "2/3 of dev", "val": "1/3 of dev"}


def test_mlqas_files_of_two_languages_are_not_read(tmp_path):
    root = data_root(tmp_path, "mlqa")
    (root / "mlqa/MLQA_V1/dev/dev-context-de-question-en.json").write_text("no JSON")
    assert load(root, "mlqa").languages == list(LANGUAGES)


def test_tydiqa_is_cut_by_context_where_it_has_no_file(tmp_path):
    root = data_root(tmp_path, "tydiqa")
    save(root / FOLDERS["tydiqa"].format(language="en", split="train"), [paragraph(0, "x"), paragraph(0, "y")])
    corpus = load(root, "tydiqa")
    assert corpus.sources["en"] == {"val": "1/2 of dev", "test": "1/2 of dev"}
    assert corpus.sources["de"] == {"train": "1/2 of dev", "val": "1/4 of dev", "test": "1/4 of dev"}
    assert names(corpus, "train", "en") == ["0-0", "0-1", "0-0@3", "0-1@4"]
    contexts = [{question.context for question in corpus.splits[split]["de"]} for split in SPLITS]
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 60


def test_zero_shot_to_xquad_is_trained_on_squad_and_validated_without_xquads_paragraphs(tmp_path):
    root = data_root(tmp_path)
    squad(root, "train", 20, "train-")
    squad(root, "dev", 80, "dev-")  # XQuAD has its first 60 paragraphs
    corpus = load(root, zero_shot=True)
    assert set(corpus.splits["train"]) == {"en"}
    assert len(names(corpus, "train", "en")) == 40
    assert names(corpus, "val", "es") == [f"dev-{n}-{k}" for n in range(60, 80) for k in range(2)]
    assert {len(names(corpus, "test", language)) for language in LANGUAGES} == {120}
    assert corpus.sources == {"en": {"train": "SQuAD's train", "val": "SQuAD's dev"}}


def test_zero_shot_to_mlqa_is_scored_on_test_else_on_dev(tmp_path):
    root = data_root(tmp_path, "mlqa", ("dev",))
    squad(root, "train", 20, "train-")
    squad(root, "dev", 5, "s-")
    corpus = load(root, "mlqa", zero_shot=True)
    assert names(corpus, "val", "de") == [f"s-{n}-{k}" for n in range(5) for k in range(2)]
    assert corpus.sources["es"] == {"test": "MLQA's dev"}
    corpus = load(data_root(tmp_path, "mlqa", ("test",)), "mlqa", zero_shot=True)
    assert corpus.sources == {"en": {"train": "SQuAD's train", "val": "SQuAD's dev"}}
    assert all(name.startswith("test-") for name in names(corpus, "test", "en"))


def test_zero_shot_to_tydiqa_is_scored_on_dev(tmp_path):
    root = data_root(tmp_path, "tydiqa", ("train", "dev"))
    corpus = load(root, "tydiqa", zero_shot=True, shares=Shares(train=8))
    assert corpus.sources["en"] == {"train": "8/9 of train", "val": "1/9 of train", "test": "dev"}
    assert {len(names(corpus, "test", language)) for language in LANGUAGES} == {120}


@pytest.mark.parametrize("problem", ["xquad", "mlqa"])
def test_zero_shot_without_squad_says_where_it_belongs_and_how_it_is_had(tmp_path, problem):
    root = data_root(tmp_path, problem)
    with pytest.raises(DataMissing, match=rf"SQuAD v1.1 belongs to .*squad: `mtlbench data fetch xtreme/{problem}-z"):
        load(root, problem, zero_shot=True)


# --- the real files -------------------------------------------------------------------------------------------

REAL = Path(os.environ.get("MTLBENCH_DATA", ""))


@pytest.mark.skipif(not os.environ.get("MTLBENCH_DATA"), reason="MTLBENCH_DATA names no data root")
@pytest.mark.parametrize("problem", ["xquad", "mlqa"])
def test_no_real_question_is_in_two_splits_of_any_languages(problem):
    files = FILES[problem](problem, REAL, f"xtreme/{problem}", zero_shot=False)
    if not files.find():
        pytest.skip(f"no {problem} below MTLBENCH_DATA")
    corpus = files.load(None, Shares(), zero_shot=False)
    found = {split: {q.name for rows in corpus.splits[split].values() for q in rows} for split in SPLITS}
    assert Counter(name for names_ in found.values() for name in names_).most_common(1)[0][1] == 1
    for language in corpus.languages:
        contexts = [{question.context for question in corpus.splits[split][language]} for split in SPLITS]
        assert sum(map(len, contexts)) == len(set.union(*contexts))
        sizes = [len(corpus.splits[split][language]) for split in SPLITS]
        assert min(sizes) > 0.15 * sum(sizes)
