"""Questions as a problem: windows, the loss, the n-best rule, and whole runs on checkpoints of both classes."""

import itertools
import json
import os
import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForQuestionAnswering, XLMRobertaForQuestionAnswering
from xtreme_questions import LANGUAGES, data_root, question, squad, unigram, wordpiece
from xtreme_samples import bert, xlmr

import mtlbench
from mtlbench.catalogue.variants import resolve
from mtlbench.engine.backward import Backward
from mtlbench.errors import UsageError
from mtlbench.running.training import Interrupted
from mtlbench.tasks.xtreme import XTREME
from mtlbench.tasks.xtreme.answers import squad as reader
from mtlbench.tasks.xtreme.answers.files import FILES
from mtlbench.tasks.xtreme.answers.prediction import Rule, Span, best, most_context
from mtlbench.tasks.xtreme.answers.problem import unanswerable
from mtlbench.tasks.xtreme.answers.questions import Answer
from mtlbench.tasks.xtreme.answers.windows import Cutter, padded

CPU = torch.device("cpu")
ENCODERS = {"wordpiece": wordpiece, "unigram": unigram}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def root(tmp_path):
    return data_root(tmp_path / "data")


# --- windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("the cat sat, here", "cat"),
        ("the cat  sat\u2028here", "cat  sat\u2028here"),
        ("ทีมรับของแพนเธอร์ส", "ของแพน"),
        ("北京大学，在中国。", "大学"),
        ("\ufeffكتاب جديد؟", "جديد"),
        ("राम आया। सीता", "आया"),
        ("😀 a😀b", "😀b"),
        ("of 30 km² (ﬁve)", "km²"),
    ],
)
def test_an_answer_comes_back_from_its_subwords_as_it_stands_in_the_context(name, context, answer):
    cutter = Cutter(ENCODERS[name](sorted(set(context) - set(string.whitespace))), 64, 8, 8)
    (subwords,) = cutter.subwords([context])
    places = subwords.places(Answer(context.index(answer), answer))
    assert context[subwords.characters(*places)] == answer


def test_the_boundary_that_a_piece_begins_with_is_not_part_of_the_answer():
    (subwords,) = Cutter(unigram("acdt", "▁cat"), 64, 8, 8).subwords(["a cat  cat d"])
    assert [len(subwords.ids), subwords.places(Answer(2, "cat"))] == [7, (2, 2)]
    assert [(int(b), int(e)) for b, e in zip(subwords.begins, subwords.ends, strict=True)][2] == (2, 5)


def test_space_around_an_answer_is_not_part_of_it_and_an_answer_inside_a_subword_is_the_whole_one():
    (subwords,) = Cutter(wordpiece("abc"), 64, 8, 8).subwords(["ab x1x c"])
    assert subwords.places(Answer(2, " x1x ")) == subwords.places(Answer(4, "1")) == (2, 2)  # x is unknown
    assert subwords.places(Answer(2, " ")) is None


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("length", "stride", "kept"), [(2, 4, 4), (11, 4, 4), (12, 4, 4), (40, 4, 4), (40, 9, 2)])
def test_windows_cover_the_context_begin_at_every_stride_and_fit_with_the_question(name, length, stride, kept):
    context = "x" * length if name == "wordpiece" else "x" * (length - 1)
    encoder = ENCODERS[name]("xyz")
    cutter = Cutter(encoder, 16, stride, kept)
    windows = cutter.windows([question(context, text="yzyzyz"), question("x", text="z")])
    first = windows.owners == 0
    before = 1 + kept + encoder.separators
    room = 16 - before - 1
    expected = [0]
    while expected[-1] + room < length:
        expected.append(expected[-1] + stride)
    assert windows.begins[first].tolist() == expected
    assert windows.sizes[first].tolist() == [min(room, length - begin) for begin in expected]
    assert windows.before.tolist() == [before] * len(expected) + [len(windows.questions[1]) + 1 + encoder.separators]
    assert windows.lengths.max() <= 16
    parts = zip(windows.begins[first], windows.sizes[first], strict=True)
    assert {place for begin, size in parts for place in range(begin, begin + size)} == set(range(length))


