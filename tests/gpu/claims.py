"""What is claimed of a GPU, each claim a function over a backend that fails where the claim does not hold.

The tests beside this file ask a real GPU. tests/gpu/test_claims.py asks fakes and the stand-in, where each claim holds
until something is broken on purpose.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np

import bench_core
import benchmarks
from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.backends.event_timer import EventTimer
from bench_core.errors import Unsupported
from bench_core.machine import nvml
from bench_core.records import NOT_TRIED, Case, Clock, Machine, Measurement, Preset, Status, Work
from bench_core.timing import energy
from bench_core.timing.case import Settings, generator, run_case
from bench_core.timing.sampling import DeviceTimer, Durations, WallTimer
from bench_core.timing.synchronisation import unfinished
from bench_core.workload import Call, Workload
from benchmarks import bench_matmul
from tests.support import ROOT
from tests.support import kernels as support

MACHINE = Machine(last_level_cache=1 << 20, cores=1)  # no size here depends on it
SETTINGS = Settings(Durations(budget=0.3, least=0.1, warmup=0.3, warmup_cap=1.0), 0, MACHINE.last_level_cache)
Now = Callable[[], float]
SLOW_TO_PREPARE = ("compile_cudagraph", "max_autotune", "cudnn_benchmark")


@dataclass(frozen=True)
class Figure:
    """A value beside what is expected of it; `low` and `high` bound the ratio of the two."""

    name: str
    value: float
    expected: float
    low: float = 0.97
    high: float = 1.03

    @property
    def ratio(self) -> float:
        return self.value / self.expected if self.expected else math.inf

    def __str__(self) -> str:
        bounds = f"{self.low:g} to {self.high:g}"
        return f"{self.name}: {self.value:.4g}, expected {self.expected:.4g}, ratio {self.ratio:.3f} ({bounds})"

    def require(self) -> None:
        assert self.low <= self.ratio <= self.high, str(self)


def fresh_case(backend: Backend, work: Work, implementation: str = "default") -> Case:
    return Case(work, backend.name, backend.device, implementation)


def product(backend: Backend, n: int) -> Call:
    """Return the call of one float32 product of n x n matrices."""
    a = backend.from_host(np.random.default_rng(0).standard_normal((n, n), np.float32))
    c = backend.xp.empty_like(a)
    return lambda: backend.xp.matmul(a, a, out=c)


def keep_busy(backend: Backend, call: Call, seconds: float, now: Now = perf_counter) -> float:
    """Call until some seconds are over, clocks are up and code is loaded; return the seconds of a call at the end."""
    timer, begin, calls = WallTimer(backend.synchronize, now), now(), 1
    while True:
        took = timer.time(call, calls).seconds
        if now() - begin >= seconds:
            return took / calls
        calls *= 2 if took < 0.02 else 1


# ---------------------------------------------------------------- time


def two_clocks(backend: Backend, call: Call, blocks: int = 9, now: Now = perf_counter) -> Figure:
    """A call of about 10 ms lasts as long by the host's clock as by the device's, which saw no gaps."""
    wall, device = WallTimer(backend.synchronize, now), DeviceTimer(backend)
    pairs = [(wall.time(call, 1), device.time(call, 1)) for _ in range(blocks)]
    assert not any(timed.starved for _, timed in pairs), "the device starved on a single long call"
    host_s, device_s = (median(timed.seconds for timed in series) for series in zip(*pairs, strict=True))
    return Figure(f"{backend.name}: wall of a long call / device clock", host_s, device_s)


def suite_seconds(backend: Backend, workload: Workload, work: Work, settings: Settings = SETTINGS) -> float:
    """Return the seconds of a call by the device's clock, as the suite measures it."""
    done = run_case(fresh_case(backend, work), workload, backend, settings)
    assert done.status is Status.OK, f"{done.status}: {done.reason}"
    return median(next(series.calm for series in done.series if series.clock is Clock.DEVICE))


def beside_bare(name: str, suite: Callable[[], float], bare: Callable[[], float]) -> Figure:
    """The suite's time is that of a bare loop before and after it: the harness adds nothing, and leaves nothing out."""
    before, value, after = bare(), suite(), bare()
    return Figure(f"{name}: suite / bare loop", value, (before + after) / 2)


