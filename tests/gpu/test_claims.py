"""The claims of tests/gpu without a GPU: each holds on a fake or the stand-in, and fails once something is broken."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from bench_core.backends import event_timer
from bench_core.backends.base import Timed
from bench_core.backends.cupy import CupyBackend
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import Unavailable, WrongAnswer
from bench_core.records import Measurement, Preset, Status
from bench_core.timing.case import Settings
from bench_core.timing.energy import Energy
from bench_core.timing.sampling import Durations
from bench_core.workload import Kernel, Kernels
from benchmarks import bench_layers, bench_matmul, bench_transfer
from tests.gpu import claims
from tests.gpu.conftest import missing
from tests.standin import install as standin
from tests.support import TESTS
from tests.support.fakes import AsyncBackend, FakeDevice, ForgetfulBackend
from tests.support.workloads import Double

FAULTS = (TESTS / "faulty" / "faults.py").read_text(encoding="utf-8")
SETTINGS = Settings(Durations(budget=0.02, least=0.01, warmup=0.01, warmup_cap=0.02), 0, 1 << 20)


class FakeGpu(FakeDevice):
    """A device with events by both libraries' names, a spin and a queue of so many calls."""

    name, device, device_uuid = "torch", "cuda:0", "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"

    def __init__(self, work, launch=6e-6, *, device_rate=1.0, spin_rate=1.0, queue=1024, starved=False):
        super().__init__(work, launch)
        self._device_rate, self._starved = device_rate, starved
        self._ends = deque([0.0], maxlen=queue)
        events = {"Event": lambda **_: FakeEvent(self), "get_elapsed_time": FakeEvent.elapsed_time}
        self.xp = SimpleNamespace(cuda=SimpleNamespace(**events))
        self._device_clock = SimpleNamespace(
            _event=lambda: FakeEvent(self), _spin=lambda s: self.hold(s * spin_rate), _synchronize=self.synchronize
        )

    def hold(self, seconds):
        self.busy_until = max(self.clock(), self.busy_until) + seconds

    def run(self):
        if len(self._ends) == self._ends.maxlen:
            self.clock.seconds = max(self.clock(), self._ends[0])
        super().run()
        self._ends.append(self.busy_until)

    def device_time(self, call, calls):
        self.synchronize()
        for _ in range(calls):
            call()
        self.synchronize()
        return Timed(self._device_rate * calls * self.work, self._starved)


class FakeEvent:
    def __init__(self, device):
        self._device, self.seconds = device, 0.0

    def record(self):
        self.seconds = max(self._device.clock(), self._device.busy_until)

    def query(self):
        return self.seconds <= self._device.clock()

    def synchronize(self):
        self._device.clock.seconds = max(self._device.clock(), self.seconds)

    def elapsed_time(self, end):
        return (end.seconds - self.seconds) * 1e3


@pytest.fixture
def cupy():
    with standin.cupy_module() as module:
        yield module


@pytest.fixture
def on_standin(cupy, monkeypatch):
    """CuPy's backend on an idle device; host seconds are the stand-in's."""
    monkeypatch.setattr(event_timer, "perf_counter", cupy._gpu.clock.now)
    return CupyBackend("cuda:0")


def holds(claim, *arguments):
    """Whether a claim holds: it raises no AssertionError, nor is its figure out of bounds, nor its answer false."""
    try:
        answer = claim(*arguments)
        for figure in answer if isinstance(answer, list) else [answer]:
            if isinstance(figure, claims.Figure):
                figure.require()
    except AssertionError:
        return False
    return answer is not False


def test_a_gpu_is_missing_where_no_library_finds_one():
    def load(name):
        def devices():
            if name == "cupy":
                raise Unavailable("not_installed", "cupy is not installed")
            return ["cpu", "cuda:0"] if name == "torch" else ["cpu"]

        return SimpleNamespace(devices=devices)

    assert missing("torch", load) is None
    assert missing("cupy", load) == missing("cupy+numpy", load) == "cupy is not installed"
    assert missing("numpy", load) == "numpy finds no CUDA device"
    assert missing("cupy+torch", load) is None