def test_a_row_is_the_question_and_the_window_with_the_symbols_and_types_of_the_encoder():
    context, asked = "xyx", "yz"
    for encoder, symbols, second in (
        (wordpiece("xyz"), "[CLS] y ##z [SEP] x ##y ##x [SEP] [PAD]", [0, 0, 0, 0, 1, 1, 1, 1, 0]),
        (unigram("xyz"), "<s> ▁ y z </s> </s> ▁ x y x </s>", None),
    ):
        windows = Cutter(encoder, 16, 4, 4).windows(
            [question(context, "yx", text=asked), question(context + "x", text=asked)]
        )
        batch = padded(windows, np.array([0, 1]), encoder, CPU)
        found = encoder.tokenizer.convert_ids_to_tokens(batch.ids[0].tolist())
        assert " ".join(found).removesuffix(" <pad>") == symbols
        assert batch.mask[0].tolist() == [True] * int(windows.lengths[0]) + [False]
        assert batch.mask[1].all()
        assert (None if batch.kinds is None else batch.kinds[0].tolist()) == second
        start, end = (int(places[0]) for places in (batch.starts, batch.ends))
        assert found[start].endswith("y")
        assert found[end].endswith("x")
        assert end == start + 1
        assert (int(batch.starts[1]), int(batch.ends[1])) == (0, 0)


def test_windows_in_which_the_answer_is_not_whole_point_at_the_first_place():
    windows = Cutter(wordpiece("xyz"), 12, 2, 2).windows([question("xxxxyzyxxxxx", "yzy", text="zz")])
    assert windows.begins.tolist() == [0, 2, 4, 6]
    places = [(b, *a) for b, a in zip(windows.begins.tolist(), windows.answers.tolist(), strict=True)]
    assert places == [(0, 8, 10), (2, 6, 8), (4, 4, 6), (6, 0, 0)]
    assert unanswerable(windows) == 0
    assert unanswerable(Cutter(wordpiece("xyz"), 6, 1, 1).windows([question("xyzyx", "yzy", text="z")])) == 1


def test_a_stride_that_leaves_text_unread_and_a_tokeniser_without_offsets_are_refused():
    Cutter(wordpiece("x"), 16, 9, 4)
    with pytest.raises(UsageError, match=r"answers.stride=10 would leave .* windows hold 9 subwords"):
        Cutter(wordpiece("x"), 16, 10, 4)
    with pytest.raises(UsageError, match=r"answers.stride=9 would leave .* windows hold 8 subwords"):
        Cutter(unigram("x"), 16, 9, 4)

    class Slow:
        is_fast = False

    with pytest.raises(UsageError, match="does not tell which characters"):
        Cutter(wordpiece("x").__class__(Path(), "slow", Slow(), ""), 16, 4, 4)


REAL = os.environ.get("MTLBENCH_DATA", "")


@pytest.mark.skipif(not REAL, reason="MTLBENCH_DATA names no data root")
@pytest.mark.parametrize("problem", FILES)
def test_every_answer_of_the_real_files_comes_back_from_its_windows(problem):
    files = FILES[problem](problem, Path(REAL), problem, zero_shot=False)
    found = [file for by_name in files.find().values() for file in by_name.values()]
    if not found:
        pytest.skip(f"no {problem} below MTLBENCH_DATA")
    for number, file in enumerate(found):
        questions = [asked for asked in files.read(file) if asked.answers]
        make = (wordpiece, unigram)[number % 2]
        encoder = make(sorted({x for q in questions for x in q.context + q.text if not x.isspace()}))
        windows = Cutter(encoder, 384, 128, 64).windows(questions)
        answered = set(windows.owners[windows.answers[:, 1] > 0].tolist())
        reached = np.zeros(len(questions), int)
        np.maximum.at(reached, windows.owners, windows.begins + windows.sizes)
        assert reached.tolist() == [len(context.ids) for context in windows.contexts]
        for place, (asked, context) in enumerate(zip(questions, windows.contexts, strict=True)):
            first, last = context.places(asked.answers[0])
            assert place in answered or last - first > 128
            gold, back = written(asked.answers[0].text), asked.context[context.characters(first, last)]
            unknown = encoder.symbols.unknown in context.ids[first : last + 1]  # a word too long for the tokeniser
            assert gold in back if unknown else gold == written(back)


