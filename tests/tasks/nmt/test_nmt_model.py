"""The Transformer of nmt: one step at a time equals all at once, nothing leaks, and granularities find its parts."""

import math

import pytest
import torch
from torch import nn

from mtlbench.engine.grouping import GRANULARITIES, group, named_parameters
from mtlbench.tasks.nmt.model import SIZES, Dropout, Size, Transformer, positions

PAD = 0
SMALL = Size(layers=2, width=16, inner=32, heads=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    transformer = Transformer(20, SMALL, dropout=0.3).double().eval()
    for parameter in transformer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # biases and gains at their start would hide mistakes
    return transformer.requires_grad_(False)


def subwords(*shape, seed=0):
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(seed))


def sources(*lengths):
    """Rows of these lengths, filled up with padding."""
    rows = subwords(len(lengths), max(lengths))
    return rows.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], PAD)


def written(model, cache, target):
    """Features (rows, T, width) of a target that is written one subword at a time."""
    return torch.stack([model.step(target[:, t], cache) for t in range(target.shape[1])], 1)


def close(a, b):
    return torch.allclose(a, b, rtol=0, atol=1e-12)


# --- features ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(6, 6, 6), (6, 2, 4)], ids=["full", "padded"])
def test_step_by_step_features_equal_those_of_all_positions_at_once(model, lengths):
    source, target = sources(*lengths), subwords(3, 40, seed=1)
    assert close(written(model, model.start(source, 1, 40), target), model(source, target))


def test_every_beam_reads_the_source_of_its_sentence(model):
    source, target = sources(5, 3, 4), subwords(3 * 4, 7, seed=1)
    assert close(written(model, model.start(source, 4, 7), target), model(source.repeat_interleave(4, 0), target))


def test_a_later_target_subword_changes_no_earlier_feature(model):
    source, target = sources(5, 3), subwords(2, 8, seed=1)
    before = model(source, target)
    for t in range(8):
        changed = target.clone()
        changed[:, t] = target[:, t] % 19 + 1
        after = model(source, changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] - before[:, t:]).abs().amax((0, 2)).gt(1e-6).all()


def test_every_source_subword_counts_and_so_does_its_place(model):
    source, target = sources(5, 5), subwords(2, 3, seed=1)
    before = model(source, target)
    for s in range(5):
        changed = source.clone()
        changed[:, s] = source[:, s] % 19 + 1
        assert (model(changed, target) - before).abs().amax((1, 2)).gt(1e-6).all()
    assert (model(source.flip(1), target) - before).abs().max() > 1e-6


def test_columns_of_padding_and_other_sentences_change_nothing(model):
    lengths, target = (4, 6, 1), subwords(3, 5, seed=1)
    source = sources(*lengths)
    together = model(source, target)
    assert close(model(torch.cat([source, torch.full((3, 4), PAD)], 1), target), together)
    alone = [model(source[i : i + 1, :n], target[i : i + 1]) for i, n in enumerate(lengths)]
    assert close(torch.cat(alone), together)


PRE_NORM = {"norm_first": True, "activation": "relu", "dropout": 0.0, "batch_first": True, "dtype": torch.float64}
THERE = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()


def weights_for_torch(**modules):
    """The weights of these modules under the names that torch's layers have for them."""
    found = {}
    for name, module in modules.items():
        if name in ("self_attn", "multihead_attn"):
            query, key, value, out = (module.get_submodule(part) for part in ("query", "key", "value", "out"))
            found[f"{name}.in_proj_weight"] = torch.cat([query.weight, key.weight, value.weight])
            found[f"{name}.in_proj_bias"] = torch.cat([query.bias, torch.zeros_like(query.bias), value.bias])
            name, module = f"{name}.out_proj", out
        found |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return found


def test_a_layer_of_the_encoder_is_torchs_pre_norm_layer(model):
    ours, theirs = model.encoder.layers[0], nn.TransformerEncoderLayer(16, 2, 32, **PRE_NORM)
    of_torch = weights_for_torch(
        norm1=ours.attention_norm,
        self_attn=ours.attention,
        norm2=ours.feed_forward_norm,
        linear1=ours.feed_forward.inner,
        linear2=ours.feed_forward.out,
    )
    theirs.load_state_dict(of_torch)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    assert close(ours(x, THERE[:, None, None]), theirs(x, src_key_padding_mask=~THERE))