# ---------------------------------------------------------------- time


def test_a_figure_says_value_expected_and_ratio():
    figure = claims.Figure("copy", 2.06, 2.0)
    assert str(figure) == "copy: 2.06, expected 2, ratio 1.030 (0.97 to 1.03)"
    assert holds(lambda: figure)
    assert not holds(lambda: replace(figure, value=2.07))
    assert not holds(lambda: replace(figure, value=1.93))
    assert not holds(lambda: replace(figure, value=0.0, expected=0.0)), "nothing was measured"


@pytest.mark.parametrize(
    ("fault", "right"), [({}, True), ({"device_rate": 0.96}, False), ({"device_rate": 1.04}, False)], ids=str
)
def test_two_clocks_agree_unless_the_device_s_is_off_by_4_percent(fault, right):
    gpu = FakeGpu(10e-3, **fault)
    assert holds(claims.two_clocks, gpu, gpu.run, 9, gpu.clock) is right


def test_two_clocks_do_not_agree_on_a_starved_device():
    gpu = FakeGpu(10e-3, starved=True)
    assert not holds(claims.two_clocks, gpu, gpu.run, 9, gpu.clock)


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_a_bare_loop_takes_what_its_kernels_take(name):
    gpu = FakeGpu(1e-3)
    gpu.name = name
    assert claims.bare_loop(gpu, gpu.run, 0.05, gpu.clock) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(("off", "right"), [(1.0, True), (1.05, False), (0.95, False)])
def test_the_suite_beside_a_bare_loop_fails_where_it_is_off_by_5_percent(off, right):
    class Off(AsyncBackend):
        def device_time(self, call, calls):
            return Timed(super().device_time(call, calls).seconds * off)

    double = Double()
    work = double.work("1024", "float64")
    suite = lambda: claims.suite_seconds(Off(), double, work, SETTINGS)  # noqa: E731
    assert holds(claims.beside_bare, "double", suite, lambda: 2e-3) is right


@pytest.mark.parametrize(("off", "right"), [(1.0, True), (1.05, False), (0.95, False)])
def test_the_suite_in_turns_with_a_bare_loop_fails_where_it_is_off_and_not_for_a_falling_clock(off, right):
    """Half of the turns are 10 % slower, for both alike."""

    class Off(AsyncBackend):
        def device_time(self, call, calls):
            return Timed(super().device_time(call, calls).seconds * off)

    double = Double()
    suite = claims.suite_blocks(Off(), double, double.work("1024", "float64"))
    factors = [1.0] * 9 + [1.1] * 9
    bare = lambda: 2e-3 * factors.pop(0)  # noqa: E731
    assert holds(claims.in_turns, "double", lambda: suite() * factors[0], bare, 18) is right


def test_a_case_that_is_not_ok_has_no_seconds_beside_a_bare_loop():
    class Wrong(Double):
        kernels: ClassVar[Kernels] = {"array": {"default": lambda b, w, h: Kernel(lambda: h["x"] * 2.001)}}

    with pytest.raises(AssertionError, match="invalid"):
        claims.suite_seconds(AsyncBackend(), Wrong(), Wrong().work("1024", "float64"), SETTINGS)


@pytest.mark.parametrize(("rate", "right"), [(1.0, True), (1.12, False), (0.88, False)])
def test_a_spin_that_is_off_by_12_percent_fails(rate, right):
    assert holds(claims.spin_lasts, FakeGpu(1e-6, spin_rate=rate), 5e-3) is right


def test_the_spin_of_the_cupy_backend_lasts_on_the_stand_in(on_standin, monkeypatch):
    assert holds(claims.spin_lasts, on_standin, 5e-3)
    spin = on_standin._device_clock._spin
    monkeypatch.setattr(on_standin._device_clock, "_spin", lambda seconds: spin(seconds / 2))
    assert not holds(claims.spin_lasts, on_standin, 5e-3)


@pytest.mark.parametrize(("work", "right"), [(2e-6, True), (100e-6, False)])
def test_starvation_shows_for_kernels_shorter_than_their_launch(work, right, monkeypatch):
    gpu = FakeGpu(work)
    monkeypatch.setattr(event_timer, "perf_counter", gpu.clock)
    assert holds(claims.starvation_shows, gpu, gpu.run) is right


