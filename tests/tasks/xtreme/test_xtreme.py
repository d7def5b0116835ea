"""XTREME as a task: objectives, heads, losses, learning, scores, records, resuming, and what a user gets wrong."""

import itertools

import pytest
import torch
from xtreme_samples import bert, data_root, text, write, xlmr

import mtlbench
from mtlbench.catalogue.variants import resolve, task_data
from mtlbench.cells.request import parse
from mtlbench.engine.backward import Backward
from mtlbench.errors import UsageError
from mtlbench.running.training import Interrupted
from mtlbench.tasks.xtreme import XTREME
from mtlbench.tasks.xtreme.options import options
from mtlbench.tasks.xtreme.problems import VARIANTS
from mtlbench.tasks.xtreme.tagging.scoring import scores

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def root(tmp_path):
    return data_root(tmp_path / "data")


@pytest.fixture
def checkpoint(tmp_path):
    return bert(tmp_path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.2)


SMALL = {"max_length": 16, "vocabulary": 200, "pretrain_steps": 2, "steps_per_epoch": None, "high_resource": 50}


def build(root, variant="udpos", batch_size=8, **changed):
    name = "xtreme" if variant.endswith("zeroshot") else "cpu"
    variant, protocol = resolve("xtreme", variant, name, {"batch_size": batch_size})
    protocol = protocol.model_copy(update={"options": {**protocol.options, **SMALL, **changed}})
    return XTREME(variant, protocol, root, CPU)


def model_of(task):
    torch.manual_seed(0)
    return task.model()


def steps(task, seed=0):
    return task.batches(0, torch.Generator().manual_seed(seed))


def test_every_variant_has_a_protocol_whose_options_the_task_understands():
    data = task_data("xtreme")
    assert set(data.variants) == set(VARIANTS)
    assert next(iter(data.variants)) == "families-pos"
    assert all(options(protocol).max_length >= 64 for protocol in data.protocols.values())


def test_objectives_are_languages_scored_by_f1_first_and_grouped_by_their_training_sentences(root):
    task = build(root)
    assert [o.name for o in task.objectives] == ["de", "en", "fr"]
    assert [m.name for m in task.objectives[0].metrics] == ["f1", "accuracy"]
    assert task.groups == {"hrl": [0, 1], "lrl": [2]}
    assert build(root, high_resource=1000).groups == {}
    assert task.steps_per_epoch == 8  # 60 sentences by 8
    assert build(root, steps_per_epoch=3).steps_per_epoch == 3


def test_facts_tell_of_encoder_sources_sentences_and_baselines(root):
    task = build(root)
    facts = task.facts
    assert facts["encoder"]["name"] == "tiny"
    assert facts["encoder"]["sha256"] == task.problem.encoder.digest
    assert facts["parameters"] == sum(p.numel() for p in task.model().parameters())
    assert facts["sources"] == {"fr": {"train": "2/3 of dev", "val": "1/3 of dev"}}
    assert facts["sentences"]["en"] == {"train": 60, "val": 40, "test": 20}
    assert facts["baselines"]["en"]["tag"]["accuracy"] == pytest.approx(100 / 3)
    assert list(task.notices) == ["train is 2/3 of dev: fr", "val is 1/3 of dev: fr"]
    limited = build(root, sentences={"val": 5, "test": 7})
    assert limited.facts["sentences"]["en"] == {"train": 60, "val": 5, "test": 7}


def test_the_digest_of_the_data_changes_with_text_tags_and_encoder(root, checkpoint):
    digests = {build(root).data_digest, build(root, encoder=str(checkpoint)).data_digest}
    assert build(root).data_digest in digests
    digests.add(build(root, pretrain_steps=0).data_digest)
    write(root / "udpos" / "test-de.tsv", [*text(19, "d"), "da/NOUN ao/NOUN"])
    digests.add(build(root).data_digest)
    assert len(digests) == 4


