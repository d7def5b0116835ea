"""Multilingual NMT: objectives, gradients, learning, sampled steps, whole runs, and what a user gets wrong."""

import gzip
import itertools
from dataclasses import replace

import pytest
import torch

import mtlbench
from mtlbench.catalogue.variants import resolve, task_data
from mtlbench.cells.request import parse
from mtlbench.engine.backward import Backward
from mtlbench.engine.grouping import GRANULARITIES
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.running.training import Interrupted
from mtlbench.tables.leaderboard import report
from mtlbench.tables.options import TableOptions
from mtlbench.tasks import nmt
from mtlbench.tasks.nmt import NMT, corpora, subwords
from mtlbench.tasks.nmt.corpora import multi30k
from mtlbench.tasks.nmt.corpus import REQUIRED, Bitext, Corpus
from mtlbench.tasks.nmt.model import SIZES, Size, Transformer
from mtlbench.tasks.nmt.objectives import digest

CPU = torch.device("cpu")
WORDS = [f"{a}{b}{c}" for a in "kmpt" for b in "aeiou" for c in "lnrs"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def text(count, shift, start=0):
    """Sentences of three to six words; the foreign ones are word for word the central ones, other words."""
    foreign, central = [], []
    for n in range(start, start + count):
        drawn = [(n * 7 + i * (3 + n % 5)) % len(WORDS) for i in range(3 + n % 4)]
        central.append(" ".join(WORDS[w] for w in drawn))
        foreign.append(" ".join(WORDS[(w + shift) % len(WORDS)] + "u" for w in drawn))
    return Bitext(foreign, central)


def small_corpus(sizes=(300, 300, 40)):
    shifts = {"aa": 5, "bb": 15, "cc": 25}
    train = {code: text(size, shift) for (code, shift), size in zip(shifts.items(), sizes, strict=True)}
    val, test = ({code: text(12, shift, start) for code, shift in shifts.items()} for start in (1000, 1500))
    extra = {"aa": text(6, 5, 2000)}
    return Corpus({"train": train, "val": val, "test": test, "news": extra}, counts={"slots left empty": 3})


@pytest.fixture
def small(monkeypatch):
    """Every variant reads a small corpus of three languages, the third one with few pairs."""
    corpus = small_corpus()
    monkeypatch.setattr(corpora, "load", lambda variant, root, languages: corpus)
    return corpus


def build(**options):
    settings = {"vocabulary": 400, "high_resource": 100, "dropout": 0.0, "max_length": 40} | options
    batch = settings.pop("batch_size", 600)
    overrides = {f"options.{key}": value for key, value in settings.items()}
    variant, protocol = resolve("nmt", "multi30k", "cpu", {**overrides, "batch_size": batch})
    return NMT(variant, protocol, None, CPU)


def steps(task, seed=0):
    return task.batches(0, torch.Generator().manual_seed(seed))


def first_batch(task):
    return next(steps(task))


def tiny_model(task, **shape):
    torch.manual_seed(0)
    size = Size(**{"layers": 2, "width": 16, "inner": 32, "heads": 2, **shape})
    return Transformer(task.data.subwords.size, size, 0.0, task.data.symbols.pad)


def test_objectives_are_named_by_direction_and_scored_by_bleu_first(small):
    assert [o.name for o in build().objectives] == ["aa-en", "bb-en", "cc-en"]
    assert [o.name for o in build(direction="en2x").objectives] == ["en-aa", "en-bb", "en-cc"]
    both = build(direction="both")
    assert [o.name for o in both.objectives] == ["aa-en", "bb-en", "cc-en", "en-aa", "en-bb", "en-cc"]
    assert [m.name for m in both.objectives[0].metrics] == ["bleu", "chrf", "nll"]
    assert "tok:13a" in both.objectives[0].metrics[0].signature
    assert "nc:6" in both.objectives[0].metrics[1].signature


def test_sources_name_their_target_language_where_there_is_a_choice(small):
    into, out, both = build(), build(direction="en2x"), build(direction="both")
    assert all(e.tag is None for e in into.data.train.values())
    assert [e.tag for e in out.data.train.values()] == [out.data.subwords.tag(c) for c in ("aa", "bb", "cc")]
    source = first_batch(both)[0].source
    assert (source[:, 0] == both.data.subwords.tag("en")).all()


def test_tokenisers_are_those_of_the_language_that_is_translated_into(monkeypatch):
    chinese = ["猫坐在垫子上看着窗外的鸟"] * 2
    held = {"zh": Bitext(chinese, chinese)}
    corpus = Corpus({"train": {"zh": text(60, 5)}, "val": held, "test": held})
    monkeypatch.setattr(corpora, "load", lambda *_: corpus)
    task = build(direction="both")
    signatures = {o.name: o.metrics[0].signature.split("|")[3] for o in task.objectives}
    assert signatures == {"zh-en": "tok:13a", "en-zh": "tok:zh"}
    # Characters count one by one in Chinese alone: elsewhere, a sentence without spaces is a single word.
    monkeypatch.setattr(task, "translate", lambda *_: [sentence[:-1] for sentence in chinese] * 2)
    with torch.inference_mode():
        scores = task.evaluate(tiny_model(task).eval(), "test", range(2))
    assert scores["en-zh"]["bleu"] > 50
    assert scores["zh-en"]["bleu"] == 0


def test_subwords_are_learnt_at_the_temperature_and_from_the_sentences_of_the_protocol(small):
    settings = [(5.0, 100_000), (1.0, 100_000), (5.0, 300)]
    found = [build(temperature=t, subword_sentences=n).facts["subwords_digest"] for t, n in settings]
    assert found == [subwords.train(small, small.languages, 400, t, n, ["en"]).digest for t, n in settings]
    assert len(set(found)) == 3


def test_groups_are_the_languages_with_many_and_with_few_pairs(small):
    assert build().groups == build(high_resource=300).groups == {"hrl": [0, 1], "lrl": [2]}
    assert build(high_resource=301).groups == {}
    assert build(high_resource=1).groups == {}
    assert build(direction="both").groups == {"hrl": [0, 1, 3, 4], "lrl": [2, 5]}


def test_facts_tell_sizes_repairs_and_sentences_left_out(small):
    task = build(max_length=9)
    assert task.facts["parameters"] == sum(p.numel() for p in task.model().parameters())
    assert task.facts["corpus_repairs"] == {"slots left empty": 3}
    left, kept = task.facts["longer_than_max_length"], task.facts["training_pairs"]
    assert sum(left.values()) > 0
    assert {name: left.get(name, 0) + n for name, n in kept.items()} == {"aa-en": 300, "bb-en": 300, "cc-en": 40}
    longest = max(int(e.lengths.max()) for e in task.data.train.values())
    assert longest <= 9


@pytest.mark.parametrize("split", ["train", "val", "test", "news"])
def test_every_sentence_of_every_split_is_in_the_digest_of_the_data(split):
    corpus = small_corpus()
    digests = [digest(corpus), digest(replace(corpus, centre="dd"))]
    for side in corpus.splits[split]["aa"]:
        side[-1] += "x"
        digests.append(digest(corpus))
    assert len(set(digests)) == 4
    assert digest(small_corpus()) == digests[0]


def test_limited_splits_are_spread_evenly_over_the_whole(small):
    task = build(sentences={"test": 4})
    references = task.data.splits["test"].references
    assert references[0] == [small.splits["test"]["aa"].central[i] for i in (0, 3, 6, 9)]


def test_a_direction_says_which_side_is_translated_and_which_is_the_reference(small):
    task = build(direction="both")
    foreign, central = small.splits["test"]["bb"]
    found = task.data.splits["test"]
    into, out = found.examples[1], found.examples[4]
    sides = (into.source, into.target, out.source, out.target)
    assert [task.data.subwords.decode(side.lists()) for side in sides] == [foreign, central, central, foreign]
    assert (found.references[1], found.references[4]) == (central, foreign)


@pytest.mark.parametrize("sampled", [None, 2])
def test_batches_depend_on_the_epochs_generator_alone(small, sampled):
    task = build(steps_per_epoch=3, objectives_per_step=sampled)
    first, same, other = ([{k: p.source.tolist() for k, p in b.items()} for b in steps(task, s)] for s in (1, 1, 2))
    assert len(first) == 3
    assert first == same
    assert first != other


@pytest.mark.parametrize("sampled", [None, 2])
@pytest.mark.parametrize("direction", ["x2en", "en2x"])
def test_no_step_holds_more_positions_than_its_budget_and_most_use_it(small, direction, sampled):
    task = build(batch_size=900, steps_per_epoch=20, direction=direction, objectives_per_step=sampled)
    held = [[max(p.source.numel(), p.target_out.numel()) for p in batch.values()] for batch in steps(task)]
    assert all(sum(positions) <= 900 for positions in held)
    assert sum(map(sum, held)) > 0.7 * 20 * 900


class Sum(mtlbench.GramianWeighting):
    """All weights one: what the engine makes of the rows is their sum."""

    def weigh(self, gramian, losses):
        return torch.ones(gramian.shape[:2], dtype=torch.float64)


def mean_loss(task, model, batch):
    """The mean loss per subword of one objective's batch, with label smoothing of 0.1."""
    source, target_in, target_out = batch
    there = target_out != task.data.symbols.pad
    logits = model.logits(model(source, target_in))[there]
    return torch.nn.functional.cross_entropy(logits, target_out[there], label_smoothing=0.1)


@pytest.mark.parametrize(
    ("sampled", "temperature", "budgets", "weights"),
    [
        (None, 1.0, [468, 468, 62], [1.40625, 1.40625, 0.1875]),
        (3, 1.0, [468, 468, 62], [1.40625, 1.40625, 0.1875]),
        (None, 1e9, [333, 333, 333], [1, 1, 1]),
        (2, 1.0, [500, 500, 500], [1, 1, 1]),
    ],
)
def test_budget_and_weight_follow_the_share_of_an_objective_unless_objectives_are_sampled(
    small, sampled, temperature, budgets, weights
):
    task = build(objectives_per_step=sampled, temperature=temperature, batch_size=1000, label_smoothing=0.1)
    assert task.data.portions.budgets == budgets
    model = tiny_model(task).double()
    for batch in itertools.islice(steps(task), 3):
        present = list(task.present(batch))
        assert len(present) == (sampled or 3)
        found = [loss.item() for loss in task.losses(model, batch, present)]
        assert found == pytest.approx([weights[k] * mean_loss(task, model, batch[k]).item() for k in present])


@pytest.mark.parametrize("sampled", [None, 2])
def test_a_step_of_one_objective_has_the_whole_budget_and_the_plain_mean_as_its_loss(small, sampled):
    task = build(batch_size=900, steps_per_epoch=20, objectives_per_step=sampled, label_smoothing=0.1, temperature=1.0)
    model = tiny_model(task).double()
    for k in range(2):
        found = list(task.batches_of(k, 0, torch.Generator().manual_seed(0)))
        assert [task.present(batch) for batch in found] == [[k]] * 20
        positions = [max(batch[k].source.numel(), batch[k].target_out.numel()) for batch in found]
        assert max(positions) <= 900
        assert sum(positions) > 0.85 * 20 * 900 > 1.5 * 20 * task.data.portions.budgets[k]
        (loss,) = task.losses(model, found[0], [k])
        assert loss.item() == pytest.approx(mean_loss(task, model, found[0][k]).item())
    (rare,) = {batch[2].source.shape[0] for batch in task.batches_of(2, 0, torch.Generator().manual_seed(0))}
    assert rare == task.data.train[2].size  # all of its pairs take less


def test_one_language_alone_has_the_same_steps_under_either_budget(monkeypatch):
    splits = {"train": {"aa": text(300, 5)}, "val": {"aa": text(9, 5)}, "test": {"aa": text(9, 5)}}
    monkeypatch.setattr(corpora, "load", lambda *_: Corpus(splits))
    task = build()
    whole, plain = list(task.batches_of(0, 0, torch.Generator().manual_seed(3))), list(steps(task, 3))
    for one, other in zip(whole, plain, strict=True):
        assert torch.equal(one[0].source, other[0].source)


def test_sampled_objectives_are_in_a_step_by_their_share_of_the_data(small):
    assert build(objectives_per_step=2, temperature=1.0).data.portions.inclusion == pytest.approx(
        [0.9375, 0.9375, 0.125]
    )
    cold = build(objectives_per_step=2, temperature=0.2, steps_per_epoch=20, subword_sentences=1000)
    assert {tuple(cold.present(batch)) for batch in steps(cold)} == {(0, 1)}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("method", [Sum(), mtlbench.method("uniform")], ids=["rows", "uniform"])
def test_the_rows_sum_to_the_gradient_of_the_joint_loss(small, granularity, method):
    task = build(label_smoothing=0.1)
    model, batch = tiny_model(task), first_batch(task)
    # K times the mean over one batch in which p_k of the subwords are of language k.
    joint = sum(3 * task.data.portions.shares[k] * mean_loss(task, model, pairs) for k, pairs in batch.items())
    expected = torch.autograd.grad(joint, list(model.parameters()))
    method.objectives = 0
    backward = Backward(method, task.shared(model), granularity, 3)
    backward(task.losses(model, batch, range(3)))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        error = (parameter.grad - gradient).norm() / gradient.norm().clamp_min(1e-12)
        assert error < 1e-5


def test_each_row_is_the_gradient_of_its_own_language(small):
    task = build()
    model, batch = tiny_model(task).double(), first_batch(task)
    rows = []
    for loss in task.losses(model, batch, range(3)):
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    backward = Backward(Sum(), task.shared(model), "whole_model", 3)
    backward(task.losses(model, batch, range(3)))
    assert torch.allclose(backward.gramian[0], torch.stack(rows) @ torch.stack(rows).T, rtol=1e-9)


def test_sampled_steps_hold_so_many_objectives_and_leave_absent_targets_alone(small):
    task = build(objectives_per_step=2, temperature=1e6)
    model = tiny_model(task)
    gradvac = mtlbench.method("gradvac", beta=0.5)
    backward = Backward(gradvac, task.shared(model), "all_layer", 3)
    seen = set()
    for batch in itertools.islice(steps(task), 6):
        present = list(task.present(batch))
        seen.add(tuple(present))
        assert len(present) == 2
        (absent,) = {0, 1, 2} - set(present)
        before = gradvac.target.clone()
        backward(task.losses(model, batch, present), present)
        if before.numel():
            assert torch.equal(gradvac.target[:, absent], before[:, absent])
            assert torch.equal(gradvac.target[:, :, absent], before[:, :, absent])
            assert not torch.equal(gradvac.target, before)
    assert len(seen) > 1


def test_extra_test_sets_are_scored_for_the_languages_that_they_have(small):
    task = build(beams=2)
    assert task.extra_splits == ("news",)
    model = tiny_model(task).eval()
    with torch.inference_mode():
        assert set(task.evaluate(model, "news", range(3))) == {"aa-en"}
        scores = task.evaluate(model, "test", [0, 2])
    assert set(scores) == {"aa-en", "cc-en"}
    assert set(scores["cc-en"]) == {"bleu", "chrf", "nll"}


def test_translations_may_be_longer_where_those_of_training_are(monkeypatch):
    pairs = text(60, 5)
    wordy = Bitext([f"{sentence} {sentence} {sentence}" for sentence in pairs.foreign], pairs.central)
    monkeypatch.setattr(corpora, "load", lambda *_: Corpus({split: {"aa": wordy} for split in REQUIRED}))
    task = build(direction="both", max_length=100)
    seen = []
    monkeypatch.setattr(
        nmt, "translate", lambda model, sources, length_ratio, **_: seen.extend(length_ratio) or [[4]] * len(sources)
    )
    with torch.inference_mode():
        task.evaluate(tiny_model(task), "val", [0, 1])
    train = task.data.train[1]
    ratio = 2 * train.target.lengths.sum() / train.source.lengths.sum()
    assert ratio > 3
    assert seen == [2.0] * 60 + [pytest.approx(ratio)] * 60


def test_an_extra_test_set_can_be_left_out_and_a_required_one_cannot(small):
    assert build(leave_out=["news"]).extra_splits == ()
    assert build(leave_out=["ntrex"]).extra_splits == ("news",)  # it may be there on another machine
    with pytest.raises(UsageError, match="only extra test sets"):
        build(leave_out=["val"])
    with pytest.raises(UsageError, match=r"leave_out: 'new'.*Did you mean 'news'"):
        build(leave_out=["new"])


def test_splits_of_which_sentences_are_chosen_are_scored_ones(small):
    build(sentences={"val": 3, "news": 2, "ntrex": 5})
    for name in ("train", "tets"):
        with pytest.raises(UsageError, match=rf"sentences: '{name}'.*Known: news, ntrex, test, "):
            build(sentences={name: 10})


def test_pairs_with_a_side_that_leaves_no_subword_are_left_out_counted_and_told(small):
    small.splits["train"]["aa"].foreign[5] = "\u200b"
    small.splits["train"]["bb"].central[7] = " \ufeff "
    task = build(max_length=9)
    assert task.facts["without_subwords"] == {"aa-en": 1, "bb-en": 1}
    assert all((side.lengths > 0).all() for e in task.data.train.values() for side in e[:2])
    long, short, read = task.notices
    assert long.startswith(f"{sum(task.facts['longer_than_max_length'].values())} of 640 training pairs are longer")
    assert short.startswith("2 of 640 training pairs have a side without any subword")
    assert read.endswith("slots left empty 3")


def test_fifty_pairs_are_learnt_by_heart_in_both_directions(monkeypatch):
    learnt = {"aa": text(50, 5)}
    monkeypatch.setattr(corpora, "load", lambda *_: Corpus({"train": learnt, "val": learnt, "test": learnt}))
    task = build(direction="both", vocabulary=350, batch_size=1700, label_smoothing=0.0, beams=2, steps_per_epoch=400)
    model = tiny_model(task, width=64, inner=128)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    backward = Backward(mtlbench.method("uniform"), task.shared(model), objectives=2)
    for step, batch in enumerate(steps(task)):
        optimizer.zero_grad()
        backward(task.losses(model, batch, range(2)))
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, step / 40) * (1 - step / 400)
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        scores = task.evaluate(model, "test", range(2))
    assert {name: found["bleu"] for name, found in scores.items()} == pytest.approx({"aa-en": 100.0, "en-aa": 100.0})


