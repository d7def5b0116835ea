"""What the ranks of the tests of `test_sharded` do: many cases in one set of processes."""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

K, STEPS, RANKS = 3, 3, 4
UNEVEN = (3, 1, 5, 2)
"""Examples on each rank, of every objective; the first ranks where there are fewer."""


class Model(nn.Module):
    """Two layers of an encoder, one of a decoder, K heads; float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shared = {"encoder": nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5)), "decoder": nn.Linear(5, 4)}
        self.shared = nn.ModuleDict(shared)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(K))
        self.around: frozenset[int] = frozenset()
        """Objectives that go around the decoder."""
        self.double()

    def trunk(self, x: Tensor) -> Tensor:
        return self.shared["decoder"](self.shared["encoder"](x).tanh())

    def forward(self, x: Tensor, k: int | None, ys: Sequence[Tensor]) -> list[Tensor]:
        held = range(K) if k is None else [k]
        inner = self.shared["encoder"](x).tanh()
        features = self.shared["decoder"](inner) if {*held} - self.around else inner
        return [self.loss(j, inner[:, :4] if j in self.around else features, y) for j, y in zip(held, ys, strict=True)]

    def loss(self, k: int, features: Tensor, y: Tensor) -> Tensor:
        return (self.heads[k](features) - y).pow(2).mean() * (1 + k) + 0.1


@dataclass(frozen=True)
class Case:
    """One way of training, which must be the same on several ranks as in one process."""

    method: str
    granularity: str = "whole_model"
    apart: bool = False
    """Whether each objective has inputs of its own, in a generator."""
    even: bool = False
    absent: tuple[tuple[int, int, int], ...] = ()
    """(step, objective, rank): not there; of objectives that no rank has in a step, say rank -1."""
    options: tuple[tuple[str, Any], ...] = ()
    parameters: tuple[tuple[str, Any], ...] = ()
    kept: bool = False
    """Whether gradients are added to those of the step before."""

    clipped: bool = False
    around: bool = False
    """Whether objective 1 goes around the decoder from the second step on."""

    @property
    def name(self) -> str:
        shown = [
            self.method,
            self.granularity,
            "generator" if self.apart else "list",
            "even" if self.even else "uneven",
        ]
        shown += [f"{key}={value}" for key, value in (*self.options, *self.parameters)]
        shown += ["absent"] * bool(self.absent) + ["accumulated"] * self.kept + ["around"] * self.around
        return "-".join(shown)


def full_sizes(case: Case, k: int, ranks: int) -> list[int]:
    """How many examples of an objective each rank has where it is present."""
    return [4] * ranks if case.even else [n + (k if case.apart else 0) for n in UNEVEN[:ranks]]


def sizes(case: Case, step: int, k: int, ranks: int) -> list[int]:
    """How many examples of an objective each rank has in a step."""
    found = full_sizes(case, k, ranks)
    for when, which, where in case.absent:
        if (when, which) == (step, k):
            found = [0] * ranks if where < 0 else [0 if rank == where else n for rank, n in enumerate(found)]
    return found


def data(case: Case, step: int, k: int) -> tuple[Tensor, Tensor]:
    """More examples than any number of ranks takes."""
    source = torch.Generator().manual_seed(100 * step + (10 * k if case.apart else 0))
    x = torch.randn(60, 6, generator=source, dtype=torch.float64)
    return x, (x @ torch.randn(6, 1, generator=torch.Generator().manual_seed(k), dtype=torch.float64)).sin()


def train(
    case: Case, ranks: int, rank: int | None, group: Any, prepare: Callable[[Model], Any] = lambda model: model
) -> dict[str, Any]:
    """Three steps, of one rank or, with None, of a process that has the batches of all `ranks`."""
    import mtlbench

    model = prepare(Model())
    method = mtlbench.method(case.method, **dict(case.parameters)).seed(5)
    method.steps_per_epoch = 1
    together = {} if group is None else {"process_group": group, "heads": model}
    backward = mtlbench.Backward(method, model.shared, case.granularity, objectives=K, **dict(case.options), **together)
    trained = [*model.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    found: dict[str, Any] = {"weights": [], "losses": [], "updates": []}
    for step in range(STEPS):
        model.around = frozenset({1} if case.around and step else ())
        if not case.kept:
            optimizer.zero_grad()
        counts = [sizes(case, step, k, ranks) for k in range(K)]
        here = [sum(of_ranks) if rank is None else of_ranks[rank] for of_ranks in counts]
        held = [k for k in range(K) if here[k]]
        several = len(getattr(method, "batch_shares", (1,)))
        given = (losses(model, case, step + 50 * b, step, held, ranks, rank) for b in range(several))
        values = backward(given if several > 1 else next(given), held, examples=[here[k] for k in held])
        found["losses"].append(values)
        found["weights"].append(backward.weights if backward.weights is not None else torch.zeros(1))
        updates = [whole(p.grad).flatten() for p in trained if p.grad is not None]
        found["updates"].append(torch.cat(updates).clone())
        if case.clipped:
            found["losses"].append(whole(nn.utils.clip_grad_norm_(trained, 0.5)))
        optimizer.step()
        if getattr(method, "reviews", False):
            with torch.no_grad():
                backward.review(losses(model, case, step, step, held, ranks, rank))
    found["parameters"] = torch.cat([whole(p.detach()).flatten() for p in trained])
    return found


def losses(model: Model, case: Case, seed: int, step: int, held: Sequence[int], ranks: int, rank: int | None) -> Any:
    """A list where objectives share an input, or a generator."""

    def share(k: int) -> tuple[Tensor, Tensor]:
        x, y = data(case, seed, k)
        counts = sizes(case, step, k, ranks)
        full = full_sizes(case, k, ranks)
        starts = [sum(full[:r]) for r in range(ranks)]
        chosen = [i for r in range(ranks) if rank in (None, r) for i in range(starts[r], starts[r] + counts[r])]
        return x[chosen], y[chosen]

    def one(k: int) -> Tensor:
        x, y = share(k)
        return model(x, k, [y])[0]

    if case.apart:
        return (one(k) for k in held)
    if len(held) == K and not case.absent:
        return model(share(0)[0], None, [share(k)[1] for k in held])
    return [one(k) for k in held]


def serve(rank: int, store: str, inbox: Any, outbox: Any) -> None:
    """A rank: runs what it is sent, until it is sent None."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group("gloo", store=distributed.FileStore(store, RANKS), rank=rank, world_size=RANKS)
    groups = {n: distributed.new_group(list(range(n))) for n in (1, 2, 4)}
    while (job := inbox.recv()) is not None:
        function, ranks, arguments = job
        if rank < ranks:
            try:
                outbox.send(("ok", function(groups[ranks], ranks, rank, *arguments)))
            except BaseException as error:
                outbox.send(("error", f"{type(error).__name__}: {error}", traceback.format_exc()))
    distributed.destroy_process_group()


