"""Slurm: one exclusive job on each node, through submitit (the extra `fleet`).

The job runs `task.perform` under srun. Nothing is queued again: a run that ended early is resumed by
`fleet run --resume`, on the same node. The folder of the fleet and this Python must be on a file system that the nodes
share, as submitit requires.

Slurm ends a job by SIGTERM, some time before it kills it, and so do we: the task can write what it has measured.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bench_core
from bench_core.errors import UsageError
from bench_core.fleet.engine import EngineError, JobState, Place, Places
from bench_core.fleet.plan import Order
from bench_core.text import no_such, one_line, printable

# Options of sbatch that a user may set, for --set NAME=VALUE. The others are ours, or make no sense for one whole node.
OPTIONS = (
    *("account", "acctg-freq", "begin", "comment", "constraint", "core-spec", "cpu-freq", "cpus-per-task", "deadline"),
    *("dependency", "exclude", "gpu-freq", "gres", "hint", "licenses", "mail-type", "mail-user", "mcs-label", "mem"),
    *("network", "nice", "partition", "power", "prefer", "priority", "qos", "reservation", "switches", "thread-spec"),
    *("threads-per-core", "time", "tmp", "wckey"),
)
_NODES = "nodes"  # the setting of --nodes: a list as Slurm writes it, such as gpu[01-16,20]
_GRACE_S = 90  # from the SIGTERM at the end of the time limit to the end

# sinfo's long states, without the sign behind them. A reserved node is usable in its reservation.
_USABLE = frozenset({"allocated", "blocked", "completing", "idle", "mixed", "planned"})
_IN_RESERVATION = frozenset({"maint", "reserved"})
_SIGNS = "*~#!%$@^-+"
_SILENT = "*"  # the node does not answer

_WAITING = frozenset(
    {"CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
_RUNNING = frozenset({"COMPLETING", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"})
_UNKNOWN = "UNKNOWN"
_LOOKS = 3  # in a row in which neither squeue nor sacct knows a job, until it counts as ended
_COMMAND_S = 60.0  # for an answer of Slurm, which retries by itself
_LONGEST_LOG = 1 << 16  # bytes at the end of a log in which its last line is looked for


@dataclass(frozen=True, slots=True)
class Said:
    """What Slurm says of a job: its state, and why it waits or has ended, "" for no reason."""

    state: str
    reason: str = ""


class Slurm:
    """The engine. settings: `nodes`, and options of sbatch by name, with `-` or `_`.

    private: the private folder of the fleet, in which submitit writes to `slurm/`. Raises EngineError if submitit or
    Slurm is not installed, UsageError for an unknown setting.
    """

    name = "slurm"
    poll_s = 5.0

    def __init__(self, private: Path, settings: Mapping[str, str]) -> None:
        self._options = checked(settings)
        self._nodes = settings.get(_NODES, "")
        self._jobs: list[_Job] = []
        self._queue = Queue()
        self._executor = _executor(private / self.name, self._options)

    def places(self) -> Places:
        """Return the nodes of the partition, or those of `nodes`; raises EngineError."""
        partition = self._options.get("partition", "")
        command = ["sinfo", "--noheader", "--Node", "--format=%N|%P|%T|%G|%E"]
        command += [f"--partition={partition}"] * bool(partition) + [f"--nodes={self._nodes}"] * bool(self._nodes)
        lines = _ask(command).splitlines()
        places = places_of(lines, is_any=bool(partition), is_reserved="reservation" in self._options)
        if self._nodes:
            known = {place.name for place in places.usable} | {name for name, _ in places.absent}
            wanted = _ask(["scontrol", "show", "hostnames", self._nodes]).split()
            where = f"partition {partition}" if partition else "the default partition"
            missing = [(name, f"Slurm knows no such node in {where}") for name in wanted if name not in known]
            places = Places(places.usable, (*places.absent, *missing))
        if not places.usable and not places.absent:
            raise EngineError(_no_node(partition, lines))
        return places

    def start(self, order: Order, place: Place) -> _Job:
        """Submit a job for a node; raises EngineError with Slurm's own words if Slurm refuses it."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415 - an extra

        own = {"nodelist": place.name, "gres": f"gpu:{place.gpus}" if place.gpus else None}
        try:
            self._executor.update_parameters(**own)
            with contextlib.redirect_stderr(io.StringIO()):  # submitit repeats there what sbatch says
                submitted = self._executor.submit(_task(), order.to_text())
        except (FailedJobError, FailedSubmissionError) as error:
            raise EngineError(f"sbatch refuses {printable(order.node.label)}: {refusal(str(error))}") from None
        except OSError as error:
            raise EngineError(f"the job of {printable(order.node.label)} cannot be submitted: {error}") from None
        job = _Job(submitted, self._queue)
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """Cancel what has not ended, at once."""
        for job in self._jobs:
            job.end()