def test_nats_per_subword_are_those_of_the_reference_whatever_the_batching(small, monkeypatch):
    task = build()
    model = tiny_model(task).double().eval()
    examples = task.data.splits["val"].examples[0]
    total = count = 0.0
    for source, target in zip(examples.source.lists(), examples.target.lists(), strict=True):
        logits = model.logits(model(torch.tensor([[*source, 2]]), torch.tensor([[1, *target]])))[0]
        total -= logits.log_softmax(-1)[range(len(target) + 1), [*target, 2]].sum().item()
        count += len(target) + 1
    with torch.inference_mode():
        assert task._nll(model, task.data.splits["val"], 0) == pytest.approx(total / count, rel=1e-9)
        monkeypatch.setattr("mtlbench.tasks.nmt.FORCED_POSITIONS", 40)
        assert task._nll(model, task.data.splits["val"], 0) == pytest.approx(total / count, rel=1e-9)


def test_a_cpu_scores_in_float32_whatever_training_ran_in(small):
    task = build(beams=2)
    model = tiny_model(task).eval()
    with torch.inference_mode():
        plain = task.evaluate(model, "test", range(3))
        with torch.autocast("cpu", torch.bfloat16):
            assert task.evaluate(model, "test", range(3)) == plain


def test_a_budget_too_small_for_the_longest_sentence_is_refused_before_training(small):
    with pytest.raises(
        UsageError, match=r"batch_size=24 leaves .* positions of a step to .*-en, whose longest .*padding: '[a-z ]+'\."
    ):
        build(batch_size=24)


