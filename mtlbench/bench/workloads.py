"""What whole training steps are timed on: two built-in shapes of problem, or a registered task."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional

from mtlbench.catalogue import building
from mtlbench.catalogue.data import data_root
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Task
from mtlbench.catalogue.variants import resolve
from mtlbench.errors import UsageError, unknown
from mtlbench.running import precision
from mtlbench.running.representing import require_representation
from mtlbench.running.trainee import optimizer_for

Shape = Literal["heads", "separate"]
SHAPES: tuple[str, ...] = ("heads", "separate")
"""One input through a shared trunk into K heads; or K inputs, each with a graph of its own."""

_CLASSES = 16


@dataclass(frozen=True)
class Scale:
    """The Transformer encoder and the batches of the built-in workloads; by default 5.0 million parameters."""

    width: int = 256
    layers: int = 6
    feedforward: int = 1024
    attention_heads: int = 4
    vocabulary: int = 1000
    sequences: int = 32
    """In each batch."""
    tokens: int = 32
    """In each sequence."""


SMALLEST = Scale(width=8, layers=1, feedforward=8, attention_heads=1, vocabulary=8, sequences=2, tokens=2)


class Workload(ABC):
    """A model, one batch (per objective), and its losses."""

    label: str
    objectives: int
    one_graph: bool
    """True where the losses come in a list and may share a graph, False where each has its own."""
    clip_norm: float | None = None
    """Gradients are scaled down to this norm before the optimiser's step."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model on the device; equal at every call."""

    @abstractmethod
    def shared(self, model: nn.Module) -> Iterable[tuple[str, Parameter]]:
        """The named parameters that more than one objective reaches."""

    @abstractmethod
    def losses(self, model: nn.Module, objectives: Sequence[int]) -> Sequence[Tensor] | Iterator[Tensor]:
        """A list if the losses share a graph, otherwise a generator."""

    def represented(
        self, model: nn.Module, objectives: Sequence[int]
    ) -> tuple[Sequence[Tensor], Tensor | Sequence[Tensor]]:
        """The losses, and what all heads read; raises `UsageError` where there is no such thing."""
        raise UsageError(f"wrt=representation is not allowed: {self.label} have no input in common.")

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """One whose learning rate is zero, so that every step does the same work."""
        return torch.optim.SGD(model.parameters(), lr=0.0)

    def precision(self) -> AbstractContextManager[object]:
        """A new context that a whole step runs in."""
        return nullcontext()

    @property
    def parameters(self) -> int:
        """P, the number of shared ones."""
        return sum(parameter.numel() for _, parameter in self.shared(self.model()))


class Encoder(nn.Module):
    """Token indices (N, T) to mean features (N, width)."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.embedding = nn.Embedding(scale.vocabulary, scale.width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                scale.width, scale.attention_heads, scale.feedforward, batch_first=True, norm_first=True
            )
            for _ in range(scale.layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        features = self.embedding(tokens)
        for layer in self.layers:
            features = layer(features)
        return cast("Tensor", features.mean(1))


class Classifier(nn.Module):
    """An encoder and some linear heads."""

    def __init__(self, scale: Scale, heads: int) -> None:
        super().__init__()
        self.encoder = Encoder(scale)
        self.heads = nn.ModuleList(nn.Linear(scale.width, _CLASSES) for _ in range(heads))


class BuiltIn(Workload):
    """The encoder on random tokens.

    Args:
        shape: `heads`: one batch, K heads, the encoder is shared. `separate`: a batch for each objective, as with
            one batch per language; all parameters are shared.
        objectives: K.
        scale: of the encoder and the batches.
        device: where everything lives.
    """

    def __init__(self, shape: Shape, objectives: int, scale: Scale, device: torch.device) -> None:
        self.label = "one input, K heads" if shape == "heads" else "K separate graphs"
        self.objectives = objectives
        self.one_graph = shape == "heads"
        self._scale, self._device = scale, device
        generator = torch.Generator().manual_seed(0)
        batches = 1 if self.one_graph else objectives
        size = (batches, scale.sequences, scale.tokens)
        self._tokens = torch.randint(scale.vocabulary, size, generator=generator).to(device)
        self._classes = torch.randint(_CLASSES, (objectives, scale.sequences), generator=generator).to(device)

    def model(self) -> nn.Module:
        """Weights do not depend on what was drawn before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Classifier(self._scale, self.objectives if self.one_graph else 1).to(self._device)

    def shared(self, model: nn.Module) -> Iterable[tuple[str, Parameter]]:
        """The encoder, and the head if there is but one."""
        if self.one_graph:
            return cast("Classifier", model).encoder.named_parameters(prefix="encoder")
        return model.named_parameters()

    def features(self, model: nn.Module) -> Tensor:
        """What the K heads share."""
        return cast("Tensor", cast("Classifier", model).encoder(self._tokens[0]))

    def head_losses(self, model: nn.Module, features: Tensor, objectives: Sequence[int]) -> list[Tensor]:
        """The losses of some heads on `features`."""
        heads = cast("Classifier", model).heads
        return [functional.cross_entropy(heads[k](features), self._classes[k]) for k in objectives]

    def losses(self, model: nn.Module, objectives: Sequence[int]) -> Sequence[Tensor] | Iterator[Tensor]:
        """Mean cross-entropies over the batch."""
        if self.one_graph:
            return self.head_losses(model, self.features(model), objectives)
        return self._one_by_one(cast("Classifier", model), objectives)

    def represented(self, model: nn.Module, objectives: Sequence[int]) -> tuple[Sequence[Tensor], Tensor]:
        """The losses of the heads, and the encoder's features."""
        if not self.one_graph:
            super().represented(model, objectives)
        features = self.features(model)
        return self.head_losses(model, features, objectives), features

    def _one_by_one(self, model: Classifier, objectives: Sequence[int]) -> Iterator[Tensor]:
        for k in objectives:
            yield functional.cross_entropy(model.heads[0](model.encoder(self._tokens[k])), self._classes[k])