def in_turns(name: str, suite: Callable[[], float], bare: Callable[[], float], turns: int = 9) -> Figure:
    """The same, in turns of some hundredths of a second, for work that a board's power limit holds back.

    Such a board clocks higher for a while after a rest: an H100's bfloat16 products took 1.42 ms then, 1.56 ms later.
    """
    pairs = [(suite(), bare()) for _ in range(turns)]
    value, expected = (median(series) for series in zip(*pairs, strict=True))
    return Figure(f"{name}: suite / bare loop", value, expected)


def suite_blocks(backend: Backend, workload: Workload, work: Work) -> Callable[[], float]:
    """Return what times 20 blocks of the suite's own kernel by the device's clock: the seconds of a call."""
    host = workload.inputs(work, generator(work.case_id, 0))
    kernel, timer = workload.build(backend, fresh_case(backend, work), host), DeviceTimer(backend)
    return lambda: median(timer.time(kernel.run, 1).seconds for _ in range(20))


def tuned_beside_plain(
    backend: Backend, workload: Workload, work: Work, turns: int = 7, seconds: float = 0.05, now: Now = perf_counter
) -> Figure:
    """The tuned kernel of a workload takes no longer than the plain one, by the host's clock and in turns."""
    host, timer = workload.inputs(work, generator(work.case_id, 0)), WallTimer(backend.synchronize, now)
    blocks = []
    for implementation in ("tuned", "default"):
        run = workload.build(backend, fresh_case(backend, work, implementation), host).run
        blocks.append((run, max(1, round(seconds / keep_busy(backend, run, 2 * seconds, now)))))
    pairs = [[timer.time(run, calls).seconds / calls for run, calls in blocks] for _ in range(turns)]
    tuned, plain = (median(series) for series in zip(*pairs, strict=True))
    return Figure(f"{backend.name}: {work.workload} {work.size}, tuned / plain (s)", tuned, plain, 0.0, 1.05)


def bare_loop(backend: Backend, call: Call, seconds: float = 0.3, now: Now = perf_counter) -> float:
    """Return the seconds of one of many calls between two of the library's own events, without any harness."""
    cuda, is_torch = backend.xp.cuda, backend.name == "torch"
    start, end = (cuda.Event(enable_timing=True) if is_torch else cuda.Event() for _ in range(2))
    calls = max(1, round(seconds / keep_busy(backend, call, seconds, now)))
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    milliseconds = start.elapsed_time(end) if is_torch else cuda.get_elapsed_time(start, end)
    return float(milliseconds) * 1e-3 / calls


def spin_lasts(backend: Backend, seconds: float) -> Figure:
    """The spin that holds the device lasts as long as it was asked to."""
    clock = backend._device_clock
    taken = []
    for _ in range(5):
        start, end = clock._event(), clock._event()
        start.record()
        clock._spin(seconds)
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) * 1e-3)
    return Figure(f"{backend.name}: spin of {seconds:g} s", median(taken), seconds, 0.9, 1.1)


def starvation_shows(backend: Backend, call: Call, calls: int = 200) -> None:
    """Kernels shorter than their launch starve the device where nothing holds it, and that is said."""
    clock = backend._device_clock
    unheld = EventTimer(clock._event, lambda seconds: None, clock._synchronize)
    blocks = [unheld.time(call, calls) for _ in range(5)]
    assert sum(block.starved for block in blocks) >= 4, f"{blocks}: not reported as starved"


def waits(backend: Backend, n: int = 4096, now: Now = perf_counter) -> None:
    """`synchronize` waits for the work; one that did not would be found out here."""
    a = backend.from_host(np.ones((n, n), np.float32))
    backend.to_host(a @ a)
    assert unfinished(lambda: a @ a, 30, backend, now=now).left is None, f"{backend.name}.synchronize does not wait"
    forgetful = SimpleNamespace(synchronize=lambda: None, to_host=backend.to_host)
    done = unfinished(lambda: a @ a, 30, forgetful, now=now)  # type: ignore[arg-type]
    assert done.left is not None, "a synchronize that does nothing passes the proof"


def transfer(backend: Backend, workload: Workload, memory: str, megabytes: int = 256) -> Call:
    """Return the suite's call of one transfer, made twice already: its memory is there."""
    work = workload.work(f"{megabytes}MiB", "float32", elements=megabytes << 18, memory=memory)
    host = workload.inputs(work, generator(work.case_id, 0))
    call = workload.build(backend, fresh_case(backend, work), host).run
    WallTimer(backend.synchronize).time(call, 2)
    return call


