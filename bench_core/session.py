"""One run from plan to results: who may take part, what became of each case, what is written at the end.

Knows nothing of pytest: the plugin plans with it, hands it cases one by one and closes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_core import backends, environment, host, metrics, table
from bench_core.errors import UsageError
from bench_core.measure import Plan
from bench_core.model import Case, Measurement, Preset, Row, Run, Status, count_statuses, to_json
from bench_core.perform import Settings, Tell, silent
from bench_core.probe import Probe, probe
from bench_core.worker import Source, Workers
from bench_core.workload import Machine, Target

BUDGETS = {Preset.SMOKE: 0.1, Preset.QUICK: 1.0, Preset.STANDARD: 2.0, Preset.FULL: 5.0}
_TYPICAL_CACHE = 32 << 20  # bytes; only where the kernel does not tell the CPU's
_WARMUP_CPU, _WARMUP_GPU = 0.2, 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose. `budget` is seconds of timed blocks per case; `backends` as in --bench-backends."""

    preset: Preset = Preset.QUICK
    backends: tuple[str, ...] = ()
    output: Path = Path("results")
    machine: str = ""
    budget: float | None = None
    timeout: float | None = None
    require: tuple[str, ...] = ()
    seed: int = 0
    isolated: bool = True
    check_only: bool = False
    process: int = 0
    keep_journal: bool = False

    @property
    def seconds_per_case(self) -> float:
        return BUDGETS[self.preset] if self.budget is None else self.budget

    @property
    def seconds_until_timeout(self) -> float:
        """The limit on one case from build to result; roomy, because a hang is rare and a slow check is not."""
        return 60.0 + 20.0 * self.seconds_per_case if self.timeout is None else self.timeout


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a target cannot be measured at all, known before its first case."""

    code: str
    reason: str


class Roster:
    """The targets of a run: every backend asked for, on every device, present or absent with its reason."""

    def __init__(self, asked: Sequence[str], probes: Mapping[str, Probe]) -> None:
        self.probes = probes
        self.targets: list[Target] = []
        self.absent: dict[tuple[str, str], Absent] = {}
        for entry in asked or backends.names():
            name, _, device = entry.partition(":")
            self._add(name, device)

    def _add(self, name: str, wanted: str) -> None:
        found = self.probes[name]
        addresses = [d.device for d in found.devices]
        present = [address for address in addresses if matches(address, wanted)]
        backend = backends.load(name)
        expected = [wanted] if wanted else backend.devices_expected
        missing = [e for e in expected if not any(matches(address, e) for address in addresses)]
        for device in missing:
            code = found.reason_code or "no_device"
            self.absent[name, device] = Absent(code, found.reason or f"{name} finds no {device} device")
        self.targets += [Target(name, backend.dialect, device) for device in [*present, *missing]]

    def require(self, entries: Sequence[str]) -> None:
        """Raise UsageError naming the first required backend or device that is not available."""
        for entry in entries:
            name, _, wanted = entry.partition(":")
            found = self.probes[name]
            addresses = [d.device for d in found.devices]
            if not any(matches(address, wanted) for address in addresses):
                reason = found.reason or f"it finds {', '.join(addresses) or 'no device'}"
                raise UsageError(f"--bench-require={entry}: not available: {reason}")

    def accelerator_names(self) -> list[str]:
        """Return the model of every accelerator found, each address once."""
        names = {d.device: d.name for p in self.probes.values() for d in p.devices if d.device != "cpu"}
        return [names[device] for device in sorted(names)]

    def caches(self) -> list[int]:
        """Return the sizes in bytes of the accelerators' last-level caches, as far as they tell."""
        facts = (d.facts.get("gpu.l2_cache") for p in self.probes.values() for d in p.devices)
        return [int(fact.value) for fact in facts if fact and fact.value]


def matches(device: str, wanted: str) -> bool:
    """Whether a device address is what was asked for: itself, its type, or anything at all.

    >>> matches("cuda:1", "cuda"), matches("cuda:1", "cuda:0"), matches("cpu", "")
    (True, False, True)
    """
    return wanted in {"", device, device.partition(":")[0]}


def probe_all(options: Options) -> dict[str, Probe]:
    """Probe every backend that the options name, each in a process of its own; raises UsageError for unknown ones."""
    asked = [entry.partition(":")[0] for entry in (*(options.backends or backends.names()), *options.require)]
    for name in asked:
        backends.load(name)
    names = list(dict.fromkeys(asked))
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(probe, names), strict=True))