def written(text):
    """A text without what tokenisers leave out at its ends: space, and characters that are not seen."""
    seen = [n for n, x in enumerate(text) if not x.isspace() and not unicodedata.category(x).startswith("C")]
    return text[seen[0] : seen[-1] + 1]


# --- the n-best rule ------------------------------------------------------------------------------------------


def plain_most_context(windows, row):
    def context(other, place):
        begin, size = int(windows.begins[other]), int(windows.sizes[other])
        return min(place - begin, begin + size - 1 - place) + 0.01 * size if begin <= place < begin + size else -1

    mates = np.flatnonzero(windows.owners == windows.owners[row]).tolist()
    begin, size = int(windows.begins[row]), int(windows.sizes[row])
    return [max(mates, key=lambda other: context(other, place)) == row for place in range(begin, begin + size)]


def test_each_subword_may_start_an_answer_in_the_one_window_with_most_context():
    texts = ["x" * 37, "x", "x" * 20]
    windows = Cutter(wordpiece("xyz"), 16, 3, 2).windows([question(text, text="zz") for text in texts])
    allowed = most_context(windows)
    for row, starts in enumerate(allowed):
        assert starts.tolist() == plain_most_context(windows, row)
    for number, text in enumerate(texts):
        places = [
            int(place) + int(begin)
            for starts, begin, owner in zip(allowed, windows.begins, windows.owners, strict=True)
            for place in np.flatnonzero(starts)
            if owner == number
        ]
        assert sorted(places) == list(range(len(text)))


def plain_best(scores, before, begin, starts, rule):
    def ranked(side):
        return sorted(range(len(scores)), key=lambda place: -scores[place, side])[: rule.n_best]

    found = None
    for first, last in itertools.product(ranked(0), ranked(1)):
        one, other = first - before, last - before
        inside = 0 <= one < len(starts) and 0 <= other < len(starts)
        if not inside or not starts[one] or not 0 <= other - one < rule.longest:
            continue
        total = scores[first, 0] + scores[last, 1]
        if found is None or total > found.score:
            found = Span(total, begin + one, begin + other)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_best_answer_is_that_of_the_rule_written_out(seed):
    draw = np.random.default_rng(seed)
    size, before = int(draw.integers(1, 30)), int(draw.integers(2, 9))
    scores = draw.normal(size=(before + size + 1, 2)).round(seed % 3)
    starts = draw.random(size) < 0.7
    for rule in (Rule(20, 30), Rule(3, 30), Rule(20, 3), Rule(2, 2)):
        assert best(scores, before, 7, starts, rule) == plain_best(scores, before, 7, starts, rule)


def test_no_answer_begins_in_the_question_ends_before_its_start_or_is_too_long():
    scores = np.zeros((9, 2))
    scores[1] = 9  # the question
    scores[5, 0], scores[4, 1], scores[7, 1] = 5, 5, 4
    assert best(scores, 3, 0, np.ones(5, bool), Rule(20, 30)) == Span(9.0, 2, 4)
    assert best(scores, 3, 0, np.ones(5, bool), Rule(20, 2)) == Span(5.0, 2, 2)
    assert best(scores, 3, 0, np.zeros(5, bool), Rule(20, 30)) is None
    assert best(scores, 3, 0, np.ones(5, bool), Rule(1, 30)) is None


# --- the problem ----------------------------------------------------------------------------------------------

SMALL = {
    "max_length": 32,
    "answers": {"stride": 8, "question_length": 8, "n_best": 20, "length": 5},
    "vocabulary": 200,
    "pretrain_steps": 2,
    "steps_per_epoch": None,
    "sentences": {},
}


