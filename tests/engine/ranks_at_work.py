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
        self.double()

    def trunk(self, x: Tensor) -> Tensor:
        return self.shared["decoder"](self.shared["encoder"](x).tanh())

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

    @property
    def name(self) -> str:
        shown = [
            self.method,
            self.granularity,
            "generator" if self.apart else "list",
            "even" if self.even else "uneven",
        ]
        shown += [f"{key}={value}" for key, value in (*self.options, *self.parameters)]
        return "-".join(shown + ["absent"] * bool(self.absent) + ["accumulated"] * self.kept)


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


def train(case: Case, ranks: int, rank: int | None, group: Any) -> dict[str, Any]:
    """Three steps, of one rank or, with None, of a process that has the batches of all `ranks`."""
    import mtlbench

    model = Model()
    method = mtlbench.method(case.method, **dict(case.parameters)).seed(5)
    method.steps_per_epoch = 1
    together = {} if group is None else {"process_group": group, "heads": model}
    backward = mtlbench.Backward(method, model.shared, case.granularity, objectives=K, **dict(case.options), **together)
    optimizer = torch.optim.SGD([*model.parameters(), *method.parameters()], lr=0.05, momentum=0.9)
    found: dict[str, Any] = {"weights": [], "losses": [], "updates": []}
    for step in range(STEPS):
        if not case.kept:
            optimizer.zero_grad()
        held = [
            k
            for k in range(K)
            if (sum(sizes(case, step, k, ranks)) if rank is None else sizes(case, step, k, ranks)[rank])
        ]
        several = len(getattr(method, "batch_shares", (1,)))
        examples = None if rank is None else [sizes(case, step, k, ranks)[rank] for k in held]
        given = (losses(model, case, step + 50 * b, step, held, ranks, rank) for b in range(several))
        values = backward(
            given if several > 1 else next(given), held, **({} if group is None else {"examples": examples})
        )
        found["losses"].append(values)
        found["weights"].append(backward.weights if backward.weights is not None else torch.zeros(1))
        found["updates"].append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone())
        optimizer.step()
        if getattr(method, "reviews", False):
            with torch.no_grad():
                backward.review(losses(model, case, step, step, held, ranks, rank))
    found["parameters"] = torch.cat([p.detach().flatten() for p in [*model.parameters(), *method.parameters()]])
    return found


def losses(model: Model, case: Case, seed: int, step: int, held: Sequence[int], ranks: int, rank: int | None) -> Any:
    def share(k: int) -> tuple[Tensor, Tensor]:
        x, y = data(case, seed, k)
        counts = sizes(case, step, k, ranks)
        full = full_sizes(case, k, ranks)
        starts = [sum(full[:r]) for r in range(ranks)]
        chosen = [i for r in range(ranks) if rank in (None, r) for i in range(starts[r], starts[r] + counts[r])]
        return x[chosen], y[chosen]

    def one(k: int) -> Tensor:
        x, y = share(k)
        return model.loss(k, model.trunk(x), y)

    if case.apart:
        return (one(k) for k in held)
    if len({tuple(share(k)[0].shape) for k in held}) == 1 and not case.absent:
        features = model.trunk(share(held[0])[0])
        return [model.loss(k, features, share(k)[1]) for k in held]
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
