"""One case from build to record, in this process, on NumPy and on a device that finishes late."""

import gc
import itertools
import math
import re
import weakref
from dataclasses import replace
from time import perf_counter
from types import SimpleNamespace
from typing import ClassVar

import pytest

from bench_core.backends.base import Memory, Timed
from bench_core.backends.numpy import NumpyBackend
from bench_core.check import Tolerance
from bench_core.errors import TooSlow
from bench_core.machine import kernel_files
from bench_core.records import Cache, Case, Clock, Costs, Part, Series, Status, Traffic, Traits
from bench_core.timing import case as case_module
from bench_core.timing import watch
from bench_core.timing.case import Settings, _judged_by_device, generator, run_case
from bench_core.timing.energy import LOST, Meter
from bench_core.timing.over_ranks import Taken
from bench_core.timing.sampling import Durations
from bench_core.workload import Kernel, Kernels
from tests.support.fakes import AsyncBackend, ForgetfulBackend
from tests.support.kernel import forget
from tests.support.watches import Counter
from tests.support.workloads import Double, doubling

PLAN = Durations(budget=0.05, least=0.01, warmup=0.01, warmup_cap=0.05)
SETTINGS = Settings(PLAN, seed=7, last_level_cache=1 << 20)
# Few calls, where a backlog of them has to be sat out.
FEW = replace(SETTINGS, durations=Durations(budget=0.005, least=0.002, warmup=0.002, warmup_cap=0.005))


class Late(Double):
    """2 x on a device that finishes it later: the numbers are there at once, the time passes when it is waited for."""

    def build(self, backend, case, host):
        kernel = doubling(backend, host)

        def run():
            backend.launch()
            return kernel.run()

        return replace(kernel, run=run)

    kernels: ClassVar[Kernels] = {"array": {"default": None}}


def run(workload=None, backend=None, settings=SETTINGS, **special):
    workload = workload or Double()
    backend = backend or NumpyBackend("cpu")
    work = workload.work("1024", "float64", **special)
    return run_case(Case(work, backend.name, backend.device), workload, backend, settings)


def test_a_right_answer_is_measured_with_its_error_costs_and_first_call():
    done = run()
    assert done.status is Status.OK
    assert done.rel_error == 0.0
    assert done.costs.flops == 1024.0
    assert done.values["first_call"] > 0
    assert [s.clock for s in done.series] == [Clock.WALL]
    assert done.library
    assert {Part.INPUTS, Part.CHECKS, Part.BUILD, Part.WARM_UP, Part.TIMED, Part.SECOND_LOOK} <= done.spent.keys()
    assert 0 < done.measuring_s < sum(done.spent.values()) < done.elapsed_s


@pytest.mark.parametrize("wait", [0.0, 3.0])
def test_a_case_waits_for_a_quiet_machine_before_it_is_timed_if_it_is_asked_to(monkeypatch, wait):
    monkeypatch.setattr(case_module, "wait_for_quiet", lambda most: None)
    phases = []
    work = Double().work("1024", "float64")
    done = run_case(
        Case(work, "numpy", "cpu"), Double(), NumpyBackend("cpu"), replace(SETTINGS, wait=wait), phases.append
    )
    assert (Part.WAITING in done.spent) is bool(wait)
    assert phases == ["build", "check", *["wait"] * (wait > 0), "measure", "energy", "recheck"]


def test_a_case_is_watched_and_the_watch_is_closed(monkeypatch):
    ticks = itertools.count()
    counter = Counter(lambda: float(next(ticks)), "steal")
    monkeypatch.setattr(watch, "witnesses", lambda device, uuid: [counter])
    (series,) = run().series
    assert {"never_quiet", "steal"} <= set(series.flags)
    assert counter.closed


def test_check_only_checks_and_times_nothing():
    done = run(settings=Settings(PLAN, 7, 1 << 20, check_only=True))
    assert (done.status, done.series, done.values) == (Status.OK, (), {})


@pytest.mark.parametrize(("longest", "status"), [(0.5, Status.SKIPPED), (2.0, Status.OK), (math.inf, Status.OK)])
def test_a_call_that_a_cpu_would_take_too_long_for_is_not_begun(monkeypatch, longest, status):
    """By its FLOPs: 1024 at a rate of 1024 a second."""
    monkeypatch.setattr(case_module, "_product_rate", lambda backend: 1024.0)
    done = run(settings=replace(SETTINGS, longest_call=longest, check_only=True))
    assert done.status is status
    if status is Status.SKIPPED:
        assert (done.reason_code, done.spent.get(Part.INPUTS)) == ("too_slow", None)
        assert done.reason == "one call would take 1.0 s or more on this CPU: more than 0.5 s"


