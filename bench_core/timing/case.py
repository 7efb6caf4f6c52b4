"""Run one case in the process that computes: build, check, measure, check again.

Every error becomes a Measurement with a status and a reason; only an interrupt propagates.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import math
import traceback
from collections.abc import Callable, Iterable
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
from bench_core.timing.placement import placement
from bench_core.timing.ranks import (
    RanksTimer,
    RanksWatch,
    failing_together,
    most,
    require_alike,
    slow_rank,
    spread,
    told_by_all,
)
from bench_core.timing.recheck import Checks, generator
from bench_core.timing.sampling import DeviceTimer, Durations, WallTimer, sample_series
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

SLOW_RANK = "slow_rank_"  # a flag that ends in the number of the rank

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
        done = _judged(_timed(done, kernels, backend, settings.durations, before, on_phase), workload)
        done = replace(done, values={**values, **done.values})

    on_phase("recheck")
    with part(Part.SECOND_LOOK):
        again = checks.after(kernels, done.series)
    worst = max((error for error in (rel_error, again.rel_error) if error is not None), default=None)
    flags = (*done.flags, *again.flags)
    return replace(done, rel_error=worst, flags=flags)


def _timed(
    done: Measurement,
    kernels: list[Kernel],
    backend: Backend,
    durations: Durations,
    memory_before: int | None,
    on_phase: OnPhase,
) -> Measurement:
    """Return `done` with its series, and with the values and flags that were read during the timing."""
    case = done.case
    values: dict[str, float] = {}
    backend.reset_peak_memory()  # the arrays of the check must not count
    disturbances = Disturbances(case.device_type, backend.device_uuid)
    on_phase("measure")
    compiled, ranks = _compilations(backend), ranks_of(backend)
    own = Watch.of(case.device_type, backend.device_uuid)
    with part(Part.AROUND), contextlib.closing(own if ranks.size == 1 else RanksWatch(own, ranks)) as watch:
        if ranks.size == 1:
            series, differ, slow = _measure_all(kernels, backend, durations, watch), 0.0, None
        else:
            series, differ, slow = _measure_over_ranks(kernels, backend, durations, watch)
    values |= {"rank_spread": differ} if differ else {}
    late = (COMPILED,) * (_compilations(backend) > compiled)
    late_rank = () if slow is None else (f"{SLOW_RANK}{slow}",)
    on_phase("energy")
    disturbances.stop()
    with part(Part.ENERGY):
        durations = durations if ranks.size == 1 else replace(durations, energy=0.0)  # counters of each device
        taken, energy_flags = _energy(kernels, series[0], backend, durations)
    if taken is not None:
        values["energy"] = taken.joules
    peak = None if kernels[0].hides_memory else backend.memory().peak
    if peak is not None and memory_before is not None and peak > memory_before:
        values["peak_memory"] = float(peak - memory_before)
    blind = (NO_DEVICE_CLOCK,) * (case.device_type != "cpu" and not backend.has_device_clock)
    flags = (*kernels[0].flags, *late, *late_rank, *blind, *disturbances.flags(), *energy_flags)
    flags, values = told_by_all(ranks, flags, values | disturbances.values())
    return replace(done, series=tuple(series), values=values, flags=flags)


def _judged(done: Measurement, workload: Workload) -> Measurement:
    """Return a measurement without the flag of a slow rank if its work is an exchange.

    There each rank ends by its place in the exchange: the root of a broadcast is done before the others.
    """
    if workload.traits.traffic is not Traffic.LINK:
        return done
    return replace(done, flags=tuple(flag for flag in done.flags if not flag.startswith(SLOW_RANK)))


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


def _measure_all(kernels: list[Kernel], backend: Backend, durations: Durations, watch: Watch) -> list[Series]:
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
    return series


def _measure_over_ranks(
    kernels: list[Kernel], backend: Backend, durations: Durations, watch: Watch
) -> tuple[list[Series], float, int | None]:
    """Measure the kernels and their probes from the begin on all ranks to the end on all.

    Return the series, the spread of the times of the ranks, and the number of a rank that is slow, in the kernel or in
    a probe: where ranks wait for each other, all take as long as the slowest.
    """
    series, differ, slow, ranks = [], 0.0, None, ranks_of(backend)
    runs = {"time": rotate([kernel.run for kernel in kernels])}
    runs |= {metric: rotate([kernel.probes[metric].run for kernel in kernels]) for metric in kernels[0].probes}
    for metric, run in runs.items():
        timer = RanksTimer(backend, ranks)
        one = sample_series(metric, run, timer, durations, watch, timer.agreed_now, singly=kernels[0].singly)
        series.append(one)
        blocks = timer.by_rank(one.inner_loops)[-len(one.seconds) :]
        by_rank = [each for i, each in enumerate(blocks) if i not in one.noisy]
        slow = slow_rank(by_rank) if slow is None else slow
        if metric == "time":
            differ = spread(by_rank)
            for alike in [kernel.alike for kernel in kernels if kernel.alike]:
                require_alike(ranks, _fingerprint(alike(), backend))
    return series, differ, slow


def _fingerprint(arrays: Iterable[Any], backend: Backend) -> str:
    """Return the SHA-256 of all elements of arrays."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(backend.to_host(array)).tobytes())
    return whole.hexdigest()


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
) -> tuple[energy.Energy | None, tuple[str, ...]]:
    """Return the energy of one call and its flags; None if it is not requested, has no counter, or was lost."""
    counter = energy.meter(backend.device, backend.device_uuid) if durations.energy else None
    if counter is None:
        return None, ()
    run = rotate([kernel.run for kernel in kernels])
    taken = energy.per_call(run, WallTimer.of(backend), counter, median(time.calm), durations.energy)
    return taken, taken.flags if taken else (energy.LOST,)


def rotate(runs: list[Call]) -> Call:
    """Return one callable that calls the given ones in turn."""
    if len(runs) == 1:
        return runs[0]
    turn = itertools.cycle(runs)

    def run() -> object:
        return next(turn)()

    return run