def build(root, variant="xquad", batch_size=8, **changed):
    variant, protocol = resolve("xtreme", variant, None, {"batch_size": batch_size})
    protocol = protocol.model_copy(update={"options": {**protocol.options, **SMALL, **changed}})
    return XTREME(variant, protocol, root, CPU)


def model_of(task):
    torch.manual_seed(0)
    return task.model()


def steps(task, seed=0):
    return task.batches(0, torch.Generator().manual_seed(seed))


@pytest.fixture
def checkpoint(tmp_path):
    return bert(tmp_path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2)


def test_objectives_are_languages_scored_by_f1_first_and_facts_tell_of_windows_and_baselines(root):
    task = build(root)
    assert [objective.name for objective in task.objectives] == list(LANGUAGES)
    assert [metric.name for metric in task.objectives[0].metrics] == ["f1", "exact_match"]
    assert task.objectives[0].metrics[0].signature == "SQuAD v1.1's evaluation; scored on 1/4 of XQuAD"
    facts = task.facts
    assert sum(facts["questions"]["de"].values()) == 120
    assert facts["windows"]["de"]["train"] >= facts["questions"]["de"]["train"]
    words = [len(asked.context.split()) for asked in task.problem.kept["test"]["es"]]
    whole = pytest.approx(np.mean([200 / (1 + count) for count in words]))
    assert facts["baselines"]["es"]["sentence"] == {"f1": whole, "exact_match": 0}
    assert facts["reachable"]["en"] == {"f1": 100, "exact_match": 100}
    assert facts["unanswerable"] == dict.fromkeys(LANGUAGES, 0)


@pytest.mark.parametrize(("make", "kind"), [(bert, BertForQuestionAnswering), (xlmr, XLMRobertaForQuestionAnswering)])
def test_the_loss_is_that_of_the_class_of_transformers_and_leaves_padding_out(root, tmp_path, make, kind):
    folder = make(tmp_path / "checkpoint")
    task = build(root, encoder=str(folder))
    model = model_of(task).eval()
    same = kind.from_pretrained(folder).eval()
    same.qa_outputs.load_state_dict(model.heads[0].state_dict())
    batch = task.problem.batch(1, np.argsort(task.problem.lengths(1))[[0, 1, -2, -1]])
    assert not batch.mask.all()
    assert (batch.kinds is not None) == (make is bert)
    losses = []
    for row in range(len(batch.ids)):
        length = int(batch.mask[row].sum())
        kinds = {} if batch.kinds is None else {"token_type_ids": batch.kinds[row : row + 1, :length]}
        losses.append(
            same(
                batch.ids[row : row + 1, :length],
                start_positions=batch.starts[row : row + 1],
                end_positions=batch.ends[row : row + 1],
                **kinds,
            ).loss.item()
        )
    (loss,) = task.losses(model, {1: batch}, [1])
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    loss.backward()
    assert model.heads[0].weight.grad.isfinite().all()


def plain_answers(problem, model, scored):
    """The best span over the windows of each question, of windows one by one."""
    windows, found = scored.windows, [("", -np.inf)] * len(scored.questions)
    for row, owner in enumerate(windows.owners.tolist()):
        batch = padded(windows, np.array([row]), problem.encoder, CPU)
        with torch.inference_mode():
            values = model(batch, 2).view(-1, 2).double().numpy()
        starts = np.array(plain_most_context(windows, row))
        span = plain_best(values, int(windows.before[row]), int(windows.begins[row]), starts, problem.rule)
        if span and span.score > found[owner][1]:
            text = scored.questions[owner].context[windows.contexts[owner].characters(span.first, span.last)]
            found[owner] = (text, span.score)
    return [text for text, _ in found]