def seconds_of(backend: Backend, call: Call, now: Now = perf_counter) -> float:
    """Return the median wall time of seven calls."""
    timer = WallTimer(backend.synchronize, now)
    return median(timer.time(call, 1).seconds for _ in range(7))


# ---------------------------------------------------------------- answers


@dataclass(frozen=True)
class Form:
    """A kernel that is captured, compiled or searched for, and the key under which the workload has it."""

    workload: Workload
    work: Work
    key: str
    implementation: str

    @property
    def library(self) -> str:
        return self.key.partition(":")[0]

    def __str__(self) -> str:
        work = self.work
        return "-".join((self.library, work.workload, work.size, work.dtype, work.precision, self.implementation))


def workloads() -> Iterator[Workload]:
    """Yield every workload that a file of benchmarks/ has a test for."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("bench_"):
            tests = vars(importlib.import_module(f"benchmarks.{module.name}")).values()
            marks = (mark for test in tests for mark in getattr(test, "pytestmark", ()) if mark.name == "workload")
            yield from (mark.args[0] for mark in marks)


def prepared_forms() -> list[Form]:
    """Return every captured form on the smallest network, in each format in which `standard` measures it.

    Those that compile, or that search for the fastest convolution, are tried in float32 only: each takes many seconds.
    """
    forms = []
    for workload in workloads():
        on_cuda = workload.kernels.get("torch:cuda", {})
        if workload.name == "graph_replay":
            works = list(workload.works(Preset.SMOKE, MACHINE))
            forms += [Form(workload, work, key, "default") for key in workload.kernels for work in works]
        elif "cudagraph" in on_cuda:
            selected = (w for w in workload.works(Preset.STANDARD, MACHINE) if workload.selects(w, "cudagraph"))
            kinds = dict.fromkeys((work.dtype, work.precision) for work in selected)
            # TF32 is no other graph, and libraries leave it for float32 where a network is so small.
            for dtype, precision in (kind for kind in kinds if kind != bench_matmul.TF32):
                work = workload.variant(*workload.presets[Preset.SMOKE], dtype, precision=precision)
                forms.append(Form(workload, work, "torch:cuda", "cudagraph"))
            work = workload.variant(*workload.presets[Preset.SMOKE])
            forms += [Form(workload, work, "torch:cuda", name) for name in SLOW_TO_PREPARE if name in on_cuda]
    return forms


def replays(backend: Backend, form: Form) -> float:
    """Return the largest error of a form that was right once prepared and is right after more runs, on other numbers.

    They are written over its inputs, and rubbish over its outputs: a replay that does nothing shows, and so does one
    that reads where no new numbers come. Raises WrongAnswer.
    """
    workload, work = form.workload, form.work
    backend.set_precision(work.precision)
    host = workload.inputs(work, generator(work.case_id, 0))
    kernel = workload.kernels[form.key][form.implementation](backend, work, host)
    return support.before_and_after(kernel, workload, work, backend, host=host)


def format_is_claimed_rightly(backend: Backend, kind: tuple[str, str]) -> str | None:
    """A format is refused exactly where a small product in it is not right; return why it is not measured."""
    reason = backend.why_unsupported(*kind)
    error = _error_of_product(backend, kind, 1024 if kind == bench_matmul.TF32 else 128)
    if isinstance(error, Unsupported) and error.code != "computed_finer":
        return reason or str(error)  # the workload's own word: the library lacks this product, not the format
    assert (reason is None) == (error is None), f"{kind}: refused: {reason}; computed: {error!r}"
    return reason


def _error_of_product(backend: Backend, kind: tuple[str, str], n: int) -> Exception | None:
    """Return what was raised by a product or by the check of its answer, None if it is right."""
    square = bench_matmul.Square()
    work = square.product(str(n), kind, n, n, n)
    try:
        backend.set_precision(work.precision)
        support.verified(square, work, backend)
    except Exception as error:  # noqa: BLE001 - a library may raise anything for a format it lacks
        return error
    finally:
        backend.set_precision("ieee")
    return None


def overwrites(backend: Backend, dtype: str) -> bool:
    """Other numbers are written over an array where it lies, rounded as an upload rounds them; and one number is."""
    integers = dtype.startswith("int")
    values = np.random.default_rng(0).standard_normal((64, 32)) * 40
    values = values.astype(np.int8 if integers else np.float32)
    target = backend.from_host(np.zeros_like(values), dtype)
    seen = target[1:]  # through a view, which stays where the array was
    backend.overwrite(target, values)
    right = backend.to_host(backend.from_host(values, dtype))
    backend.overwrite(target[:1], np.asarray(-1 if integers else math.nan))
    first = backend.to_host(target)[0]
    return bool(
        np.array_equal(backend.to_host(seen), right[1:])
        and ((first == -1).all() if integers else np.isnan(first).all())
    )


def troubles(output: Path, *arguments: str, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what went wrong in a session of its own: rows neither ok nor left out for a reason, or no rows at all."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-only", "--bench-preset=smoke"]
    command += [f"--bench-output={output}", "--bench-machine=gpu", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300, check=False)
    folders = sorted(output.glob("*/*/results.csv"))
    if not folders:
        return [f"no results, exit {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"]
    rows = bench_core.load(output).query("metric == 'time'")
    left_out = rows["status"].isin([str(status) for status in NOT_TRIED]) & (rows["reason"] != "")
    bad = rows[(rows["status"] != "ok") & ~left_out]
    told = bad[["backend", "workload", "size", "dtype", "status", "reason"]]
    wrong = [" ".join(row) for row in told.itertuples(index=False)]
    return wrong if (rows["status"] == "ok").any() else [*wrong, "nothing was measured"]


# ---------------------------------------------------------------- energy and memory


def energy_is_power_times_time(
    backend: Backend, call: Call, call_s: float, seconds: float = 2.0, now: Now = perf_counter
) -> list[Figure]:
    """The counter's joules of steady work are its power times its time, and `per_call` gives each call its share."""
    uuid, block = backend.device_uuid, max(1, round(0.1 / call_s))
    keep_busy(backend, call, 1.2, now)  # the power is the mean of the last second
    before, begin, watts, calls = nvml.energy(uuid), now(), [], 0
    while now() - begin < seconds:
        for _ in range(block):
            call()
        watts.append(nvml.state(uuid).power)  # while the device works
        backend.synchronize()
        calls += block
    took, joules = now() - begin, nvml.energy(uuid) - before
    counter = energy.meter(backend.device, uuid)
    each = energy.per_call(call, WallTimer(backend.synchronize, now), counter, call_s, seconds / 2, now)
    return [
        Figure("energy counter (J) / power x time", joules, fmean(watts) * took, 0.85, 1.15),
        Figure("energy of a call (J) / counter's share", each.joules if each else 0.0, joules / calls, 0.85, 1.15),
    ]


