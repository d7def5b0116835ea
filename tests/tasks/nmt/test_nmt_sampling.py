"""Multilingual NMT: which languages a step holds, which sentences, and the loss that they give."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from mtlbench.errors import UsageError
from mtlbench.tasks._sampling.temperature import shares
from mtlbench.tasks.nmt.loss import smoothed_cross_entropy
from mtlbench.tasks.nmt.sampling import (
    Examples,
    Side,
    Symbols,
    batches,
    inclusion,
    padded,
    require_budget,
    sampled,
)

SYMBOLS = Symbols(pad=0, bos=1, eos=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def side(*sentences):
    lengths = np.array([len(s) for s in sentences], dtype=np.int64)
    ids = np.array(list(itertools.chain(*sentences)), dtype=np.int32)
    return Side(ids, np.cumsum(lengths) - lengths, lengths)


def examples_of_lengths(sources, targets, tag=None):
    return Examples(side(*([7] * n for n in sources)), side(*([8] * n for n in targets)), tag)


def test_temperature_one_is_proportional_to_the_data_and_infinity_is_uniform():
    sizes = [10, 1000, 90]
    assert shares(sizes, 1.0) == pytest.approx(np.array(sizes) / 1100)
    assert shares(sizes, 1e9) == pytest.approx([1 / 3] * 3)
    roots = np.array(sizes) ** (1 / 5)
    assert shares(sizes, 5.0) == pytest.approx(roots / roots.sum())


def test_temperature_near_zero_does_not_overflow():
    assert shares([1, 10**9], 0.01) == pytest.approx([0, 1])


def test_inclusion_is_count_times_the_share_where_nothing_is_capped():
    p = np.array([0.1, 0.2, 0.3, 0.4])
    assert inclusion(p, 2) == pytest.approx(2 * p)


def test_a_capped_objective_is_always_in_and_gives_the_rest_in_proportion():
    p = np.array([0.7, 0.2, 0.1])
    assert inclusion(p, 2) == pytest.approx([1, 2 / 3, 1 / 3])
    assert inclusion(np.array([0.5, 0.45, 0.05]), 3) == pytest.approx([1, 1, 1])


def test_a_cap_that_caps_another_is_followed_to_the_end():
    found = inclusion(np.array([0.60, 0.30, 0.06, 0.04]), 3)
    assert found.sum() == pytest.approx(3)
    assert found == pytest.approx([1, 1, 0.6, 0.4])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_objectives_are_sampled_with_exactly_their_probabilities(count):
    probabilities = inclusion(shares([100, 20, 400, 3, 1000, 50], 3.0), count)
    draw, steps = generator(), 8000
    seen = np.zeros(6)
    for _ in range(steps):
        chosen = sampled(probabilities, draw)
        assert len(set(chosen)) == count
        assert chosen == sorted(chosen)
        seen[chosen] += 1
    deviation = np.sqrt(probabilities * (1 - probabilities) / steps)
    assert np.all(np.abs(seen / steps - probabilities) <= 4 * deviation + 1e-9)


def test_every_pair_of_objectives_meets():
    probabilities = inclusion(np.full(6, 1 / 6), 2)
    draw = generator()
    met = {tuple(sampled(probabilities, draw)) for _ in range(2000)}
    assert met == set(itertools.combinations(range(6), 2))


def test_a_pair_takes_the_positions_of_its_longer_side_with_end_and_tag():
    assert examples_of_lengths([3, 5, 4], [5, 2, 4]).lengths.tolist() == [6, 6, 5]
    assert examples_of_lengths([3, 5, 4], [5, 2, 4], tag=4).lengths.tolist() == [6, 7, 6]


@pytest.mark.parametrize("tag", [None, 4])
def test_a_pass_holds_every_sentence_once_and_both_sides_of_every_batch_keep_the_budget(tag):
    drawn = np.random.default_rng(0)
    examples = examples_of_lengths(drawn.integers(1, 30, 5000), drawn.integers(1, 30, 5000), tag)
    budget, seen = 200, []
    for rows in batches(examples, budget, generator()):
        source, _, target = padded(examples, rows, SYMBOLS, torch.device("cpu"))
        assert max(source.numel(), target.numel()) <= budget
        seen.extend(rows.tolist())
        if len(seen) >= 2 * examples.size:
            break
    assert sorted(seen[: examples.size]) == list(range(examples.size))
    assert sorted(seen[examples.size :]) == list(range(examples.size))
    assert seen[: examples.size] != seen[examples.size :]


def test_batches_hold_sentences_of_similar_length():
    drawn = np.random.default_rng(0)
    examples = examples_of_lengths(drawn.integers(1, 30, 5000), drawn.integers(1, 30, 5000))
    real = filled = 0
    for rows in itertools.islice(batches(examples, 400, generator()), 300):
        filled += len(rows) * int(examples.lengths[rows].max())
        real += int(examples.lengths[rows].sum())
    assert real / filled > 0.85
    unsorted = examples.lengths.mean() / 30
    assert real / filled > unsorted


def test_few_shapes_occur():
    drawn = np.random.default_rng(0)
    examples = examples_of_lengths(drawn.integers(1, 30, 20_000), drawn.integers(1, 30, 20_000))
    shapes = set()
    for rows in itertools.islice(batches(examples, 400, generator()), 500):
        source, target, _ = padded(examples, rows, SYMBOLS, torch.device("cpu"))
        shapes |= {source.numel(), target.numel()}
    assert len(shapes) < 40


def test_batches_depend_on_the_generator_alone():
    examples = examples_of_lengths([3] * 100, [4] * 100)
    first, same, other = (
        [rows.tolist() for rows in itertools.islice(batches(examples, 50, generator(seed)), 8)] for seed in (1, 1, 2)
    )
    assert first == same != other


def test_a_padded_batch_has_tag_and_end_on_the_source_and_the_target_shifted_by_one():
    examples = Examples(side([5, 6, 7], [8]), side([9], [10, 11]), tag=4)
    batch = padded(examples, np.array([0, 1]), SYMBOLS, torch.device("cpu"))
    assert batch.source.tolist() == [[4, 5, 6, 7, 2, 0, 0, 0], [4, 8, 2, 0, 0, 0, 0, 0]]
    assert batch.target_in.tolist() == [[1, 9, 0, 0], [1, 10, 11, 0]]
    assert batch.target_out.tolist() == [[9, 2, 0, 0], [10, 11, 2, 0]]


def test_without_a_tag_the_source_begins_with_its_first_subword():
    examples = Examples(side([5, 6]), side([9]), tag=None)
    assert padded(examples, np.array([0]), SYMBOLS, torch.device("cpu")).source.tolist() == [[5, 6, 2, 0]]


def test_sentences_may_share_their_subwords():
    shared = side([5, 6], [7]).take(np.array([1, 0, 1]))
    assert shared.lists() == [[7], [5, 6], [7]]


def test_a_budget_below_the_longest_sentence_is_refused_by_name():
    examples = examples_of_lengths([5, 40], [5, 3])
    with pytest.raises(UsageError, match=r"batch_size=100.* 40 positions of a step to de-en.* takes 44"):
        require_budget("de-en", examples, 40.2, "protocol.batch_size=100", str)
    assert require_budget("de-en", examples, 44.9, "protocol.batch_size=100", str) == 44


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_and_its_gradient_are_those_of_torch(smoothing):
    torch.manual_seed(0)
    logits = (3 * torch.randn(40, 17, dtype=torch.float64)).requires_grad_()
    target = torch.randint(17, (40,))
    ours = smoothed_cross_entropy(logits, target, smoothing)
    (gradient,) = torch.autograd.grad(1.7 * ours, logits)
    theirs = functional.cross_entropy(logits, target, label_smoothing=smoothing)
    (expected,) = torch.autograd.grad(1.7 * theirs, logits)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_positions_with_a_negative_target_do_not_count():
    torch.manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([3, -1, 0, -1, 6])
    ours = smoothed_cross_entropy(logits, target, 0.2)
    theirs = functional.cross_entropy(logits, target, label_smoothing=0.2, ignore_index=-1)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, rtol=1e-10, atol=1e-14)


def test_a_second_backward_pass_over_one_graph_is_refused_and_not_wrong():
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.tensor([0, 1, 2, 3, 4, 0]), 0.1)
    torch.autograd.grad(loss, logits, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, logits)
