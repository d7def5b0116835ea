"""TorchJD behind the contract: what it computes by hand, its arguments as words, its state, and doing without it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
import torch

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.catalogue.signature import parameters
from mtlbench.cells.parameters import checked_parameters
from mtlbench.engine.conformance.battery import battery
from mtlbench.errors import UsageError


@pytest.fixture
def theirs():
    return pytest.importorskip("torchjd.aggregation")


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    monkeypatch.setattr(registry.methods, "_entries", dict(registry.methods.entries()))


def rows(count=3, columns=7, seed=0):
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def update(method, *matrices, losses=None):
    """(P,) what `Backward` leaves for parameters whose Jacobian is given, one matrix for each group."""
    shared = torch.nn.ParameterDict(
        {f"p{i}": torch.nn.Parameter(torch.zeros(m.shape[1]).to(m)) for i, m in enumerate(matrices)}
    )
    backward = mtlbench.Backward(method, shared, granularity="all_matrix")
    backward([sum(m[k] @ shared[f"p{i}"] for i, m in enumerate(matrices)) + 1.0 for k in range(len(matrices[0]))])
    return torch.cat([p.grad for p in shared.values()])


ALIKE = [
    ("UPGrad", {}),
    ("UPGradWeighting", {}),
    ("CAGrad", {"c": 0.4}),
    ("AlignedMTL", {"scale_mode": "rmse"}),
    ("MGDA", {"epsilon": 1e-4, "max_iters": 7}),
    ("Krum", {"n_byzantine": 1, "n_selected": 2}),
    ("ConFIG", {}),
    ("TrimmedMean", {"trim_number": 1}),
    ("Mean", {}),
    ("ExcessMTL", {"robust_step_size": 0.5}),
]


@pytest.mark.parametrize(("name", "arguments"), ALIKE, ids=[name for name, _ in ALIKE])
def test_it_is_torchjd_called_by_hand_on_every_group(theirs, name, arguments):
    ours = mtlbench.method(f"torchjd.{name}", **arguments)
    cls = getattr(theirs, name)
    weighting = issubclass(cls, theirs.Weighting)
    by_hand = [cls(**arguments) for _ in range(2)]
    for seed in (1, 3):  # the second step is another one for what has a state
        matrices = [rows(6, 7, seed), 10 * rows(6, 4, seed + 1)]
        wanted = [h(m @ m.T) @ m if weighting else h(m) for h, m in zip(by_hand, matrices, strict=True)]
        torch.testing.assert_close(update(ours, *matrices), torch.cat(wanted), rtol=1e-10, atol=1e-12)


def test_what_takes_a_gramian_sees_a_gramian_and_everything_else_the_rows(theirs):
    for name in ("UPGrad", "UPGradWeighting", "GradVac", "Krum", "PCD"):
        arguments = {"n_byzantine": 1} if name == "Krum" else {}
        assert isinstance(mtlbench.method(f"torchjd.{name}", **arguments), mtlbench.GramianWeighting)
    for name in ("ConFIG", "Mean", "SumWeighting", "GradDrop", "ExcessMTL"):
        assert isinstance(mtlbench.method(f"torchjd.{name}"), mtlbench.JacobianAggregator)


def test_arguments_are_words_and_vectors_are_lists(theirs):
    preferring = mtlbench.method("torchjd.UPGrad", pref_vector=[0.2, 0.3, 0.5])
    j = rows()
    torch.testing.assert_close(update(preferring, j), theirs.UPGrad(torch.tensor([0.2, 0.3, 0.5]).double())(j))
    constant = mtlbench.method("torchjd.Constant", weights=[1, 2, 3])
    torch.testing.assert_close(update(constant, j.float()), torch.tensor([1.0, 2.0, 3.0]) @ j.float())
    assert parameters(type(preferring)).keys() == {"pref_vector", "version"}  # no word says a projector
    assert parameters(type(mtlbench.method("torchjd.PCD")))["tau"].default == 0.02
    assert mtlbench.method("torchjd.MGDA", max_iters="3").values == {"epsilon": 0.001, "max_iters": 3}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CAGrad", {}, r"torchjd\.CAGrad needs method\.c=\.\.\.: float"),
        ("AlignedMTL", {"scale_mode": "max"}, "it takes one of min, median, rmse"),
        ("UPGrad", {"projector": "x"}, "Unknown parameter of torchjd.UPGrad: 'projector'"),
        ("UPGrad", {"version": "0.0.1"}, r"version=0\.0\.1 is not allowed; it takes one of \d"),
        ("UPgrad", {}, "Unknown aggregator or weighting of TorchJD: 'UPgrad'. Did you mean 'UPGrad'"),
        ("Aggregator", {}, "cannot be run here: it is an abstract class"),
        ("CRMOGMWeighting", {}, "cannot be run here: its argument weighting is nothing that can be typed"),
        ("MoDoWeighting", {}, "gradients from several independent batches"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(theirs, name, arguments, message):
    with pytest.raises(UsageError, match=message):
        mtlbench.method(f"torchjd.{name}", **arguments)


def test_a_value_that_torchjd_refuses_is_an_error_of_the_word(theirs):
    with pytest.raises(UsageError, match=r"torchjd\.GradVac: .*`beta` must be in \[0, 1\]"):
        checked_parameters("torchjd.GradVac", {"beta": 2.0})


@pytest.mark.parametrize("name", ["GradVac", "PCD", "ExcessMTL"])
def test_a_state_goes_on_from_where_it_was_saved(theirs, name, tmp_path):
    matrices = [[rows(3, 5, seed), 2 * rows(3, 4, 9 + seed)] for seed in range(4)]
    whole, first, second = (mtlbench.method(f"torchjd.{name}").seed(5) for _ in range(3))
    wanted = [update(whole, *pair) for pair in matrices]
    for pair in matrices[:2]:
        update(first, *pair)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found = [update(second, *pair) for pair in matrices[2:]]
    assert [a.tolist() for a in found] == [a.tolist() for a in wanted[2:]]
    fresh = [update(mtlbench.method(f"torchjd.{name}").seed(5), *pair) for pair in matrices[2:]]
    assert fresh[1].tolist() != wanted[3].tolist()  # so that there was a state to keep


def test_a_state_that_cannot_be_kept_is_not_taken_for_one(theirs):
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    before = mtlbench.method("torchjd.NashMTL", n_tasks=2)
    mtlbench.method("torchjd.NashMTL", n_tasks=2).load_state_dict(before.state_dict())
    update(before, rows(2))
    with pytest.raises(ValueError, match=r"state of torchjd\.NashMTL cannot be kept"):
        mtlbench.method("torchjd.NashMTL", n_tasks=2).load_state_dict(before.state_dict())


def test_what_torchjd_draws_follows_from_the_methods_seed_and_leaves_the_global_generator_alone(theirs):
    before = torch.get_rng_state()
    one, same, other = (update(mtlbench.method("torchjd.GradDrop").seed(s), rows(3, 40)) for s in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != other.tolist()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_state_of_all_objectives_is_not_shown_some_of_them(theirs):
    stateful, stateless = mtlbench.method("torchjd.GradVac"), mtlbench.method("torchjd.UPGrad")
    gramian = rows() @ rows().T
    for method in (stateful, stateless):
        method.weights(gramian)
    stateless.weights(gramian[:2, :2], present=[0, 1])
    with pytest.raises(UsageError, match="every step must hold and treat all"):
        stateful.weights(gramian[:2, :2], present=[0, 1])


def test_identity_and_record_hold_the_version_and_the_label_does_not(theirs, tmp_path):
    version = importlib.metadata.version("torchjd")
    words = "method=torchjd.UPGrad task=controls/surgery protocol.epochs=1 protocol.selection=last"
    record = mtlbench.run(f"{words} protocol.options.steps_per_epoch=2 results={tmp_path}")
    assert record.provenance.packages["torchjd"] == version
    assert record.cell.parameters == {"pref_vector": None, "version": version}
    assert record.label == "torchjd.UPGrad"


def test_without_torchjd_it_says_what_to_install_and_listing_imports_it_never(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "torchjd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(UsageError, match=r"torchjd\.UPGrad needs the package torchjd.*pip install 'torchjd\[full\]'"):
        mtlbench.method("torchjd.UPGrad")
    assert "torchjd.UPGrad" not in registry.methods.entries()
    script = (
        "import sys; from mtlbench.cli.main import main\n"
        "try: main(['list', 'methods'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'torchjd'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "torchjd.NAME" in done.stdout


@pytest.mark.parametrize(("name", "keeps"), [("UPGrad", False), ("ExcessMTL", True)])
def test_it_does_what_every_method_must_and_promises_no_definition(theirs, name, keeps):
    found = {f.key: f for f in battery(lambda: mtlbench.method(f"torchjd.{name}"))}
    assert [(f.name, f.told) for f in found.values() if f.violated] == []
    assert found["plain_sum"].verdict == "declared"
    assert found["absent"].verdict == ("declared" if keeps else "holds")
