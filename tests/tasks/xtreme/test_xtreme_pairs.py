"""Pairs of sentences as a problem: subwords, heads, losses, scores, and whole runs on checkpoints of both classes."""

import itertools

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional
from transformers import (
    BertForSequenceClassification,
    XLMRobertaForSequenceClassification,
    XLMRobertaTokenizer,
)
from xtreme_samples import LETTERS, bert, edit_config, xlmr

import mtlbench
from mtlbench.catalogue.variants import resolve
from mtlbench.engine.backward import Backward
from mtlbench.errors import UsageError
from mtlbench.running.training import Interrupted
from mtlbench.tasks.xtreme import XTREME, encoders
from mtlbench.tasks.xtreme.model import TextClassifier
from mtlbench.tasks.xtreme.pairs.encoding import encoded, longest_first, padded
from mtlbench.tasks.xtreme.pairs.labels import LABELS, Pair
from mtlbench.tasks.xtreme.pairs.scoring import baselines, metrics, scores

CPU = torch.device("cpu")
XNLI = LABELS["xnli"]
PAIRS = [
    Pair("a dog runs", "some animal", "entailment"),
    Pair("abc " * 30, "x", "neutral"),
    Pair("y", "no " * 30, "contradiction"),
    Pair("left and right " * 5, "both are too long " * 5, "neutral"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def words(number, language):
    """A pair whose second text says what its label is; three of a kind share the first text."""
    label = XNLI[number % 3]
    premise, own = (f"{LETTERS[n // 20]}{LETTERS[n % 20]}" for n in (number // 3, number))
    said = {"contradiction": "no", "entailment": "so", "neutral": "my"}[label]
    return f"{language} {premise}\t{said} {language}{own}\t{label}"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data" / "xnli"
    folder.mkdir(parents=True)
    for language in ("de", "en", "fr"):
        (folder / f"dev-{language}.tsv").write_text("".join(f"{words(n, language)}\n" for n in range(315)))
        (folder / f"test-{language}.tsv").write_text("a\tb\n")
    return folder.parent


SMALL = {"max_length": 16, "vocabulary": 200, "pretrain_steps": 2, "steps_per_epoch": None, "high_resource": 50}


def build(root, variant="xnli", batch_size=8, **changed):
    variant, protocol = resolve("xtreme", variant, None, {"batch_size": batch_size})
    protocol = protocol.model_copy(update={"options": {**protocol.options, **SMALL, **changed}})
    return XTREME(variant, protocol, root, CPU)


def model_of(task):
    torch.manual_seed(0)
    return task.model()


def spread_out(model):
    """The model with larger weights, so that it tells texts apart before training."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    return model


# --- subwords -------------------------------------------------------------------------------------------------


def test_the_longer_text_is_cut_first_one_subword_at_a_time_and_the_second_of_two_equals():
    for first, second, room in itertools.product(range(9), range(9), range(2, 12)):
        left, right = list(range(first)), list(range(second))
        while len(left) + len(right) > room:
            (left if len(left) > len(right) else right).pop()
        assert longest_first(list(range(first)), list(range(second)), room) == (left, right)


@pytest.mark.parametrize("make", [bert, xlmr])
def test_both_texts_stand_between_special_subwords_as_the_class_was_pre_trained_with(tmp_path, make):
    encoder = encoders.load(str(make(tmp_path)), 16)
    tokens = encoder.tokenizer.convert_ids_to_tokens
    rows = encoded([Pair("ab", "c d", "neutral"), Pair("e", "f", "entailment")], XNLI, encoder, 16)
    batch = padded(rows, np.array([1, 0]), encoder, CPU)
    short, long = (tokens(ids[mask].tolist()) for ids, mask in zip(batch.ids, batch.mask, strict=True))
    if make is bert:
        assert short == ["[CLS]", "e", "[SEP]", "f", "[SEP]"]
        assert long == ["[CLS]", "a", "##b", "[SEP]", "c", "d", "[SEP]"]
        assert batch.kinds.tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    else:
        assert [t for t in short if t != "▁"] == ["<s>", "e", "</s>", "</s>", "f", "</s>"]
        assert [t for t in long if t != "▁"] == ["<s>", "a", "b", "</s>", "</s>", "c", "d", "</s>"]
        assert batch.kinds is None
    assert batch.places.tolist() == [0, batch.ids.shape[1]]
    assert [XNLI[k] for k in batch.labels] == ["entailment", "neutral"]


def test_a_bert_without_types_of_tokens_gets_none(tmp_path):
    encoder = encoders.load(str(bert(tmp_path, type_vocab_size=1)), 16)
    assert padded(encoded(PAIRS, XNLI, encoder, 16), np.arange(4), encoder, CPU).kinds is None


def test_tiny_and_xlm_rs_own_tokeniser_join_pairs_in_the_same_way(root, tmp_path):
    tiny = build(root).problem.encoder
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    xlmr_ = XLMRobertaTokenizer(vocab=[*pieces, *((x, -3.0) for x in "abcdefghijklmnopqrstuvwxyz"), ("<mask>", 0.0)])
    for tokenizer, separators in ((tiny.tokenizer, 1), (xlmr_, 2)):
        encoder = encoders.Encoder(tmp_path, "", tokenizer, "", separators, kinds=separators == 1)
        pairs = [Pair("ea ho", "so en", "neutral"), Pair("e", "no", "neutral")]
        rows = encoded(pairs, XNLI, encoder, 64)
        for n, pair in enumerate(pairs):
            theirs = tokenizer(pair.first, pair.second, return_token_type_ids=True)
            batch = padded(rows, np.array([n]), encoder, CPU)
            assert batch.ids[0].tolist() == theirs["input_ids"]
            if separators == 1:
                assert batch.kinds[0].tolist() == theirs["token_type_ids"]


@pytest.mark.parametrize(("make", "special"), [(bert, 3), (xlmr, 4)])
def test_no_pair_is_longer_than_its_window_and_both_texts_keep_their_beginnings(tmp_path, make, special):
    encoder = encoders.load(str(make(tmp_path)), 16)
    rows = encoded(PAIRS, XNLI, encoder, 16)
    assert rows.lengths[1:].tolist() == [16] * 3
    for n, pair in enumerate(PAIRS):
        ids = rows.ids[rows.offsets[n] : rows.offsets[n + 1]].tolist()
        first, second = encoder.cut([pair.first, pair.second])
        kept = int(rows.seconds[n]) - special + 1, len(ids) - int(rows.seconds[n]) - 1
        assert (ids[1 : kept[0] + 1], ids[-kept[1] - 1 : -1]) == (first[: kept[0]], second[: kept[1]])
    assert rows.seconds[3] == 16 - (16 - special) // 2 - 1


# --- heads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "theirs"), [(bert, BertForSequenceClassification), (xlmr, XLMRobertaForSequenceClassification)]
)
def test_logits_are_those_of_the_class_for_classification_with_the_checkpoints_pooler(tmp_path, make, theirs):
    encoder = encoders.load(str(make(tmp_path)), 16)
    torch.manual_seed(0)
    model = TextClassifier(encoder.model(pooler=True), 3, 2).eval()
    reference = theirs.from_pretrained(tmp_path, num_labels=3).eval()
    if make is bert:
        saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
        assert torch.equal(model.encoder.pooler.dense.weight, saved["pooler.dense.weight"])
        copies = {1: reference.classifier}
    else:
        copies = {1: reference.classifier.dense, 4: reference.classifier.out_proj}
    for place, layer in copies.items():
        model.heads[1][place].load_state_dict(layer.state_dict())
    batch = padded(encoded(PAIRS, XNLI, encoder, 16), np.arange(4), encoder, CPU)
    with torch.inference_mode():
        kinds = {} if batch.kinds is None else {"token_type_ids": batch.kinds}
        expected = reference(input_ids=batch.ids, attention_mask=batch.mask, **kinds).logits
        found, other = model(batch, 1), model(batch, 0)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(other, expected)
    dropped = [m.p for m in model.heads[0] if isinstance(m, torch.nn.Dropout)]
    assert dropped == [0.1] * (1 if make is bert else 2)


def test_a_checkpoint_without_a_pooler_gets_a_new_one_which_the_seed_draws(tmp_path):
    path = bert(tmp_path, initializer_range=0.3, hidden_size=64) / "model.safetensors"
    saved = {k: v for k, v in safetensors.torch.load_file(path).items() if not k.startswith("pooler.")}
    safetensors.torch.save_file(saved, path, {"format": "pt"})
    encoder = encoders.load(str(tmp_path), 16)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(encoder.model(pooler=True).pooler.dense)
    assert torch.equal(drawn[0].weight, drawn[1].weight)
    assert not torch.equal(drawn[0].weight, drawn[2].weight)
    assert drawn[0].weight.std().item() == pytest.approx(0.3, rel=0.1)
    assert not drawn[0].bias.any()


def test_the_dropout_of_the_classifier_is_that_of_the_checkpoint(tmp_path):
    edit_config(bert(tmp_path), classifier_dropout=0.25)
    model = TextClassifier(encoders.load(str(tmp_path), 16).model(pooler=True), 3, 1)
    assert model.heads[0][0].p == 0.25


@pytest.mark.parametrize(("make", "own"), [(bert, {"1"}), (xlmr, {"1", "4"})])
def test_the_pooler_is_shared_and_a_head_for_each_language_is_not(root, tmp_path, make, own):
    folder = str(make(tmp_path / "checkpoint"))
    task = build(root, encoder=folder, heads="per_language")
    model = model_of(task)
    names = {name for name, _ in model.named_parameters()} - {name for name, _ in task.shared(model)}
    assert names == {f"heads.{k}.{layer}.{kind}" for k in range(3) for layer in own for kind in ("weight", "bias")}
    assert any(name.startswith("encoder.pooler.") for name, _ in task.shared(model)) == (make is bert)
    one = build(root, encoder=folder)
    model = model_of(one)
    assert [name for name, _ in one.shared(model)] == [name for name, _ in model.named_parameters()]


# --- losses and scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bert, xlmr])
def test_losses_and_predictions_are_those_of_each_pair_alone(root, tmp_path, make, monkeypatch):
    task = build(root, encoder=str(make(tmp_path / "checkpoint")))
    problem, model = task.problem, spread_out(model_of(task)).eval()
    batch = next(task.batches(0, torch.Generator().manual_seed(0)))
    assert list(task.present(batch)) == [0, 1, 2]
    with torch.inference_mode():
        (loss,) = task.losses(model, batch, [2])
        alone = []
        for ids, mask, label, kinds in zip(
            batch[2].ids, batch[2].mask, batch[2].labels, batch[2].kinds if make is bert else [None] * 8, strict=True
        ):
            one = batch[2]._replace(
                ids=ids[mask][None], mask=mask[mask][None], kinds=None if kinds is None else kinds[mask][None]
            )
            alone.append(functional.cross_entropy(model(one, 2), label[None]))
        assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)
        rows = problem.rows["test"]["de"]
        predicted = problem.predict(model, rows, 0)
        monkeypatch.setattr("mtlbench.tasks.xtreme.pairs.problem.SCORED_PAIRS", 1)
        assert problem.predict(model, rows, 0) == predicted
        assert task.evaluate(model, "test", [0])["de"] == scores(problem.kept["test"]["de"], predicted)
        assert problem.predictions(model, "test", 0) == "\n".join(predicted) + "\n"
    assert len(set(predicted)) > 1


def test_accuracy_is_the_share_of_right_labels_and_premises_are_drawn_as_one():
    pairs = [Pair("p", str(n), "1") for n in range(3)] + [Pair("q", "x", "0")]
    found = scores(pairs, ["1", "1", "0", "0"])["accuracy"]
    assert (found.value, found.count) == (75.0, 2)
    assert scores(pairs, ["0", "0", "0", "1"])["accuracy"].value == 0
    draw = np.random.default_rng(0)
    wrong = draw.random(400) < 0.5
    pairs = [Pair(str(n), str(k), "1") for n in range(400) for k in range(3)]
    found = scores(pairs, ["0" if wrong[int(pair.first)] else "1" for pair in pairs])["accuracy"]
    again = [100 * (1 - wrong[draw.integers(0, 400, 400)].mean()) for _ in range(500)]
    assert found.error == pytest.approx(np.std(again), rel=0.15)


def test_the_baseline_is_the_most_frequent_label_of_training():
    train = [Pair("a", "b", label) for label in "0110101"]
    assert baselines(train, [Pair("c", "d", label) for label in "1000"]) == {"label": {"accuracy": 25.0}}
    (accuracy,) = metrics("scored on 1/4 of dev")
    assert (accuracy.name, accuracy.unit, accuracy.higher_is_better) == ("accuracy", "%", True)
    assert accuracy.signature == "scored on 1/4 of dev"


def test_facts_and_the_metrics_definition_tell_of_cuts_baselines_and_pairs(root, tmp_path):
    task = build(root, encoder=str(bert(tmp_path / "bert")))
    assert [(o.name, [m.name for m in o.metrics]) for o in task.objectives] == [
        (language, ["accuracy"]) for language in ("de", "en", "fr")
    ]
    assert task.objectives[0].metrics[0].signature == "scored on 1/4 of dev"
    facts = task.facts
    assert sum(facts["pairs"]["en"].values()) <= 315
    assert facts["pairs"]["en"] == facts["pairs"]["de"]
    assert facts["baselines"]["fr"]["label"]["accuracy"] == pytest.approx(100 / 3)
    assert facts["unknown_subwords"]["en"] == {"train": 0, "val": 0, "test": 0}
    assert "train is 1/2 of dev: de, en, fr" in task.notices


def test_the_digest_of_the_data_changes_with_texts_and_labels(root, tmp_path):
    folder = str(bert(tmp_path / "bert"))
    digests = {build(root, encoder=folder).data_digest for _ in range(2)}
    path = root / "xnli" / "dev-fr.tsv"
    for old, new in (("neutral", "entailment"), ("my fr", "me fr")):
        path.write_text(path.read_text().replace(old, new, 1))
        digests.add(build(root, encoder=folder).data_digest)
    assert len(digests) == 3


@pytest.mark.parametrize("make", [bert, xlmr])
def test_what_the_second_text_says_is_learnt_in_all_languages_by_one_head(root, tmp_path, make):
    folder = make(tmp_path / "checkpoint")
    edit_config(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    task = build(root, encoder=str(folder), steps_per_epoch=100)
    model = spread_out(model_of(task))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    backward = Backward(mtlbench.method("gradvac"), task.shared(model), objectives=3)
    for batch in task.batches(0, torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        backward(task.losses(model, batch, range(3)))
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        found = task.evaluate(model, "test", range(3))
    assert min(by_metric["accuracy"].value for by_metric in found.values()) > 95


# --- zero-shot and whole runs ---------------------------------------------------------------------------------


def test_zero_shot_trains_english_alone_and_scores_rows_that_it_has_not_seen(root, tmp_path):
    task = build(root, "xnli-zeroshot", encoder=str(bert(tmp_path / "bert")))
    assert list(task.present(next(task.batches(0, torch.Generator().manual_seed(0))))) == [1]
    assert task.groups == {"unseen": [0, 2]}
    kept = task.problem.kept
    seen = {pair.origin for split in ("train", "val") for pair in kept[split]["en"]}
    assert seen.isdisjoint(pair.origin for pair in kept["test"]["de"])
    with torch.inference_mode():
        found = task.evaluate(model_of(task).eval(), "val", range(3))
    assert found["de"] == found["en"] == found["fr"]
    with pytest.raises(UsageError, match="heads=per_language is not allowed for xtreme/xnli-zeroshot"):
        build(root, "xnli-zeroshot", encoder=str(tmp_path / "bert"), heads="per_language")


def test_protocols_are_the_official_ones():
    _, official = resolve("xtreme", "pawsx-zeroshot", None, {})
    assert (official.epochs, official.batch_size, official.clip_norm, official.selection) == (5, 32, 1.0, "best-val")
    assert (official.optimizer.name, official.optimizer.lr, official.schedule.name) == ("adamw", 2e-5, "linear")
    assert not official.optimizer.weight_decay
    assert official.options["max_length"] == 128
    _, rlw = resolve("xtreme", "pawsx", "rlw-pairs", {})
    assert (rlw.optimizer.name, rlw.optimizer.lr, rlw.optimizer.weight_decay, rlw.batch_size) == (
        "adam",
        2e-5,
        1e-8,
        32,
    )
    assert rlw.options["languages"] == ["en", "zh", "de", "es"]
    assert {o["encoder"] for o in (official.options, rlw.options)} == {"bert-base-multilingual-cased"}


@pytest.mark.parametrize(("make", "heads"), [(bert, "per_language"), (xlmr, "shared")])
def test_a_saved_encoder_is_fine_tuned_the_same_again_and_after_an_interruption(root, tmp_path, make, heads, train):
    folder = make(tmp_path / "checkpoint")
    text = f"""method=gradvac granularity=all_layer task=xtreme/xnli protocol.epochs=2 protocol.batch_size=8
    protocol.options.max_length=16 protocol.options.steps_per_epoch=4 encoder={folder} heads={heads}"""
    whole = train(text, tmp_path / "whole", data_root=root)
    again = train(text, tmp_path / "again", data_root=root)
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(text, tmp_path / "cut", data_root=root, should_stop=lambda: next(asked) == 6)
    resumed = train(text, tmp_path / "cut", data_root=root)
    assert again.evaluations == resumed.evaluations == whole.evaluations
    assert again.diagnostics == resumed.diagnostics == whole.diagnostics
    assert whole.facts["encoder"]["name"] == str(folder)


def test_a_run_with_tiny_leaves_a_record_with_errors_of_accuracy(root, tmp_path, train):
    text = """method=uniform task=xtreme/xnli protocol.epochs=1 protocol.batch_size=8 protocol.options.max_length=16
    protocol.options.steps_per_epoch=2 protocol.options.vocabulary=200 protocol.options.pretrain_steps=2"""
    record = train(text, tmp_path / "run", data_root=root)
    assert record.facts["encoder"]["name"] == "tiny"
    assert record.facts["baselines"]["de"]["label"]["accuracy"] == pytest.approx(100 / 3)
    found = record.evaluations[-1].sampling["test"]["de"]["accuracy"]
    assert found.count == record.facts["pairs"]["de"]["test"] / 3
    assert found.error is not None