def test_a_layer_of_the_decoder_is_torchs_pre_norm_layer(model):
    ours, theirs = model.decoder.layers[0], nn.TransformerDecoderLayer(16, 2, 32, **PRE_NORM)
    of_torch = weights_for_torch(
        norm1=ours.attention_norm,
        self_attn=ours.attention,
        norm2=ours.source_norm,
        multihead_attn=ours.source_attention,
        norm3=ours.feed_forward_norm,
        linear1=ours.feed_forward.inner,
        linear2=ours.feed_forward.out,
    )
    theirs.load_state_dict(of_torch)
    x, memory = torch.randn(2, 4, 16, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    later = torch.ones(4, 4).triu(1).bool()
    expected = theirs(x, memory, tgt_mask=later, memory_key_padding_mask=~THERE)
    assert close(ours(x, memory, THERE[:, None, None]), expected)


def test_embeddings_are_scaled_to_the_size_of_the_positions_that_are_added(model):
    read = {}
    for side in ("encoder", "decoder"):
        model.get_submodule(side).register_forward_pre_hook(lambda _, given, side=side: read.update({side: given[0]}))
    subword = {"encoder": sources(5, 3), "decoder": subwords(2, 4, seed=1)}
    model(subword["encoder"], subword["decoder"])
    for side, ids in subword.items():
        places = positions(0, ids.shape[1], 16, model.embedding.weight)
        assert close(read[side], 4 * model.embedding.weight[ids] + places)


def test_logits_are_products_with_the_embeddings(model):
    features = torch.randn(3, 2, 16, dtype=torch.float64)
    expected = torch.stack([(features * e).sum(2) for e in model.embedding.weight], 2)
    assert close(model.logits(features), expected)


def test_positions_are_sines_and_cosines_of_geometric_rates():
    found = positions(3, 4, 6, torch.zeros((), dtype=torch.float64))
    assert found.shape == (4, 6)
    for row, place in enumerate(range(3, 7)):
        angles = [place / 10_000 ** (2 * i / 6) for i in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_autocast_changes_features_and_gradients_by_rounding_only():
    torch.manual_seed(0)
    model = Transformer(50, SMALL, dropout=0.0)
    source, target = sources(7, 4, 6), subwords(3, 9, seed=1)

    def run():
        model.zero_grad()
        features = model(source, target)
        model.logits(features).float().logsumexp(2).mean().backward()
        return [features.detach().float(), *(p.grad.clone() for p in model.parameters())]

    exact = run()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run()
        with torch.no_grad():
            stepwise = written(model, model.start(source, 1, 9), target)
    for a, b in zip(rounded, exact, strict=True):
        assert (a - b).norm() <= 0.05 * b.norm() + 1e-6
    assert (stepwise - exact[0]).norm() <= 0.02 * exact[0].norm()


def test_dropout_drops_its_share_everywhere_and_keeps_the_expectation():
    torch.manual_seed(0)
    ones = torch.ones(10, 100_000, dtype=torch.float64)
    found = Dropout(0.3)(ones)
    kept = found[found != 0]
    assert kept.unique().tolist() == pytest.approx([1 / (1 - round(0.3 * 2**16) / 2**16)], rel=1e-15)
    assert found.mean().item() == pytest.approx(1, abs=0.004)
    quarters = (found == 0).view(-1, 4).double().mean(0)  # four units come from one random number
    assert quarters.tolist() == pytest.approx([0.3] * 4, abs=0.005)
    assert Dropout(0.5)(torch.ones(3, 7)).shape == (3, 7)
    for same in (Dropout(0.0), Dropout(0.3).eval()):
        assert torch.equal(same(ones), ones)


def test_dropout_drops_in_training_only(model):
    source, target = sources(5, 3), subwords(2, 4, seed=1)
    assert torch.equal(model(source, target), model(source, target))
    model.train()
    torch.manual_seed(0)
    first, second = model(source, target), model(source, target)
    torch.manual_seed(0)
    assert not torch.equal(first, second)
    assert torch.equal(model(source, target), first)


# --- cache -------------------------------------------------------------------------------------------------


def test_reordered_rows_go_on_from_what_the_others_have_written(model):
    source, target = sources(5, 3), subwords(6, 4, seed=1)
    cache = model.start(source, 3, 8)
    written(model, cache, target)
    rows = torch.tensor([2, 2, 0, 4, 3, 4])
    cache.reorder(rows)
    more = subwords(6, 3, seed=2)
    expected = model(source.repeat_interleave(3, 0), torch.cat([target[rows], more], 1))
    assert close(written(model, cache, more), expected[:, 4:])


@pytest.mark.parametrize("lengths", [(5, 3, 4, 2), (5, 5, 5, 5)], ids=["padded", "full"])
def test_kept_sentences_go_on_as_if_the_others_had_never_been_there(model, lengths):
    source, target, more = sources(*lengths), subwords(8, 4, seed=1), subwords(4, 3, seed=2)
    cache = model.start(source, 2, 8)
    written(model, cache, target)
    cache.keep(torch.tensor([1, 3]))
    rows = torch.tensor([2, 3, 6, 7])
    expected = model(source.repeat_interleave(2, 0)[rows], torch.cat([target[rows], more], 1))
    assert close(written(model, cache, more), expected[:, 4:])
    assert all(len(layer.keys) == len(layer.values) == 4 for layer in cache.layers)
    assert all(len(layer.source_keys) == len(layer.source_values) == 2 for layer in cache.layers)


# --- granularities and sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_parameter_is_in_exactly_one_group(granularity):
    model = Transformer(20, SMALL, 0.0)
    placed = [id(p) for g in group(named_parameters(model), granularity).values() for p in g]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())


def test_granularities_find_encoder_decoder_layers_and_matrices_and_embeddings_stand_alone():
    model = Transformer(20, SMALL, 0.0)
    named = named_parameters(model)
    sides = group(named, "enc_dec")
    assert set(sides) == {"rest", "encoder", "decoder"}
    assert sides["rest"] == [model.embedding.weight]
    assert {id(p) for p in sides["encoder"]} == {id(p) for p in model.encoder.parameters()}
    layers = group(named, "all_layer")
    assert list(layers) == [
        "embedding",
        "encoder.layers.0",
        "encoder.layers.1",
        "encoder.norm",
        "decoder.layers.0",
        "decoder.layers.1",
        "decoder.norm",
    ]
    assert layers["embedding"] == [model.embedding.weight]
    assert {id(p) for p in layers["decoder.layers.1"]} == {id(p) for p in model.decoder.layers[1].parameters()}
    matrices = [name for name, (p,) in group(named, "all_matrix").items() if p.ndim == 2]
    attention = ["query", "key", "value", "out"]
    of_encoder = [*(f"attention.{m}" for m in attention), "feed_forward.inner", "feed_forward.out"]
    of_decoder = [*of_encoder, *(f"source_attention.{m}" for m in attention)]
    expected = [f"encoder.layers.{n}.{m}.weight" for n in (0, 1) for m in of_encoder]
    expected += [f"decoder.layers.{n}.{m}.weight" for n in (0, 1) for m in of_decoder]
    assert sorted(matrices) == sorted(["embedding.weight", *expected])


def test_every_parameter_has_a_gradient():
    torch.manual_seed(0)
    model = Transformer(20, SMALL, 0.0).double()
    source, target = sources(5, 3), subwords(2, 4, seed=1)
    model.logits(model(source, target)).log_softmax(2)[:, :, 5].sum().backward()
    assert all(p.grad is not None and p.grad.norm() > 1e-9 for p in model.parameters())


def parameters(size, vocabulary):
    with torch.device("meta"):
        return sum(p.numel() for p in Transformer(vocabulary, SIZES[size], 0.1).parameters())


def test_sizes_have_the_parameters_that_they_are_named_for():
    assert 2e6 <= parameters("tiny", 4000) <= parameters("tiny", 8000) <= 5e6
    assert parameters("big", 96_000) == 375_359_488  # Wang et al. (2021) print 375M
    counts = {name: parameters(name, 8000) for name in SIZES}
    assert counts == {"mini": 1_949_440, "tiny": 3_612_288, "small": 9_418_752, "base": 48_227_328, "big": 285_247_488}