def test_synchronize_waits_and_a_proof_that_cannot_fail_is_no_proof():
    assert holds(claims.waits, AsyncBackend(), 64)
    assert not holds(claims.waits, ForgetfulBackend(), 64)
    assert not holds(claims.waits, NumpyBackend("cpu"), 64), "nothing is left over where nothing is queued"


@pytest.mark.parametrize(("swapped", "right"), [(False, True), (True, False)])
def test_a_tuned_form_that_is_slower_than_the_plain_one_is_found(on_standin, cupy, monkeypatch, swapped, right):
    layernorm = bench_layers.LayerNorm()
    (work,) = layernorm.works(Preset.SMOKE, claims.MACHINE)
    forms = layernorm.kernels["cupy"]
    if swapped:
        forms = dict(zip(forms, reversed(forms.values()), strict=True))
    monkeypatch.setattr(bench_layers.LayerNorm, "kernels", layernorm.kernels | {"cupy": forms})
    assert holds(claims.tuned_beside_plain, on_standin, layernorm, work, 3, 0.002, cupy._gpu.clock.now) is right


# ---------------------------------------------------------------- answers


def test_every_file_with_a_captured_form_has_its_forms_tried():
    folder = claims.ROOT / "benchmarks"
    captured = re.compile(r'TORCH_CUDA|"graph_replay"')
    files = {f.stem for f in folder.glob("bench_*.py") if captured.search(f.read_text())}
    forms = claims.prepared_forms()
    assert {type(form.workload).__module__.rpartition(".")[2] for form in forms} == files
    assert len({str(form) for form in forms}) == len(forms)
    assert {"torch", "cupy"} == {form.library for form in forms if form.workload.name == "graph_replay"}
    assert {"ieee", "autocast_float16"} <= {form.work.precision for form in forms}
    counts = Counter(form.implementation for form in forms)
    models = len({form.workload.name for form in forms}) - 1  # all but graph_replay
    assert counts["compile_cudagraph"] == counts["max_autotune"] == models
    assert counts["cudnn_benchmark"] == 4


class Replayed(Double):
    """y = 2 x into the memory that a capture gave it."""

    fault: ClassVar[str] = ""

    def capture(self, backend, work, host):
        x, calls = backend.from_host(host["x"]), []
        out, elsewhere = backend.xp.zeros_like(x), backend.from_host(host["x"])

        def replay():
            calls.append(1)
            late = len(calls) > 4  # a capture's own runs and the first look are over
            if not (late and self.fault == "stale"):
                out.copy_((elsewhere if self.fault == "address" else x) * 2 + (late and self.fault == "drift"))
            return out

        return Kernel(replay, inputs={"x": x}, prepare=replay)

    @property
    def kernels(self):
        return {"torch:cuda": {"cudagraph": self.capture}}


@pytest.mark.parametrize("fault", ["", "stale", "drift", "address"])
def test_replays_that_go_stale_drift_or_read_an_old_address_are_found(fault):
    backends = pytest.importorskip("bench_core.backends.torch")
    pytest.importorskip("torch")
    workload = Replayed()
    workload.fault = fault
    form = claims.Form(workload, workload.work("1024", "float64"), "torch:cuda", "cudagraph")
    if fault:
        with pytest.raises(WrongAnswer, match="wrong in the second"):
            claims.replays(backends.TorchBackend("cpu"), form)
    else:
        assert claims.replays(backends.TorchBackend("cpu"), form) == 0.0


@pytest.mark.parametrize("form", [form for form in claims.prepared_forms() if form.library == "cupy"], ids=str)
def test_graphs_of_the_stand_in_are_replayed(on_standin, cupy, form, monkeypatch):
    assert claims.replays(on_standin, form) < form.workload.tolerance(form.work).high
    monkeypatch.setattr(cupy.cuda.Graph, "launch", lambda self, stream=None: None)
    with pytest.raises(WrongAnswer):
        claims.replays(on_standin, form)