def peak_memory_stays(backend: Backend, settings: Settings = SETTINGS) -> Figure:
    """A case needs the same memory as the first of its process and after other products and a captured graph."""
    square = bench_matmul.Square()
    first, other = (square.product("512", kind, 512, 512, 512) for kind in (bench_matmul.FP32, bench_matmul.FP64))
    plan: list[tuple[Workload, Case]] = [(square, fresh_case(backend, work)) for work in (first, other)]
    if backend.name == "torch":
        form = next(form for form in prepared_forms() if form.implementation == "cudagraph")
        plan.append((form.workload, fresh_case(backend, form.work, form.implementation)))
    plan.append(plan[0])
    peaks = [_peak(run_case(case, workload, backend, settings)) for workload, case in plan]
    return Figure(f"{backend.name}: peak memory measured last / first (B)", peaks[-1], peaks[0], 1.0, 1.0)


def _peak(done: Measurement) -> float:
    assert done.status is Status.OK, f"{done.case.label}: {done.status}: {done.reason}"
    return done.values.get("peak_memory", 0.0)  # none of a captured graph


def peak_memory_stays_in_a_fresh_process(name: str, device: str) -> Figure:
    """The same of a library that this process has not used yet."""
    short = Durations(budget=0.05, least=0.01, warmup=0.02, warmup_cap=0.1)
    return peak_memory_stays(registry.load(name)(device), Settings(short, 0, MACHINE.last_level_cache))


# ---------------------------------------------------------------- what the stand-in pretends


def share_at_return(copy: Call, synchronize: Call, now: Now = perf_counter) -> float:
    """Return how much of a copy's time is over when the call returns: near 0 if it only queues, near 1 if it waits."""
    synchronize()
    start = now()
    copy()
    returned = now()
    synchronize()
    return (returned - start) / (now() - start)


def pinned_is_queued(backend: Backend, workload: Workload, megabytes: int = 256, now: Now = perf_counter) -> bool:
    """A copy from or to pinned memory is only queued."""
    return share_at_return(transfer(backend, workload, "pinned", megabytes), backend.synchronize, now) < 0.5


