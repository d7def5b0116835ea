"""Modules that average or shard gradients on their own are refused in words that say what works."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import mtlbench
from mtlbench.errors import UsageError

distributed = torch.distributed
pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
)


@pytest.fixture
def one_process(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))

    def forward(self, x):
        features = self.encoder(x)
        return [(head(features) - k).pow(2).mean() for k, head in enumerate(self.heads)]


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_a_step_in_which_ddp_would_average_is_refused_and_one_without_is_right(one_process, name):
    model, twin = Model(), Model()
    ddp = DistributedDataParallel(model)
    backward = mtlbench.Backward(mtlbench.method(name), ddp.module.encoder)
    with pytest.raises(UsageError, match=r"DistributedDataParallel.*process_group=.*averaged over processes before"):
        backward(ddp(X))
    ddp = DistributedDataParallel(model)
    backward = mtlbench.Backward(mtlbench.method(name), ddp.module.encoder)
    with ddp.no_sync():
        backward(ddp(X))
    mtlbench.Backward(mtlbench.method(name), twin.encoder)(twin(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("name", ["pcgrad", "gradnorm"])
def test_a_pass_after_a_forward_pass_that_ddp_waits_for_is_told_in_words(one_process, name):
    ddp = DistributedDataParallel(Model())
    backward = mtlbench.Backward(mtlbench.method(name), ddp.module.encoder)
    with ddp.no_sync():
        backward(ddp(X))
        backward(ddp(X))
    losses = ddp(X)
    with ddp.no_sync(), pytest.raises(UsageError, match=r"DistributedDataParallel module.*process_group="):
        backward(losses)


def test_a_plain_sum_of_losses_may_be_averaged_by_ddp(one_process):
    model, twin = Model(), Model()
    ddp = DistributedDataParallel(model)
    mtlbench.Backward(mtlbench.method("uniform"), ddp.module.encoder)(ddp(X))
    mtlbench.Backward(mtlbench.method("uniform"), twin.encoder)(twin(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_ddp_and_fsdp_modules_as_shared_are_refused(one_process):
    ddp = DistributedDataParallel(Model())
    with pytest.raises(UsageError, match=r"DistributedDataParallel.*shared=model\.module\.encoder.*process_group="):
        mtlbench.Backward(mtlbench.method("pcgrad"), ddp)

    class FullyShardedDataParallel(nn.Module):
        """As torch's is called."""

        def __init__(self):
            super().__init__()
            self.inner = Model()

    with pytest.raises(UsageError, match="holds an FSDP module, whose parameters are sharded"):
        mtlbench.Backward(mtlbench.method("pcgrad"), FullyShardedDataParallel())


def test_sharded_parameters_are_refused_by_name(one_process):
    tensor = pytest.importorskip("torch.distributed.tensor")
    mesh = distributed.init_device_mesh("cpu", (1,))
    model = Model()
    for linear in (model.encoder[0], model.encoder[2]):
        linear.weight = nn.Parameter(tensor.distribute_tensor(linear.weight.detach(), mesh, [tensor.Shard(0)]))
    for shared in (model.encoder, list(model.encoder.parameters())):
        with pytest.raises(UsageError, match=r"shared parameter 0(\.weight)? is a DTensor, spread over processes"):
            mtlbench.Backward(mtlbench.method("pcgrad"), shared)


def test_fsdp2_modules_are_refused(one_process):
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("no FSDP2")
    model = Model()
    fsdp.fully_shard(model.encoder, mesh=distributed.init_device_mesh("cpu", (1,)))
    with pytest.raises(UsageError, match="FSDP module"):
        mtlbench.Backward(mtlbench.method("pcgrad"), model.encoder)
    with pytest.raises(UsageError, match="DTensor"):
        mtlbench.Backward(mtlbench.method("pcgrad"), list(model.encoder.parameters()))