@pytest.fixture(params=["numpy", "torch", "cupy"])
def any_backend(request):
    if request.param == "torch":
        pytest.importorskip("torch")
        from bench_core.backends.torch import TorchBackend

        return TorchBackend("cpu")
    return NumpyBackend("cpu") if request.param == "numpy" else request.getfixturevalue("on_standin")


@pytest.mark.parametrize("kind", bench_matmul.FORMATS, ids="-".join)
def test_a_wrong_claim_about_a_format_is_found_either_way(any_backend, kind, monkeypatch):
    reason = claims.format_is_claimed_rightly(any_backend, kind)
    wrong = None if any_backend.why_unsupported(*kind) else "not here"
    monkeypatch.setattr(any_backend, "why_unsupported", lambda *_: wrong)
    if reason is None or wrong is None:  # else the workload itself has no such product, whatever is claimed
        assert not holds(claims.format_is_claimed_rightly, any_backend, kind)


@pytest.mark.parametrize("dtype", dict.fromkeys(dtype for dtype, _ in bench_matmul.FORMATS))
def test_an_array_that_is_not_overwritten_where_it_lies_or_otherwise_rounded_is_found(any_backend, dtype, monkeypatch):
    if reason := any_backend.why_unsupported(dtype, "ieee"):
        pytest.skip(reason)
    assert holds(claims.overwrites, any_backend, dtype)
    original = any_backend.overwrite
    coarser = lambda target, values: original(target, np.floor(values / 64) * 64)  # noqa: E731
    first_alone = lambda target, values: original(target[:1], values[:1] if values.ndim else values)  # noqa: E731
    numbers_alone = lambda target, values: None if values.ndim else original(target, values)  # noqa: E731
    arrays_alone = lambda target, values: original(target, values) if values.ndim else None  # noqa: E731
    for fault in (coarser, first_alone, numbers_alone, arrays_alone):
        monkeypatch.setattr(any_backend, "overwrite", fault)
        assert not holds(claims.overwrites, any_backend, dtype)


@pytest.mark.parametrize(
    ("keyword", "wrong"),
    [("test_good", []), ("numpy and test_every and (wrong or good)", ["invalid"]), ("test_nobody", ["no results"])],
)
def test_a_session_tells_its_troubles(tmp_path, keyword, wrong):
    (tmp_path / "bench_faults.py").write_text(FAULTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")
    options = ("-p", "no:xdist", "--bench-budget=0.02", "--bench-backends=numpy,cupy", "-k", keyword)
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # what is absent is no trouble
    found = claims.troubles(tmp_path / "results", *options, cwd=tmp_path, environ=hidden)
    assert len(found) == len(wrong), found
    assert all(word in line for word, line in zip(wrong, found, strict=True))


# ---------------------------------------------------------------- energy and memory


@pytest.mark.parametrize(
    ("milliwatts", "millijoules", "right"), [(350e3, 350e3, True), (250e3, 350e3, False), (350e3, 350.0, False)]
)
def test_energy_is_power_times_time(pynvml, monkeypatch, milliwatts, millijoules, right):
    gpu = FakeGpu(3e-3)
    counter = lambda _: gpu.clock() // 0.1 * 0.1 * millijoules  # noqa: E731 - brought up to date every 100 ms
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counter, raising=False)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda _: milliwatts, raising=False)
    assert holds(claims.energy_is_power_times_time, gpu, gpu.run, 3e-3, 3.0, gpu.clock) is right


def test_a_share_of_energy_that_is_20_percent_off_is_found(pynvml, monkeypatch):
    gpu = FakeGpu(3e-3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda _: gpu.clock() * 350e3, raising=False)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", lambda _: 350e3, raising=False)
    monkeypatch.setattr(claims.energy, "per_call", lambda *_: Energy(350 * 3e-3 * 1.2, 0.0))
    good, bad = claims.energy_is_power_times_time(gpu, gpu.run, 3e-3, 3.0, gpu.clock)
    assert holds(lambda: good)
    assert not holds(lambda: bad)