def test_a_vocabulary_too_large_for_the_corpus_is_refused_with_the_largest_possible(small):
    with pytest.raises(UsageError, match=r"50000 subwords is too large .* at most \d+"):
        build(vocabulary=50000)


@pytest.mark.parametrize(
    ("option", "value"), [("direction", "de2en"), ("temperature", 0), ("beams", 0), ("size", "huge"), ("dropout", 1)]
)
def test_an_option_out_of_range_is_refused_by_name(small, option, value):
    with pytest.raises(UsageError, match=f"options.{option}"):
        build(**{option: value})


def test_a_language_without_brackets_is_refused_with_the_way_to_write_a_list(small):
    with pytest.raises(UsageError, match=r"languages=de is not allowed.* \[de,fr\]"):
        build(languages="de")


def test_an_unknown_variant_is_refused_with_the_nearest():
    _, protocol = resolve("nmt", "multi30k", None, {})
    with pytest.raises(UsageError, match="multi30k"):
        NMT("multi30", protocol, None, CPU)


def test_every_protocol_has_options_that_the_task_understands():
    from mtlbench.tasks.nmt.options import options

    for protocol in task_data("nmt").protocols.values():
        assert options(protocol).vocabulary > 300


# --- whole runs ----------------------------------------------------------------------------------------------