def test_a_narrow_format_is_not_judged_by_a_wide_one(monkeypatch):
    monkeypatch.setattr(case_module, "_product_rate", lambda backend: 1.0)
    narrow = Double().work("1024", "float16")
    case_module._require_short(narrow, Costs(flops=1024.0), NumpyBackend("cpu"), 0.5)
    with pytest.raises(TooSlow):
        case_module._require_short(replace(narrow, dtype="float32"), Costs(flops=1024.0), NumpyBackend("cpu"), 0.5)


def test_the_rate_of_a_product_is_one():
    assert 1e6 < case_module._product_rate(NumpyBackend("cpu")) < 1e15


def test_a_wrong_kernel_turns_red_and_has_no_time():
    class Wrong(Double):
        kernels: ClassVar[Kernels] = {"array": {"default": lambda b, w, h: Kernel(lambda: h["x"] * 2.001)}}

    done = run(Wrong())
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "wrong_answer", ())
    assert done.rel_error == pytest.approx(0.0005)


@pytest.mark.filterwarnings("ignore:Kernel")
def test_a_kernel_with_an_answer_of_its_own_is_checked_by_that():
    class Wrong(Double):
        kernels: ClassVar[Kernels] = {
            "array": {"default": lambda b, w, h: doubling(b, h, answer=lambda: {"out": h["x"]})}
        }

    assert run(Wrong()).reason_code == "wrong_answer"


def test_an_asynchronous_device_has_both_clocks_and_they_agree():
    done = run(Late(), AsyncBackend())
    assert done.status is Status.OK, done.reason
    assert [s.clock for s in done.series] == [Clock.WALL, Clock.DEVICE]
    assert min(done.series[0].seconds) >= 2e-3


@pytest.mark.parametrize(("share", "flagged"), [(0.9, False), (0.6, False), (0.51, False), (0.49, True), (0.4, True)])
def test_a_wall_time_of_which_the_device_worked_less_than_half_is_launch_bound(share, flagged):
    """Of given times: those of a real clock are longer on a busy machine."""
    wall = Series("time", Clock.WALL, (2e-3, 2e-3, 9e-3))
    device = Series("time", Clock.DEVICE, (share * 2e-3,) * 3)
    assert _judged_by_device(wall, device) == replace(wall, flags=("launch_bound",) if flagged else ())


def test_blocks_that_do_not_count_say_nothing_of_the_device_s_share():
    wall = Series("time", Clock.WALL, (2e-3, 9e-3, 9e-3, 9e-3), noisy=(1, 2, 3))
    device = Series("time", Clock.DEVICE, (1.5e-3, 0.1e-3, 0.1e-3, 0.1e-3), noisy=(1, 2, 3))
    assert _judged_by_device(wall, device) == wall


def test_a_starved_device_makes_both_times_launch_bound():
    """Its own time is then the host's, nearly all of the wall time, and tells nothing of the device's share."""
    backend = AsyncBackend()
    whole = backend.device_time
    backend.device_time = lambda call, calls: Timed(0.93 * whole(call, calls).seconds, starved=True)
    wall, device = run(Late(), backend).series
    assert [series.flags.count("launch_bound") for series in (wall, device)] == [1, 1]


def test_a_device_that_is_not_waited_for_is_invalid():
    """A wait that is left out in the backend must not pass in a single case."""
    done = run(Late(), ForgetfulBackend(work=200e-6), FEW)
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "not_synchronised", ())
    assert "only the launch was timed" in done.reason


def test_a_backend_on_the_cpu_has_to_prove_that_it_waits_as_well():
    """Threads may go on there too: a plug-in that did not wait for its own was once faster than the CPU can be."""

    class Threads(ForgetfulBackend):
        has_device_clock = False

    class Waiting(AsyncBackend):
        has_device_clock = False

    assert run(Late(), Threads("cpu", work=200e-6), FEW).reason_code == "not_synchronised"
    assert run(Late(), Waiting("cpu", work=20e-6)).status is Status.OK


@pytest.mark.filterwarnings("ignore:Kernel")
def test_a_backend_that_does_not_wait_is_found_even_by_kernels_that_return_nothing():
    class Silent(Double):
        kernels: ClassVar[Kernels] = {
            "array": {"default": lambda b, w, h: Kernel(b.launch, lambda: {"out": h["x"] * 2})}
        }

    assert run(Silent(), ForgetfulBackend(work=20e-6)).reason_code == "not_synchronised"
    flags = set(run(Silent(), AsyncBackend()).flags)
    assert flags == {"unchecked_timing"}