def pageable_is_waited_for(backend: Backend, workload: Workload, megabytes: int = 256, now: Now = perf_counter) -> bool:
    """A copy from or to pageable memory holds the host, though it was asked not to."""
    return share_at_return(transfer(backend, workload, "pageable", megabytes), backend.synchronize, now) > 0.5


def launching(backend: Backend, call: Call, now: Now = perf_counter) -> list[Figure]:
    """A launch takes some 3 to 10 us of the host and a kernel of one element less of the device; about 1024 queue."""
    kernel = backend.device_time(call, 200).seconds / 200
    return [
        Figure(f"{backend.name}: launch (s)", launch_seconds(backend, call, now=now), 6e-6, 0.3, 2.5),
        Figure(f"{backend.name}: kernel of one element (s)", kernel, 3e-6, 0.3, 2.5),
        Figure(f"{backend.name}: launches queued", queue_length(backend, call, now=now), 1024, 0.9, 1.1),
    ]


def launch_seconds(backend: Backend, call: Call, calls: int = 200, now: Now = perf_counter) -> float:
    """Return the host's seconds for one launch while the device is held."""
    backend.synchronize()
    backend._device_clock._spin(0.05)
    start = now()
    for _ in range(calls):
        call()
    took = (now() - start) / calls
    backend.synchronize()
    return took


def queue_length(backend: Backend, call: Call, most: int = 4000, now: Now = perf_counter) -> int:
    """Return how many launches a device that is held takes before one has to wait; `most` if none does."""
    backend.synchronize()
    backend._device_clock._spin(0.2)
    queued = 0
    while queued < most:
        start = now()
        call()
        if now() - start > 0.02:
            break
        queued += 1
    backend.synchronize()
    return queued


def keeps_order(xp: Any) -> bool:
    """`array(order="K")` keeps a host array's layout."""
    host = np.ones((2, 3), np.float32)
    layouts = [xp.array(make(host), order="K").flags for make in (np.ascontiguousarray, np.asfortranarray)]
    return bool(layouts[0].c_contiguous and layouts[1].f_contiguous and not layouts[1].c_contiguous)


def array_returns_early(xp: Any, megabytes: int = 256) -> bool:
    """`array` returns while the copy to the device still goes on."""
    host = np.ones(megabytes << 18, np.float32)
    kept = [xp.array(host)]
    xp.cuda.Device().synchronize()
    kept.append(xp.array(host))  # from pinned memory that the pool has
    return not xp.cuda.get_current_stream().done


def streams_are_separate(xp: Any, spin: Callable[[float], None], wait: Callable[[float], None] = sleep) -> bool:
    """Work in one stream does not wait for that in another, unless told to by `wait_event`."""
    a = xp.zeros(8, np.float32)
    xp.add(a, 1, out=a)  # compiled before it counts
    xp.cuda.Device().synchronize()
    return _overtakes(xp, a, spin, wait, ordered=False) and not _overtakes(xp, a, spin, wait, ordered=True)


def _overtakes(xp: Any, a: Any, spin: Callable[[float], None], wait: Callable[[float], None], *, ordered: bool) -> bool:
    held, free = xp.cuda.Stream(non_blocking=True), xp.cuda.Stream(non_blocking=True)
    with held:
        spin(0.1)
    if ordered:
        free.wait_event(held.record())
    with free:
        xp.add(a, 1, out=a)
    mark = free.record()
    wait(0.02)
    first = bool(mark.done) and not held.done
    xp.cuda.Device().synchronize()
    return first


def deduces_types(xp: Any) -> bool:
    """An ElementwiseKernel takes T from its arrays: it refuses two kinds for one T, and takes a Python number."""
    kernel = xp.ElementwiseKernel("T b, T s", "T a", "a = b * s", "gpu_suite_types")
    narrow, wide = xp.ones(4, np.float32), xp.ones(4, np.float64)
    if kernel(narrow, 0.5, xp.empty(4, np.float32)).dtype != np.float32:
        return False
    try:
        kernel(narrow, wide, xp.empty(4, np.float32))
    except TypeError:
        return True
    return False


def refuses_capture_of_the_null_stream(xp: Any) -> bool:
    try:
        xp.cuda.Stream.null.begin_capture()
    except RuntimeError:
        return True
    return False