@dataclass(slots=True)
class Queue:
    """What squeue says of all jobs that have not ended, asked at most once in `least_s` seconds.

    Many users poll one controller, so all jobs are asked for at once. It knows a job for some minutes after its end.
    """

    least_s: float = 2.0
    clock: Callable[[], float] = time.monotonic
    ask: Callable[[list[str]], str] = field(default_factory=lambda: _ask)
    _open: set[str] = field(default_factory=set)
    _said: dict[str, Said] = field(default_factory=dict)
    _asked: float | None = None
    _error: EngineError | None = None

    def add(self, job: str) -> None:
        self._open.add(job)
        self._asked = None

    def drop(self, job: str) -> None:
        self._open.discard(job)

    def look(self, job: str) -> Said | None:
        """Return the newest that is known of a job; None if squeue does not know it.

        Raises EngineError for every job if Slurm has not answered.
        """
        now = self.clock()
        if self._asked is None or now - self._asked >= self.least_s:
            self._asked = now
            self._ask_anew()
        if self._error is not None:
            raise self._error
        return self._said.get(job)

    def _ask_anew(self) -> None:
        listed = f"--jobs={','.join(sorted(self._open, key=int))}"
        self._error, answer = None, ""
        try:
            answer = self.ask(["squeue", "--noheader", "--states=all", listed, "--format=%A|%T|%r"])
        except EngineError as error:
            if "Invalid job id" not in str(error):  # so squeue says if it knows none of them any more
                self._error = error
        self._said = jobs_of(answer.splitlines())


