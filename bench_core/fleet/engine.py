"""What an engine does: it knows the nodes, and runs one task on each. `local`, `slurm` and `ray` are engines.

An engine starts `task.perform(order)` on a node and knows nothing of runs; a task knows nothing of engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bench_core.errors import BenchError
from bench_core.fleet.plan import Order


class EngineError(BenchError):
    """An engine cannot be used: it is not installed, no cluster answers, or it refuses an option."""

    exit_code = 2


class JobState(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Place:
    """A node as an engine knows it: its name there, and how many GPUs it gives."""

    name: str
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Places:
    """The nodes that can be used, and those that cannot: name and reason."""

    usable: tuple[Place, ...]
    absent: tuple[tuple[str, str], ...] = ()


class Job(Protocol):
    """A task that was given to an engine.

    When it has ended, the folder of its node on this computer has what the node gave, also where the two share no
    folder. A job may have a `reason`, a text: why the engine lets it wait, "" if that is unknown.
    """

    def state(self) -> JobState: ...

    @property
    def why(self) -> str:
        """After the end: what the engine knows about a task that failed ("NODE_FAIL"); "" if it ended by itself."""

    def cancel(self) -> None:
        """Ask for the end of the task. It has time to write what it has measured. Raises nothing."""


class Engine(Protocol):
    """Runs tasks on nodes."""

    @property
    def name(self) -> str: ...

    @property
    def poll_s(self) -> float:
        """Seconds between two looks at all jobs."""

    def places(self) -> Places:
        """Return the nodes; raises EngineError."""

    def start(self, order: Order, place: Place) -> Job:
        """Give a task to a node, which it has alone; raises EngineError."""

    def close(self) -> None:
        """Release what the engine holds. Jobs have ended or were cancelled. Raises nothing."""
