"""What a task is: named objectives, a model, batches, one loss per objective, scores on a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mtlbench.errors import UsageError

if TYPE_CHECKING:
    import torch

    from mtlbench.catalogue.protocol import Protocol
    from mtlbench.catalogue.relation import Relation
    from mtlbench.catalogue.sampling import Shares, Supply


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of one objective, with the direction and the unit that tables and Delta-m need."""

    name: str
    higher_is_better: bool
    unit: str = ""
    signature: str = ""
    """Its exact definition in its library's own notation, such as a sacreBLEU signature."""


@dataclass(frozen=True)
class Objective:
    """One of the K losses that a task trains jointly, with the metrics that score it, the main one first."""

    name: str
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Estimate:
    """A score with what is known of its sampling: how far other test examples of the same kind would have moved it."""

    value: float
    """The score, as it would be without the rest."""
    error: float | None
    """Its standard error from the choice of test examples, in the metric's unit; None where it cannot be said.

    `mtlbench.statistics.mean_error` and `ratio_error` give it for the usual scores.
    """
    count: int
    """How many test examples were scored, 1 at least: those that can be thought of as drawn independently of each
    other, such as sentences, and not the tokens within them."""


@dataclass(frozen=True)
class Probes:
    """Batches on which gradients are looked at while a cell trains."""

    batches: Sequence[Any]
    """Each holds all objectives, and no two hold the same example."""
    aligned: bool
    """Whether each holds the same examples, such as translations of each other, for all objectives."""
    examples: int
    """How many examples of one objective a batch holds; 0 where the task does not say."""
    split: str = ""
    """Which split they are of, such as `val`, which is not trained on; empty where the task does not say."""