def test_with_one_head_everything_is_shared_and_with_one_for_each_only_the_encoder(root, checkpoint):
    one, each = (build(root, encoder=str(checkpoint), heads=heads) for heads in ("shared", "per_language"))
    model = model_of(one)
    assert [name for name, _ in one.shared(model)] == [name for name, _ in model.named_parameters()]
    model = model_of(each)
    shared = {name for name, _ in each.shared(model)}
    assert {name for name, _ in model.named_parameters()} - shared == {
        f"heads.{k}.{kind}" for k in range(3) for kind in ("weight", "bias")
    }
    losses = list(each.losses(model, next(steps(each)), [2]))
    losses[0].backward()
    assert [head.weight.grad is not None for head in model.heads] == [False, False, True]


def test_a_loss_is_the_mean_over_the_words_of_its_languages_batch(root, checkpoint):
    task = build(root, encoder=str(checkpoint))
    model, batch = model_of(task).eval(), next(steps(task))
    assert list(task.present(batch)) == [0, 1, 2]
    for k, loss in zip((2, 0), task.losses(model, batch, [2, 0]), strict=True):
        found = []
        for ids, mask, label_row in zip(batch[k].ids, batch[k].mask, _label_rows(batch[k]), strict=True):
            hidden = model.encoder(ids[mask][None]).last_hidden_state[0]
            for place, label in label_row:
                found.append(-model.heads[0](hidden[place]).log_softmax(0)[label])
        assert loss.item() == pytest.approx(torch.stack(found).mean().item(), rel=1e-5)


