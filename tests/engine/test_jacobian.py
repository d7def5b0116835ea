"""The Jacobian: rows land where they belong, Gramians are inner products, combinations reach `.grad`."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import Parameter

from mtlbench.engine.jacobian import Jacobian


@pytest.fixture(params=[True, False], ids=["gathered", "by hooks"])
def _either_way(request, monkeypatch):
    """Few columns are copied at the end of a pass, many gradient by gradient."""
    if not request.param:
        monkeypatch.setattr("mtlbench.engine.jacobian._GATHERED_COLUMNS", 0)


def parameters(*shapes, dtype=torch.float32):
    return [Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]


def random_rows(jacobian, rows, seed=0):
    """Fill with random gradients; returns them per row and parameter."""
    generator = torch.Generator().manual_seed(seed)
    gradients = [
        [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in jacobian.parameters]
        for _ in range(rows)
    ]
    jacobian.reserve(rows)
    for row, gradient in enumerate(gradients):
        jacobian.set_row(row, gradient)
    return gradients


def flat(gradients, group, everything):
    """(rows, P_g) float64 of the parameters of one group."""
    places = [next(i for i, q in enumerate(everything) if q is p) for p in group]
    return torch.stack([torch.cat([row[i].double().flatten() for i in places]) for row in gradients])


def random_groups(rng, dtype=torch.float32):
    """Parameters of random shapes, in random groups of random sizes, some of one element, some over a block."""
    count = int(rng.integers(1, 12))
    shapes = [
        tuple(rng.integers(1, (2, 9, 70)[rng.integers(3)], size=rng.integers(0, 4)).tolist()) for _ in range(count)
    ]
    found = parameters(*shapes, dtype=dtype)
    cuts = (
        sorted(rng.choice(np.arange(1, count), size=rng.integers(0, count), replace=False).tolist())
        if count > 1
        else []
    )
    return [found[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)]


@pytest.mark.parametrize("seed", range(25))
def test_every_group_has_the_gramian_of_its_own_columns_and_padding_never_leaks(seed):
    rng = np.random.default_rng(seed)
    groups = random_groups(rng, torch.float64)
    jacobian, rows = Jacobian(groups), int(rng.integers(1, 7))
    gradients = random_rows(jacobian, rows, seed)
    gramian = jacobian.gramian(rows)
    assert gramian.dtype == torch.float64
    for table, group in zip(gramian, groups, strict=True):
        columns = flat(gradients, group, jacobian.parameters)
        torch.testing.assert_close(table, columns @ columns.T, rtol=1e-12, atol=1e-13 * jacobian.width)
    whole = Jacobian([jacobian.parameters])
    random_rows(whole, rows, seed)
    torch.testing.assert_close(gramian.sum(0), whole.gramian(rows)[0], rtol=1e-12, atol=1e-13 * jacobian.width)
    some = [p for p in jacobian.parameters if rng.random() < 0.5]
    columns = flat(gradients, some, jacobian.parameters) if some else torch.zeros(rows, 0, dtype=torch.float64)
    torch.testing.assert_close(
        jacobian.gramian(rows, some)[0], columns @ columns.T, rtol=1e-12, atol=1e-13 * jacobian.width
    )


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_combination_is_the_weighted_sum_of_rows_in_every_group(seed, dtype):
    rng = np.random.default_rng([seed, 1])
    groups = random_groups(rng, dtype)
    jacobian, rows = Jacobian(groups), int(rng.integers(1, 7))
    gradients = random_rows(jacobian, rows, seed)
    weights = torch.from_numpy(rng.standard_normal((len(groups), rows)))
    jacobian.combine(weights)
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    for w, group in zip(weights, groups, strict=True):
        found = torch.cat([p.grad.double().flatten() for p in group])
        torch.testing.assert_close(found, w @ flat(gradients, group, jacobian.parameters), **close)
        assert all(p.grad.shape == p.shape and p.grad.dtype == p.dtype for p in group)


def large(dtype=torch.float32, buffer=None):
    """More entries than are computed in float64 throughout, in three groups of unequal size."""
    return Jacobian([parameters((300, 301), (7,)), parameters((3,)), parameters((50_001,))], buffer)


def test_a_large_float32_gramian_is_within_rounding_of_the_exact_one():
    jacobian = large()
    gradients = random_rows(jacobian, 5)
    assert 5 * jacobian.width > 1 << 19
    groups = [jacobian.parameters[:2], jacobian.parameters[2:3], jacobian.parameters[3:]]
    for table, group in zip(jacobian.gramian(5), groups, strict=True):
        columns = flat(gradients, group, jacobian.parameters)
        scale = torch.outer(columns.norm(dim=1), columns.norm(dim=1))
        assert ((table - columns @ columns.T).abs() <= 1e-6 * scale).all()
        assert torch.equal(table, table.T)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("width", [20_000, 32_769, 300_000, 1_100_000])  # in float64, in pieces, in blocks
def test_one_large_group_is_multiplied_and_combined_within_rounding_of_float32(rows, width):
    jacobian = Jacobian([parameters((width - 5,), (5,))])
    gradients = random_rows(jacobian, rows)
    columns = flat(gradients, jacobian.parameters, jacobian.parameters)
    scale = torch.outer(columns.norm(dim=1), columns.norm(dim=1))
    (table,) = jacobian.gramian(rows)
    assert ((table - columns @ columns.T).abs() <= 1e-6 * scale).all()
    assert torch.equal(table, table.T)
    weights = torch.randn(1, rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for times in (1, 2):  # the second time onto what is there
        jacobian.combine(weights)
        found = torch.cat([p.grad.double().flatten() for p in jacobian.parameters])
        torch.testing.assert_close(found, times * (weights[0] @ columns), rtol=1e-5, atol=1e-6)


def test_products_of_a_bfloat16_buffer_are_not_taken_in_bfloat16():
    jacobian = large(buffer=torch.bfloat16)
    gradients = [[g.bfloat16() for g in row] for row in random_rows(jacobian, 5)]
    assert jacobian.columns(5)[0].dtype == torch.bfloat16
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian.combine(weights)
    groups = [jacobian.parameters[:2], jacobian.parameters[2:3], jacobian.parameters[3:]]
    for table, w, group in zip(jacobian.gramian(5), weights, groups, strict=True):
        columns = flat(gradients, group, jacobian.parameters)
        scale = torch.outer(columns.norm(dim=1), columns.norm(dim=1))
        assert ((table - columns @ columns.T).abs() <= 1e-6 * scale).all()
        found = torch.cat([p.grad.double().flatten() for p in group])
        torch.testing.assert_close(found, w @ columns, rtol=1e-5, atol=1e-5)


def test_the_gramian_is_not_computed_in_half_precision_under_autocast():
    jacobian = large()
    random_rows(jacobian, 5)
    plain = jacobian.gramian(5)
    jacobian.combine(torch.ones(1, 5, dtype=torch.float64))
    update = [p.grad.clone() for p in jacobian.parameters]
    for p in jacobian.parameters:
        p.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(jacobian.gramian(5), plain)
        jacobian.combine(torch.ones(1, 5, dtype=torch.float64))
    for p, expected in zip(jacobian.parameters, update, strict=True):
        assert torch.equal(p.grad, expected)


def test_values_far_beyond_float16_squares_are_summed_without_overflow():
    jacobian = Jacobian([parameters((400,), dtype=torch.float16)])
    gradients = random_rows(jacobian, 2)
    jacobian.set_row(0, [torch.full((400,), 300.0, dtype=torch.float16)])
    assert jacobian.gramian(2)[0, 0, 0].item() == 400 * 300**2
    assert gradients[1][0].dtype == torch.float16


def test_one_weight_row_serves_every_group():
    groups = [parameters((5,), (2, 3)), parameters((1,)), parameters((4,))]
    jacobian = Jacobian(groups)
    gradients = random_rows(jacobian, 3)
    weights = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    jacobian.combine(weights)
    for i, p in enumerate(jacobian.parameters):
        expected = sum(w * row[i] for w, row in zip(weights[0].tolist(), gradients, strict=True))
        torch.testing.assert_close(p.grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("existing", ["none", "own, zeroed in place", "own", "foreign", "foreign for some"])
def test_what_is_in_grad_is_added_to(existing):
    jacobian = Jacobian([parameters((5,), (2, 3)), parameters((70,))])
    gradients = random_rows(jacobian, 2)
    ones = torch.ones(1, 2, dtype=torch.float64)
    if existing.startswith("own"):
        jacobian.combine(ones)
    for i, p in enumerate(jacobian.parameters):
        if existing == "own, zeroed in place":
            p.grad.zero_()
        elif existing == "foreign" or (existing == "foreign for some" and i == 1):
            p.grad = torch.full_like(p, 10.0)
    before = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in jacobian.parameters]
    jacobian.combine(ones)
    for i, p in enumerate(jacobian.parameters):
        torch.testing.assert_close(p.grad, before[i] + gradients[0][i] + gradients[1][i], rtol=1e-5, atol=1e-5)


def test_updates_that_are_no_combination_are_added_group_by_group():
    jacobian = Jacobian([parameters((5,), (2, 3)), parameters((70,))])
    random_rows(jacobian, 2)
    jacobian.combine(torch.ones(1, 2, dtype=torch.float64))
    for p in jacobian.parameters:
        p.grad = None
    for times in (1, 2):
        jacobian.add([torch.arange(11.0), torch.arange(70.0)])
        found = torch.cat([p.grad.flatten() for p in jacobian.parameters])
        torch.testing.assert_close(found, times * torch.cat([torch.arange(11.0), torch.arange(70.0)]))


@pytest.mark.usefixtures("_either_way")
def test_unreached_parameters_are_zero_also_where_an_earlier_step_filled_the_row():
    a, b = parameters((3,), (4,))
    jacobian = Jacobian([[a], [b]])
    for reached in ((a, b), (a,), (b,), ()):
        with jacobian.filling(1) as rows:
            rows.start_row(0)
            if reached:
                sum((p + 1).sum() for p in reached).backward()
            rows.end_row()
        expected = [1.0 if p in set(reached) else 0.0 for p in (a, b)]
        assert [c.unique().item() for c in jacobian.columns(1)] == expected
        assert a.grad is None
        assert b.grad is None


@pytest.mark.usefixtures("_either_way")
def test_grads_are_put_back_and_hooks_removed_also_after_an_exception():
    a, b = parameters((3,), (4,))
    a.grad = kept = torch.arange(3.0)
    jacobian = Jacobian([[a, b]])

    def interrupted():
        with jacobian.filling(2) as rows:
            rows.start_row(0)
            (a.sum() + b.sum()).backward()
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert a.grad is kept
    assert b.grad is None
    (a.sum() + b.sum()).backward()
    assert a.grad.tolist() == [1.0, 2.0, 3.0]
    assert b.grad.tolist() == [1.0] * 4
    assert jacobian.columns(2)[0][1].eq(0).all()


def test_more_rows_than_before_find_room():
    jacobian = Jacobian([parameters((5,))])
    for rows in (2, 5, 3):
        gradients = random_rows(jacobian, rows)
        torch.testing.assert_close(jacobian.columns(rows)[0], torch.stack([row[0] for row in gradients]))


@pytest.mark.usefixtures("_either_way")
def test_sparse_gradients_are_rows_too():
    embedding = nn.Embedding(10, 3, sparse=True)
    jacobian = Jacobian([list(embedding.parameters())])
    with jacobian.filling(1) as rows:
        rows.start_row(0)
        embedding(torch.tensor([1, 4, 4])).sum().backward()
        rows.end_row()
    expected = torch.zeros(10, 3)
    expected[1], expected[4] = 1, 2
    assert torch.equal(jacobian.columns(1)[0].view(10, 3), expected)


def test_double_parameters_get_a_double_buffer_and_half_ones_a_float_buffer():
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        assert Jacobian([parameters((2,), dtype=dtype)]).dtype == expected


def test_a_parameter_in_two_groups_or_an_empty_group_is_refused():
    a, b = parameters((3,), (4,))
    with pytest.raises(ValueError, match="exactly one group"):
        Jacobian([[a, b], [a]])
    with pytest.raises(ValueError, match="no group is empty"):
        Jacobian([[a], []])
    with pytest.raises(ValueError, match="several devices"):
        Jacobian([[a], [Parameter(torch.zeros(2, device="meta"))]])


@pytest.mark.parametrize("how", ["combine", "add"])
def test_what_an_earlier_update_left_is_not_added_where_gradients_have_gone(how):
    groups = [parameters((5,), (2, 3)), parameters((70,))]
    jacobian = Jacobian(groups)
    gradients = random_rows(jacobian, 2)
    ones = torch.ones(1, 2, dtype=torch.float64)

    def update():
        if how == "combine":
            jacobian.combine(ones)
        else:
            jacobian.add([torch.cat([(a + b).flatten() for a, b in zip(*part, strict=True)]) for part in parts])

    parts = [[row[:2] for row in gradients], [row[2:] for row in gradients]]
    update()
    for gone in (0, 1, 2):  # of one parameter; the others are added to
        before = [p.grad.clone() for p in jacobian.parameters]
        jacobian.parameters[gone].grad = None
        update()
        for i, p in enumerate(jacobian.parameters):
            then = 0 if i == gone else before[i]
            torch.testing.assert_close(p.grad, then + gradients[0][i] + gradients[1][i], rtol=1e-5, atol=1e-5)


def test_gradients_that_were_copied_elsewhere_are_taken_up_as_they_are_now():
    jacobian = Jacobian([parameters((5,), (70,))])
    gradients = random_rows(jacobian, 2)
    jacobian.combine(torch.ones(1, 2, dtype=torch.float64))
    for p in jacobian.parameters:
        p.grad = torch.full_like(p, 7.0)  # no view of the update any more
    jacobian.combine(torch.ones(1, 2, dtype=torch.float64))
    for i, p in enumerate(jacobian.parameters):
        torch.testing.assert_close(p.grad, 7 + gradients[0][i] + gradients[1][i], rtol=1e-5, atol=1e-5)


def test_rows_and_gradients_have_the_strides_of_their_parameters():
    kernel = Parameter(torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last))
    sliced = Parameter(torch.zeros(6, 4)[:, ::2])
    turned = Parameter(torch.zeros(5, 7).T)
    jacobian = Jacobian([[kernel, turned], [sliced]])
    gradients = random_rows(jacobian, 2)
    for row, given in enumerate(gradients):
        for view, gradient in zip(jacobian.row(row), given, strict=True):
            assert torch.equal(view, gradient)
    jacobian.combine(torch.ones(1, 2, dtype=torch.float64))
    for i, p in enumerate(jacobian.parameters):
        torch.testing.assert_close(p.grad, gradients[0][i] + gradients[1][i], rtol=1e-5, atol=1e-5)
    assert kernel.grad.stride() == kernel.stride()
    assert turned.grad.stride() == turned.stride()
