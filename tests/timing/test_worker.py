"""Worker processes: real children that crash, hang, exhaust memory and print garbage."""

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from bench_core.backends import registry
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import CaseError, Unavailable
from bench_core.plan import discovery
from bench_core.records import Case, Measurement, Part, Status, Work
from bench_core.timing import worker
from bench_core.timing.case import Settings
from bench_core.timing.sampling import Durations
from bench_core.timing.sources import Imports, WorkloadSource
from bench_core.timing.worker import Worker
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec
from bench_core.timing.workers import InProcess, Workers
from tests.faulty.faults import Fault
from tests.support import ROOT

SOURCE = WorkloadSource(str(ROOT), "tests.faulty.faults", "test_every")
QUICK = Settings(Durations(budget=0.02, least=0.01, warmup=0.01, warmup_cap=0.05), seed=0, last_level_cache=1 << 20)


def case(how, device="cpu", backend="numpy"):
    return Case(Fault(how).works(None, None)[0], backend, device)


def ignore(phase): ...


@pytest.fixture
def workers():
    workers = Workers(isolated=True)
    yield workers
    workers.close()


def run(workers, how, timeout=60.0, on_phase=ignore):
    return workers.dispatch(case(how), SOURCE, QUICK, timeout, on_phase)


def test_a_good_case_comes_back_measured_with_its_environment(workers):
    done = run(workers, "good")
    assert (done.status, done.reason) == (Status.OK, "")
    assert done.series[0].seconds
    assert done.rel_error == 0.0
    assert done.backend_version
    assert done.threads == WorkerSpec.of(done.case).threads
    assert done.env_id in workers.environments


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "status", "code", "words"),
    [
        ("segfault", Status.CRASHED, "crashed_build", "SIGSEGV"),
        ("exit", Status.CRASHED, "crashed_build", "exit code 3"),
        ("raise", Status.ERROR, "RuntimeError", "the kernel fell over"),
        ("memory", Status.OOM, "out_of_memory", "allocate"),
        ("wrong", Status.INVALID, "wrong_answer", "above the tolerance"),
        ("not_finite", Status.INVALID, "not_finite", "1 of 4 elements"),
        ("shape", Status.INVALID, "wrong_shape", "(5,) instead of (4,)"),
        ("overflow", Status.INVALID, "wrong_answer", "inf"),
    ],
)
def test_every_fault_is_a_record_and_the_next_case_runs(workers, how, status, code, words):
    done = run(workers, how)
    assert (done.status, done.reason_code) == (status, code)
    assert words in done.reason
    assert "\n" not in done.reason
    assert not done.series
    assert run(workers, "good").status is Status.OK


def test_an_exception_in_a_child_comes_back_with_its_traceback(workers):
    text = run(workers, "raise").traceback
    assert 'File "faults.py"' in text
    assert text.endswith("RuntimeError: the kernel\nfell over")


@pytest.mark.faults
def test_memory_exhaustion_stops_at_the_cap_of_the_worker_not_at_the_machine(workers, monkeypatch):
    """The child's own cap is lowered to 1 GB: the machine never notices."""
    child = "import bench_core.machine.allotment as a; a.memory_limit = lambda: 1 << 30; import runpy; "
    child += "runpy.run_module('bench_core.timing.worker_child', run_name='__main__')"
    popen = subprocess.Popen

    def capped(command, **options):
        is_worker = "bench_core.timing.worker_child" in command
        return popen([sys.executable, "-c", child, command[-1]] if is_worker else command, **options)

    monkeypatch.setattr(worker.subprocess, "Popen", capped)
    done = run(workers, "eat")
    assert (done.status, done.reason_code) == (Status.OOM, "out_of_memory")


@pytest.mark.faults
def test_a_hang_is_a_timeout_named_by_its_phase_and_its_process_is_gone(workers):
    children = []

    def tell(phase):
        children.append(psutil.Process(workers._executor._process.pid))

    done = run(workers, "hang", timeout=3.0, on_phase=tell)
    assert (done.status, done.reason_code) == (Status.TIMEOUT, "timeout_build")
    assert "3 s" in done.reason
    assert not children[-1].is_running()
    assert run(workers, "good").status is Status.OK


