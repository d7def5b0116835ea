"""Granularities: every shared parameter is in exactly one group, whichever module owns it."""

import pytest
import torch
from torch import nn
from torch.nn import Parameter

import mtlbench
from mtlbench.engine.grouping import GRANULARITIES, group, layer_name, named_parameters
from mtlbench.errors import UsageError


class Translator(nn.Module):
    """An encoder and a decoder of Transformer layers, whose attention owns parameters as a non-leaf module."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.scale = Parameter(torch.ones(()))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), 2)
        self.output = nn.Linear(8, 11, bias=False)
        self.output.weight = self.embedding.weight  # tied

    def forward(self, tokens):
        x = self.embedding(tokens) * self.scale
        return self.output(self.decoder(x, self.encoder(x)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Translator()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_parameter_is_in_exactly_one_group_and_sizes_add_up(model, granularity):
    groups = group(named_parameters(model), granularity)
    placed = [p for parameters in groups.values() for p in parameters]
    assert {id(p) for p in placed} == {id(p) for p in model.parameters()}
    assert len(placed) == len(list(model.parameters()))
    assert sum(p.numel() for p in placed) == sum(p.numel() for p in model.parameters())
    assert all(groups.values())


def test_the_groups_of_a_transformer_by_name(model):
    named = named_parameters(model)
    assert list(group(named, "whole_model")) == ["whole_model"]
    assert list(group(named, "enc_dec")) == ["rest", "encoder", "decoder"]
    assert list(group(named, "all_layer")) == [
        "(top)",
        "embedding",
        "encoder.layers.0",
        "encoder.layers.1",
        "decoder.layers.0",
        "decoder.layers.1",
    ]
    assert list(group(named, "all_matrix")) == [name for name, _ in model.named_parameters()]
    layer = group(named, "all_layer")["encoder.layers.1"]
    assert {id(p) for p in layer} == {id(p) for p in model.encoder.layers[1].parameters()}
    assert any(p is model.encoder.layers[1].self_attn.in_proj_weight for p in layer)
    sides = group(named, "enc_dec")
    assert {id(p) for p in sides["decoder"]} == {id(p) for p in model.decoder.parameters()}


def test_a_layer_is_the_outermost_numbered_entry_or_the_owning_module():
    assert layer_name("encoder.layers.3.ffn.0.weight") == "encoder.layers.3"
    assert layer_name("encoder.conv1.weight") == "encoder.conv1"
    assert layer_name("0.weight") == "0"
    assert layer_name("scale") == layer_name("bias") == "(top)"


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_gramians_over_groups_sum_to_that_of_the_whole_model(model, granularity):
    model.double()
    tokens = torch.randint(0, 11, (3, 4, 5), generator=torch.Generator().manual_seed(1))
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model, granularity)
    losses = [model(t).logsumexp(-1).mean() * (k + 1) for k, t in enumerate(tokens)]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(x, list(model.parameters()), retain_graph=True)])
        for x in losses
    ]
    expected = torch.stack(rows) @ torch.stack(rows).T
    backward(losses)
    assert backward.gramian.shape == (len(backward.group_names), 3, 3)
    torch.testing.assert_close(backward.gramian.sum(0), expected, rtol=1e-10, atol=1e-12)


def test_explicit_groups_are_kept_as_given_and_empty_ones_left_out(model):
    named = named_parameters(model)
    first, second = model.encoder.parameters(), [p for n, p in named.items() if not n.startswith("encoder")]
    groups = group(named, [first, [], second])
    assert list(groups) == ["group_0", "group_2"]
    assert {id(p) for p in groups["group_0"]} == {id(p) for p in model.encoder.parameters()}
    assert groups["group_2"] == second


def test_explicit_groups_that_miss_repeat_or_invent_a_parameter_are_refused(model):
    named, everything = named_parameters(model), list(model.parameters())
    with pytest.raises(UsageError, match=r"in no group: embedding\.weight"):
        group(named, [[p for p in everything if p is not model.embedding.weight]])
    with pytest.raises(UsageError, match=r"'scale' is in more than one group"):
        group(named, [everything, [model.scale]])
    with pytest.raises(UsageError, match=r"group_1 holds a parameter of shape \(2,\) that is not in shared"):
        group(named, [everything, [Parameter(torch.ones(2))]])


def test_an_unknown_granularity_names_the_nearest():
    with pytest.raises(UsageError, match=r"'all_layers'\. Did you mean 'all_layer'.*whole_model"):
        group(named_parameters(nn.Linear(2, 2)), "all_layers")


def test_granularities_that_need_names_or_sides_say_so():
    linear = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(UsageError, match="enc_dec needs shared parameters under a module called encoder"):
        group(named_parameters(linear.named_parameters(prefix="trunk")), "enc_dec")
    for granularity in ("all_layer", "enc_dec"):
        with pytest.raises(UsageError, match=f"granularity={granularity} needs names"):
            group(named_parameters(linear.parameters()), granularity)
    assert len(group(named_parameters(linear.parameters()), "all_matrix")) == 4


def test_shared_is_a_module_parameters_or_named_parameters_each_counted_once():
    linear = nn.Linear(2, 3)
    model = nn.ModuleDict({"a": linear, "again": linear})
    assert list(named_parameters(model)) == ["a.weight", "a.bias"]
    assert list(named_parameters(model.parameters())) == ["0", "1"]
    assert list(named_parameters(model.named_parameters())) == ["a.weight", "a.bias"]
    assert list(named_parameters([linear.weight, linear.weight])) == ["0"]


def test_what_is_no_parameter_or_nothing_to_train_is_refused():
    with pytest.raises(UsageError, match="shared holds a Tensor"):
        named_parameters([torch.ones(2)])
    with pytest.raises(UsageError, match="shared holds no parameter"):
        named_parameters(nn.ReLU())
    with pytest.raises(UsageError, match="no parameter that requires a gradient"):
        mtlbench.Backward(mtlbench.method("pcgrad"), nn.Linear(2, 2).requires_grad_(False))
