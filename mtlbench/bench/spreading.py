"""The cost of a step on several processes: time against a plain sum, bytes and memory against their formulas."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import QUIET_SHARE, others
from mtlbench.catalogue import building
from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting
from mtlbench.errors import UsageError

SUM = "ddp sum"
"""One backward pass over the sum of the losses, averaged by DistributedDataParallel."""

_EXAMPLES, _WIDTH = 32, 256
_COUNTED = Path("/proc/self/io")
_CALLS = 3
"""Steps of a sample."""


def processes(
    methods: Sequence[str] = ("gradvac",),
    objectives: int = 8,
    parameters: int = 2_500_000,
    count: int = 2,
    repeats: int = 11,
    progress: Progress | None = None,
) -> Bench:
    """Time steps on several processes of this host, by gloo on the CPU.

    A trunk of square layers with K linear heads, one input, 32 examples on each process. All subjects take turns within
    a repeat: `ddp sum`; each method on all processes; and each method on every process for itself (`alone`), without
    messages. A step is the backward passes and what `Backward` does; forward passes are in all of them.

    Rows have, with times in seconds:

    - labels `processes`, `P`, `K`, `method`;
    - ratios `/ddp sum` and `/alone`;
    - seconds `step`, `alone`, `ddp sum`;
    - bytes that a process writes in a step (`sent`), and `sent by ddp`; what it keeps of the Jacobian (`jacobian`);
    - bytes ratios `sent/formula`, to (K + 1) P b (N - 1) / N, and `jacobian/(KP/N)`.

    Args:
        methods: registry names of methods that weigh gradients by their Gramian.
        objectives: K.
        parameters: P, approximate.
        count: N.
        repeats: samples of each subject.
        progress: told of every sample.

    Raises:
        UsageError: a method without a Gramian of one batch, fewer than two processes, or a number below 1.
    """
    settings = {key: value for key, value in locals().items() if key != "progress"}
    if count < 2 or min(objectives, parameters, repeats) < 1 or not methods:
        raise UsageError("a benchmark of processes needs a method, at least 2 processes, and numbers of at least 1.")
    for name in methods:
        if not isinstance(building.method(name), GramianWeighting):
            raise UsageError(f"{name} sees no Gramian: on several processes it is one backward pass, as a plain sum.")
    subjects = [SUM, *(f"{name}{where}" for name in methods for where in ("", " alone"))]
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    disturbed = 0
    with tempfile.TemporaryDirectory() as folder:
        ranks = _Ranks(count, objectives, parameters, list(methods), str(Path(folder) / "store"))
        try:
            facts = {name: ranks.run(name)[0] for name in subjects}
            for repeat in range(repeats):
                for index, name in enumerate(subjects):
                    seconds, quiet = ranks.sample(name)
                    samples[name].append(seconds)
                    disturbed += not quiet
                    if progress:
                        progress(repeat * len(subjects) + index + 1, repeats * len(subjects), name)
        finally:
            ranks.close()
    return Bench(
        kind="processes",
        settings=settings,
        environment=Environment.here(torch.device("cpu"), None),
        disturbed=disturbed / (repeats * len(subjects)),
        rows=[_row(name, samples, facts, count, objectives) for name in methods],
    )


def _row(name: str, samples: dict[str, list[float]], facts: dict[str, Any], count: int, objectives: int) -> Row:
    mine = {"step": samples[name], "alone": samples[f"{name} alone"], SUM: samples[SUM]}
    found = facts[name]
    size = found["parameters"]
    formula = (objectives + 1) * size * 4 * (count - 1) / count
    sent = found["sent"]
    return Row(
        labels={"processes": count, "P": size, "K": objectives, "method": name},
        ratios={"/ddp sum": Spread.of(mine, "step", SUM), "/alone": Spread.of(mine, "step", "alone")},
        seconds=medians(mine, mine),
        bytes={"sent": sent, "sent by ddp": facts[SUM]["sent"], "jacobian": found["jacobian"]},
        bytes_ratios={
            "sent/formula": None if sent is None else sent / formula,
            "jacobian/(KP/N)": found["jacobian"] / (objectives * size * 4 / count),
        },
        samples=mine,
    )


class _Ranks:
    """The processes, which wait for the name of what to run."""

    def __init__(self, count: int, objectives: int, parameters: int, methods: Sequence[str], store: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(count):
            here, there = context.Pipe()
            arguments = (rank, count, objectives, parameters, methods, store, there)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, name: str) -> list[dict[str, Any]]:
        """What each process tells of the steps that it has taken."""
        for pipe in self._pipes:
            pipe.send(name)
        return [pipe.recv() for pipe in self._pipes]

    def sample(self, name: str) -> tuple[float, bool]:
        """Seconds of a step of the slowest process, and whether nothing else used the machine."""
        before, started = others(), time.perf_counter()
        told = self.run(name)
        wall = time.perf_counter() - started
        own = sum(one["cpu"] for one in told)
        share = max(0.0, others() - before - own - 0.02) / (wall * (os.cpu_count() or 1))
        return max(one["seconds"] for one in told), share <= QUIET_SHARE

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.join()


def _serve(
    rank: int, count: int, objectives: int, parameters: int, methods: Sequence[str], store: str, pipe: Any
) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", store=distributed.FileStore(store, count), rank=rank, world_size=count)
    group = distributed.group.WORLD
    calls: dict[str, Callable[[], Any]] = {SUM: _summed(objectives, parameters)}
    for name in methods:
        calls[name] = _Combined(name, objectives, parameters, group)
        calls[f"{name} alone"] = _Combined(name, objectives, parameters, None)
    while True:
        call = calls[pipe.recv()]
        cpu = time.process_time()
        call()
        distributed.barrier()
        before, started = _written(), time.perf_counter()
        for _ in range(_CALLS):
            call()
        seconds, written = (time.perf_counter() - started) / _CALLS, _written()
        pipe.send(
            {
                "seconds": seconds,
                "cpu": time.process_time() - cpu,
                "sent": None if before is None or written is None else (written - before) // _CALLS,
                **getattr(call, "facts", dict)(),
            }
        )


class _Model(nn.Module):
    def __init__(self, objectives: int, parameters: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = max(1, round(parameters / (_WIDTH * _WIDTH + _WIDTH)))
        self.trunk = nn.Sequential(*(nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.Tanh()) for _ in range(layers)))
        self.heads = nn.ModuleList(nn.Linear(_WIDTH, 1) for _ in range(objectives))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        return [(head(features) - k).pow(2).mean() for k, head in enumerate(self.heads)]


class _Combined:
    """A step of a method, on all processes or, without a group, on this one."""

    def __init__(self, name: str, objectives: int, parameters: int, group: Any) -> None:
        self._model = _Model(objectives, parameters)
        heads = None if group is None else self._model
        self._backward = Backward(building.method(name), self._model.trunk, process_group=group, heads=heads)
        self._x = torch.randn(_EXAMPLES, _WIDTH)

    def __call__(self) -> None:
        self._model.zero_grad()
        self._backward(self._model(self._x))

    def facts(self) -> dict[str, int]:
        jacobian = self._backward._jacobian
        assert jacobian is not None
        return {
            "parameters": sum(p.numel() for p in self._model.trunk.parameters()),
            "jacobian": jacobian._buffer.numel() * jacobian._buffer.element_size(),
        }


def _summed(objectives: int, parameters: int) -> Callable[[], None]:
    model = DistributedDataParallel(_Model(objectives, parameters))
    x = torch.randn(_EXAMPLES, _WIDTH)

    def step() -> None:
        model.zero_grad()
        torch.stack(model(x)).sum().backward()

    return step


def _written() -> int | None:
    """Bytes that this process has written so far, to sockets above all; None where the system does not tell."""
    if not _COUNTED.exists():
        return None
    lines = dict(line.split(": ") for line in _COUNTED.read_text().splitlines())
    return int(lines["wchar"])