SLEEPING = """
import time

import numpy as np
import pytest

from bench_core import check
from bench_core.timing import case, sampling
from bench_core.workload import Costs, Kernel, Workload


def halve(clock):
    begin = clock()
    return lambda: begin + (clock() - begin) / 2


def sleeping(backend, work, host):
    if work.size != "honest":
        half = halve(time.perf_counter)
        time.perf_counter = sampling.perf_counter = half
        sampling.WallTimer.__init__.__defaults__ = (half, *sampling.WallTimer.__init__.__defaults__[1:])
    if work.size == "everywhere":
        case.perf_counter = half
        sampling.warm_up.__defaults__ = (half,)
        sampling.sample_series.__defaults__ = (half,)

    def run():
        time.sleep(2e-3)
        return np.ones(4)

    return Kernel(run)


class Sleep(Workload):
    suite, name = "tests", "sleep"
    kernels = {"array": {"default": sleeping}}

    def works(self, preset, machine):
        return [self.work(size, "float64") for size in ("honest", "timer", "everywhere")]

    def inputs(self, work, rng):
        return {}

    def costs(self, work):
        return Costs()

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], np.ones(4))


@pytest.mark.workload(Sleep())
def test_sleep(measure):
    measure()
"""


@pytest.mark.parametrize("patched", ["timer", "everywhere"])
def test_a_clock_that_a_kernel_lets_run_at_half_speed_is_found_out_and_its_process_ended(workers, tmp_path, patched):
    """The account of a case has the clock of before: what the kernel patches are the timers alone."""
    (tmp_path / "sleeping_kernel.py").write_text(SLEEPING, encoding="utf-8")
    source = WorkloadSource(str(tmp_path), "sleeping_kernel", "test_sleep")
    settings = Settings(Durations(budget=0.6, least=0.4, warmup=0.4, warmup_cap=0.8), seed=0, last_level_cache=1 << 20)

    def measured(size):
        of = Case(Work("tests", "sleep", size, "float64"), "numpy", "cpu")
        return workers.dispatch(of, source, settings, 60.0, ignore)

    before = measured("honest")
    assert (before.status, before.reason) == (Status.OK, "")
    done = measured(patched)
    assert (done.status, done.reason_code) == (Status.INVALID, "clock_patched")
    assert done.reason.startswith("the timers account for")
    assert (done.series, done.values) == ((), {})
    assert measured("honest").status is Status.OK


def test_a_parent_that_is_at_other_work_meanwhile_does_not_take_it_for_the_child_s(workers):
    """Answers wait in the queue, stamped. The child is done long before."""
    done = run(workers, "good", on_phase=lambda phase: time.sleep(1.0 if phase == "measure" else 0.0))
    assert (done.status, done.reason) == (Status.OK, "")


@pytest.mark.faults
def test_what_a_kernel_prints_never_reaches_the_channel(workers):
    """The kernel writes lines that look like answers, to sys.stdout and to file descriptor 1."""
    assert run(workers, "garbage").status is Status.OK


@pytest.mark.faults
def test_a_worker_killed_from_outside_is_a_crash(workers):
    workers.dispatch(case("good"), SOURCE, QUICK, 60.0, ignore)

    def kill(phase):
        os.kill(workers._executor._process.pid, signal.SIGKILL)

    done = run(workers, "hang", on_phase=kill)
    assert done.status is Status.CRASHED
    assert "SIGKILL" in done.reason


