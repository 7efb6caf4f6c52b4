"""Watch what disturbs a series of blocks: other work on the cores, steal, and what happens to a GPU.

A block is judged by counters of the system alone, never by its own time: whoever leaves out what was slow makes the
rest look fast. The counters are read between blocks, outside of what is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, process_time, sleep
from typing import Any, Protocol, Self

from bench_core.machine import allotment, host, kernel_files, nvml
from bench_core.records import OTHER_WORK, SHARED_GPU, SLOW_CLOCK, STEAL, THROTTLED

LEAST = 0.01  # share of a block's time that must be lost, for it to be disturbed
WAKE = 50e-6  # seconds between waking a thread and its running, on idle cores: part of the work, not a disturbance
SWITCH = 100e-6  # seconds that an involuntary switch is taken to cost where the system counts them only
SLOWER = 0.9  # of the SM clock at the beginning: below this, the clock disturbs
# A counter is read again after this many times the seconds that reading it takes. For a process of two threads these
# are up to 50 us, so that blocks of 1 ms are judged one by one; for 16 threads two in a row.
RARELY = 20
STEAL_EVERY = 0.05  # seconds; the counter advances in steps of 10 ms
GPU_EVERY = 0.1  # seconds; the driver answers in a millisecond
THREADS_EVERY = 0.1  # seconds after which new threads are looked for
_TASKS = "/proc/self/task"
# Of waiting for quiet: seconds of a look, in which 10 ms of a counter are little; share of all cores for other work.
_SLICE, _IDLE = 0.25, 0.05

Lost = Mapping[str, float]  # share of the time that was lost, by cause


class Witness(Protocol):
    """A counter that tells of disturbances.

    every: seconds between two readings, at least.
    """

    every: float

    def read(self) -> Any:
        """Return the counter."""

    def judge(self, before: Any, after: Any, seconds: float) -> Lost:
        """Return what was lost between two readings that were `seconds` apart; empty if that was too little to tell."""

    def close(self) -> None:
        """Close what is open."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long threads have waited for a core.

    threads: by id, nanoseconds on a run queue and the number of time slices. cpu: seconds of CPU time of the process.
    """

    threads: Mapping[int, tuple[int, int]]
    cpu: float


class RunDelay:
    """The time that threads of this process wait for a core that other work has (Linux: schedstat of each thread).

    Not counted is the time to wake a thread, nor what the threads of this process take from each other: whatever cores
    the process has used itself, no other work has had.
    """

    every = 0.0

    def __init__(self, now: Callable[[], float] = perf_counter, cpu: Callable[[], float] = process_time) -> None:
        self._now, self._cpu = now, cpu
        self._cores = allotment.usable_cores()
        self._files: dict[int, int] = {}
        self._listed = -float("inf")

    @classmethod
    def is_told(cls) -> bool:
        """Whether this system counts these times."""
        fields = (kernel_files.read("/proc/self/schedstat") or "").split()
        return len(fields) == 3 and fields[2].isdecimal() and int(fields[2]) > 0

    def read(self) -> Waits:
        if self._now() - self._listed >= THREADS_EVERY:
            self._list()
        found = {}
        for thread, file in list(self._files.items()):
            try:
                _, delay, slices = os.pread(file, 80, 0).split()
            except (OSError, ValueError):  # the thread has ended
                _close(self._files.pop(thread))
            else:
                found[thread] = int(delay), int(slices)
        return Waits(found, self._cpu())

    def _list(self) -> None:
        """Open the files of new threads: they stay open, because opening takes longer than reading."""
        self._listed = self._now()
        with suppress(OSError):
            for name in os.listdir(kernel_files.located(_TASKS)):  # noqa: PTH208 - three times as fast as pathlib
                if int(name) not in self._files:
                    with suppress(OSError):
                        path = kernel_files.located(f"{_TASKS}/{name}/schedstat")
                        self._files[int(name)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def judge(self, before: Waits, after: Waits, seconds: float) -> Lost:
        waited = max(
            (
                (delay - before.threads[thread][0]) * 1e-9 - WAKE * (slices - before.threads[thread][1])
                for thread, (delay, slices) in after.threads.items()
                if thread in before.threads
            ),
            default=0.0,
        )
        left = self._cores * seconds - (after.cpu - before.cpu)
        return _lost(OTHER_WORK, min(waited, left) / seconds)

    def close(self) -> None:
        for file in self._files.values():
            _close(file)
        self._files.clear()


def _close(file: int) -> None:
    with suppress(OSError):  # a kernel may have closed all files that it did not know
        os.close(file)


class Switches:
    """The number of involuntary context switches of this process, where nothing tells how long they took."""

    every = 0.0

    def read(self) -> int:
        return host.involuntary_switches()

    def judge(self, before: int, after: int, seconds: float) -> Lost:
        return _lost(OTHER_WORK, (after - before) * SWITCH / seconds)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Steal:
    """The CPU time that the hypervisor gives to others, as a share of that of all hardware threads."""

    every = STEAL_EVERY

    def __init__(self) -> None:
        self._cpus = allotment.logical_cpus()

    def read(self) -> float:
        return host.steal_seconds()

    def judge(self, before: float, after: float, seconds: float) -> Lost:
        return _lost(STEAL, (after - before) / (self._cpus * seconds))

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Gpu:
    """What the driver tells of an NVIDIA GPU: throttling, a clock below that at the beginning, other processes.

    A power cap is none: the work itself reaches it, and always will. The clock then falls as far as it must.
    """

    every = GPU_EVERY

    def __init__(self, uuid: str | None) -> None:
        self._uuid = uuid
        self._first: nvml.GpuState | None = None

    def read(self) -> nvml.GpuState | None:
        state = nvml.state(self._uuid)
        self._first = self._first or state
        return state

    def judge(self, before: nvml.GpuState | None, after: nvml.GpuState | None, seconds: float) -> Lost:  # noqa: ARG002
        if after is None:
            return {}
        first = self._first.sm_clock if self._first else None
        slower = 1 - after.sm_clock / first if first and after.sm_clock is not None else 0.0
        found: dict[str, float] = {}
        if after.is_limited_by_heat_or_fault:
            found[THROTTLED] = max(slower, LEAST)
        elif slower > 1 - SLOWER and not after.is_limited:
            found[SLOW_CLOCK] = slower
        if after.other_processes:
            found[SHARED_GPU] = 0.5
        return found

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _lost(cause: str, share: float) -> Lost:
    return {cause: min(share, 1.0)} if share > LEAST else {}


def witnesses(device: str, uuid: str | None) -> list[Witness]:
    """Return what tells of disturbances of a device. uuid: of an NVIDIA GPU, to find it in NVML; None for others."""
    found: list[Witness] = [RunDelay() if RunDelay.is_told() else Switches(), Steal()]
    return found if device == "cpu" or uuid is None else [*found, Gpu(uuid)]


@dataclass(slots=True)
class _Last:
    """The last reading of a witness.

    at: when it ended. blocks: how many had been noted. cost: the least seconds that one has taken.
    """

    reading: Any
    at: float
    blocks: int
    cost: float


class Watch:
    """Notes for each block of a series what disturbed it.

    A counter that is slow to read, or that moves in large steps, is read after several blocks, and its verdict is that
    of all of them.

    blocks: what each was found to have lost so far, by cause; empty for a calm one. calm: the number of calm ones.
    """

    def __init__(self, witnesses: Sequence[Witness], now: Callable[[], float] = perf_counter) -> None:
        self._witnesses, self._now = witnesses, now
        self._last: list[_Last] = []
        self.blocks: list[dict[str, float]] = []
        self.calm = 0

    @classmethod
    def of(cls, device: str, uuid: str | None) -> Self:
        """Return a watch over a device; see `witnesses`."""
        return cls(witnesses(device, uuid))

    def begin(self) -> None:
        """Begin a new series; call this right before its first block."""
        self.blocks, self.calm = [], 0
        self._last = [self._read(witness) for witness in self._witnesses]

    def _read(self, witness: Witness) -> _Last:
        begin = self._now()
        reading = witness.read()
        at = self._now()
        return _Last(reading, at, len(self.blocks), at - begin)

    def note(self) -> None:
        """Note the end of a block, and read the counters that are due."""
        self.blocks.append({})
        self.calm += 1
        self._look(lambda witness, last: max(witness.every, RARELY * last.cost))

    def settle(self) -> None:
        """Read all counters, so that `blocks` is final up to here."""
        self._look(lambda witness, last: 0.0)  # noqa: ARG005 - the same for all

    def _look(self, pause: Callable[[Witness, _Last], float]) -> None:
        for i, (witness, last) in enumerate(zip(self._witnesses, self._last, strict=True)):
            now = self._now()
            seconds = now - last.at
            if last.blocks == len(self.blocks) or seconds <= 0 or seconds < pause(witness, last):
                continue
            new = self._read(witness)
            lost = witness.judge(last.reading, new.reading, seconds)
            for block in self.blocks[last.blocks :] if lost else ():
                self.calm -= not block
                block.update(lost)
            new.cost = min(self._now() - now, last.cost)
            self._last[i] = new

    def close(self) -> None:
        """Close what the witnesses have open."""
        for witness in self._witnesses:
            witness.close()


def wait_for_quiet(
    most: float, now: Callable[[], float] = perf_counter, sleep: Callable[[float], None] = sleep
) -> None:
    """Wait until other work leaves the cores alone, `most` seconds at most."""
    begin = now()
    cores = allotment.logical_cpus()
    while (left := most - (now() - begin)) > 0:
        before, at = host.busy_seconds() - process_time(), now()
        sleep(min(_SLICE, left))
        others = host.busy_seconds() - process_time() - before
        if others <= _IDLE * cores * (now() - at):
            return
