"""The pytest plugin: it expands workload tests to cases, measures them and writes the tables.

    @pytest.mark.workload(Square())
    def test_square(measure):
        measure()

Such a test is expanded to one item per case of the plan. One without the marker measures a function of its own, and is
expanded to one item per backend and device:

    def test_gelu(measure):
        measure(gelu, x, reference=gelu)

With `--benchmark-only` each item measures its case in a worker process and passes the raw seconds to pytest-benchmark.
Without it each item runs its case once at the smoke preset, only checks the answer, and writes nothing. The plugin
does not affect sessions without such tests.
"""

from __future__ import annotations

import functools
import random
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_core import pytest_neighbours as neighbours
from bench_core import pytest_options
from bench_core.analysis import summary
from bench_core.errors import InternalError, UsageError
from bench_core.interrupts import Interrupts
from bench_core.machine import host
from bench_core.own.planned import in_test, is_meant, planned_case
from bench_core.own.source import source_of
from bench_core.plan import suite
from bench_core.plan.suite import UseSuite
from bench_core.plan.targets import Absent
from bench_core.pytest_display import Display, fit_tables
from bench_core.pytest_replay import ReplayClock, leave_unused, replay
from bench_core.records import NOT_TRIED, Case, Measurement, Status, Target
from bench_core.run.progress import Progress
from bench_core.run.session import RunOptions, Session
from bench_core.run.tries import disturbed_seconds
from bench_core.text import harmless, one_line
from bench_core.timing.case import OnPhase, ignore_phase
from bench_core.timing.sources import Imports, Source, WorkloadSource
from bench_core.timing.worker_protocol import WorkerSpec
from bench_core.workload import Workload