class _Job:
    """A job of Slurm."""

    def __init__(self, submitted: Any, queue: Queue) -> None:
        self._submitted, self._queue = submitted, queue
        self._last = Said("PENDING")
        self._unknown = 0
        self._why: str | None = None  # None: it has not ended
        queue.add(self.id)

    @property
    def id(self) -> str:
        return str(self._submitted.job_id)

    @property
    def why(self) -> str:
        return self._why or ""

    @property
    def reason(self) -> str:
        """Why Slurm lets it wait, such as "Resources"; "" for no reason, and if it does not wait."""
        return self._last.reason if self._why is None and self._last.state in _WAITING else ""

    def state(self) -> JobState:
        if self._why is None:
            said = self._look()
            self._unknown = self._unknown + 1 if said.state == _UNKNOWN else 0
            if is_over(said.state) or self._unknown >= _LOOKS:
                self._queue.drop(self.id)
                self._why = self._reason_of(said)
            elif said.state != _UNKNOWN:
                self._last = said
        if self._why is not None:
            return JobState.ENDED
        return JobState.WAITING if self._last.state in _WAITING else JobState.RUNNING

    def cancel(self) -> None:
        """Ask the task to end, by SIGTERM to its step: a job that is cancelled is killed 30 s later (KillWait)."""
        is_waiting = self.state() is JobState.WAITING
        self._scancel(*([] if is_waiting else ["--signal=TERM"]))

    def end(self) -> None:
        """End the job at once. Raises nothing."""
        if self.state() is not JobState.ENDED:
            self._scancel()

    def _scancel(self, *options: str) -> None:
        with contextlib.suppress(EngineError):  # it has ended since
            _ask(["scancel", *options, self.id])

    def _look(self) -> Said:
        """Return what Slurm says; what it said last if it does not answer, unless the result is there."""
        try:
            return self._queue.look(self.id) or self._by_accounting()
        except EngineError:
            return Said("COMPLETED") if self._has_result() else self._last

    def _by_accounting(self) -> Said:
        """Return what sacct says, where accounting is on: squeue forgets a job some minutes after its end."""
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={self.id}"]
        with contextlib.suppress(EngineError):
            if state := _ask(command).split():
                return Said(state[0])  # of "CANCELLED by 1000"
        return Said(_UNKNOWN)

    def _reason_of(self, said: Said) -> str:
        """Return why a job has failed: Slurm's state and reason, and the last words of the task."""
        if said.state == _UNKNOWN:
            return "" if self._has_result() else f"Slurm knows job {self.id} no longer"
        if said.state == "COMPLETED":
            return ""
        words = [said.state]
        if said.state == "FAILED":
            words.append(self._exit_code() or said.reason)
        elif said.state == "CANCELLED" and self._last.state in _WAITING and self._last.reason:
            words.append(f"while it waited ({self._last.reason})")
        elif said.reason:
            words.append(said.reason)
        last = last_line(self._submitted.paths.stderr) if said.state in {"FAILED", "BOOT_FAIL"} else ""
        return printable(": ".join(filter(None, [" ".join(filter(None, words)), last])))

    def _has_result(self) -> bool:
        return bool(self._submitted.paths.result_pickle.exists())

    def _exit_code(self) -> str:
        with contextlib.suppress(EngineError):
            if found := re.search(r"\bExitCode=(\d+):(\d+)", _ask(["scontrol", "show", "job", "--oneliner", self.id])):
                code, signal = found.groups()
                return f"by signal {signal}" if signal != "0" else f"with exit code {code}"
        return ""