SAMPLED = """
method=gradvac method.beta=0.9 granularity=all_layer treated=lrl task=nmt/multi30k objectives_per_step=2
protocol.epochs=2 protocol.evaluate_every=1 protocol.batch_size=600 protocol.autocast=false
protocol.options.steps_per_epoch=5 protocol.options.dropout=0.2 protocol.options.vocabulary=400
protocol.options.high_resource=100 protocol.options.beams=1 protocol.options.size=tiny
"""


@pytest.fixture
def tiny_size(monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", Size(layers=1, width=16, inner=32, heads=2))


def test_a_run_of_sampled_steps_that_stopped_in_mid_epoch_ends_as_if_it_had_not(small, tiny_size, train, tmp_path):
    whole = train(SAMPLED, tmp_path / "whole")
    asked = itertools.count(1)
    with pytest.raises(Interrupted):  # after eight of ten steps: it is asked after each, and after the first evaluation
        train(SAMPLED, tmp_path / "cut", should_stop=lambda: next(asked) == 9)
    told = []
    resumed = train(SAMPLED, tmp_path / "cut", on_progress=lambda progress: told.append(progress.step))
    assert told[0] == 8
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics
    assert whole.diagnostics["corrected_share"] > 0


def test_single_task_models_with_the_whole_budget_go_on_as_if_they_had_not_stopped(small, tiny_size, train, tmp_path):
    words = "method=single_task " + SAMPLED.partition("treated=lrl")[2]
    whole = train(f"{words} protocol.single_task_budget=same_step", tmp_path / "whole")
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(
            f"{words} protocol.single_task_budget=same_step",
            tmp_path / "cut",
            should_stop=lambda: next(asked) == 9,
        )
    resumed = train(f"{words} protocol.single_task_budget=same_step", tmp_path / "cut")
    assert resumed.provenance.resumed == 1
    assert resumed.evaluations == whole.evaluations
    shared_out = train(f"{words} protocol.single_task_budget=same_share", tmp_path / "share")
    assert resumed.evaluations != shared_out.evaluations


def test_a_record_has_groups_digest_and_extra_splits_and_the_means_of_their_tables(small, tiny_size, train):
    record = train(SAMPLED)
    assert record.groups == {"hrl": ("aa-en", "bb-en"), "lrl": ("cc-en",)}
    assert record.provenance.data_digest == digest(small)
    assert "sentencepiece" in record.provenance.packages
    first, last = record.evaluations
    assert (set(first.scores), set(last.scores)) == ({"val", "test"}, {"val", "test", "news"})
    assert set(last.scores["news"]) == {"aa-en"}
    (board,) = report(Collection([Run.of(record)]), TableOptions(split="news")).boards
    assert [c.key for c in board.table.columns][:2] == ["aa-en.bleu", "mean.hrl"]
    assert "mean hrl: over 1 objective: aa-en." in [note.text for note in board.table.notes]
    assert "mean.lrl" not in [c.key for c in board.table.columns]


def test_a_lone_method_is_trained_on_the_embedded_languages_beside_uniform():
    request = parse(["method=gradvac", "task=nmt"])
    assert [(cell.method, cell.variant) for cell in request.cells] == [("gradvac", "families"), ("uniform", "families")]
    assert [cell.method for cell in request.added] == [request.against] == ["uniform"]


@pytest.mark.parametrize(
    ("damaged", "batch_size", "message"),
    [
        ("train.fr.gz", 1200, "train.fr.gz is not usable: it cannot be unpacked"),
        (None, 24, "protocol.batch_size=24 leaves"),
    ],
)
def test_the_command_refuses_damaged_text_and_a_batch_too_small_and_writes_nothing(
    command, tmp_path, damaged, batch_size, message
):
    folder = tmp_path / "data" / "multi30k" / "data" / "task1" / "raw"
    folder.mkdir(parents=True)
    for stem, languages in multi30k.SPLITS.values():
        for language in ("en", *languages):
            sentences = text(60, 5).central if language == "en" else text(60, 5).foreign
            packed = gzip.compress("\n".join(sentences).encode())
            name = f"{stem}.{language}.gz"
            (folder / name).write_bytes(packed[:-20] if name == damaged else packed)
    words = "method=uniform task=nmt/multi30k protocol.options.vocabulary=350 protocol.options.steps_per_epoch=1"
    ended = command(f"run {words} protocol.batch_size={batch_size} data_root={tmp_path / 'data'}")
    assert ended.code == 2
    assert message in ended.output
    assert not (tmp_path / "results").exists()