class Processes:
    """Four ranks that wait for work."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "mtlbench.engine.backward", "ranks_at_work"])
        self._ends, self._processes = [], []
        for rank in range(RANKS):
            inbox, to = context.Pipe(duplex=False)
            of, outbox = context.Pipe(duplex=False)
            process = context.Process(target=serve, args=(rank, str(folder / "store"), inbox, outbox), daemon=True)
            process.start()
            self._ends.append((to, of))
            self._processes.append(process)

    def run(self, ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `function(group, ranks, rank, *arguments)` answers on each of the first ranks, or `("error", ...)`."""
        for to, _ in self._ends[:ranks]:
            to.send((function, ranks, arguments))
        answers = []
        for _, of in self._ends[:ranks]:
            if not of.poll(60):
                raise AssertionError("a rank does not answer")
            answers.append(of.recv())
        return answers

    def close(self) -> None:
        for to, _ in self._ends:
            to.send(None)
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def together(group: Any, ranks: int, rank: int, case: Case) -> dict[str, Any]:
    return train(case, ranks, rank, group)


def fully_sharded(group: Any, ranks: int, rank: int, case: Case) -> dict[str, Any]:
    """As `together`, with a model of FSDP2 whose parameters are gathered at the end."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    mesh = DeviceMesh.from_group(group, "cpu")

    def prepare(model: Model) -> Any:
        fully_shard(model.shared["encoder"][0], mesh=mesh)
        fully_shard(model.shared["decoder"], mesh=mesh)
        return fully_shard(model, mesh=mesh)

    return train(case, ranks, rank, group, prepare)


def whole(tensor: Any) -> Tensor:
    """A tensor of all ranks, also where each has a shard."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def in_small_buckets(group: Any, ranks: int, rank: int, case: Case) -> dict[str, Any]:
    """As `together`, as large models are: gradients are taken one by one, and rows travel in many messages."""
    from mtlbench.engine import sharded

    before = sharded._BUCKET, sharded._GATHERED_COLUMNS, sharded._UNDERWAY
    sharded._BUCKET, sharded._GATHERED_COLUMNS, sharded._UNDERWAY = 64 * ranks, 0, 2
    try:
        return train(case, ranks, rank, group)
    finally:
        sharded._BUCKET, sharded._GATHERED_COLUMNS, sharded._UNDERWAY = before


