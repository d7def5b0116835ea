"""What can be chosen about a table: selection, split, level, the row to compare with, how Delta-m is printed."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtlbench.statistics import LEVEL


@dataclass(frozen=True)
class DeltaConvention:
    """How Delta-m is computed and printed; it is meaningless without this."""

    weighting: str = "main"
    """`main`: the mean over the main metrics of objectives. `objective`: the mean over objectives of the mean over
    their metrics. `metric`: the mean over metrics. Mean ranks are over the same metrics."""
    negative: bool = False
    """Whether negative means better."""

    @property
    def sign_in_words(self) -> str:
        """Which sign is the better one."""
        return f"{'negative' if self.negative else 'positive'} = better"

    @property
    def weighting_in_words(self) -> str:
        """What the mean is over."""
        return {
            "main": "mean over the main metrics of objectives",
            "objective": "mean over objectives of the mean over their metrics",
            "metric": "mean over all metrics",
        }[self.weighting]


@dataclass(frozen=True)
class TableOptions:
    """How tables are made."""

    selection: str | None = None
    """A rule of `mtlbench.record.selection`; None for the one that the protocol states."""
    split: str = "test"
    """What is reported: `test` or an extra split; tasks without it have no table then."""
    level: float = LEVEL
    against: str | None = None
    """The label of the row that the others are compared with; None for the baseline where it is there."""
    convention: DeltaConvention = field(default_factory=DeltaConvention)
    all_metrics: bool = False
    """A column for every metric instead of the main one of each objective."""
    allow_mixed: bool = False
    """Mark what must not differ within a table instead of refusing it."""
    sampling: bool = False
    """Show beside each score its standard error from the choice of test examples, and their number."""
    published: bool = False
    """Add the rows that were published for the same task and protocol."""
