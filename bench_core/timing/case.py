"""Run one case in the process that computes: build, check, measure, check again.

Every error becomes a Measurement with a status and a reason; only an interrupt propagates.
"""

from __future__ import annotations

import contextlib
import gc
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench_core.backends.base import Backend, Compiles, ranks_of
from bench_core.errors import CaseError, ClockStandsStill, TooLarge, TooSlow, Unsupported
from bench_core.machine.privacy import scrub
from bench_core.records import LAUNCH_BOUND, Cache, Case, Costs, Measurement, Part, Series, Status, Traffic, Work
from bench_core.text import printable_lines
from bench_core.timing import energy
from bench_core.timing.account import accounted, part
from bench_core.timing.disturbances import Disturbances
from bench_core.timing.over_ranks import Taken, measure_over_ranks
from bench_core.timing.placement import placement
from bench_core.timing.ranks import RanksWatch, failing_together, most, told_by_all
from bench_core.timing.recheck import Checks, generator
from bench_core.timing.sampling import DeviceTimer, Durations, WallTimer, rotate, sample_series
from bench_core.timing.shared import Shared
from bench_core.timing.watch import Watch, wait_for_quiet
from bench_core.workload import Call, Kernel, Workload

COLD_SETS = 3  # buffer sets rotate through this many times the last-level cache
FREE_SHARE = 0.9  # share of the free memory that a case may use
_LONGEST_TRACEBACK = 8000  # characters
_SIDE, _PRODUCTS = 1024, 5  # matrices by which the length of a call is predicted, and how often they are multiplied
MOSTLY_IDLE = 0.5  # device time below this share of wall time means: mostly launching and waiting

# Flags: a call of the warm-up or of a timed block compiled a program; an accelerator is seen by the host's clock alone.
COMPILED, NO_DEVICE_CLOCK = "compiled_while_timed", "no_device_clock"

OnPhase = Callable[[str], None]


def ignore_phase(phase: str) -> None:
    """Do nothing: the default `on_phase`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a case that its run decides.

    check_only: check the answers, time nothing. wait: seconds to wait at most for a quiet machine before the timing.
    longest_call: seconds that a call may take on a CPU, as far as its FLOPs tell; longer ones are not begun.
    shared: the folder in which the processes of the run share inputs and references; "" if they do not.
    """

    durations: Durations
    seed: int
    last_level_cache: int
    check_only: bool = False
    wait: float = 0.0
    shared: str = ""
    longest_call: float = math.inf


def run_case(
    case: Case, workload: Workload, backend: Backend, settings: Settings, on_phase: OnPhase = ignore_phase
) -> Measurement:
    """Run a case and return its Measurement. `on_phase` is called with each phase of worker_protocol.PHASES."""
    begin = perf_counter()
    with accounted() as account:
        done = _done(case, workload, backend, settings, on_phase)
    return replace(done, spent=account.spent, elapsed_s=perf_counter() - begin)