def kept_entries(group: Any, ranks: int, rank: int, rows: int) -> tuple[int, int]:
    """Entries of the Jacobian that this rank keeps, and those that there are."""
    from mtlbench.engine.collectives import Collectives
    from mtlbench.engine.sharded import ShardedJacobian

    parameters = [nn.Parameter(torch.zeros(n)) for n in (70_000, 300, 41_000)]
    jacobian = ShardedJacobian([[p] for p in parameters], None, Collectives(group, torch.device("cpu")))
    jacobian.reserve(rows)
    return jacobian._buffer.numel(), rows * sum(p.numel() for p in parameters)


def start(group: Any, name: str = "pcgrad", **options: Any) -> tuple[Model, Any, Tensor]:
    import mtlbench

    model = Model()
    options = {"process_group": group, "heads": model, "objectives": K, **options}
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, mtlbench.Backward(mtlbench.method(name), model.shared, **options), x


def broken(group: Any, ranks: int, rank: int, how: str) -> str:
    """What this rank is told where something is wrong, on the last rank alone in most cases."""
    from mtlbench.errors import Diverged, UsageError

    last = rank == ranks - 1
    try:
        if how == "method without place":
            start(group, "db_mtl")
        if how == "options":
            _, backward, x = start(group, treated=[0, 1] if last else None)
        elif how == "no heads":
            _, backward, x = start(group, heads=None)
        elif how == "layer":
            _, backward, x = start(group, "gradnorm")
        else:
            _, backward, x = start(group)
        model, y = _, torch.ones(4, 1, dtype=torch.float64)
        if how == "parameters" and last:
            with torch.no_grad():
                next(model.shared.parameters())[0] += 1e-12
        if how == "nan" and last:
            y = y * torch.nan
        losses = [model.loss(k, model.trunk(x), y) for k in range(K)]
        before = [p.grad for p in model.parameters()]
        held, examples = list(range(K)), None
        if how == "count" and last:
            losses = losses[:2]
        if how == "order":
            held = [2, 1, 0] if last else [0, 1, 2]
        if how == "layer" and last:
            losses, held = losses[:1], [0]
        if how == "examples":
            examples = [0, 1, 1]
        if how == "seed":
            backward(losses)
            backward.method.seed(rank)
            losses = [model.loss(k, model.trunk(x), y) for k in range(K)]
        if how == "rank without losses":
            losses, held = [], []
        backward(losses, held, examples=examples)
    except (UsageError, Diverged) as error:
        unchanged = how in ("method without place", "seed") or all(
            a is b for a, b in zip(before, (p.grad for p in model.parameters()), strict=True)
        )
        return f"{type(error).__name__}: {error}" + ("" if unchanged else " GRADIENTS CHANGED")
    return "no error"


def checkpointed(group: Any, ranks: int, rank: int) -> str:
    """A layer that is used within a reentrant checkpoint and after it."""
    from torch.utils.checkpoint import checkpoint

    from mtlbench.engine import sharded
    from mtlbench.errors import UsageError

    before, sharded._GATHERED_COLUMNS = sharded._GATHERED_COLUMNS, 0
    model, backward, x = start(group)
    layer = model.shared["encoder"][0]
    try:
        y = torch.ones(4, 1, dtype=torch.float64)
        inner = checkpoint(lambda z: layer(z).tanh(), x.clone().requires_grad_(), use_reentrant=True)
        features = model.trunk(x + inner[:, :6])
        backward([model.loss(k, features, y) for k in range(K)])
    except UsageError as error:
        return str(error)
    finally:
        sharded._GATHERED_COLUMNS = before
    return "no error"


def unlike(group: Any, ranks: int, rank: int) -> str:
    """An objective that fully_shard cannot do without."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    import mtlbench

    model = fully_shard(Model(), mesh=DeviceMesh.from_group(group, "cpu"))
    backward = mtlbench.Backward(
        mtlbench.method("pcgrad"), model.shared, objectives=K, process_group=group, heads=model
    )
    x, y = torch.ones(2, 6, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    held = [0, 1] if rank == 0 else [0, 1, 2]
    try:
        backward([model(x, k, [y])[0] for k in held], held)
    except mtlbench.UsageError as error:
        return str(error)
    return "no error"