class Task(ABC):
    """A benchmark problem on one variant (data source and scale) under one protocol.

    The constructor loads the data and raises `DataMissing` when files are not there. Everything random is
    drawn from what the runner passes or seeds, never from a clock or a generator of the task's own.

    Args:
        variant: one of the variants that the task's `protocols.yaml` lists.
        protocol: what fixes training and scoring; its `options` are the task's own.
        data_root: the folder of the real data sets, or None where none was given.
        device: where batches and losses live; the runner moves the model there.
    """

    name: ClassVar[str]

    objectives: Sequence[Objective]
    """The K objectives, in the order of the losses."""
    steps_per_epoch: int
    """0 is allowed where the protocol has no epochs, as of a model that is only scored."""
    data_digest: str
    """SHA-256 (hex) over the arrays that training and scoring use."""
    groups: Mapping[str, Sequence[int]] = {}
    """Named groups of objectives, which may overlap; tables show the mean over each beside the mean over all."""
    extra_splits: Sequence[str] = ()
    """Test splits beside `test`. They are scored at every evaluation, or, where the protocol's selection is `last`,
    after the last epoch only; `mtlbench table --split NAME` reports one."""
    facts: Mapping[str, Any] = {}
    """What the task says of itself in the record: numbers, strings and nested mappings and lists of them, such as
    counts of repaired lines or the digest of a subword model. Read once, after the model is built."""
    packages: Sequence[str] = ()
    """Installed packages, beside those of every record, on whose version its numbers depend. Records with different
    versions share no table."""
    notices: Sequence[str] = ()
    """What people should be told before training, a sentence each, such as how much of the data is left out."""

    @abstractmethod
    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None: ...

    @abstractmethod
    def model(self) -> torch.nn.Module:
        """A new model; the runner has seeded torch's global generator with the `init` stream."""

    @abstractmethod
    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The named parameters that more than one objective's loss reaches, in the order of the forward pass."""

    @abstractmethod
    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        """The `steps_per_epoch` training batches of `epoch` (from 0); order and pairing from `generator` alone."""

    def batches_of(self, objective: int, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        """The same number of batches, each of one objective alone and as large as a whole step of all of them.

        Single-task models are trained on these where the protocol says `single_task_budget: same_step`. A task whose
        objectives have data of their own implements it. An objective without training data has empty batches, of which
        `present` says so.

        Raises:
            UsageError: the task has no such batches.
        """
        raise UsageError(
            f"protocol.single_task_budget=same_step is not allowed: the task {self.name!r} has no batches of one "
            "objective that are as large as a step (Task.batches_of). Choose same_share."
        )

    def supply(self) -> Supply:
        """What there is to share out among the objectives, for a strategy (`mtlbench run sampling=NAME`).

        A task whose objectives have data of their own implements it, with `share_out`.

        Raises:
            UsageError: the task shares its steps out in one way only.
        """
        raise UsageError(
            f"sampling= is not allowed: the task {self.name!r} shares its steps out in one way only (Task.supply)."
        )

    def share_out(self, shares: Shares | None) -> Shares:
        """From the next call of `batches` on, share every step out like this; None for the way of the protocol.

        Args:
            shares: (K,), as `Sampling.shares` has them. An objective without a share is in no step.

        Returns:
            (K,) what the loss of each objective is multiplied with over its mean, such as K p_i; any where it has no
            share.
        """
        raise NotImplementedError

    def present(self, batch: Any) -> Sequence[int]:
        """Which objectives `batch` holds; all of them unless a task samples objectives."""
        return range(len(self.objectives))

    def divide(self, batch: Any, part: int, parts: int) -> tuple[Any, Mapping[int, float]]:
        """What one of several processes takes of a batch (`mtlbench run processes=N`), and how much that is.

        By default a batch is tensors with a row for each example, in lists, tuples or dicts, whose rows are shared out
        evenly, and every loss is the mean over the examples. A task with other batches, or whose losses are means over
        something else, such as the tokens of a language, says so here.

        Args:
            batch: of `batches` or `batches_of`.
            part: from 0.
            parts: that together hold the batch.

        Returns:
            The part, a batch for `losses`; objective -> how much its loss on the part is the mean of, 0 or left out
            where the part holds nothing of it.

        Raises:
            UsageError: it cannot be divided.
        """
        from mtlbench.catalogue.dividing import rows_of

        try:
            found, rows = rows_of(batch, part, parts)
        except UsageError as error:
            raise UsageError(
                f"processes={parts} is not allowed: a batch of the task {self.name!r} cannot be divided, as {error}. "
                "Train it on one process, or have the task say how its batches are divided (Task.divide)."
            ) from error
        return found, dict.fromkeys(self.present(batch), float(rows))

    @abstractmethod
    def losses(
        self, model: torch.nn.Module, batch: Any, objectives: Sequence[int]
    ) -> Sequence[torch.Tensor] | Iterator[torch.Tensor]:
        """The scalar losses of `objectives` on `batch`, in that order.

        One input through one trunk into K heads: a list, whose graphs may share the trunk. K inputs through
        one model: a generator that builds each loss when it is asked for, so that its graph can be freed
        before the next one is built.
        """

    @property
    def has_representation(self) -> bool:
        """Whether `losses_and_representation` answers, for this variant under this protocol."""
        return type(self).losses_and_representation is not Task.losses_and_representation

    def losses_and_representation(
        self, model: torch.nn.Module, batch: Any, objectives: Sequence[int]
    ) -> tuple[Sequence[torch.Tensor], torch.Tensor | Sequence[torch.Tensor]]:
        """The same as `losses`, with what all heads read: for `mtlbench run wrt=representation`.

        A task with one input for all objectives implements it. The representation is the tensor, or tensors, of this
        very step at which the graphs of the heads meet that of the shared encoder: whatever a loss takes from a shared
        parameter, it takes through them, and none of them depends on another.
        """
        raise UsageError(f"The task {self.name!r} does not say what its heads read (Task.losses_and_representation).")

    @abstractmethod
    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float | Estimate]]:
        """Scores of `objectives` on `split`: objective name -> metric name -> value, or an `Estimate` of it.

        With an `Estimate` the record keeps the sampling error and the number of examples beside the value. Nothing
        else depends on them.

        `val` and `test` have all objectives; one of `extra_splits` may have some, and those that it lacks are left
        out. The runner has set the model to evaluation mode, turned gradients off, and set the precision of training.
        """

    def predictions(self, model: torch.nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, str | bytes]:
        """What is predicted for `objectives` on `split`, as files: name (with `/` for folders) -> text, or bytes.

        Every file belongs to one objective. Asked for with `mtlbench run ... predictions=DIR` alone, under the
        conditions of `evaluate`; a task that writes none leaves this out.
        """
        return {}

    def probes(self, count: int, examples: int, generator: torch.Generator) -> Probes:
        """Batches for `losses`, on which gradients are recorded while a cell trains (`mtlbench run geometry.every=N`).

        By default they are training batches of the first epoch, as large as those are. A task that can choose examples
        does, and takes them from what it does not train on.

        Args:
            count: of batches, 2 at least.
            examples: of one objective in a batch; a task that cannot choose them gives what it has.
            generator: draws them, from a stream of the cell's seed: the same for all methods.

        Raises:
            UsageError: there are not so many, or a batch lacks objectives.
        """
        batches = list(islice(self.batches(0, generator), count))
        if len(batches) < count:
            there = f"{len(batches)} batches in an epoch"
            raise UsageError(f"{self.name} has {there}, fewer than geometry.batches={count}.")
        for batch in batches:
            if lacking := [o.name for k, o in enumerate(self.objectives) if k not in self.present(batch)]:
                raise UsageError(
                    f"{self.name} has training batches without {', '.join(lacking[:5])}, and none of its own to record "
                    "the geometry of gradients on (`Task.probes`)."
                )
        return Probes(batches, aligned=False, examples=0, split="train")

    def relations(self) -> Sequence[Relation]:
        """What is known of how the objectives relate, for the geometry of their gradients to be compared with.

        `mtlbench.Relation` says what there can be: distances, similarities, amounts, labels. None by default.
        """
        return ()
