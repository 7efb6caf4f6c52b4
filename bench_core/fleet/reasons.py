"""Why a node has not given everything: what it says, what was seen of it, and what its log says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench_core.errors import TableError
from bench_core.fleet.plan import FleetFolder, PartState, Seen, State
from bench_core.run.replicate import last_error
from bench_core.text import printable

_CLOCK_OFF = 5.0  # seconds: less may be the time between two looks
_LOG_BYTES = 1 << 16  # of the end of a log
_FULL = ("no space left on device", "disk quota exceeded", "enospc", "edquot")
_SUCCESS = re.compile(r"\b\d+ (passed|skipped|deselected)\b")  # in the last line of pytest
_FAILURE = re.compile(r"fail|error|interrupt|no tests ran", re.IGNORECASE)
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a node. damaged: what cannot be read of it, each with its path.

    driven: whether a process watches the fleet now; None if that cannot be known.
    """

    state: State | None
    seen: Seen | None
    damaged: tuple[str, ...]
    driven: bool | None

    @property
    def goes_on(self) -> bool:
        """Whether its job goes on, as far as the process knows that watches it."""
        return bool(self.driven) and self._has_no_end

    @property
    def _has_no_end(self) -> bool:
        return self.seen is not None and self.seen.ended is None

    def of_unfinished(self, resume: str) -> str:
        """Return what to say of a run without an end; resume: the command that finishes it."""
        if not self.goes_on:
            return f"did not end; `{resume}` finishes it"
        return "is being measured" if self.state is not None else "did not end; it goes on when its node begins"

    def part(self, label: str) -> PartState:
        """Return what it says of one of its parts."""
        return (self.state.parts.get(label) if self.state else None) or PartState()

    def reasons(self, part: str, resume: str) -> list[str]:
        """Return why a part has not given everything, the most telling first; resume: the command that finishes it."""
        own = self.part(part).reason
        said = [own, self.state.reason if self.state else "", self.seen.why if self.seen else ""]
        told = [printable(reason) for reason in said if reason]
        return told or [reason for reason in (self._silent(resume),) if reason]

    def _silent(self, resume: str) -> str:
        """Return what is said of a node of which nothing else is known; "" if it ended as it should."""
        if self.damaged or (self.state is not None and self.state.ended is not None):
            return ""
        if self.seen is None:
            return "it was given no order" if self.state is None else "it ended without a word"
        if not self._has_no_end:
            return "it never began" if self.state is None else "it ended without a word"
        if self.driven is False:
            return f"nobody watches it any more: it died, or its job goes on; `{resume}` continues"
        return "it has not begun yet" if self.state is None else "it has not ended yet"

    def clock_off(self) -> str:
        """Return how far its clock is off at least, "" if it need not be.

        What a node says that it did was after its order, and before this computer saw it.
        """
        if self.state is None or self.seen is None or self.state.token != self.seen.token:  # else of two orders
            return ""
        pairs = [(self.state.began, self.seen.begun), (self.state.ended, self.seen.ended)]
        ahead = max((said - saw for said, saw in pairs if said is not None and saw is not None), default=0.0)
        behind = self.seen.sent - self.state.began
        if max(ahead, behind) < _CLOCK_OFF:
            return ""
        return f"at least {max(ahead, behind):,.0f} s {'ahead of' if ahead > behind else 'behind'}"


def known_of(folder: FleetFolder, node: str, driven: bool | None) -> Known:
    """Return what is known of a node, as far as it can be read."""
    damaged: list[str] = []

    def read(of: Callable[[str], _Read | None]) -> _Read | None:
        try:
            return of(node)
        except TableError as error:
            damaged.append(str(error))
            return None

    state, seen = read(folder.state), read(folder.seen)
    return Known(state, seen, tuple(damaged), driven)


def last_words(folder: Path) -> str:
    """Return what the newest log of a part says about its end; "" if there is none."""
    logs = sorted(folder.glob("log-*.txt"), key=lambda path: (len(path.name), path.name))
    try:
        with logs[-1].open("rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - _LOG_BYTES))
            said = file.read().decode("utf-8", "replace")
    except (IndexError, OSError):
        return ""
    full = [line for line in said.splitlines() if says_full(line)]
    return printable(full[-1] if full else last_error(said))


def is_success(words: str) -> bool:
    """Return whether the last words of a log are those of a run in which all went well: no reason for anything."""
    return bool(_SUCCESS.search(words)) and not _FAILURE.search(words)


def says_full(text: str) -> bool:
    """Return whether a text says that a disk is full."""
    return any(word in text.lower() for word in _FULL)
