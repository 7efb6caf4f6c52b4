"""One run from plan to results: its options, the record of each case, and the files written at the end.

It does not depend on pytest: the plugin uses it to plan, passes it the cases one by one, and closes it.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_core.backends import registry
from bench_core.errors import InternalError, TableError, UsageError
from bench_core.files import is_file, write_atomically
from bench_core.machine import allotment, cpu_limits, environment, host
from bench_core.machine.facts import Lasting, against, contradictions, gpu_models, lasting
from bench_core.machine.privacy import scrub
from bench_core.plan.discovery import probe_all
from bench_core.plan.expansion import expand
from bench_core.plan.targets import Targets
from bench_core.records import (
    Case,
    Ceiling,
    Facts,
    Identity,
    Machine,
    Measurement,
    Preset,
    Row,
    Run,
    Status,
    Target,
    case_from_json,
    count_statuses,
    to_json,
)
from bench_core.results import schema, writer
from bench_core.results.rows import rows_of_run
from bench_core.results.traits import TraitsOf
from bench_core.run import journal, tries
from bench_core.run.account import RunAccount
from bench_core.run.plausibility import refuse_beyond_own_best, refuse_implausible
from bench_core.scratch import Scratch
from bench_core.timing.case import OnPhase, Settings, ignore_phase
from bench_core.timing.sampling import Durations
from bench_core.timing.sources import Source
from bench_core.timing.workers import Workers
from bench_core.workload import Workload

BUDGETS = {
    Preset.SMOKE: 0.01,
    Preset.HEADLINE: 0.3,
    Preset.QUICK: 1.1,
    Preset.STANDARD: 1.0,
    Preset.FULL: 5.0,
}
# Seconds that a call on a CPU may take: it is made more than ten times, and two cores need a minute for some models.
LONGEST_CALL = {Preset.HEADLINE: 2.0}
# Share of a run to be spent on warm-up and timed blocks. Where building and checking take most of a run, it says
# more if every series lasts as long as its budget allows.
QUOTA = {Preset.QUICK: 0.65}
# Seconds that a case may take besides its budget: a slow CPU takes minutes to call and check a large model once.
_PATIENCE = {
    Preset.SMOKE: 60.0,
    Preset.HEADLINE: 300.0,
    Preset.QUICK: 60.0,
    Preset.STANDARD: 300.0,
    Preset.FULL: 600.0,
}
# Seconds per series in a round of --precision, at most. Processes differ more than the blocks of one, so many short
# ones say more than few long ones. On a CPU the warm-up is shorter too: the check has called the kernel before.
ROUND_BUDGET = 0.05
_TYPICAL_CACHE = 32 << 20  # bytes; used if neither the kernel nor a library reports the size of the device's cache
_WARMUP_CPU, _WARMUP_GPU = 0.2, 0.5
# Seconds of calls for an energy reading: ten updates of the slowest counter. Short presets have no time for it.
_ENERGY = dict.fromkeys(Preset, 0.0) | {Preset.STANDARD: 1.0, Preset.FULL: 1.0}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that a user can set.

    budget: seconds of timed blocks per series. backends: as in --bench-backends. keyword, markers: pytest's -k and -m.
    probes, cases: of a round of --precision, the files with the devices that there are, and with its cases.
    """

    preset: Preset = Preset.QUICK
    backends: tuple[str, ...] = ()
    output: Path = Path("results")
    machine: str = ""
    budget: float | None = None
    timeout: float | None = None
    require: tuple[str, ...] = ()
    seed: int = 0
    keyword: str = ""
    markers: str = ""
    isolated: bool = True
    check_only: bool = False
    process: int = 0
    keep_journal: bool = False
    resume: Path | None = None
    probes: Path | None = None
    cases: Path | None = None

    @property
    def seconds_per_case(self) -> float:
        if self.probes and self.budget is None:
            return min(self.longest_per_case, ROUND_BUDGET)
        return self.longest_per_case

    @property
    def longest_per_case(self) -> float:
        """The budget, also of a round of --precision, as it would be in a single run."""
        return BUDGETS[self.preset] if self.budget is None else self.budget

    @property
    def seconds_until_timeout(self) -> float:
        """The time limit of a case, from build to result. It is generous: hangs are rare, slow checks are not."""
        return _PATIENCE[self.preset] + 20.0 * self.longest_per_case if self.timeout is None else self.timeout

    def plain(self) -> dict[str, Any]:
        """Return the options as plain JSON, without paths: the name of a folder may be that of a person."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        paths = {"output", "resume", "probes", "cases"}
        return {name: to_json(value) for name, value in every.items() if name not in paths}

    @classmethod
    def resuming(cls, folder: Path) -> RunOptions:
        """Return the options of an unfinished run; raises UsageError if it cannot be resumed."""
        if not is_file(folder / schema.JOURNAL):
            finished = is_file(folder / schema.RUN)
            why = "the run is finished" if finished else f"no {schema.JOURNAL} there"
            raise UsageError(f"--bench-resume={folder}: nothing to resume: {why}")
        try:
            plain = dict(journal.read(folder / schema.JOURNAL).head.options)
        except TableError as error:
            raise UsageError(f"--bench-resume={folder}: nothing to resume: {error}") from None
        try:
            lists = {name: tuple(plain[name]) for name in ("backends", "require")}
            return cls(**{**plain, **lists, "preset": Preset(plain["preset"]), "resume": folder})
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"--bench-resume={folder}: started by another version of bench-core: {error}") from None


class Session:
    """A run in progress. Every record is in the journal before the next case begins.

    planned: the plan of the unfinished run that is resumed, or the cases of a round of --precision; None for a new run.
    traits: those of every planned workload.
    ceilings: by name of the workload, the limit of the machine that it measures, if it measures one.
    cpu_limits: what a measurement on the CPU cannot exceed.
    measurements: one per case, as measured and as in the journal. outcomes: those of the planned cases as in the
        results, which `close` makes of them. refused: those of `outcomes` that `close` found to be implausible.
    write_errors: errors while writing, reported at the end; the measurements stay in memory.
    """

    def __init__(self, options: RunOptions, age: float = 0.0) -> None:
        """Probe the devices. age: seconds that this process has spent on the run before."""
        self.options = options
        self._begin = perf_counter() - age
        self._starting = 0.0
        self._final_account: RunAccount | None = None
        self._scratch: Scratch | None = None
        self._has_no_scratch = False
        asked = options.backends or tuple(registry.names())
        self.targets = Targets(asked, probe_all((*asked, *options.require), options.probes))
        self.host_facts = environment.host_environment()
        self.workers = Workers(isolated=options.isolated)
        self.cpu_limits = cpu_limits.read()
        self.measurements: dict[Case, Measurement] = {}
        self.outcomes: list[Measurement] = []
        self.refused: list[Measurement] = []
        self.traits = TraitsOf()
        self._workloads: dict[tuple[str, str], Workload] = {}
        self.ceilings: dict[str, Ceiling] = {}
        self.folder: Path | None = None
        self.planned: frozenset[Case] | None = None
        self.write_errors: list[str] = []
        self._hardware = environment.machine_label(self.host_facts, self.targets.accelerator_names())
        self._environments: dict[str, Facts] = {}
        self._head: journal.Head | None = None
        self._journal: journal.Journal | None = None
        self._before: journal.JournalContents | None = None
        self._purse: tries.Purse | None = None
        self._turned_out: dict[Case, Case] = {}  # planned cases of unknown work -> what they were when measured
        self.run = self._new_run()
        if options.cases:
            self.planned = read_cases(options.cases)
        if options.resume:
            self._resume(options.resume)

    def _new_run(self) -> Run:
        started = datetime.now(UTC)
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        label = self.options.machine or self._hardware
        git = environment.git_state(Path.cwd())
        return Run(run_id, started.isoformat(timespec="seconds"), label, git.commit, git.dirty)

    def _resume(self, folder: Path) -> None:
        """Load an unfinished run to continue it; raises UsageError on another machine or another commit."""
        before = journal.read(folder / schema.JOURNAL)
        self._require_same_computer(folder, before)
        same = {"git_commit": (before.head.run.git_commit, self.run.git_commit)}
        # The label that a computer has by default is not its user's, and other versions give it another one.
        if self.options.machine or before.head.run.machine != before.head.hardware:
            same["machine"] = before.head.run.machine, self.run.machine
        for name, (was, is_now) in same.items():
            if was != is_now:
                raise UsageError(f"--bench-resume={folder}: started with {name} {was!r}, which is now {is_now!r}")
        self._before, self.run, self.planned = before, before.head.run, frozenset(before.head.planned)
        kept = (m for m in before.measurements if m.status is not Status.INTERRUPTED)
        self.measurements = {m.case: m for m in kept}
        for planned, m in before.by_planned().items():
            if m.planned_as and m.case in self.measurements:
                self._turned_out[planned] = m.case
                self.measurements.pop(planned, None)
        self._environments = dict(before.environments)
        self.traits = TraitsOf.from_json(before.head.workloads.get("traits"))
        self.ceilings = {name: Ceiling(word) for name, word in before.head.workloads.get("ceilings", {}).items()}

    def _require_same_computer(self, folder: Path, before: journal.JournalContents) -> None:
        """Raise UsageError if an unfinished run was started on another computer, as far as both can be told apart.

        Or if it may use other cores of it now, or lacks a device.
        """
        head, here = before.head, self._computer()
        if head.computer:
            told = [head.computer]
        else:  # Journals of earlier versions have the label, which may have changed, and what their workers saw.
            former = environment.former_labels(self.host_facts, self.targets.accelerator_names())
            if head.hardware not in {self._hardware, *former}:
                what = f"with hardware {head.hardware!r}, which is now {self._hardware!r}"
                raise UsageError(f"--bench-resume={folder}: started {what}")
            told = [lasting(facts) for facts in before.environments.values()]
        apart = {against(name, (was[name], here[name])) for was in told for name in contradictions(was, here)}
        if apart:
            raise UsageError(f"--bench-resume={folder}: started on another computer: {'; '.join(sorted(apart))}")
        # What a user can change on one computer: the label has always ended in the cores.
        cores = tuple(environment.labelled_cores(label) for label in (head.hardware, self._hardware))
        changed = [against("cpu.cores_usable", cores)] if cores[0] != cores[1] else []
        was, now = (gpu_models(facts) for facts in (head.computer, here))
        if head.computer:
            changed += [against(name, (was.get(name), now.get(name))) for name in sorted(was.keys() ^ now.keys())]
        if changed:
            raise UsageError(f"--bench-resume={folder}: other hardware may be used now: {'; '.join(changed)}")

    def _computer(self) -> Lasting:
        """Return the facts of this computer that stay, with the model of each accelerator."""
        return lasting(self.host_facts, self.targets.accelerators().items())

    def cases(self, workload: Workload) -> Iterator[Case]:
        """Yield the cases of a workload under this session's options."""
        self.traits |= TraitsOf({(workload.suite, workload.name): workload.traits})
        if workload.ceiling:
            self.ceilings[workload.name] = workload.ceiling
        self._workloads[workload.suite, workload.name] = workload
        return expand(workload, self.options.preset, self.targets.taking_part, self.machine)

    def headlines(self) -> set[tuple[str, str]]:
        """Return suite and name of the workloads that the preset `headline` measures."""
        found = set()
        for names, workload in self._workloads.items():
            with contextlib.suppress(Exception):  # it may have no sizes for a preset that this run does not measure
                if any(expand(workload, Preset.HEADLINE, self.targets.taking_part, self.machine)):
                    found.add(names)
        return found

    def open(self, planned: Sequence[Case], said: str = "--bench-output") -> None:
        """Create the run's folder and its journal before anything is measured; raises UsageError if that fails.

        said: how the user has given the folder, for the message.
        """
        folder = self.options.resume or self.options.output / self.run.machine / self.run.run_id
        try:
            if self._before:
                self._head = self._before.head
                self._journal = journal.Journal.reopened(folder)
            else:
                folder.mkdir(parents=True)
                about = (self.options.plain(), self._hardware, self._about_workloads(), self._computer())
                self._head = journal.Head(self.run, tuple(planned), *about)
                self._journal = journal.Journal(folder, self._head)
        except OSError as error:
            option = f"--bench-resume={folder}" if self._before else f"{said}={self.options.output}"
            raise UsageError(f"{option}: cannot write there: {error.strerror}") from None
        self.folder = folder
        tried = (case for case in planned if (case.backend, case.device) not in self.targets.absent)
        self._purse = tries.Purse(sum(map(self.budget, tried)))
        self._starting = perf_counter() - self._begin

    def machine(self, target: Target | Case) -> Machine:
        """Return what the plan for a target may depend on: the cache of its device, and the usable cores."""
        kind = target.device_type
        first = f"{kind}:0" if target.ranks > 1 else target.device  # several devices are of one model
        own = host.last_level_cache() if kind == "cpu" else self.targets.last_level_cache(first)
        cores = allotment.usable_cores()
        return Machine(own or _TYPICAL_CACHE, max(1, cores // target.ranks), kind, target.ranks)

    def durations(self, case: Case) -> Durations:
        """Return for how long to measure a case."""
        budget = self.options.seconds_per_case
        on_cpu = case.device_type == "cpu"
        usual = _WARMUP_CPU if on_cpu else _WARMUP_GPU
        longest = budget if on_cpu else self.options.longest_per_case  # clocks of a GPU take time to rise
        # On a machine that is never steady the warm-up lasts as long as it may: half of the budget says enough.
        warmup_cap = min(2 * longest, max(longest / 2, 2 * usual))
        return Durations(
            budget=budget,
            least=budget if self._measures_too_little else min(0.2, budget),
            warmup=min(usual, warmup_cap),
            warmup_cap=warmup_cap,
            energy=0.0 if self.options.cases else _ENERGY[self.options.preset],  # the first round has measured it
        )

    def settings(self, case: Case) -> Settings:
        """Return how to measure a case, this time."""
        return Settings(
            self.durations(case),
            self.options.seed,
            self.machine(case).last_level_cache,
            self.options.check_only,
            shared=self._shared_folder(),
            longest_call=LONGEST_CALL.get(self.options.preset, math.inf),
        )

    @property
    def _measures_too_little(self) -> bool:
        """Whether a run with a quota has spent more of its time on all else: then no series stops early."""
        quota = QUOTA.get(self.options.preset)
        return quota is not None and self.account.measuring_share < quota

    def _shared_folder(self) -> str:
        """Return the folder in which the workers share inputs and references; "" if there is none to write to.

        The rounds of a series have one together: that of the probes which are handed on.
        """
        if self.options.probes:
            return str(self.options.probes.parent)
        if self._scratch is None and not self._has_no_scratch:
            try:
                self._scratch = Scratch()
            except OSError:
                self._has_no_scratch = True
        return self._scratch.name if self._scratch else ""

    def budget(self, case: Case) -> float:
        """Return the seconds of warm-up, timed blocks and energy readings that a case is given, without its probes."""
        durations = self.durations(case)
        clocks = 1 if case.device_type == "cpu" or case.ranks > 1 else 2
        return clocks * (durations.warmup + durations.budget) + durations.energy

    def measure(
        self,
        case: Case,
        source: Source,
        on_phase: OnPhase = ignore_phase,
        planned_as: Case | None = None,
        *,
        again: bool = False,
        second: bool = False,
    ) -> Measurement:
        """Measure a case, write it to the journal and return it; an interrupt is recorded and raised again.

        A case that already has a record is measured only if `again` is true, and the last record counts. Otherwise the
        plan contains it twice, or the run was resumed. planned_as: the planned case whose place this one takes, if its
        work was not known in the plan. second: whether this is the second try of a case that was disturbed; it begins
        when the machine is quiet, and the better record of the two counts. Raises UsageError if another planned case
        has turned out to be the same one.
        """
        if planned_as:
            self._take_place(planned_as, case)
        first = self.measurements.get(case) if second else None
        if case in self.measurements and not (again or first):
            return self.measurements[case]
        try:
            done = self._dispatched(case, source, on_phase, wait=tries.wait_of(self.budget(case)) if first else 0.0)
        except KeyboardInterrupt:
            if not first:
                self._keep(Measurement.missing(case, Status.INTERRUPTED, "interrupted", "interrupted while it ran"))
            raise
        known_as = planned_as.work.case_id if planned_as else ""
        done = replace(done, process=self.options.process, planned_as=known_as)
        done = refuse_implausible(done, self.traits, self.cpu_limits)
        self._account(case, done, is_second=first is not None)
        return self._keep(tries.better(first, done) if first else done)

    def _dispatched(self, case: Case, source: Source, on_phase: OnPhase, wait: float) -> Measurement:
        absent = self.targets.absent.get((case.backend, case.device))
        if absent:
            return Measurement.missing(case, Status.SKIPPED, absent.code, absent.reason)
        settings = replace(self.settings(case), wait=wait)
        return self.workers.dispatch(case, source, settings, self.options.seconds_until_timeout + wait, on_phase)

    def _account(self, case: Case, done: Measurement, *, is_second: bool) -> None:
        if self._purse and is_second:
            self._purse.second(done, self.budget(case))
        elif self._purse:
            self._purse.first(done, self.budget(case))

    def puts_off(self, done: Measurement) -> bool:
        """Return whether a case that has been measured once was so disturbed that a second try is worth its time.

        The time is then taken from what the run has left, so the second try must follow. In the rounds of --precision
        after the first there is none: another process of the case says more.
        """
        if self.options.cases or self._purse is None:
            return False
        return tries.is_disturbed(done) and self._purse.take(self.budget(done.case))

    def _take_place(self, planned: Case, case: Case) -> None:
        """Note what a planned case of unknown work has turned out to be."""
        before = self._turned_out.get(planned)
        if before == case:
            return
        if case in self.measurements:
            what = f"{case.work.workload} {case.work.size} {case.work.dtype}"
            raise UsageError(f"measure: {what} was measured by another test: give each a name of its own, name=")
        for other in filter(None, (planned, before)):  # of an earlier try of the same test
            self.measurements.pop(other, None)
        self._turned_out[planned] = case

    def note_unmeasured(
        self, case: Case, status: Status, code: str, reason: str, planned_as: Case | None = None
    ) -> bool:
        """Record why a case was not measured and return True; return False if it has a record. See `measure`."""
        if planned_as:
            self._take_place(planned_as, case)
        if self._turned_out.get(case, case) in self.measurements:
            return False
        known_as = planned_as.work.case_id if planned_as else ""
        self._keep(Measurement.missing(case, status, code, reason, planned_as=known_as))
        return True

    def _keep(self, done: Measurement) -> Measurement:
        if self._before and done.status is Status.OK and "resumed" not in done.flags:
            done = replace(done, flags=(*done.flags, "resumed"))
        # From here on the reason is in files that may be published.
        done = replace(done, reason=scrub(done.reason))
        self.measurements[done.case] = done
        new = {env_id: facts for env_id, facts in self.workers.environments.items() if env_id not in self._environments}
        self._environments |= new
        if self.folder:
            try:
                self._write_down(self.folder, done, new)
            except OSError as error:
                # The run continues in memory; the next record tries to write again, and so does the end of the run.
                self._close_journal()
                self._note_write_error(f"the journal could not be written: {error.strerror}")
        return done

    def _write_down(self, folder: Path, done: Measurement, new: Mapping[str, Facts]) -> None:
        """Append a record to the journal; if the last attempt failed, write a new journal with all records."""
        if self._journal is None:
            self._write_journal(folder)
            self._journal = journal.Journal.reopened(folder)
            return
        for env_id, facts in new.items():
            self._journal.append_environment(env_id, facts)
        self._journal.append(done)

    def _write_journal(self, folder: Path) -> None:
        assert self._head is not None  # noqa: S101 - open() made it, and the folder
        folder.mkdir(parents=True, exist_ok=True)
        text = journal.text(self._head, self.measurements.values(), self._environments)
        write_atomically(folder / schema.JOURNAL, text)

    def _close_journal(self) -> None:
        if self._journal:
            self._journal.close()
            self._journal = None

    def _note_write_error(self, message: str) -> None:
        if message not in self.write_errors:
            self.write_errors.append(message)

    def end(self) -> None:
        """End the workers, and remove what they have shared."""
        self.workers.close()
        if self._scratch:
            self._scratch.cleanup()
            self._scratch = None

    def close(self, planned: Sequence[Case]) -> list[Row]:
        """End the workers, give every planned case its rows, write the results and return the rows.

        A resumed run keeps its original plan, whatever was selected now. Raises InternalError, after everything is
        written, if the rows do not account for every planned case.
        """
        self.end()
        plan = self._before.head.planned if self._before else planned
        plan = list(dict.fromkeys(self._turned_out.get(case, case) for case in plan))
        for case in plan:
            if case not in self.measurements:
                # These are not written to the journal one by one: a user who stops a run may not wait for long.
                reason = "the run ended before its turn"
                self.measurements[case] = Measurement.missing(case, Status.INTERRUPTED, "not_reached", reason)
        self.outcomes = refuse_beyond_own_best([self.measurements[case] for case in plan], self.traits)
        self.refused = [m for m in self.outcomes if m.status is not self.measurements[m.case].status]
        rows = rows_of_run(self.run, ([m] for m in self.outcomes), self.traits)
        self._final_account = self.account  # the line at the end says what run.json does
        if self.folder:
            self.folder = self._write(self.folder, rows)
        require_sums(self.outcomes, self.measurements, rows)
        return rows

    def _write(self, folder: Path, rows: list[Row]) -> Path | None:
        """Write the results to `folder` or, if that fails, to a new temporary folder; return the folder, if any."""
        try:
            self._write_into(folder, rows)
        except OSError as error:
            self._note_write_error(f"{folder} could not be written: {error.strerror}; using a temporary folder")
        else:
            return folder
        try:
            elsewhere = Path(tempfile.mkdtemp(prefix="bench-core-"))
            self._write_into(elsewhere, rows)
        except OSError as error:
            self._note_write_error(
                f"a temporary folder could not be written: {error.strerror}; only the journal is kept"
            )
            return None
        return elsewhere

    def _write_into(self, folder: Path, rows: list[Row]) -> None:
        """Write the three files of results, and the full journal if the run can be resumed or will be merged."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.interrupted or self.options.keep_journal:
            self._write_journal(folder)
        writer.write_run(folder, rows, self.outcomes, self.about())
        self._close_journal()
        if not (self.interrupted or self.options.keep_journal):
            (folder / schema.JOURNAL).unlink(missing_ok=True)

    @property
    def interrupted(self) -> int:
        """The number of cases that the run did not finish: if there are any, it can be resumed."""
        return sum(m.status is Status.INTERRUPTED for m in self.measurements.values())

    @property
    def account(self) -> RunAccount:
        """Where the time went until the results were written, or until now.

        Of the sessions before a resumption, what their cases spent is known.
        """
        if self._final_account:
            return self._final_account
        before = sum(sum(m.spent.values()) for m in self._before.measurements) if self._before else 0.0
        total = before + perf_counter() - self._begin
        return RunAccount.of(self.measurements.values(), starting=self._starting, total=total)

    def _about_workloads(self) -> dict[str, Any]:
        return {"traits": self.traits.to_json(), "ceilings": to_json(dict(sorted(self.ceilings.items())))}

    def about(self) -> dict[str, Any]:
        """Return the contents of run.json."""
        workers = {env_id: environment.facts_to_json(facts) for env_id, facts in self._environments.items()}
        return {
            "run": to_json(self.run),
            "resumed": self._before is not None,
            "options": self.options.plain(),
            "planned": len(self.outcomes),
            "statuses": count_statuses(self.outcomes),
            **self._about_workloads(),
            "time": self.account.to_json(),
            "disturbed": tries.disturbed_seconds(self.outcomes),
            "environment": {"host": environment.facts_to_json(self.host_facts), "workers": workers},
        }


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    """Write the planned cases that a round of --precision measures; raises OSError."""
    write_atomically(path, json.dumps(to_json(list(cases))))


def read_cases(path: Path) -> frozenset[Case]:
    """Return the cases in a file that `write_cases` wrote; raises UsageError for any other."""
    try:
        return frozenset(map(case_from_json, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--bench-cases={path}: not a list of cases: {error}") from None


def require_sums(planned: Sequence[Measurement], all_kept: Collection[Case], rows: Iterable[Row]) -> None:
    """Raise InternalError unless the rows show the status of every planned measurement, and no other was kept."""
    shown: dict[Identity, set[str]] = {}
    for row in rows:
        shown.setdefault(row.identity, set()).add(row.status)
    wrong = [m.case.label for m in planned if shown.get(m.identity) != {m.status}]
    if wrong or len(planned) != len(all_kept):
        example = f": {wrong[0]}" if wrong else ""
        counts = f"{len(planned)} planned, {len(all_kept)} kept, {len(wrong)} without a row of their status"
        raise InternalError(f"internal error: the cases do not add up ({counts}{example}); please report this")