def _label_rows(batch):
    width = batch.ids.shape[1]
    rows = [[] for _ in batch.ids]
    for place, label in zip(batch.places.tolist(), batch.labels.tolist(), strict=True):
        rows[place // width].append((place % width, label))
    return rows


@pytest.mark.parametrize("make", [bert, xlmr])
def test_predictions_stand_at_their_words_whatever_the_batching_and_the_windows(root, tmp_path, make, monkeypatch):
    folder = str(make(tmp_path / "checkpoint"))
    long = " ".join(text(6, "d")).replace(" ./PUNCT", "")
    write(root / "udpos" / "test-de.tsv", [*text(9, "d"), long])
    task = build(root, encoder=folder, max_length=12)
    model = model_of(task).eval()
    scored = task.problem.scored["test"][0]
    assert len(scored.windows.lengths) > len(scored.gold)
    with torch.inference_mode():
        predicted = task.problem.predict(model, scored, 0)
        monkeypatch.setattr("mtlbench.tasks.xtreme.tagging.problem.SCORED_WINDOWS", 2)
        assert task.problem.predict(model, scored, 0) == predicted
        found = task.evaluate(model, "test", [0, 2])
    assert [len(row) for row in predicted] == [len(row) for row in scored.gold]
    assert found.keys() == {"de", "fr"}
    assert found["de"] == scores("pos", scored.gold, predicted)


def test_the_tags_of_all_languages_are_learnt_by_one_head(root, checkpoint):
    task = build(root, encoder=str(checkpoint), steps_per_epoch=60)
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
    assert min(by_metric["accuracy"].value for by_metric in found.values()) > 95


def test_a_step_of_one_language_has_as_many_rows_as_a_step_of_all(root, checkpoint):
    task = build(root, encoder=str(checkpoint), batch_size=4, steps_per_epoch=5)
    assert {len(part.ids) for part in next(steps(task)).values()} == {4}
    for k in range(3):
        found = list(task.batches_of(k, 0, torch.Generator().manual_seed(0)))
        assert [task.present(batch) for batch in found] == [[k]] * 5
        assert max(len(batch[k].ids) for batch in found) == 12
    zero_shot = build(root, "udpos-zeroshot", encoder=str(checkpoint), batch_size=4, steps_per_epoch=5)
    assert [zero_shot.present(batch) for batch in zero_shot.batches_of(0, 0, torch.Generator())] == [[]] * 5


# --- zero-shot ------------------------------------------------------------------------------------------------


def test_zero_shot_trains_english_alone_and_selects_by_english_alone(root, checkpoint):
    task = build(root, "udpos-zeroshot", encoder=str(checkpoint))
    assert [o.name for o in task.objectives] == ["de", "en", "fr"]
    batch = next(steps(task))
    assert list(task.present(batch)) == [1]
    assert task.groups == {"unseen": [0, 2]}
    with torch.inference_mode():
        found = task.evaluate(model_of(task).eval(), "val", range(3))
    assert found["de"] == found["en"] == found["fr"]
    assert set(task.facts["sentences"]["de"]) == {"val", "test"}
    with pytest.raises(UsageError, match="heads=per_language is not allowed for xtreme/udpos-zeroshot"):
        build(root, "udpos-zeroshot", encoder=str(checkpoint), heads="per_language")


# --- whole runs -----------------------------------------------------------------------------------------------

WORDS = """
method=gradvac method.beta=0.5 granularity=all_layer task=xtreme/udpos protocol.epochs=2 protocol.batch_size=8
protocol.options.max_length=16 protocol.options.steps_per_epoch=4 protocol.options.high_resource=50
"""


@pytest.mark.parametrize("make", [bert, xlmr])
def test_a_saved_encoder_is_fine_tuned_the_same_again_and_after_an_interruption(root, tmp_path, make, train):
    folder = make(tmp_path / "checkpoint")
    words = f"{WORDS} encoder={folder} heads=per_language"
    whole = train(words, tmp_path / "whole", data_root=root)
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", data_root=root, should_stop=lambda: next(asked) == 6)
    resumed = train(words, tmp_path / "cut", data_root=root)
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics
    assert whole.groups == {"hrl": ("de", "en"), "lrl": ("fr",)}
    assert whole.facts["encoder"]["name"] == str(folder)
    assert {"transformers", "tokenizers", "seqeval"} <= whole.provenance.packages.keys()


def test_every_method_and_seed_starts_from_the_same_pre_trained_encoder(root, train, tmp_path):
    words = WORDS.replace("method=gradvac method.beta=0.5", "protocol.options.pretrain_steps=3")
    words += " protocol.options.vocabulary=200"
    cells = (("uniform", 0), ("pcgrad", 3))
    found = [train(f"{words} method={m} seed={seed}", tmp_path / m, data_root=root) for m, seed in cells]
    assert found[0].facts["encoder"] == found[1].facts["encoder"]
    assert found[0].provenance.data_digest == found[1].provenance.data_digest


def test_a_lone_method_is_trained_on_the_artificial_languages_beside_uniform():
    request = parse(["method=gradvac", "task=xtreme"])
    found = [(cell.method, cell.variant) for cell in request.cells]
    assert found == [("gradvac", "families-pos"), ("uniform", "families-pos")]


def test_the_words_of_the_task_are_its_protocols_options():
    (cell,) = parse(
        ["method=uniform", "task=xtreme/udpos", "languages=[en,zh]", "encoder=/a/b", "heads=per_language"]
    ).cells
    chosen = options(cell.protocol)
    assert (chosen.languages, chosen.encoder, chosen.heads) == (("en", "zh"), "/a/b", "per_language")


@pytest.mark.parametrize(
    ("option", "value"),
    [("heads", "two"), ("max_length", 4), ("pretrain_steps", -1), ("sentences", {"train": 3}), ("temperature", 0)],
)
def test_an_option_out_of_range_is_refused_by_name(root, option, value):
    with pytest.raises(UsageError, match=f"options.{option}"):
        build(root, **{option: value})


def test_an_unknown_variant_is_refused_with_the_nearest():
    _, protocol = resolve("xtreme", "udpos", None, {})
    with pytest.raises(UsageError, match="Did you mean 'udpos'"):
        XTREME("udpo", protocol, None, CPU)


def test_the_command_tells_how_far_pre_training_is_and_refuses_a_damaged_file_before_anything_is_written(
    command, root, tmp_path
):
    words = f"run method=uniform task=xtreme/udpos data_root={root} protocol.epochs=1 protocol.batch_size=8"
    words += " protocol.options.steps_per_epoch=1 protocol.options.pretrain_steps=2 protocol.options.vocabulary=200"
    words += " protocol.options.max_length=16"
    ended = command(words, MTLBENCH_CACHE=str(tmp_path / "cache"))
    assert ended.code == 0, ended.output
    assert "preparing pre-training the encoder by masked language modelling: 2 steps" in ended.output
    assert "train is 2/3 of dev: fr" in ended.output
    (root / "udpos" / "train-de.tsv").write_text("the\tDET\ndog NOUN\n")
    ended = command(f"{words} results=other")
    assert ended.code == 2
    assert "train-de.tsv is not usable: line 2" in ended.output
    assert not (tmp_path / "other").exists()
