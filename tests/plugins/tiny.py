"""A regression problem that trains in milliseconds, with variants that fail in every way a task can."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import mtlbench

PROTOCOL = {
    "version": 1,
    "description": "Three epochs of eight steps.",
    "variants": ["plain", "raises", "diverges", "starves", "hangs", "sampled", "separate"],
    "epochs": 3,
    "batch_size": 8,
    "optimizer": {"name": "adam", "lr": 0.01},
    "options": {"dropout": 0.3, "size": 64},
}

SEARCH = {
    "optimizer.lr": {"low": 1e-3, "high": 0.1, "scale": "log"},
    "options.dropout": {"low": 0.0, "high": 0.5},
}


class Network(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(8, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(2))

    def forward(self, x: Tensor, head: int) -> Tensor:
        hidden = self.dropout(self.encoder(x).relu())
        _trace("mask", hidden.detach() == 0) if self.training else None
        return self.heads[head](self.decoder(hidden).relu()).squeeze(1)


@mtlbench.register_task(
    "tiny",
    protocols={
        "variants": {name: {"description": name, "protocol": "short"} for name in PROTOCOL["variants"]},
        "protocols": {"short": {**PROTOCOL, "search": SEARCH}, "long": {**PROTOCOL, "version": 2, "epochs": 5}},
    },
)
class Tiny(mtlbench.Task):
    """Two targets, linear in the same six inputs."""

    objectives = tuple(
        mtlbench.Objective(name, (mtlbench.Metric(name="mse", higher_is_better=False),)) for name in "ab"
    )
    notices = ("its data are random numbers",)

    def __init__(self, variant: str, protocol: mtlbench.Protocol, data_root: Path | None, device: torch.device) -> None:
        self.variant = variant
        size = int(protocol.options["size"])
        if size > 1000:
            raise mtlbench.UsageError(f"protocol.options.size={size} is not allowed: it is at most 1000.")
        self.dropout = float(protocol.options["dropout"])
        self.batch_size = protocol.batch_size
        self.steps_per_epoch = size // protocol.batch_size
        generator = torch.Generator().manual_seed(7)
        mixing = torch.randn(6, 2, generator=generator)
        self.data_digest = "0" * 64
        self.splits = {}
        for split in ("train", "val", "test"):
            x = torch.randn(size, 6, generator=generator)
            self.splits[split] = (x, x @ mixing)
        self.seen = 0

    def model(self) -> nn.Module:
        return Network(self.dropout)

    def shared(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in model.named_parameters() if not name.startswith("heads")]

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.splits["train"]
        for index in torch.randperm(len(x), generator=generator).split(self.batch_size):
            yield x[index], y[index]

    def present(self, batch: tuple[Tensor, Tensor]) -> list[int]:
        # Where objectives are sampled, a batch holds both or one of them.
        return [[0, 1], [0], [1]][int(batch[0][0, 0] * 1000) % 3] if self.variant == "sampled" else [0, 1]

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], objectives: list[int]) -> Iterator[Tensor]:
        x, y = batch
        self.seen += 1
        _trace("batch", x)
        time.sleep(float(os.environ.get("TINY_PAUSE", 0)))
        _pass_gate(self.seen)
        if self.seen == 5 and not os.environ.get("TINY_HEALTHY"):
            if self.variant == "raises":
                raise RuntimeError("the fifth step\nfails | always")
            if self.variant == "starves":
                raise torch.OutOfMemoryError("tried to allocate 7 TiB\ndetails")
            if self.variant == "hangs":
                time.sleep(1000)
        for k in objectives:
            loss = (model(x, k) - y[:, k]).square().mean()
            if self.variant == "diverges" and self.seen in (5, 6) and k == 1:
                loss = loss * float("nan")
            yield loss

    def evaluate(self, model: nn.Module, split: str, objectives: list[int]) -> dict[str, dict[str, float]]:
        print(f"evaluating {split}")
        os.write(1, b'{"event": "end", "status": "finished", "reason": "forged"}\n')
        x, y = self.splits[split]
        return {self.objectives[k].name: {"mse": float((model(x, k) - y[:, k]).square().mean())} for k in objectives}


def _pass_gate(steps: int) -> None:
    """`TINY_GATE="N GATE RESULTS"`: once there are N records, no cell goes further than six steps until GATE exists."""
    records, gate, results = os.environ.get("TINY_GATE", "0  ").split(" ")
    while gate and steps > 6 and not Path(gate).exists() and len([*Path(results).rglob("record.json")]) >= int(records):
        time.sleep(0.01)


def _trace(what: str, tensor: Tensor) -> None:
    if file := os.environ.get("TINY_TRACE"):
        digest = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        with Path(file).open("a", encoding="utf-8") as log:
            log.write(f"{what} {digest}\n")


@mtlbench.register_method("uncertainty", paper="arXiv:1705.07115")
class Uncertainty(mtlbench.LossWeighting):
    """Learned weights: `sum_k exp(-s_k) L_k + s_k`, with one trained `s_k` for each objective."""

    def start(self) -> None:
        self.log_variance = nn.Parameter(torch.zeros(self.objectives))

    def scalarize(self, losses: Tensor) -> Tensor:
        s = self.log_variance[self.present]
        return ((-s).exp() * losses + s).sum()

    def report(self) -> dict[str, float]:
        return {f"s{k}": s for k, s in enumerate(self.log_variance.tolist())}