def test_a_call_that_does_nothing_keeps_its_wall_time():
    """Two events with nothing between them are 2 us apart, however many calls they enclose."""

    class Idle(Double):
        idle = True
        kernels: ClassVar[Kernels] = {"array": {"default": lambda b, w, h: Kernel([].clear)}}

        def costs(self, work):
            return Costs()

    backend = AsyncBackend()
    backend.device_time = lambda call, calls: [call() for _ in range(calls)].clear() or Timed(2e-6)
    done = run(Idle(), backend)
    assert (done.status, done.reason, done.rel_error) == (Status.OK, "", None)
    assert [s.clock for s in done.series] == [Clock.WALL]


def test_peak_memory_is_what_the_case_added_before_its_synchronisation_was_proved():
    class Counting(AsyncBackend):
        used, peak = 5000, 5000

        def reset_peak_memory(self):
            self.peak = self.used

        def memory(self):
            return Memory(1 << 30, self.used, self.peak)

        def from_host(self, array, dtype=None):
            self.used += array.nbytes
            self.peak = max(self.peak, self.used)
            return super().from_host(array, dtype)

    done = run(Late(), Counting())
    assert done.values["peak_memory"] == 1024 * 8


@pytest.mark.parametrize(("window", "counted"), [(0.0, True), (0.01, False), (0.01, True)])
def test_energy_is_measured_where_it_is_asked_for_and_counted(monkeypatch, window, counted):
    meter = Meter(lambda: (perf_counter() * 50.0,))  # a steady 50 W
    monkeypatch.setattr("bench_core.timing.energy.meter", lambda device, uuid: meter if counted else None)
    done = run(settings=Settings(replace(PLAN, energy=window), 7, 1 << 20))
    assert done.status is Status.OK
    assert ("energy" in done.values) is bool(window and counted)
    assert all(joules > 0 for name, joules in done.values.items() if name == "energy")


def test_energy_is_that_of_the_device_of_this_process_on_a_target_of_several(monkeypatch):
    asked = []
    monkeypatch.setattr("bench_core.timing.energy.meter", lambda device, uuid: asked.append(device))
    together = Case(Double().works(None, None)[0], "numpy", "cpu:x2")
    done = run_case(together, Double(), NumpyBackend("cpu"), Settings(replace(PLAN, energy=0.01), 7, 1 << 20))
    assert (done.status, asked) == (Status.OK, ["cpu"])


@pytest.mark.parametrize("readable", [True, False])
def test_where_the_counter_of_one_package_is_gone_the_case_has_lost_its_energy(monkeypatch, tmp_path, readable):
    """Also in a worker that never saw it. Where no counter can be read, there may never have been one."""
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)
    forget()
    texts = {f"devices/system/cpu/cpu{n}/topology/physical_package_id": str(n) for n in range(2)}
    zone = "class/powercap/intel-rapl:0"
    texts |= {f"{zone}/name": "package-0", f"{zone}/max_energy_range_uj": "262143328850"}
    texts |= {f"{zone}/energy_uj": "1500000"} if readable else {}
    for path, text in texts.items():
        (tmp_path / "sys" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / path).write_text(text)
    done = run(settings=Settings(replace(PLAN, energy=0.01), 7, 1 << 20))
    monkeypatch.undo()
    forget()
    assert (done.status, "energy" in done.values, LOST in done.flags) == (Status.OK, False, readable)


def test_no_peak_memory_is_told_where_the_device_does_not_tell():
    class Mute(NumpyBackend):
        def memory(self):
            return Memory(1 << 40, None, None)

    mute = run(backend=Mute("cpu"))
    assert (mute.status, "peak_memory" in mute.values) == (Status.OK, False)


def test_no_peak_memory_is_told_of_a_kernel_that_hides_its_memory():
    class Hidden(Double):
        def build(self, backend, case, host):
            return replace(super().build(backend, case, host), hides_memory=True)

    class Growing(NumpyBackend):
        def memory(self):
            return Memory(1 << 40, 1000, 2000)

    assert run(Double(), Growing("cpu")).values["peak_memory"] == 1000
    hidden = run(Hidden(), Growing("cpu"))
    assert (hidden.status, "peak_memory" in hidden.values) == (Status.OK, False)