def _done(case: Case, workload: Workload, backend: Backend, settings: Settings, on_phase: OnPhase) -> Measurement:
    """Return the Measurement of a case but for its times."""
    costs, device_name = Costs(), ""
    try:
        costs, device_name = workload.costs(case.work), backend.device_name
        with part(Part.BUILD):
            done = _measured(case, workload, backend, settings, on_phase)
    except CaseError as error:
        rel_error = getattr(error, "rel_error", None)
        if rel_error is not None and not math.isfinite(rel_error):
            rel_error = None  # an answer so large that its norm overflows: the reason says so
        done = Measurement.missing(case, Status(error.status), error.code, str(error), rel_error=rel_error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a kernel may raise anything, and the run goes on
        done = _failure(case, backend, error)
    try:
        with part(Part.BUILD):
            gc.collect()  # compiled models are cycles: they hold their memory until collected
            backend.free()
    except Exception as error:  # noqa: BLE001 - a device lost during the case is reported by the case
        done = _failure(case, backend, error) if done.status is Status.OK else done
    return replace(
        done,
        costs=costs,
        backend_version=backend.version,
        device_name=device_name,
    )


def _failure(case: Case, backend: Backend, error: BaseException) -> Measurement:
    """Return the record of a case that an exception ended; the reason begins with the exception's type."""
    kind, said = type(error).__name__, scrub(str(error))  # a library's message may hold a path, and so a name
    named = said == kind or said.startswith((f"{kind}:", f"{kind}("))
    reason = said if named else f"{kind}: {said}".removesuffix(": ")
    status, code = (Status.OOM, "out_of_memory") if backend.is_out_of_memory(error) else (Status.ERROR, kind)
    return Measurement.missing(case, status, code, reason, traceback=_traceback(error))


def _traceback(error: BaseException) -> str:
    """Return the traceback of an exception as text, from the first frame outside bench_core on, without private names.

    Every frame is kept where all are bench_core's.
    """
    own = f"{__name__.partition('.')[0]}."
    outermost = error.__traceback__
    while outermost and str(outermost.tb_frame.f_globals.get("__name__")).startswith(own):
        outermost = outermost.tb_next
    lines = traceback.format_exception(type(error), error, outermost or error.__traceback__)
    return printable_lines(scrub("".join(lines).rstrip()), _LONGEST_TRACEBACK)


def _measured(case: Case, workload: Workload, backend: Backend, settings: Settings, on_phase: OnPhase) -> Measurement:
    """Return the measurement of a case; raises the error that prevents it."""
    work = case.work
    on_phase("build")
    if reason := backend.why_unsupported(work.dtype, work.precision):
        raise Unsupported("dtype_unsupported", reason)
    workload.require_supported(backend, case)
    ranks = ranks_of(backend)
    with failing_together(ranks):
        _require_short(work, workload.costs(work), backend, settings.longest_call)
    copies = _copies(case, workload, settings)
    backend.free()  # memory that earlier cases left in pools and workspaces must not count
    with failing_together(ranks):
        _require_memory(copies * workload.footprint(work), backend)
    backend.set_precision(work.precision)
    shared = Shared(settings.shared, workload)
    with part(Part.INPUTS):
        key = f"{work.case_id} {settings.seed} inputs 0"
        data = shared.get(key, lambda: workload.inputs(work, generator(work.case_id, settings.seed)))
    backend.reset_peak_memory()
    before = backend.memory().used
    own = workload.on_rank(work, data, ranks.rank)
    kernel = workload.build(backend, case, own)
    values = {"compile_time": _seconds(kernel.prepare, backend)[0]} if kernel.prepare else {}
    checks = Checks(case, workload, backend, settings.seed, data, shared, keep=settings.check_only)
    checks.begin(kernel)
    with kernel.around_first():
        values["first_call"], result = _seconds(kernel.run, backend)

    on_phase("check")
    with part(Part.CHECKS):
        rel_error = checks.before(kernel, result)
    where = placement(kernel, result, backend.device)
    del result
    library = kernel.library or backend.library
    done = Measurement(case, Status.OK, rel_error=rel_error, library=library, placement=where)
    kernels = [kernel]
    if not settings.check_only:
        kernels += [_prepared(workload.build(backend, case, own)) for _ in range(copies - 1)]
        if settings.wait:
            on_phase("wait")
            with part(Part.WAITING):
                wait_for_quiet(settings.wait)
                most(ranks, 0.0)  # until all have waited: this is no time of the next phase
        done = _timed(done, kernels, workload, backend, settings.durations, on_phase)
        flags, told = told_by_all(ranks, done.flags, {**done.values, **_peak_memory(kernel, backend, before)})
        done = replace(done, flags=flags, values=values | told)

    on_phase("recheck")
    with part(Part.SECOND_LOOK):
        again = checks.after(kernels, done.series)
    worst = max((error for error in (rel_error, again.rel_error) if error is not None), default=None)
    flags = (*done.flags, *again.flags)
    return replace(done, rel_error=worst, flags=flags)


def _timed(
    done: Measurement,
    kernels: list[Kernel],
    workload: Workload,
    backend: Backend,
    durations: Durations,
    on_phase: OnPhase,
) -> Measurement:
    """Return `done` with its series, and with the values and flags that were read during the timing."""
    case = done.case
    backend.reset_peak_memory()  # the arrays of the check must not count
    disturbances = Disturbances(case.device_type, backend.device_uuid)
    on_phase("measure")
    compiled, ranks = _compilations(backend), ranks_of(backend)
    with part(Part.AROUND), contextlib.closing(Watch.of(case.device_type, backend.device_uuid)) as watch:
        if ranks.size == 1:
            taken = _measure_all(kernels, backend, durations, watch)
        else:
            is_exchange = workload.traits.traffic is Traffic.LINK
            taken = measure_over_ranks(kernels, backend, durations, RanksWatch(watch, ranks), is_exchange=is_exchange)
    late = (COMPILED,) * (_compilations(backend) > compiled)
    on_phase("energy")
    disturbances.stop()
    with part(Part.ENERGY):
        durations = durations if ranks.size == 1 else replace(durations, energy=0.0)  # counters of each device
        joules, energy_flags = _energy(kernels, taken.series[0], backend, durations)
    blind = (NO_DEVICE_CLOCK,) * (case.device_type != "cpu" and not backend.has_device_clock)
    flags = (*kernels[0].flags, *late, *taken.flags, *blind, *disturbances.flags(), *energy_flags)
    values = taken.values | joules | disturbances.values()
    return replace(done, series=tuple(taken.series), values=values, flags=flags)


def _peak_memory(kernel: Kernel, backend: Backend, before: int | None) -> dict[str, float]:
    """Return the largest memory that was in use since the last reset beyond that `before`, as a value if it is known.

    before: bytes.
    """
    peak = None if kernel.hides_memory else backend.memory().peak
    return {} if peak is None or before is None or peak <= before else {"peak_memory": float(peak - before)}


def _compilations(backend: Backend) -> int:
    return backend.compilations if isinstance(backend, Compiles) else 0


def _copies(case: Case, workload: Workload, settings: Settings) -> int:
    """Return how many buffer sets a case needs: one, or for a cold cache enough to evict each before its next use."""
    if case.work.cache is not Cache.COLD or settings.check_only:
        return 1
    footprint = workload.footprint(case.work)
    if footprint <= 0:
        raise Unsupported("no_footprint", f"{workload.name} does not declare how much memory it uses")
    enough = max(2, math.ceil(COLD_SETS * settings.last_level_cache / footprint))
    return enough | 1  # odd: if every second buffer set is slower, the calls must not look alternating


def _require_memory(needed: float, backend: Backend) -> None:
    free = backend.memory().free
    if free is not None and needed > FREE_SHARE * free:
        raise TooLarge(f"needs {needed / 1e9:.1f} GB where {free / 1e9:.1f} GB are free on {backend.device}")


def _require_short(work: Work, costs: Costs, backend: Backend, longest: float) -> None:
    """Raise TooSlow if a CPU would need more than `longest` seconds for a call at the rate of a float32 product.

    In narrower formats some CPUs are far faster than that, and others far slower. Several ranks share the FLOPs.
    """
    if backend.device != "cpu" or not costs.flops or math.isinf(longest) or work.dtype not in {"float32", "float64"}:
        return
    seconds = costs.flops / ranks_of(backend).size / _product_rate(backend)
    if seconds > longest:
        raise TooSlow(f"one call would take {seconds:.1f} s or more on this CPU: more than {longest:g} s")


def _product_rate(backend: Backend) -> float:
    """Return the FLOP/s of a float32 product of square matrices: the fastest of several."""
    square = backend.from_host(np.ones((_SIDE, _SIDE), np.float32))
    return 2.0 * _SIDE**3 / min(_seconds(lambda: square @ square, backend)[0] for _ in range(_PRODUCTS))


def _prepared(kernel: Kernel) -> Kernel:
    """Return a kernel that has compiled or captured what it calls."""
    if kernel.prepare:
        kernel.prepare()
    return kernel


def _seconds(run: Call, backend: Backend) -> tuple[float, Any]:
    """Time one call, including whatever it loads, compiles or allocates; return the seconds and its result."""
    results: list[Any] = []

    def kept() -> Any:
        results[:] = [run()]
        return results[0]

    seconds = WallTimer.of(backend).time(kept, 1).seconds
    return seconds, results[0]


def _measure_all(kernels: list[Kernel], backend: Backend, durations: Durations, watch: Watch) -> Taken:
    """Measure the kernel by every clock that sees its work, then its probes by the wall clock."""
    run = rotate([kernel.run for kernel in kernels])
    series = [sample_series("time", run, WallTimer.of(backend), durations, watch, singly=kernels[0].singly)]
    if backend.has_device_clock:
        with contextlib.suppress(ClockStandsStill):  # nothing of this kernel runs on the device
            series.append(sample_series("time", run, DeviceTimer(backend), durations, watch))
            series[0] = _judged_by_device(*series)
    for metric in kernels[0].probes:
        probe = rotate([kernel.probes[metric].run for kernel in kernels])
        series.append(sample_series(metric, probe, WallTimer.of(backend), durations, watch))
    return Taken(series)


def _judged_by_device(wall: Series, device: Series) -> Series:
    """Return the wall series, flagged `launch_bound` if the device works less than half of its time, or starved.

    A device that starved behind a spin also starves without one; the time by its clock is then the host's.
    """
    mostly_idle = median(device.calm) < MOSTLY_IDLE * median(wall.calm)
    if mostly_idle or LAUNCH_BOUND in device.flags:
        return replace(wall, flags=(*wall.flags, LAUNCH_BOUND))
    return wall


def _energy(
    kernels: list[Kernel], time: Series, backend: Backend, durations: Durations
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the energy of one call and its flags; no value if it is not requested, has no counter, or was lost."""
    counter = energy.meter(backend.device, backend.device_uuid) if durations.energy else None
    if counter is None:
        return {}, ()
    run = rotate([kernel.run for kernel in kernels])
    taken = energy.per_call(run, WallTimer.of(backend), counter, median(time.calm), durations.energy)
    return ({"energy": taken.joules}, taken.flags) if taken else ({}, (energy.LOST,))
