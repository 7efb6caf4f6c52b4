"""The engine `local`: this computer is the only node. With a part for each of its GPUs, all of them measure at once."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from bench_core import child_process
from bench_core.errors import UsageError
from bench_core.fleet import devices
from bench_core.fleet.engine import EngineError, JobState, Place, Places
from bench_core.fleet.plan import FleetFolder, Order
from bench_core.machine.nvml import NotTold
from bench_core.text import no_such, printable

_UNNAMED = "this computer"  # where the system has no name for it
_MOST_SAID = 1 << 16  # bytes of what a task says that are read, from the end


class Local:
    """Runs a task on this computer, in a process of its own that ends with this one."""

    name = "local"
    poll_s = 0.2

    def __init__(self, private: Path, settings: Mapping[str, str]) -> None:  # noqa: ARG002 - it writes no file
        """Raise EngineError for any setting: there are none."""
        if settings:
            raise EngineError(no_such("setting of the engine local", next(iter(settings)), ()))
        self._tasks: list[_Task] = []

    def places(self) -> Places:
        """Return this computer; raises EngineError if it is unclear which GPUs CUDA_VISIBLE_DEVICES names."""
        try:
            gpus = len(devices.usable())
        except NotTold:
            gpus = 0
        except UsageError as error:
            raise EngineError(str(error)) from None
        return Places((Place(platform.node() or _UNNAMED, gpus),))

    def start(self, order: Order, place: Place) -> _Task:  # noqa: ARG002 - there is one
        """Start a task; raises EngineError."""
        said = tempfile.TemporaryFile()  # noqa: SIM115 - the task closes it
        try:
            file = FleetFolder(Path(order.folder).parent.parent).write_order(order)
            process = subprocess.Popen(
                child_process.command("bench_core.fleet.task", str(file), parent=os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                **child_process.apart(),
            )
        except OSError as error:
            said.close()
            raise EngineError(f"no task can be started: {error}") from None
        self._tasks.append(_Task(process, said))
        return self._tasks[-1]

    def close(self) -> None:
        """End the tasks that still run."""
        for task in self._tasks:
            task.close()


class _Task:
    """A task of this computer: a Job."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process, self._said = process, said

    def state(self) -> JobState:
        return JobState.RUNNING if self._process.poll() is None else JobState.ENDED

    @property
    def why(self) -> str:
        """How the process has ended, if it had to end: a signal, or its last words."""
        code = self._process.poll()
        if not code:
            return ""
        ending = f"the task {child_process.ending(code)}"
        if code < 0:
            return ending
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _MOST_SAID))
        lines = self._said.read().decode(errors="replace").split("\n")
        return printable(next((line for line in reversed(lines) if line.strip()), ending))

    def cancel(self) -> None:
        self._process.terminate()

    def close(self) -> None:
        if self._process.poll() is None:
            child_process.kill(self._process)
        self._said.close()
