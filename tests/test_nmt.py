"""Multilingual NMT: objectives, gradients, learning, sampled steps, and what a user gets wrong."""

import itertools

import pytest
import torch

import mtlbench
from mtlbench.backward import Backward
from mtlbench.errors import UsageError
from mtlbench.grouping import GRANULARITIES
from mtlbench.protocol import resolve, task_data
from mtlbench.tasks.nmt import NMT, corpora
from mtlbench.tasks.nmt.corpus import Bitext, Corpus
from mtlbench.tasks.nmt.model import Size, Transformer
from mtlbench.tasks.nmt.objectives import digest, encoded, pairs

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
    train = {code: text(size, 10 * i + 5) for i, (code, size) in enumerate(zip(("aa", "bb", "cc"), sizes, strict=True))}
    other = {code: text(12, 10 * i + 5, 1000) for i, code in enumerate(train)}
    extra = {"aa": text(6, 5, 2000)}
    return Corpus({"train": train, "val": other, "test": other, "news": extra}, counts={"slots left empty": 3})


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


def first_batch(task, seed=0):
    return next(task.batches(0, torch.Generator().manual_seed(seed)))


def tiny_model(task, **shape):
    torch.manual_seed(0)
    size = Size(**{"layers": 2, "width": 16, "inner": 32, "heads": 2, **shape})
    return Transformer(task.subwords.size, size, 0.0, task.symbols.pad)


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
    assert all(e.tag is None for e in into._splits["train"].examples.values())
    assert [e.tag for e in out._splits["train"].examples.values()] == [out.subwords.tag(c) for c in ("aa", "bb", "cc")]
    source = first_batch(both)[0].source
    assert (source[:, 0] == both.subwords.tag("en")).all()


def test_groups_are_the_languages_with_many_and_with_few_pairs(small):
    assert build().groups == {"hrl": [0, 1], "lrl": [2]}
    assert build(high_resource=1).groups == {}
    assert build(direction="both").groups == {"hrl": [0, 1, 3, 4], "lrl": [2, 5]}


def test_facts_tell_sizes_repairs_and_sentences_left_out(small):
    task = build(max_length=9)
    assert task.facts["parameters"] == sum(p.numel() for p in task.model().parameters())
    assert task.facts["corpus_repairs"] == {"slots left empty": 3}
    left, kept = task.facts["longer_than_max_length"], task.facts["training_pairs"]
    assert sum(left.values()) > 0
    assert {name: left.get(name, 0) + n for name, n in kept.items()} == {"aa-en": 300, "bb-en": 300, "cc-en": 40}
    longest = max(int(e.lengths.max()) for e in task._splits["train"].examples.values())
    assert longest <= 9


def test_text_and_limits_make_the_digest_of_the_data(small):
    assert digest(small) == build().data_digest
    assert digest(small_corpus((300, 300, 41))) != digest(small)


def test_limited_splits_are_spread_evenly_over_the_whole(small):
    task = build(sentences={"test": 4})
    references = task._splits["test"].references
    assert references[0] == [small.splits["test"]["aa"].central[i] for i in (0, 3, 6, 9)]


def test_batches_depend_on_the_epochs_generator_alone(small):
    task = build(steps_per_epoch=3)
    first, same, other = (list(task.batches(0, torch.Generator().manual_seed(s))) for s in (1, 1, 2))
    assert len(first) == 3
    assert all(torch.equal(a[k].source, b[k].source) for a, b in zip(first, same, strict=True) for k in range(3))
    assert any(a[0].source.tolist() != b[0].source.tolist() for a, b in zip(first, other, strict=True))


def test_the_budget_of_a_step_is_shared_out_by_temperature(small):
    proportional = build(temperature=1.0, batch_size=1000)
    assert proportional._budgets == [468, 468, 62]
    assert build(temperature=1e6, batch_size=1000)._budgets == [333, 333, 333]


class Sum(mtlbench.GramianWeighting):
    """All weights one: what the engine makes of the rows is their sum."""

    def weigh(self, gramian, losses):
        return torch.ones(gramian.shape[:2], dtype=torch.float64)


def joint_gradient(task, model, batch):
    """The gradient of K times the mean loss per subword over one batch in which p_k of the subwords are of k."""
    total = 0.0
    for k, (source, target_in, target_out) in batch.items():
        there = target_out != task.symbols.pad
        logits = model.logits(model(source, target_in))[there]
        mean = torch.nn.functional.cross_entropy(logits, target_out[there], label_smoothing=0.1)
        total = total + 3 * task.probabilities[k] * mean
    return torch.autograd.grad(total, list(model.parameters()))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("method", [Sum(), mtlbench.method("uniform")], ids=["rows", "uniform"])
def test_the_rows_sum_to_the_gradient_of_the_joint_loss(small, granularity, method):
    task = build(label_smoothing=0.1)
    model, batch = tiny_model(task), first_batch(task)
    expected = joint_gradient(task, model, batch)
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
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for batch in itertools.islice(task.batches(0, generator), 6):
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


def test_an_extra_test_set_can_be_left_out_and_a_required_one_cannot(small):
    assert build(leave_out=["news"]).extra_splits == ()
    with pytest.raises(UsageError, match="only extra test sets"):
        build(leave_out=["val"])


def test_fifty_pairs_are_learnt_by_heart_in_both_directions(monkeypatch):
    learnt = {"aa": text(50, 5)}
    monkeypatch.setattr(corpora, "load", lambda *_: Corpus({"train": learnt, "val": learnt, "test": learnt}))
    task = build(direction="both", vocabulary=350, batch_size=1700, label_smoothing=0.0, beams=2, steps_per_epoch=400)
    model = tiny_model(task, width=64, inner=128)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    backward = Backward(mtlbench.method("uniform"), task.shared(model), objectives=2)
    for step, batch in enumerate(task.batches(0, torch.Generator().manual_seed(0))):
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
    examples = task._splits["val"].examples[0]
    total = count = 0.0
    for source, target in zip(examples.source.lists(), examples.target.lists(), strict=True):
        logits = model.logits(model(torch.tensor([[*source, 2]]), torch.tensor([[1, *target]])))[0]
        total -= logits.log_softmax(-1)[range(len(target) + 1), [*target, 2]].sum().item()
        count += len(target) + 1
    with torch.inference_mode():
        assert task._nll(model, task._splits["val"], 0) == pytest.approx(total / count, rel=1e-9)
        monkeypatch.setattr("mtlbench.tasks.nmt.FORCED_POSITIONS", 40)
        assert task._nll(model, task._splits["val"], 0) == pytest.approx(total / count, rel=1e-9)


def test_a_cpu_scores_in_float32_whatever_training_ran_in(small):
    task = build(beams=2)
    model = tiny_model(task).eval()
    with torch.inference_mode():
        plain = task.evaluate(model, "test", range(3))
        with torch.autocast("cpu", torch.bfloat16):
            assert task.evaluate(model, "test", range(3)) == plain


def test_a_budget_too_small_for_the_longest_sentence_is_refused_before_training(small):
    with pytest.raises(UsageError, match=r"batch_size=24 leaves .* positions of a step to .*-en, whose longest"):
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


def test_pairs_are_encoded_the_same_way_in_both_directions(small):
    task = build(direction="both")
    found, _ = encoded(small, pairs(["aa"], "en", "both"), task.subwords, {}, 40)
    into, out = found["train"].examples[0], found["train"].examples[1]
    assert into.source.lists() == out.target.lists()
    assert into.target.lists() == out.source.lists()