def test_predictions_are_the_same_whatever_the_batching_and_come_as_xtremes_json(root, checkpoint, monkeypatch):
    task = build(root, encoder=str(checkpoint), max_length=24)
    model = model_of(task).eval()
    scored = task.problem.scored["test"][2]
    assert len(scored.windows.owners) > len(scored.questions)
    with torch.inference_mode():
        predicted = task.problem.predict(model, scored, 2)
        monkeypatch.setattr("mtlbench.tasks.xtreme.answers.problem.SCORED_WINDOWS", 3)
        assert task.problem.predict(model, scored, 2) == predicted
        files = task.predictions(model, "test", [2])
        found = task.evaluate(model, "test", [2])["es"]
    assert predicted == plain_answers(task.problem, model, scored)
    assert len(set(predicted)) > 10
    assert list(files) == ["xquad/test-es.json"]
    names = [asked.name for asked in scored.questions]
    assert json.loads(files["xquad/test-es.json"]) == dict(zip(names, predicted, strict=True))
    assert found["exact_match"].value == pytest.approx(100 * np.mean([text == "q" for text in predicted]))


def test_the_answers_of_all_languages_are_learnt_by_one_head(root, checkpoint):
    task = build(root, encoder=str(checkpoint), steps_per_epoch=40)
    model = model_of(task)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    backward = Backward(mtlbench.method("gradvac"), task.shared(model), objectives=3)
    for batch in steps(task):
        optimizer.zero_grad()
        backward(task.losses(model, batch, range(3)))
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        found = task.evaluate(model, "test", range(3))
    assert min(by_metric["exact_match"].value for by_metric in found.values()) > 95


def test_zero_shot_trains_english_alone_and_selects_by_english_alone(root, checkpoint):
    squad(root, "train", 30, "t-")
    squad(root, "dev", 70, "dev-")
    task = build(root, "xquad-zeroshot", encoder=str(checkpoint))
    assert list(task.present(next(steps(task)))) == [1]
    assert task.groups == {"unseen": [0, 2]}
    with torch.inference_mode():
        found = task.evaluate(model_of(task).eval(), "val", range(3))
    assert found["de"] == found["en"] == found["es"]
    assert found["en"]["f1"].count == 20
    assert task.facts["questions"]["de"] == {"val": 20, "test": 120}


def test_the_digest_of_the_data_changes_with_context_question_and_answer(root):
    def digest():
        return build(root, pretrain_steps=0, vocabulary=300).data_digest

    path = root / "xquad" / "xquad.de.json"
    before = digest()
    assert digest() == before
    content = json.loads(path.read_text())
    found = {before}
    for key, old, new in (("context", "d", "D"), ("question", "a", "A")):
        changed = json.loads(path.read_text())
        (one, *_) = changed["data"][0]["paragraphs"]
        holder = one if key == "context" else one["qas"][0]
        holder[key] = holder[key].replace(old, new, 1)
        path.write_text(json.dumps(changed))
        assert reader.read(path)
        found.add(digest())
        path.write_text(json.dumps(content))
    assert len(found) == 3


WORDS = """
method=gradvac method.beta=0.5 granularity=all_layer task=xtreme/xquad protocol.epochs=2 protocol.batch_size=8
protocol.options.max_length=32 protocol.options.answers.stride=8 protocol.options.answers.question_length=8
protocol.options.steps_per_epoch=4
"""


@pytest.mark.parametrize("make", [bert, xlmr])
def test_a_saved_encoder_is_fine_tuned_the_same_again_and_after_an_interruption(root, tmp_path, make, train):
    words = f"{WORDS} encoder={make(tmp_path / 'checkpoint')} heads=per_language"
    whole = train(words, tmp_path / "whole", data_root=root)
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", data_root=root, should_stop=lambda: next(asked) == 6)
    resumed = train(words, tmp_path / "cut", data_root=root)
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics
    assert whole.facts["sources"]["de"]["test"] == "1/4 of XQuAD"


@pytest.mark.parametrize(
    ("option", "value"), [("stride", 0), ("question_length", 0), ("n_best", 0), ("length", 0), ("strides", 1)]
)
def test_an_option_out_of_range_is_refused_by_name(root, option, value):
    with pytest.raises(UsageError, match=f"options.answers.{option}"):
        build(root, answers={**SMALL["answers"], option: value})