_STATE = pytest.StashKey["Harness"]()
_PUT_OFF = pytest.StashKey[bool]()  # of an item: whether its case is measured again later, or is so now
_DEFERRED = "deferred"  # the outcome of reports that are not shown, because the item runs again
_OWN_FUNCTION = re.compile(rb"def test\w*\([^)]*\bmeasure\b")
_NOT_CALLED = "the test has never called measure"
_MARKERS = {
    "workload(workload)": "measure this Workload on every backend and device of the plan",
    "ceiling": "measures a limit of the machine",
    "gpu": "runs on an accelerator",
    "cpu": "runs on the CPU",
    "numpy": "runs NumPy",
    "cupy": "runs CuPy",
    "torch": "runs PyTorch",
    "jax": "runs JAX",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options and their ini keys."""
    pytest_options.declare(parser)


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Say what --benchmark-only needs, before pytest calls it unknown, and what pytest-benchmark may leave."""
    neighbours.require_pytest_benchmark(early_config, args)
    neighbours.leave_no_empty_storage(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers and read the options. Raises pytest.UsageError for an invalid option, before collection."""
    for marker, about in _MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {about}")
    if not neighbours.is_benchmark_loaded(config):
        config.addinivalue_line("markers", "benchmark: pytest-benchmark, which is not loaded")
        config.pluginmanager.register(_WithoutBenchmark(), "bench_core without pytest-benchmark")
    measuring = bool(config.getoption("benchmark_only", False))  # pytest-benchmark may be disabled
    if measuring:
        neighbours.require_alone(config)
    if measuring and "--bench-output" in config.invocation_params.args and not _inside(config):
        # Before pytest knows the options of plugins, it takes a separate DIR for a folder of tests.
        raise pytest.UsageError("--bench-output DIR: write --bench-output=DIR, or pytest reads its ini file from DIR")
    config.args[:] = _paths(config)
    try:
        config.stash[_STATE] = Harness(config, pytest_options.read(config, measuring=measuring))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def _inside(config: pytest.Config) -> bool:
    return config.inipath is not None and config.invocation_params.dir.is_relative_to(config.inipath.parent)


def _paths(config: pytest.Config) -> list[str]:
    """Return what to collect: the suite's folder if --bench-suite says so, otherwise what pytest itself has chosen."""
    home, use = suite.folder(), UseSuite(config.getoption("bench_suite"))
    start = config.invocation_params.dir
    if home is None or use is UseSuite.NEVER:
        return config.args
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return [suite.located(argument, start) for argument in config.args]
    if use is UseSuite.ALWAYS or not _has_own(config, [start / path for path in config.args]):
        return [str(home)]
    # The run that is resumed may be of the suite or of this folder; what it does not contain is deselected.
    return [*config.args, str(home)] if config.getoption("bench_resume") else config.args


def _has_own(config: pytest.Config, paths: list[Path]) -> bool:
    patterns = ("bench_*.py", *config.getini("python_files"))
    return suite.has_own(
        paths,
        lambda file: any(file.match(pattern) for pattern in patterns) and _mentions_workloads(file),
        recursive=config.inipath is not None,  # without it this may be a home folder, with anything below it
        ignored=config.getini("norecursedirs"),
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that the suite was chosen, and how to choose something else."""
    if config.args != [str(suite.folder())] or config.args_source is pytest.Config.ArgsSource.ARGS:
        return None
    return "bench-core: measures the benchmarks that come with it; to measure others, name their file or folder"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, list[Any], list[Any]]:
    """Collect a file bench_*.py with workloads also where the project's `python_files` does not name it."""
    found = yield
    if not file_path.match("bench_*.py") or any(type(collector) is pytest.Module for collector in found):
        return found
    if not _mentions_workloads(file_path):
        return found
    return [*found, parent.ihook.pytest_pycollect_makemodule(module_path=file_path, parent=parent)]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Give the files of the suite the ids that they have in a clone, wherever they are installed."""
    nodeid = suite.node_path(module_path)
    return pytest.Module.from_parent(parent, path=module_path, nodeid=nodeid) if nodeid else None


def _mentions_workloads(path: Path) -> bool:
    """Whether a file may contain workloads. pytest should not import other scripts with such a name."""
    try:
        source = path.read_bytes()
    except OSError:
        return False
    return b"mark.workload" in source or bool(_OWN_FUNCTION.search(source))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Expand a workload test to the cases of the plan."""
    mark = metafunc.definition.get_closest_marker("workload")
    if not _takes_our_fixture(metafunc):
        return
    harness = metafunc.config.stash[_STATE]
    if mark is None:
        test = metafunc.definition.originalname
        marked = [pytest.param(t, id=f"{t.backend}-{t.device}", marks=_marks(t, test)) for t in harness.targets()]
        metafunc.parametrize("measure", marked, indirect=True)
        return
    workload: Workload = mark.args[0]
    ceiling = [pytest.mark.ceiling] if workload.ceiling else []
    cases = harness.cases(workload)
    marked = [pytest.param(case, id=case.label, marks=[*ceiling, *_marks(case, _group(case))]) for case in cases]
    metafunc.parametrize("measure", marked, indirect=True)


def _takes_our_fixture(metafunc: pytest.Metafunc) -> bool:
    """Whether a test takes the fixture `measure` of this module, not one of its own of that name."""
    known = metafunc._arg2fixturedefs.get("measure")  # there is no public way to ask
    if not known or known[-1].func.__module__ != __name__:
        return False
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize") if mark.args]
    names = [name.strip() for some in given for name in (some.split(",") if isinstance(some, str) else some)]
    return "measure" not in names


def _group(case: Case) -> str:
    work = case.work
    return f"{work.workload} {work.size} {work.dtype}" + f" {work.precision}" * (work.precision != "ieee")


def _marks(of: Case | Target, group: str) -> list[pytest.MarkDecorator]:
    marks = [
        pytest.mark.benchmark(timer=ReplayClock(), group=group),
        pytest.mark.cpu if of.device_type == "cpu" else pytest.mark.gpu,
    ]
    if of.backend in _MARKERS:
        marks.append(getattr(pytest.mark, of.backend))
    return marks


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect items without a case to measure, and group the items that share a worker."""
    session = config.stash[_STATE].session
    if session is None:
        return
    # A workload without a case in this preset has one empty item. It is dropped, but not reported as deselected.
    dropped = [item for item in items if _case(item) and not _wanted(item, session)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    kept = [item for item in items if _wanted(item, session)]
    if neighbours.is_codspeed_active(config):
        for item in filter(_case, kept):
            item.add_marker(pytest.mark.skip(reason=neighbours.CODSPEED))
    if (seed := config.getoption("bench_shuffle")) is not None:
        random.Random(seed).shuffle(kept)  # noqa: S311 - an order, not a secret
    by_worker: dict[WorkerSpec | None, list[pytest.Item]] = {}
    for item in kept:
        by_worker.setdefault(_spec(item), []).append(item)
    items[:] = [item for group in by_worker.values() for item in group]


def _wanted(item: pytest.Item, session: Session) -> bool:
    """Return whether to keep an item: it has a planned case, or it is not a workload test.

    If a run is resumed, or is a round of --precision, only items with a case of its plan are kept.
    """
    case = _case(item)
    if session.planned is not None:
        return case in session.planned
    return case is not None or item.get_closest_marker("workload") is None


def _spec(item: pytest.Item) -> WorkerSpec | None:
    """Return the worker that an item needs, None for an item without a case."""
    return WorkerSpec.of(case) if (case := _case(item)) else None


def _case(item: pytest.Item) -> Case | None:
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    given = item.callspec.params.get("measure")
    if isinstance(given, Target):  # what it measures is known only when it calls `measure`
        return planned_case(item.originalname, item.nodeid, given)
    return given if isinstance(given, Case) else None


def planned(item: pytest.Item) -> tuple[Case, Absent | None] | None:
    """Return the case of an item, and why it cannot be measured if that is known; None for an item without a case."""
    case, session = _case(item), item.config.stash[_STATE].session
    return (case, session.targets.absent.get((case.backend, case.device))) if case and session else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Open the results folder of the run; the plan is now final."""
    session.config.stash[_STATE].begin(session)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Report the devices that will not be measured, before measuring starts."""
    session = config.stash[_STATE].session
    if session is None:
        hint = "bench-core: nothing to measure is here; --bench-suite=always measures the benchmarks that come with it"
        return [hint] if config.getoption("bench_suite") == UseSuite.AUTO else []
    others = [neighbours.CODSPEED] if neighbours.is_codspeed_active(config) else []
    return [f"bench-core: {line}" for line in [*others, *session.targets.left_out()]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Record why a test did not measure its case; a test that has passed without measuring it fails."""
    report = yield
    if item.stash.get(_PUT_OFF, False) and call.when != "setup":
        return _unsaid(item, report)
    session, case = item.config.stash[_STATE].session, _case(item)
    if session is None or case is None or call.when == "teardown":
        return report
    said = one_line(call.excinfo.value) if call.excinfo else ""
    if report.skipped:
        session.note_unmeasured(case, Status.SKIPPED, "test_skipped", said or "the test is skipped")
    elif report.failed:
        session.note_unmeasured(case, Status.ERROR, "test_failed", said)
    elif call.when == "call" and session.note_unmeasured(case, Status.ERROR, "not_measured", _NOT_CALLED):
        report.outcome, report.longrepr = "failed", _NOT_CALLED
    return report


def _unsaid(item: pytest.Item, report: Any) -> Any:
    """Return the report of a try that is made again later as one that is neither passed, failed nor skipped.

    The end of the try is called something else as well: junitxml would take it for that of the test.
    """
    if report.when == "teardown":
        item.stash[_PUT_OFF] = False  # it runs again
        if report.failed:  # a fixture could not be finished
            return report
        report.when = _DEFERRED
    report.outcome, report.longrepr = _DEFERRED, None
    report.__dict__.pop("wasxfail", None)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Show nothing for a try that is made again."""
    return ("", "", "") if report.outcome == _DEFERRED else None


class _Later(pytest.skip.Exception):  # type: ignore[name-defined, misc]
    """Ends a test whose case is measured again later. pytest opens no debugger for an exception of this kind."""


@pytest.fixture
def measure(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[Callable[..., Measurement]]:
    """Yield a callable that measures the case, passes the samples to pytest-benchmark and returns the Measurement.

    It is called as `measure()` in a test that is marked with a workload, else as `measure(fn, *inputs)` with the
    arguments of `bench_core.measure` except `budget` and `output`, which are options of pytest. Then `backends` names
    those on which the function can run; the items of all others are skipped.
    """
    yield from _measuring(request, benchmark)


class _WithoutBenchmark:
    """The same fixture without pytest-benchmark; a fixture `benchmark` may then be that of another plugin."""

    @pytest.fixture
    def measure(self, request: pytest.FixtureRequest) -> Iterator[Callable[..., Measurement]]:
        yield from _measuring(request, neighbours.Unrecorded())


def _measuring(request: pytest.FixtureRequest, benchmark: Any) -> Iterator[Callable[..., Measurement]]:
    if _case(request.node) is None:
        pytest.fail("measure: a test must name this fixture among its own arguments", pytrace=False)
    once = _Once(request, benchmark)
    yield once
    if not once.replayed:
        leave_unused(benchmark)


class _Once:
    """What the fixture `measure` yields. replayed: whether pytest-benchmark has got the samples."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark
        self._called = self.replayed = False

    def __call__(self, *given: Any, **options: Any) -> Measurement:
        if self._called:
            pytest.fail("measure: called twice: a test measures one thing", pytrace=False)
        self._called = True
        wrong = ""
        try:
            done = _measured(self._request, given, options)
        except UsageError as error:
            wrong = str(error)
        if wrong:  # out of the handler, so that pytest shows one error
            pytest.fail(wrong, pytrace=False)
        if done.status in NOT_TRIED:
            pytest.skip(done.reason)  # always raised on this line, so that pytest merges skips with the same reason
        self._benchmark.group = _group(done.case)  # at collection the work of a function was not known
        replay(done, self._benchmark, self._request.node.get_closest_marker("benchmark").kwargs["timer"])
        self.replayed = True
        if done.status is not Status.OK:
            pytest.fail(f"{done.status}: {done.reason}\n\n{done.traceback}".rstrip(), pytrace=False)
        return done


def _measured(request: pytest.FixtureRequest, given: Sequence[Any], options: Mapping[str, Any]) -> Measurement:
    """Measure the case of a test. given, options: the arguments of `measure`. Raises UsageError for wrong ones."""
    harness, planned, again = request.config.stash[_STATE], _case(request.node), neighbours.is_rerun(request.node)
    assert planned is not None  # noqa: S101 - the fixture has asked
    if isinstance(request.param, Case):
        if given or options:
            raise UsageError("measure: this test is marked with a workload: call measure() without arguments")
        return harness.measure_with_progress(request.node, planned, _source(request), again=again)
    if not given:
        raise UsageError("measure: needs a function, measure(fn, x), or a test with @pytest.mark.workload(...)")
    function, only = in_test(given[0], given[1:], request.node.originalname, options)
    case = replace(planned, work=function.own_work)
    if only and not any(is_meant(case, entry) for entry in only):
        return harness.leave_out(case, f"the test measures {', '.join(only)} only", planned)
    with source_of(function) as source:
        return harness.measure_with_progress(request.node, case, source, planned, again=again)


def _source(request: pytest.FixtureRequest) -> WorkloadSource:
    module = request.node.module
    # The folder that pytest added to sys.path to import the module by its name.
    root = Path(module.__file__).parents[module.__name__.count(".")]
    function = request.node.getparent(pytest.Class)
    qualified = f"{function.name}." if function else ""
    return WorkloadSource(str(root), module.__name__, qualified + request.node.originalname, Imports.here())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Show the progress between two cases, where it cannot be shown while a case runs."""
    outcome = yield
    item.config.stash[_STATE].between_cases()
    return outcome


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results, even if the session was interrupted; the session fails if they cannot be written."""
    session.exitstatus = session.config.stash[_STATE].finish(session.exitstatus)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Show the summary after everything else, even if --benchmark-compare-fail raises an exception before."""
    try:
        return (yield)
    finally:
        _show_summary(terminalreporter, config.stash[_STATE])


def _show_summary(terminalreporter: pytest.TerminalReporter, harness: Harness) -> None:
    if terminalreporter.config.getoption("bench_probes"):
        return  # a round of --precision: what it has measured is shown with all others
    if harness.finished.rows or (harness.session and harness.session.write_errors):
        terminalreporter.section("bench-core")
        width = terminalreporter._tw.fullwidth  # the width pytest itself writes to
        run, color = harness.finished, terminalreporter.hasmarkup
        terminalreporter.write(summary.text(run, harness.closing_lines(), width, color=color))


def _put_off(item: pytest.Item) -> None:
    """Make an item run again, after the last one that shares its worker: none is started for it."""
    item.stash[_PUT_OFF] = True
    items = item.session.items
    after = items.index(item) + 1
    while after < len(items) and _spec(items[after]) == _spec(item):
        after += 1
    items.insert(after, item)


def _is_pytest_alone() -> bool:
    """Whether this process was started as pytest, and is not a program that calls `pytest.main`."""
    program = Path(sys.argv[0])
    return program.stem in {"pytest", "py.test"} or program.parts[-2:] == ("pytest", "__main__.py")


class Harness:
    """The state of the plugin for one pytest session. `session` is None until a workload test is collected."""

    def __init__(self, config: pytest.Config, chosen: RunOptions) -> None:
        self._config = config
        self._options = chosen
        self.session: Session | None = None
        self.finished = summary.Finished(())
        self._interrupts = Interrupts()
        self._planned: list[Case] = []
        self._display: Display | None = None

    def cases(self, workload: Workload) -> Iterator[Case]:
        """Yield the cases of a workload under this session's options."""
        return self._begun().cases(workload)

    def targets(self) -> Sequence[Target]:
        """Return the backends and devices of this session's plan on which a function is measured: on one at a time."""
        return [target for target in self._begun().targets.taking_part if target.ranks == 1]

    def _begun(self) -> Session:
        """Return the session, which begins with the first workload that is collected."""
        if self.session is None:
            self.session = Session(self._options, host.process_age() if _is_pytest_alone() else 0.0)
        return self.session

    def leave_out(self, case: Case, reason: str, planned_as: Case) -> Measurement:
        """Record that a test does not mean a case, and return the record."""
        assert self.session is not None  # noqa: S101 - the plan has created it
        self.session.note_unmeasured(case, Status.UNSUPPORTED, "not_asked", reason, planned_as)
        return self.session.measurements[case]

    def begin(self, session: pytest.Session) -> None:
        """Store the plan, check --bench-require, and open the results folder of the run."""
        self._planned = list(dict.fromkeys(case for item in session.items if (case := _case(item))))
        if self.session is None:
            return
        try:
            if self.session.planned and not self._planned:
                hint = "none of its cases is found here: name the files or folders that it measured"
                option = "cases" if self._options.cases else "resume"
                raise UsageError(f"--bench-{option}={self._config.getoption(f'bench_{option}')}: {hint}")
            self.session.targets.require(self._options.require)
            if self._planned and not self._options.check_only and not self._config.getoption("collectonly"):
                self.session.open(self._planned)
                self._interrupts.take()
                self._display = Display(self._config, Progress(self._budgets(self.session)))
                fit_tables(self._config)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None

    def _budgets(self, session: Session) -> dict[Case, float]:
        """Return the seconds that each case is given, for those that may be measured and are not yet."""
        absent = session.targets.absent
        tried = (case for case in self._planned if (case.backend, case.device) not in absent)
        return {case: session.budget(case) for case in tried if case not in session.measurements}

    def between_cases(self) -> None:
        """Show the progress, if it is time for a line."""
        if self._display:
            self._display.between_cases()

    def measure_with_progress(
        self, item: pytest.Item, case: Case, source: Source, planned_as: Case | None = None, *, again: bool = False
    ) -> Measurement:
        """Measure the case of an item, and show the progress; `again`: even if it has been measured.

        Raises _Later if the case was disturbed; the item then runs once more, after the others of its worker.
        """
        session, second = self.session, _PUT_OFF in item.stash and not again
        assert session is not None  # noqa: S101 - expanding the workload to cases created the session
        measure = functools.partial(session.measure, case, source, planned_as=planned_as, again=again, second=second)
        before = session.measurements.get(case)

        def measured(on_phase: OnPhase = ignore_phase) -> Measurement:
            done = measure(on_phase)
            if done is not before and not second and not again and session.puts_off(done):
                _put_off(item)
                raise _Later("the machine was disturbed: this is measured again later")
            return done

        return self._display.during(planned_as or case, measured) if self._display else measured()

    def closing_lines(self) -> list[str]:
        """Return the lines below the table of the summary: what became of the plan, what is doubtful, what is next."""
        session = self.session
        assert session is not None  # noqa: S101 - called only if there are rows or write errors
        done, account = session.outcomes, session.account
        lines = [
            summary.counts(done),
            *filter(None, (account.line, account.longest)),
            *(f"invalid: {m.case.work.workload} {m.case.label}: {m.reason}" for m in session.refused),
            *session.targets.left_out(),
            *summary.disturbed(disturbed_seconds(done)),
            *summary.doubts(done, self.finished.rows),
            *summary.advice(done),
            *(f"problem: {error}" for error in session.write_errors),
            f"results: {session.folder or 'not written'}",
            *self._next_commands(session),
        ]
        return [harmless(line) for line in lines]  # a path may hold anything

    def _next_commands(self, session: Session) -> list[str]:
        if session.folder is None:
            return []
        if not session.interrupted:
            return summary.commands_after(session.folder, self.finished.rows)
        named = self._config.args_source is pytest.Config.ArgsSource.ARGS
        return [summary.command_to_resume(session.folder, self._config.args if named else ())]

    def finish(self, exitstatus: int) -> int:
        """Close the session, store its rows for the summary and return the exit status for pytest.

        A session whose tests have passed still fails if results cannot be written, or if `close` refuses a case.
        """
        if self.session is None:
            return exitstatus
        self._interrupts.ignore()
        try:
            session = self.session
            rows = session.close(self._planned) if session.folder else []
            self.finished = summary.Finished(rows, session.traits, session.headlines(), session.folder)
            self.session.end()
        except InternalError as error:
            self.session.write_errors.append(str(error))
            return pytest.ExitCode.INTERNAL_ERROR
        finally:
            # A signal that has ended this process's only task stays ignored until its exit code is told.
            if not (self._interrupts.came and _is_pytest_alone()):
                self._interrupts.give_back()
        failed = self.session.write_errors or self.session.refused
        return pytest.ExitCode.TESTS_FAILED if failed and exitstatus == pytest.ExitCode.OK else exitstatus