def test_what_a_case_leaves_behind_in_cycles_is_gone_before_memory_is_given_back():
    left, seen = [], []

    class Cycle:
        def __init__(self):
            self.me = self

    class Cyclic(Double):
        kernels: ClassVar[Kernels] = {
            "array": {"default": lambda b, w, h: left.append(weakref.ref(Cycle())) or doubling(b, h)}
        }

    class Watching(NumpyBackend):
        def free(self):
            seen.extend(cycle() for cycle in left)

    gc.disable()
    try:
        run(Cyclic(), Watching("cpu"), settings=Settings(PLAN, 7, 1 << 20, check_only=True))
    finally:
        gc.enable()
    assert seen == [None]


def test_what_a_backend_cannot_compute_in_is_unsupported_before_anything_is_built():
    work = Double().work("1024", "float32")
    done = run_case(Case(work, "late", "late:0"), Double(), AsyncBackend(), SETTINGS)
    assert (done.status, done.reason_code) == (Status.UNSUPPORTED, "dtype_unsupported")
    assert done.reason == "the late device has no float32"


def test_costs_that_cannot_be_told_are_an_error_of_the_case():
    class Priceless(Double):
        def costs(self, work):
            raise ValueError("no formula")

    done = run(Priceless())
    assert (done.status, done.reason_code, done.reason) == (Status.ERROR, "ValueError", "ValueError: no formula")


class Complex(Double):
    """y = 2 x of complex numbers. loses: whether y lacks the imaginary parts."""

    def __init__(self, loses=False):
        self.loses = loses

    def build(self, backend, case, host):
        kernel = doubling(backend, host)
        return replace(kernel, run=lambda: kernel.run().real + 0j) if self.loses else kernel

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(1024) + 1j * rng.standard_normal(1024)}


@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize(("loses", "status"), [(False, Status.OK), (True, Status.INVALID)])
def test_complex_numbers_are_measured_and_judged_by_both_parts(loses, status):
    work = Double().work("1024", "complex128")
    done = run_case(Case(work, "numpy", "cpu"), Complex(loses), NumpyBackend("cpu"), SETTINGS)
    assert (done.status, done.reason_code) == (status, "wrong_answer" if loses else ""), done.reason


def test_a_dtype_without_a_tolerance_is_an_error_that_says_what_to_override_and_a_tolerance_of_ones_own_mends_it():
    class Own(Double):
        def tolerance(self, work):
            return Tolerance(1e-6)

    case = Case(Double().work("1024", "longdouble"), "numpy", "cpu")
    done = run_case(case, Double(), NumpyBackend("cpu"), SETTINGS)
    assert (done.status, done.reason_code) == (Status.ERROR, "no_tolerance")
    assert "override Workload.tolerance(self, work), and return check.Tolerance(high)" in done.reason
    assert run_case(case, Own(), NumpyBackend("cpu"), SETTINGS).status is Status.OK


def raising(error):
    class Raising(Double):
        def build(self, backend, case, host):
            def run():
                raise error

            return Kernel(run, inputs={"x": host["x"]})

    return Raising()


class OddError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError(("complex64", "ieee")), "KeyError: ('complex64', 'ieee')"),
        (OddError(), "OddError"),
        (OddError("OddError"), "OddError"),
        (OddError("OddError: it fell over"), "OddError: it fell over"),
        (OddError("OddErrors happen"), "OddError: OddErrors happen"),
        (OddError("two\nlines"), "OddError: two lines"),
    ],
)
def test_the_reason_of_an_exception_begins_with_its_type_once(error, reason):
    done = run(raising(error))
    assert (done.status, done.reason_code, done.reason) == (Status.ERROR, type(error).__name__, reason)


def test_a_kernel_that_exits_raised_an_exception():
    done = run(raising(SystemExit(3)))
    assert (done.status, done.reason_code, done.reason) == (Status.ERROR, "SystemExit", "SystemExit: 3")


def test_memory_that_runs_out_names_its_exception_and_has_a_traceback():
    done = run(raising(MemoryError("no 3 GiB")))
    assert (done.status, done.reason_code, done.reason) == (Status.OOM, "out_of_memory", "MemoryError: no 3 GiB")
    assert done.traceback.endswith("MemoryError: no 3 GiB")


def test_the_traceback_begins_at_the_kernel_and_names_no_folder():
    done = run(raising(OSError("cannot read /home/jane/secret/weights.npy")))
    first, where, line, *_, last = done.traceback.splitlines()
    assert first == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File "test_case.py", line \d+, in run', where)
    assert line == "    raise error"
    assert last == "OSError: cannot read weights.npy"


