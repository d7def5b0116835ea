"""The searches of the tuned regime, from the trials that have ended to the run-off and to the reruns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request
from mtlbench.cells.trials import reruns, runoff
from mtlbench.record.reading import Unreadable, load
from mtlbench.record.runs import Run
from mtlbench.record.schema import RECORD
from mtlbench.record.selection import finalists, winner
from mtlbench.running.events import Event, Outcome, Warned

# Trials that ended so would not end otherwise when tried again.
_FINAL = ("finished", "skipped", "diverged", "oom", "timeout")


@dataclass
class _Search:
    """That of one setting, all of whose trials have ended."""

    trials: Sequence[Cell]
    runs: list[Run]
    """Of the trials that finished, one at least."""
    runoff: list[Cell]
    """None where a single trial finished."""


class Searches:
    """The searches of a request, each on its way to its reruns."""

    def __init__(self, request: Request, outcomes: Mapping[str, Outcome], tell: Callable[[Event], None]) -> None:
        """`outcomes` by identity of the cell are looked at when they are needed; `tell` gets warnings."""
        self.request = request
        self.outcomes = outcomes
        self.tell = tell
        self.searches: list[_Search] = []

    def runoffs(self) -> list[Cell]:
        """The cells of the run-off between the best trials; warns of a search that cannot go on."""
        settings: dict[str, list[Cell]] = {}
        for cell in self.request.cells:
            settings.setdefault(cell.setting_id, []).append(cell)
        self.searches = []
        for trials in settings.values():
            runs, problem = self._finished(trials, "trials")
            if not problem and not runs:
                problem = f"none of its {len(trials)} trials finished"
            if problem:
                self._warn(trials, problem)
                continue
            best = [_cell_of(run, trials) for run in finalists(runs)]
            self.searches.append(_Search(trials, runs, runoff(best) if len(best) > 1 else []))
        return sorted((cell for search in self.searches for cell in search.runoff), key=lambda cell: cell.seed)

    def reruns(self) -> list[Cell]:
        """The winners on the seeds of the user, after the run-off; warns of a search without a winner."""
        made: list[Cell] = []
        for search in self.searches:
            again, problem = self._finished(search.runoff, "runs of its run-off")
            best = winner(search.runs, again)
            if problem or best is None:
                self._warn(search.trials, problem)
                continue
            made += reruns(_cell_of(best, search.trials), len(search.trials), self.request.seeds)
        return sorted(made, key=lambda cell: self.request.seeds.index(cell.seed))

    def _finished(self, cells: Sequence[Cell], what: str) -> tuple[list[Run], str]:
        """What finished of a search, and what leaves its end open: cells that may end otherwise when tried again."""
        runs: list[Run] = []
        undecided: list[str] = []
        for outcome in (self.outcomes[cell.id] for cell in cells):
            if outcome.status not in _FINAL:
                undecided.append(f"{outcome.status}: {outcome.reason}")
            elif outcome.status in ("finished", "skipped"):
                try:
                    runs.append(Run.of(load(outcome.folder / RECORD), outcome.folder / RECORD))
                except Unreadable as error:
                    undecided.append(f"unreadable: {error}")
        if not undecided:
            return runs, ""
        share = f"{len(undecided)} of {len(cells)} {what} did not finish"
        return runs, f"{share} ({undecided[0]}); the same command tries them again"

    def _warn(self, trials: Sequence[Cell], problem: str) -> None:
        self.tell(Warned(trials[0], f"{trials[0].setting_name} is not rerun: {problem}"))


def _cell_of(run: Run, cells: Sequence[Cell]) -> Cell:
    return next(cell for cell in cells if cell.id == run.id)
