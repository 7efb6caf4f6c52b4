"""The progress of a run: how many of its cases are measured, how long the others will take, and a line about both."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from time import monotonic

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bench_core.records import NOT_TRIED, Case, Measurement, Status

_BESIDES = 2.0  # seconds of a case per second of its budget, before any case has ended: build, checks, garbage
_BAR = 16  # columns


class Progress:
    """Counts the cases of a run that end, and learns from them how long the others will take.

    budgets: the seconds that each case may spend on timing, in the order of the plan; only cases that will be tried.
    done, total: the number of cases that were measured, and that will have been. A case that turns out to be
        unavailable or unsupported is taken out of the total.
    """

    def __init__(self, budgets: Mapping[Case, float], now: Callable[[], float] = monotonic) -> None:
        self._left = dict(budgets)
        self._now = now
        self._case: Case | None = None
        self._began = 0.0
        self._spent: dict[object, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        self.done, self.total = 0, len(self._left)

    def begin(self, case: Case) -> None:
        """Note that a case begins."""
        self._case, self._began = case, self._now()

    def end(self, ended: Measurement) -> None:
        """Note the outcome of the case that has begun. A case that ended before does not count again."""
        case, self._case = self._case or ended.case, None  # the case that was planned, whose work may not be known
        budget = self._left.pop(case, None)
        if budget is None:
            return
        if ended.status in NOT_TRIED:
            self.total -= 1
            return
        self.done += 1
        if ended.status is Status.OK:  # a case that failed at once or at its time limit says nothing of the others
            for alike in _alike(case):
                seconds, of_budget = self._spent[alike]
                self._spent[alike] = (seconds + self._now() - self._began, of_budget + budget)

    @property
    def seconds_left(self) -> float:
        """The seconds that the rest of the run will take: by the budgets of its cases, and the past cases like them."""
        running = self._now() - self._began if self._case in self._left else 0.0
        return sum(
            max(0.0, self._expected(case, budget) - (running if case == self._case else 0.0))
            for case, budget in self._left.items()
        )

    def _expected(self, case: Case, budget: float) -> float:
        past = (self._spent[alike] for alike in _alike(case) if alike in self._spent)
        seconds, of_budget = next(past, (_BESIDES, 1.0))
        return budget * seconds / of_budget

    @property
    def text(self) -> str:
        """The count and the time left: "12/40, 3 min left"."""
        return f"{self.done}/{self.total}, {time_left(self.seconds_left)}"

    def line(self, phase: str, width: int, console: Console) -> str:
        """Return one line of at most `width` columns: a bar, the text, the phase and last the case that has begun."""
        case = self._case
        about = [self.text, phase, *([f"{case.work.workload} {case.label}"] if case else [])]
        bar = ProgressBar(total=max(1, self.total), completed=self.done, width=min(_BAR, width))
        words = Text("  ".join(about))
        words.truncate(max(0, width - _BAR - 1), overflow="ellipsis")
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(bar, words)
        with console.capture() as captured:
            console.print(grid, end="", width=width, no_wrap=True)
        return captured.get().rstrip("\n")


def _alike(case: Case) -> tuple[object, ...]:
    """Return the groups of cases that take about as long for a second of budget, the most alike first."""
    return (case.work.workload, case.device_type), case.device_type


def time_left(seconds: float) -> str:
    """Return a time as text, no more precise than an estimate: "under 1 min left", "7 min left", "1.6 h left"."""
    minutes = math.ceil(seconds / 60)
    if minutes <= 1:
        return "under 1 min left"
    return f"{minutes} min left" if minutes <= 90 else f"{seconds / 3600:.1f} h left"