def test_the_traceback_of_an_error_in_bench_core_itself_has_all_its_frames():
    class Unknown(Double):
        def build(self, backend, case, host):
            return Kernel(None, inputs={"x": host["x"]})

    assert re.search(r'File "case\.py", line \d+, in _done', run(Unknown()).traceback)


def test_a_long_traceback_keeps_its_ends():
    text = run(raising(OSError("x" * 100_000 + " end"))).traceback
    assert text.startswith("Traceback (most recent call last):\n  File")
    assert text.endswith("xxx end")
    assert "\n...\n" in text
    assert len(text) < 10_000


def test_a_missing_kernel_is_unsupported():
    class Torchless(Double):
        kernels: ClassVar[Kernels] = {"torch": {}}

    done = run(Torchless())
    assert (done.status, done.reason_code) == (Status.UNSUPPORTED, "no_kernel")


def test_a_case_larger_than_the_free_memory_is_skipped_before_it_is_built():
    class Huge(Double):
        def inputs(self, work, rng):
            raise AssertionError("must not get this far")

        def footprint(self, work):
            return 1e18

    done = run(Huge())
    assert (done.status, done.reason_code) == (Status.SKIPPED, "too_large")
    assert "GB are free on cpu" in done.reason


def test_cold_rotates_through_three_times_the_cache():
    built = []

    class Counting(Double):
        kernels: ClassVar[Kernels] = {"array": {"default": lambda b, w, h: built.append(1) or doubling(b, h)}}

    run(Counting(), cache=Cache.COLD)
    assert len(built) * 16384 >= 3 * (1 << 20)
    built.clear()
    run(Counting())
    assert len(built) == 1


def test_cold_rotates_through_three_sets_where_each_is_larger_than_three_caches():
    """One set would be in its cache again, as far as it fits; two would alternate."""
    built = []

    class Counting(Double):
        kernels: ClassVar[Kernels] = {"array": {"default": lambda b, w, h: built.append(1) or doubling(b, h)}}

    assert run(Counting(), settings=replace(SETTINGS, last_level_cache=1), cache=Cache.COLD).status is Status.OK
    assert len(built) == 3


def test_probes_are_series_of_their_own():
    class Probed(Double):
        kernels: ClassVar[Kernels] = {
            "array": {"default": lambda b, w, h: doubling(b, h, probes={"time_to_first_token": doubling(b, h)})}
        }

    assert [s.metric for s in run(Probed()).series] == ["time", "time_to_first_token"]


@pytest.mark.parametrize("traffic", Traffic)
def test_across_ranks_an_exchange_is_what_moves_its_bytes_over_a_link(monkeypatch, traffic):
    """In an exchange no rank is told to be slow (over_ranks.py), in all other work one may be."""
    told = []

    def taken(kernels, backend, durations, watch, *, is_exchange):
        told.append(is_exchange)
        return Taken([Series("time", Clock.WALL, (1e-3,) * 10)])

    class Ranked(NumpyBackend):
        """As one of two ranks that do the same sees it."""

        ranks = SimpleNamespace(
            rank=0,
            size=2,
            group=None,
            has_one_clock=True,
            every=lambda value: [value] * 2,
            numbers=lambda own: [own] * 2,
        )

    class Moving(Double):
        traits = Traits(traffic=traffic)

    monkeypatch.setattr(case_module, "measure_over_ranks", taken)
    done = run(Moving(), Ranked("cpu"))
    assert done.status is Status.OK, done.reason
    assert told == [traffic is Traffic.LINK]


def test_a_device_lost_while_memory_is_given_back_makes_the_case_an_error():
    class Lost(NumpyBackend):
        def free(self):
            raise RuntimeError("the device is gone")

    done = run(backend=Lost("cpu"))
    assert (done.status, done.reason) == (Status.ERROR, "RuntimeError: the device is gone")


def test_inputs_depend_on_case_and_seed_only():
    draws = {
        (case_id, seed): generator(case_id, seed).standard_normal(3).tobytes()
        for case_id, seed in itertools.product(["c_0000000000000001", "c_00000000000000ff"], [0, 1])
    }
    assert len(set(draws.values())) == 4
    assert generator("c_00000000000000ff", 1).standard_normal(3).tobytes() == draws["c_00000000000000ff", 1]


def test_the_fakes_keep_the_protocol():
    """A fake that lacks a method would prove nothing about the harness."""
    from bench_core.backends.base import Backend

    members = {name for name in vars(Backend) if not name.startswith("_")} | set(Backend.__annotations__)
    missing = {name for name in members if not hasattr(AsyncBackend(), name)}
    assert missing <= {"devices", "environ"}  # class methods that only planning calls