class OfTask(Workload):
    """The first training batch of a registered task, trained as its protocol says."""

    def __init__(self, task: Task, protocol: Protocol, variant: str, device: torch.device) -> None:
        self.task, self._protocol, self._device = task, protocol, device
        self._variant = variant
        self._precision = precision.precision(protocol.autocast, device)
        self.label = f"{task.name}/{variant}"
        if self._precision != "float32":
            self.label += f" ({self._precision})"
        self.clip_norm = protocol.clip_norm
        self._batch = next(iter(task.batches(0, torch.Generator().manual_seed(0))))
        self._present = list(task.present(self._batch))
        self.objectives = len(self._present)
        self.one_graph = isinstance(self.losses(self.model(), range(self.objectives)), Sequence)

    def first(self, objectives: int) -> Self:
        """The same model on only so many of the batch's objectives; raises `UsageError` if it holds fewer."""
        if not 1 <= objectives <= len(self._present):
            raise UsageError(
                f"K={objectives} is not allowed: a batch of {self.label} holds {len(self._present)} objectives. "
                f"Choose 1 to {len(self._present)}, or leave K out for all of them."
            )
        fewer = copy.copy(self)
        fewer.objectives = objectives
        return fewer

    def model(self) -> nn.Module:
        """Weights do not depend on what was drawn before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.task.model().to(self._device)

    def shared(self, model: nn.Module) -> Iterable[tuple[str, Parameter]]:
        """As the task says."""
        return self.task.shared(model)

    def losses(self, model: nn.Module, objectives: Sequence[int]) -> Sequence[Tensor] | Iterator[Tensor]:
        """Of the objectives that the batch holds."""
        return self.task.losses(model, self._batch, [self._present[k] for k in objectives])

    def represented(
        self, model: nn.Module, objectives: Sequence[int]
    ) -> tuple[Sequence[Tensor], Tensor | Sequence[Tensor]]:
        """As the task says."""
        require_representation(self.task, self._variant)
        return self.task.losses_and_representation(model, self._batch, [self._present[k] for k in objectives])

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The protocol's, with a learning rate of zero."""
        still = self._protocol.optimizer.model_copy(update={"lr": 0.0})
        return optimizer_for(still, list(model.parameters()))

    def precision(self) -> AbstractContextManager[object]:
        """The one of training under the protocol on this device."""
        return precision.forward_context(self._precision, self._device)


def built_in(shape: str, objectives: int, scale: Scale, device: str) -> dict[str, Any]:
    """The settings of a built-in workload, for `build`."""
    if shape not in SHAPES:
        raise unknown("workload", shape, SHAPES)
    return {"shape": shape, "objectives": objectives, "scale": asdict(scale), "device": device}


def of_task(
    task: str,
    variant: str | None,
    protocol: str | None,
    overrides: Mapping[str, Any],
    data_root: str | None,
    device: str,
    objectives: int | None = None,
) -> dict[str, Any]:
    """The settings of a task's workload, for `build`: with the first `objectives` of its batch, or with all."""
    return {
        "task": task,
        "variant": variant,
        "protocol": protocol,
        "overrides": dict(overrides),
        "data_root": data_root,
        "device": device,
        "objectives": objectives,
    }


def build(settings: dict[str, Any]) -> Workload:
    """The workload of some settings, which JSON can hold, so that another process can build the same.

    Raises:
        UsageError: unknown names, more objectives than a batch holds. DataMissing: the task's data are not there.
    """
    return build_all([settings])[0]


def build_all(settings: Iterable[dict[str, Any]]) -> list[Workload]:
    """The workload of each settings, as `build` does; a task that several of them share is loaded once."""
    loaded: dict[str, OfTask] = {}
    built: list[Workload] = []
    for chosen in settings:
        device = torch.device(chosen["device"])
        if "task" not in chosen:
            built.append(BuiltIn(chosen["shape"], chosen["objectives"], Scale(**chosen["scale"]), device))
            continue
        key = json.dumps({**chosen, "objectives": None}, sort_keys=True)
        if key not in loaded:
            loaded[key] = _load(chosen, device)
        whole = loaded[key]
        built.append(whole if chosen["objectives"] is None else whole.first(chosen["objectives"]))
    return built


def _load(settings: dict[str, Any], device: torch.device) -> OfTask:
    name, root = settings["task"], data_root(settings["data_root"])
    variant, protocol = resolve(name, settings["variant"], settings["protocol"], settings["overrides"])
    task = building.task_class(name)(variant, protocol, root, device)
    return OfTask(task, protocol, variant, device)