@pytest.mark.faults
def test_a_worker_dies_with_its_parent():
    """SIGKILL of the parent gives it no chance to clean up: the kernel has to."""
    script = (
        f"import sys, {__name__} as t\n"
        "from bench_core.timing.workers import Workers\n"
        "w = Workers(isolated=True)\n"
        "def tell(phase):\n"
        "    print(w._executor._process.pid, flush=True)\n"
        "t.run(w, 'hang', on_phase=tell)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(timeout=10)
    assert not child.is_running()
    parent.stdout.close()


ORPHAN = f"""
import os, sys
import {__name__} as t
from bench_core import child_process
from bench_core.timing import worker, worker_protocol

one = worker.Worker(worker.WorkerSpec.of(t.case("hang")))
if sys.argv[1] == "as elsewhere":
    command = child_process.command
    child_process.command = lambda module, parent: command(module)
one._receive = lambda deadline: os._exit(0)  # before the child has begun to read
one._send = lambda command: [
    one._process.stdin.write(worker.json.dumps(each) + "\\n")
    for each in (command, worker_protocol.case_command(t.case("hang"), t.SOURCE, t.QUICK))
] and one._process.stdin.flush() or print(one._process.pid, flush=True)
one.start()
"""


@pytest.mark.parametrize("system", ["linux", "as elsewhere"])
def test_a_worker_whose_parent_dies_before_it_has_begun_ends(system):
    """Its commands are in the pipe: to start, and to run a case that hangs. Elsewhere no kernel ends it."""
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, system], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    parent.wait()
    parent.stdout.close()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(timeout=20)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_worker_leaves_no_temporary_files_and_needs_none(workers, monkeypatch, tmp_path):
    """It is killed in the middle; and where no folder for them can be written, it works without its output."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []
    run(workers, "hang", timeout=1.0, on_phase=lambda phase: seen.append(list(tmp_path.iterdir())))
    assert len(seen[-1]) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert run(workers, "good").status is Status.OK
    assert run(workers, "exit").reason == "the worker ended with exit code 3 in build"


SHADOWING = ("statistics", "random", "types", "queue", "json")


def test_a_user_s_files_with_names_of_python_s_own_modules_hide_nothing(workers, monkeypatch, tmp_path):
    """In the working folder and among the benchmarks: a worker and a probe start, and a case is measured."""
    for name in SHADOWING:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the file of the user')", encoding="utf-8")
    (tmp_path / "helper_of_bench.py").write_text("from tests.faulty.faults import test_every", encoding="utf-8")
    (tmp_path / "bench_beside.py").write_text("from helper_of_bench import test_every", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    imports = Imports((str(tmp_path),), (("helper_of_bench", str(tmp_path)),))
    source = WorkloadSource(str(tmp_path), "bench_beside", "test_every", imports)
    done = workers.dispatch(case("good"), source, QUICK, 60.0, ignore)
    assert (done.status, done.reason) == (Status.OK, "")
    assert discovery.probe("numpy").available
    for name in SHADOWING[1:]:
        (tmp_path / f"{name}.py").unlink()
    (tmp_path / "statistics.py").rename(tmp_path / "dataclasses.py")
    (tmp_path / "dataclasses.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "dataclasses.py: hides a module of Python, rename it" in discovery.probe("numpy").reason


@pytest.mark.parametrize("at", [0, -1], ids=["first", "last"])
def test_a_worker_imports_what_its_parent_did_from_a_folder_that_stands_first_or_last_on_its_path(
    workers, monkeypatch, tmp_path, at
):
    """A package that lies not beside the benchmark and, where it was found first, one with a name of Python's own.

    A namespace package lies in two folders.

    `queue` is a module that the worker itself has imported.
    """
    helpers = {"of_the_project": "", "sched": "", "queue": ""} if at == 0 else {"of_the_project": ""}
    for name in helpers:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from tests.faulty.faults import test_every", encoding="utf-8")
    (tmp_path / "own").mkdir()
    halves = [tmp_path / "one", tmp_path / "two"]
    for half in halves:
        (half / "shared_name").mkdir(parents=True)
        (half / "shared_name" / f"{half.name}.py").touch()
    text = "".join(f"from {name} import test_every\n" for name in helpers) + "import shared_name.one, shared_name.two\n"
    (tmp_path / "own" / "bench_with_helpers.py").write_text(text, encoding="utf-8")
    for name in (*helpers, "shared_name", "shared_name.one", "shared_name.two", "bench_with_helpers"):
        monkeypatch.setitem(sys.modules, name, None)  # so that what is there now comes back
        del sys.modules[name]
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.path[0:0] = [str(tmp_path / "own")] + [str(tmp_path), *map(str, halves)] * (at == 0)
    sys.path += [str(tmp_path), *map(str, halves)] * (at == -1)
    __import__("bench_with_helpers")
    source = WorkloadSource(str(tmp_path / "own"), "bench_with_helpers", "test_every", Imports.here())
    done = workers.dispatch(case("good"), source, QUICK, 60.0, ignore)
    assert (done.status, done.reason) == (Status.OK, "")


def test_coverage_does_not_trace_a_worker(monkeypatch):
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "ANOTHER"):
        monkeypatch.setenv(name, "x")
    spec = WorkerSpec.of(Case(Work("own", "one", "1", "float32"), "numpy", "cpu"))
    inherited = {name for name, value in worker.environ(spec).items() if value == "x"}
    assert inherited == {"ANOTHER"}


def test_the_environment_is_set_before_the_library_is_imported(workers, monkeypatch):
    """A thread limit that the library reads at import must be there at import: it is seen in the pools."""
    one = Case(case("good").work, "numpy", "cpu", threads=1)
    done = workers.dispatch(one, SOURCE, QUICK, 60.0, ignore)
    pools = workers.environments[done.env_id]["threadpools"].value
    assert [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"] == [1]
    assert done.threads == 1


def test_a_missing_device_is_found_out_once():
    workers, starts = Workers(isolated=True), []
    absent = case("good", device="tpu")

    class Counting(Worker):
        def start(self):
            starts.append(self.spec)
            return super().start()

    workers._make = Counting
    records = [workers.dispatch(absent, SOURCE, QUICK, 60.0, ignore) for _ in range(3)]
    workers.close()
    assert {r.status for r in records} == {Status.SKIPPED}
    assert {r.reason_code for r in records} == {"no_device"}
    assert len(starts) == 1


def test_an_end_by_a_signal_without_a_name_is_told_by_its_number():
    """Signal 35 is a real-time signal: a number that no name belongs to must not raise out of `dispatch`."""
    dead = Worker(WorkerSpec.of(case("good")))
    dead._process = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 35)"])
    dead._log = io.BytesIO(b"last\n")
    assert dead._last_words("in check") == "the worker was killed by signal 35 in check: last"


def refuse(*_, **__):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_a_process_that_the_system_refuses_is_a_row_that_leaves_nothing_open_and_is_tried_twice(
    workers, monkeypatch, tmp_path
):
    """The limit of processes of a user, or of memory, is reached."""
    tried, opened = [], []
    open_both = worker._log_and_scratch
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(worker, "_log_and_scratch", lambda: opened.append(open_both()) or opened[-1])
    monkeypatch.setattr(worker.subprocess, "Popen", lambda *_, **__: tried.append(1) or refuse())
    told = [run(workers, "good") for _ in range(3)]
    assert {(done.status, done.reason_code) for done in told} == {(Status.ERROR, "worker_start")}
    refused = f"[Errno {errno.EAGAIN}] {os.strerror(errno.EAGAIN)}"
    assert {done.reason for done in told} == {f"the worker could not be started: {refused}"}
    assert len(tried) == 2
    assert all(log.closed for log, _ in opened)
    assert list(tmp_path.iterdir()) == []


def test_a_child_whose_answers_no_thread_can_read_is_ended(workers, monkeypatch):
    """Threads count as processes where these are limited."""
    started, popen = [], subprocess.Popen

    class Refused:
        def __init__(self, **_): ...

        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker.threading, "Thread", Refused)
    monkeypatch.setattr(worker.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    done = run(workers, "good")
    assert (done.status, done.reason_code) == (Status.ERROR, "worker_start")
    assert done.reason == "the worker could not be started: can't start new thread"
    assert [child.returncode for child in started] == [-signal.SIGKILL]
    assert started[0].stdout.closed


def test_a_worker_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false" if Path("/bin/false").exists() else "/usr/bin/false")
    with pytest.raises(CaseError, match="exit code 1 while starting"):
        Worker(WorkerSpec.of(case("good"))).start()


def test_two_specs_never_have_workers_alive_at_once(workers):
    run(workers, "good")
    first = workers._executor._process
    workers.dispatch(Case(case("good").work, "numpy", "cpu", threads=1), SOURCE, QUICK, 60.0, ignore)
    assert first.poll() is not None


def test_in_process_measures_without_a_child():
    workers = Workers(isolated=False)
    before = len(psutil.Process().children())
    done = run(workers, "good")
    assert done.status is Status.OK
    assert done.flags[-1] == "not_isolated"
    assert len(psutil.Process().children()) == before


class Tuned(NumpyBackend):
    """NumPy whose implementation `tuned` is a matter of its environment, and `graph` is not."""

    @classmethod
    def environ(cls, threads, implementation):
        return {"EVERY": "1"} | ({"KERNELS": "wide"} if implementation == "tuned" else {})


def test_several_devices_need_processes():
    done = Workers(isolated=False).dispatch(case("good", "cpu:x2"), SOURCE, QUICK, 60.0, ignore)
    assert (done.status, done.reason_code) == (Status.SKIPPED, "needs_isolation")
    assert done.reason == "cpu:x2 needs a process for each device: leave --bench-isolation on"


@pytest.mark.parametrize(
    ("implementation", "set_before", "code"),
    [
        ("default", {}, ""),
        ("graph", {}, "no_kernel"),
        ("tuned", {}, "needs_isolation"),
        ("tuned", {"KERNELS": "wide"}, "no_kernel"),
    ],
)
def test_in_process_measures_no_implementation_whose_variables_are_not_set(
    monkeypatch, implementation, set_before, code
):
    """The workload has one kernel: `no_kernel` shows that an implementation was let through."""
    monkeypatch.setattr(registry, "load", lambda name: Tuned)
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    of = Case(case("good").work, "numpy", "cpu", implementation)
    done = Workers(isolated=False).dispatch(of, SOURCE, QUICK, 60.0, ignore)
    assert done.reason_code == code
    assert done.status is (Status.UNSUPPORTED if code else Status.OK)
    if code == "needs_isolation":
        assert done.reason == "tuned needs KERNELS=wide before its library is imported: leave isolation on"


@pytest.mark.parametrize(
    ("device", "value", "flags"),
    [("cuda:0", "1", ("launch_blocking",)), ("cuda:0", "0", ()), ("cuda:0", None, ()), ("cpu", "1", ())],
)
def test_rows_of_a_gpu_whose_launches_wait_say_so(monkeypatch, device, value, flags):
    class Obliging:
        def __init__(self, spec):
            self.spec = spec

        def start(self):
            return ProcessEnvironment("e", {})

        def execute(self, case, *_):
            return Measurement(case, Status.OK)

        def close(self): ...

    monkeypatch.delenv("CUDA_LAUNCH_BLOCKING", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", value)
    workers = Workers(isolated=True)
    workers._make = Obliging
    done = workers.dispatch(case("good", device), SOURCE, QUICK, 60.0, ignore)
    assert done.flags == flags


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
@pytest.mark.parametrize("status", [Status.OK, Status.INVALID, Status.UNSUPPORTED, Status.ERROR, Status.OOM])
def test_after_an_error_or_a_lack_of_memory_on_a_gpu_the_next_case_has_a_process_of_its_own(status, device):
    """A context may be lost, and a pool in pieces; on a CPU neither can be."""
    ended = []

    class Failing:
        def __init__(self, spec):
            self.spec = spec

        def start(self):
            return ProcessEnvironment("e", {})

        def execute(self, case, *_):
            return Measurement(case, status)

        def close(self):
            ended.append(self.spec.device)

    workers = Workers(isolated=True)
    workers._make = Failing
    assert workers.dispatch(case("good", device), SOURCE, QUICK, 60.0, ignore).status is status
    assert ended == ([device] if device == "cuda:0" and status in {Status.ERROR, Status.OOM} else [])


def test_in_process_says_that_a_device_is_not_there():
    absent = case("good", device="tpu")
    with pytest.raises(Unavailable):
        InProcess(WorkerSpec.of(absent)).start()


def test_closing_twice_is_harmless(workers):
    run(workers, "good")
    process = workers._executor._process
    workers.close()
    workers.close()
    assert process.poll() is not None


def test_an_answer_that_is_late_once_is_no_patched_clock(workers, monkeypatch):
    """On a machine that other work keeps busy a message may be late. A second try decides."""
    judged, calls = worker.parent_clock.judged, []

    def late_at_first(done, seen):
        calls.append(done)
        return judged(done, seen + 10.0 * (len(calls) == 1))

    monkeypatch.setattr(worker.parent_clock, "judged", late_at_first)
    done = run(workers, "good")
    assert (done.status, len(calls)) == (Status.OK, 2)
    assert done.spent[Part.LOST] > 0.0  # the first try