def checked(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the options of sbatch among settings, by their names there; raises UsageError for an unknown one."""
    options = {name.replace("_", "-"): value for name, value in settings.items() if name != _NODES}
    for name, value in options.items():
        if name not in OPTIONS:
            raise UsageError(f"--set: {no_such('setting of Slurm', name, (*OPTIONS, _NODES))}")
        if not value.strip() or not value.isprintable():
            raise UsageError(f"--set {name}: needs a value in one line")
    return options


def places_of(lines: Iterable[str], *, is_any: bool, is_reserved: bool) -> Places:
    """Return the nodes in the answer of sinfo, each once: name|partition|state|gres|reason, a line for each partition.

    is_any: whether every line counts; else only the default partition, which sinfo marks with `*`, does. is_reserved:
    whether the nodes of a reservation can be used.
    """
    usable: dict[str, Place] = {}
    absent: dict[str, str] = {}
    for line in lines:
        name, partition, state, gres, reason = (*map(str.strip, line.split("|", 4)), "", "", "", "")[:5]
        if not name or not (is_any or partition.endswith("*")):
            continue
        if why := _unusable(state, reason, is_reserved=is_reserved):
            absent[name] = why
        else:
            usable[name] = Place(name, gpus_of(gres))
    return Places(tuple(usable.values()), tuple((name, why) for name, why in absent.items() if name not in usable))


def _unusable(state: str, reason: str, *, is_reserved: bool) -> str:
    """Return why a node cannot be used, "" if it can."""
    base = state.lower().rstrip(_SIGNS)
    known = _USABLE | _IN_RESERVATION if is_reserved else _USABLE
    if base in known and _SILENT not in state:
        return ""
    shown = f"{base}, does not answer" if _SILENT in state else base
    return printable(f"{shown}: {reason}" if reason not in {"", "none"} else shown)


def gpus_of(gres: str) -> int:
    """Return the number of GPUs in the generic resources of a node.

    >>> gpus_of("gpu:a100:4(S:0-1),gpu:v100:2,shard:8"), gpus_of("gpu:2"), gpus_of("gpu"), gpus_of("(null)")
    (6, 2, 1, 0)
    """
    counts = re.findall(r"(?:^|,)gpu(?::[^,:(]*[^\d,:(][^,:(]*)?(?::(\d+))?(?=[,(]|$)", gres)
    return sum(int(count or 1) for count in counts)


def jobs_of(lines: Iterable[str]) -> dict[str, Said]:
    """Return the jobs in the answer of squeue, by number: number|state|reason."""
    jobs = {}
    for line in lines:
        number, state, reason = (*map(str.strip, line.split("|", 2)), "", "")[:3]
        if number.isdecimal() and state:
            jobs[number] = Said(state.split()[0], "" if reason == "None" else reason)
    return jobs


def is_over(state: str) -> bool:
    """Whether a job in this state has ended. A state that no version of Slurm has documented yet is an end."""
    return state not in _WAITING | _RUNNING | {_UNKNOWN}


def refusal(said: str) -> str:
    r"""Return Slurm's own words from what a command of it has printed, on one line.

    >>> refusal("sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: y")
    'invalid partition specified: x; Batch job submission failed: y'
    """
    errors = re.findall(r"^\w+: (?:error|fatal): (.+)$", said, re.MULTILINE) or said.splitlines()
    return printable("; ".join(dict.fromkeys(filter(None, map(one_line, errors)))) or "it says nothing")


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST_LOG))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not re.match(r"(srun|slurmstepd)\b", line)]
    return said[-1] if said else ""


def _task() -> Callable[[str], Any]:
    from bench_core.fleet.task import perform  # noqa: PLC0415 - the node's side, which this computer only names

    return perform


def _forced(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of sbatch that submitit has no parameter for, and those of the user, which come last."""
    return {"no-requeue": True, "signal": f"TERM@{_GRACE_S}", **options}


def _executor(folder: Path, options: Mapping[str, str]) -> Any:
    """Return submitit's executor for whole nodes; raises EngineError."""
    try:
        from submitit import SlurmExecutor  # noqa: PLC0415 - an extra
    except ImportError:
        raise EngineError("Slurm needs a missing package: python -m pip install submitit") from None
    if "%" in str(folder.absolute()):
        raise EngineError(f"{printable(str(folder))}: submitit takes a % in a path for the number of a job")
    try:
        executor = SlurmExecutor(folder)
    except RuntimeError:
        raise EngineError("no Slurm here: there is no srun on the PATH") from None
    executor.update_parameters(
        job_name="bench-core",
        exclusive=True,
        ntasks_per_node=1,
        mem="0",  # all of the node's
        time=None,  # the default of the partition, unless the user names one
        wckey=None,
        setup=_setup(),
        srun_args=["--cpu-bind=none"],  # else the one task is bound to its one core, where the site binds tasks
        additional_parameters=_forced(options),
    )
    return executor


def _setup() -> list[str]:
    """Return the lines of the job by which the node finds this bench_core, if it is not installed but a clone."""
    root = Path(bench_core.__file__).resolve().parents[1]
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    if root in installed:
        return []
    return [f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}"]


def _no_node(partition: str, lines: list[str]) -> str:
    if partition:
        return f"Slurm has no node in partition {printable(partition)}"
    names = dict.fromkeys(line.split("|")[1].strip() for line in lines if line.count("|") > 1)
    return f"Slurm has no default partition: give --set partition=NAME, of {printable(', '.join(names) or 'none')}"


def _ask(command: list[str]) -> str:
    """Return what a command of Slurm prints; raises EngineError in Slurm's own words."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMMAND_S, check=False)
    except FileNotFoundError:
        raise EngineError(f"no Slurm here: there is no {command[0]} on the PATH") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]}: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise EngineError(f"{command[0]}: {refusal(said)}")
    return done.stdout.decode(errors="replace")
