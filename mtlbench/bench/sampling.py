"""Timing several subjects so that their ratios can be trusted on a machine that is not quiet.

Subjects take turns within every repeat, so that a drift of the machine meets all of them, and ratios are taken
within a repeat. A sample during which other processes used the processor is taken again; if it never gets quiet,
the least disturbed attempt is kept and counted.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# A sample is disturbed if others used more than this share of the machine, beyond the clock's resolution.
QUIET_SHARE = 0.1
_STAT = Path("/proc/stat")


@dataclass
class Sampler:
    """How samples are taken, and how many of those kept so far were disturbed.

    Args:
        synchronize: waits until the device has finished.
        sample_seconds: a sample repeats its call until it lasts about this long.
        warm: precede every sample by a call that is not timed, so that what ran before it leaves no trace in
            the caches.
        attempts: at most so many per sample.
    """

    synchronize: Callable[[], object]
    sample_seconds: float
    warm: bool = True
    attempts: int = 3
    kept: int = field(default=0, init=False)
    disturbed: int = field(default=0, init=False)

    def interleave(
        self,
        subjects: Mapping[str, Callable[[], object]],
        repeats: int,
        progress: Callable[[str], object] = lambda label: None,
    ) -> dict[str, list[float]]:
        """Time every subject once per repeat, in turn.

        Args:
            subjects: what to call, by name.
            repeats: how many samples of each to keep.
            progress: called with the name of a subject after each of its samples.

        Returns:
            Seconds per call: one entry per repeat for each subject.
        """
        calls = {}
        for name, call in subjects.items():
            call()
            calls[name] = max(1, math.ceil(self.sample_seconds / max(self._time(call, 1), 1e-9)))
        samples: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(repeats):
            for name, call in subjects.items():
                samples[name].append(self._sample(call, calls[name]))
                progress(name)
        return samples

    @property
    def disturbed_share(self) -> float:
        """Of the kept samples, 0 to 1."""
        return self.disturbed / max(1, self.kept)

    def _sample(self, call: Callable[[], object], calls: int) -> float:
        if self.warm:
            call()
        best, quietest = math.inf, math.inf
        for _ in range(self.attempts):
            before, started = others(), time.perf_counter()
            seconds = self._time(call, calls)
            wall = time.perf_counter() - started
            # The machine's counters move in ticks of 10 ms on every core.
            share = max(0.0, others() - before - 0.02) / (wall * (os.cpu_count() or 1))
            if share < quietest:
                best, quietest = seconds, share
            if share <= QUIET_SHARE:
                break
        self.kept += 1
        self.disturbed += quietest > QUIET_SHARE
        return best

    def _time(self, call: Callable[[], object], calls: int) -> float:
        self.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        self.synchronize()
        return (time.perf_counter() - started) / calls


def others() -> float:
    """Processor seconds that all but this process and its children used since boot; 0 where that is not known."""
    if not _STAT.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, _STAT.read_text().split("\n", 1)[0].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])