class Session:
    """A run while it goes on. Every record is in the journal before the next case begins."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._begin = perf_counter()
        self.roster = Roster(options.backends, probe_all(options))
        self.host_facts = environment.host_environment()
        caches = [host.last_level_cache() or _TYPICAL_CACHE, *self.roster.caches()]
        self.machine = Machine(last_level_cache=max(caches), cores=host.usable_cores())
        self.workers = Workers(isolated=options.isolated)
        self.measurements: dict[Case, Measurement] = {}
        self.folder: Path | None = None
        self._journal: table.Journal | None = None
        self.run = self._new_run()

    def _new_run(self) -> Run:
        started = datetime.now(UTC)
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        label = self.options.machine or environment.machine_label(self.host_facts, self.roster.accelerator_names())
        git = environment.git_state(Path.cwd())
        return Run(run_id, started.isoformat(timespec="seconds"), label, git.commit, git.dirty)

    def open(self) -> None:
        """Make the run's folder and its journal; raises UsageError if that cannot be, before anything is measured."""
        folder = self.options.output / self.run.machine / self.run.run_id
        try:
            folder.mkdir(parents=True)
            self._journal = table.Journal(folder)
        except OSError as error:
            raise UsageError(f"--bench-output={self.options.output}: cannot write there: {error.strerror}") from None
        self.folder = folder

    def settings(self, case: Case) -> Settings:
        """Return how to measure a case."""
        budget = self.options.seconds_per_case
        warmup = _WARMUP_CPU if case.device == "cpu" else _WARMUP_GPU
        plan = Plan(budget=budget, least=min(0.2, budget), warmup=min(warmup, 2 * budget), warmup_cap=2 * budget)
        cache = self.machine.last_level_cache
        return Settings(plan, self.options.seed, cache, self.options.check_only)

    def perform(self, case: Case, source: Source, tell: Tell = silent) -> Measurement:
        """Measure a case, write it to the journal and return it; an interrupt is recorded and goes on.

        A case that stands twice in the plan is measured once.
        """
        if case in self.measurements:
            return self.measurements[case]
        absent = self.roster.absent.get((case.backend, case.device))
        try:
            if absent:
                done = Measurement.missing(case, Status.SKIPPED, absent.code, absent.reason)
            else:
                timeout = self.options.seconds_until_timeout
                done = self.workers.perform(case, source, self.settings(case), timeout, tell)
        except KeyboardInterrupt:
            self._keep(Measurement.missing(case, Status.INTERRUPTED, "interrupted", "interrupted while it ran"))
            raise
        return self._keep(done)

    def _keep(self, done: Measurement) -> Measurement:
        self.measurements[done.case] = done
        if self._journal:
            self._journal.append(done)
        return done

    def close(self, planned: Sequence[Case]) -> list[Row]:
        """End the workers, give every planned case its rows, write the results and return the rows."""
        self.workers.close()
        for case in planned:
            if case not in self.measurements:
                self._keep(
                    Measurement.missing(case, Status.INTERRUPTED, "not_reached", "the run ended before its turn")
                )
        everything = list(self.measurements.values())
        rows = [row for m in everything for row in metrics.rows(self.run, [m])]
        if self._journal and self.folder:
            self._journal.close()
            table.write_run(self.folder, rows, everything, self.about(len(planned)))
            if not self.options.keep_journal:
                self._journal.remove()
        return rows

    @property
    def timed_share(self) -> float:
        """The share of wall time since the session began that went into warm-up and timed blocks."""
        timed = sum(m.timed_s for m in self.measurements.values())
        return timed / (perf_counter() - self._begin)

    def about(self, planned: int) -> dict[str, Any]:
        """Return what run.json says beside the tables."""
        options = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.options).items()}
        options.pop("output")  # a path may hold a user's name
        workers = {env_id: environment.to_json(facts) for env_id, facts in self.workers.environments.items()}
        return {
            "run": to_json(self.run),
            "options": options,
            "planned": planned,
            "statuses": count_statuses(self.measurements.values()),
            "timed_share": self.timed_share,
            "environment": {"host": environment.to_json(self.host_facts), "workers": workers},
        }