@pytest.mark.parametrize(("workspaces", "right"), [([0, 0, 0, 0], True), ([32 << 20, 0, 0, 0], False)])
def test_peak_memory_that_depends_on_earlier_cases_is_found(monkeypatch, workspaces, right):
    done = lambda case, *_: Measurement(case, Status.OK, values={"peak_memory": 3e6 + workspaces.pop(0)})  # noqa: E731
    monkeypatch.setattr(claims, "run_case", done)
    assert holds(claims.peak_memory_stays, FakeGpu(1e-3)) is right
    assert not workspaces, "a case, two others and the case again"


# ---------------------------------------------------------------- what the stand-in pretends


def test_a_copy_that_is_waited_for_differs_from_one_that_is_queued():
    device = FakeDevice(work=5e-3, launch=1e-5)
    assert claims.share_at_return(device.run, device.synchronize, device.clock) < 0.1

    def waiting():
        device.run()
        device.synchronize()

    assert claims.share_at_return(waiting, device.synchronize, device.clock) > 0.9


@pytest.mark.parametrize("queue", [1024, 64])
def test_launches_are_timed_and_counted(queue):
    gpu = FakeGpu(2e-6, launch=5e-6, queue=queue)
    assert claims.launch_seconds(gpu, gpu.run, 50, gpu.clock) == pytest.approx(5e-6)
    assert claims.queue_length(gpu, gpu.run, now=gpu.clock) == pytest.approx(queue, abs=1)


def add_on(backend):
    a = backend.xp.zeros(1)
    return lambda: backend.xp.add(a, a, out=a)


UP, DOWN = bench_transfer.HostToDevice(), bench_transfer.DeviceToHost()
TRUTHS = {
    "pinned_is_queued": lambda gpu, now: all(claims.pinned_is_queued(gpu, way, 8, now) for way in (UP, DOWN)),
    "pageable_is_waited_for": lambda gpu, now: all(
        claims.pageable_is_waited_for(gpu, way, 8, now) for way in (UP, DOWN)
    ),
    "array_returns_early": lambda gpu, now: claims.array_returns_early(gpu.xp, 8),
    "keeps_order": lambda gpu, now: claims.keeps_order(gpu.xp),
    "streams_are_separate": lambda gpu, now: claims.streams_are_separate(
        gpu.xp, gpu._device_clock._spin, gpu.xp._gpu.clock.advance
    ),
    "deduces_types": lambda gpu, now: claims.deduces_types(gpu.xp),
    "refuses_capture_of_the_null_stream": lambda gpu, now: claims.refuses_capture_of_the_null_stream(gpu.xp),
    "launching": lambda gpu, now: claims.launching(gpu, add_on(gpu), now),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_each_claim_about_cupy_holds_on_the_stand_in(on_standin, cupy, name):
    assert holds(TRUTHS[name], on_standin, cupy._gpu.clock.now)


@pytest.mark.parametrize("name", TRUTHS)
def test_each_claim_about_cupy_fails_where_the_stand_in_does_otherwise(on_standin, cupy, name, monkeypatch):
    array, clock = cupy.array, cupy._gpu.clock

    def waited_for(*args, order="C", **kwargs):
        made = array(*args, order="C", **kwargs)
        cupy.cuda.Device().synchronize()
        return made

    otherwise = {
        "pinned_is_queued": (claims, "transfer", lambda gpu, *_: lambda: clock.advance(1e-3)),
        "pageable_is_waited_for": (claims, "transfer", lambda gpu, *_: lambda: gpu._device_clock._spin(1e-3)),
        "array_returns_early": (cupy, "array", waited_for),
        "keeps_order": (cupy, "array", waited_for),
        "streams_are_separate": (cupy.cuda.Stream, "wait_event", lambda self, event: None),
        "deduces_types": (cupy, "ElementwiseKernel", lambda *_: lambda b, s, out: out),
        "refuses_capture_of_the_null_stream": (cupy.cuda.Stream, "begin_capture", lambda self, mode=None: None),
        "launching": (cupy, "add", lambda *args, **kwargs: clock.advance(50e-6)),
    }
    monkeypatch.setattr(*otherwise[name])
    assert not holds(TRUTHS[name], on_standin, clock.now)
