"""No kernel holds more memory than its workload declares; by that a case is left out where too little is free."""

import gc
import tracemalloc

import pytest

from bench_core.errors import Unsupported
from bench_core.records import Preset, Target
from benchmarks import bench_matmul, bench_memory
from benchmarks.sizes import KIB, MIB
from tests.support import kernels as support
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MACHINE, WORKLOADS

SLACK = 160 * KIB  # of Python's own objects, and of buffers of a library that do not grow with the arrays
FORMS = ("default", "tuned", "explicit", "channels_last", "packed")  # those that compile nothing
SLOW = ("cnn_train", "diffusion_sample")  # at the size of quick
ARRAYS = [each for each in WORKLOADS if each.suite == "memory"]
SQUARE, SKINNY = bench_matmul.Square(), bench_matmul.Skinny()


def work_of(model):
    """Return the first work of quick, or of smoke."""
    return next(iter(model.works(Preset.SMOKE if model.name in SLOW else Preset.QUICK, MACHINE)))


WORKS = [
    *(pytest.param(each, work_of(each), id=each.name) for each in WORKLOADS if each.suite == "model"),
    *(pytest.param(each, each.array_work(4 * MIB), id=each.name) for each in ARRAYS),
    pytest.param(SQUARE, SQUARE.product("512", bench_matmul.FP32, 512, 512, 512), id="matmul"),
    pytest.param(SKINNY, SKINNY.product("64", bench_matmul.BF16, 64, 512, 512, layout="nt"), id="matmul_skinny"),
]


def called(workload, work, on, form, host):
    """Build a kernel and call it twice."""
    kernel = support.kernel(workload, work, on, form, host)
    kernel.run()
    kernel.run()


def peak_of_numpy(call):
    """Return the most bytes of Python's objects and NumPy's arrays at a time, beyond those there were before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_torch(call):
    """Return the most bytes of torch's tensors on the host at a time, beyond those there were before."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


PEAKS = {"numpy": peak_of_numpy, "torch": peak_of_torch}


@pytest.mark.parametrize("library", PEAKS)
@pytest.mark.parametrize(("workload", "work"), WORKS)
def test_a_footprint_is_at_least_what_each_kernel_holds_at_its_peak(workload, work, library, monkeypatch):
    monkeypatch.setattr(bench_memory, "PERIOD", 101)  # arrays of whole periods are hardly longer than they should be
    with support.backend(library) as on:
        if why := on.why_unsupported(work.dtype, work.precision):
            pytest.skip(why)
        forms = [form for form in workload.builders(Target(on.name, on.dialect, "cpu")) if form in FORMS]
        host = support.inputs(workload, work)
        for form in forms:
            try:
                called(workload, work, on, form, host)  # what is imported, cached or loaded at first is of no kernel
            except Unsupported:
                continue
            gc.collect()
            peak = PEAKS[library](lambda form=form: called(workload, work, on, form, host))
            assert peak <= workload.footprint(work) + SLACK, form
            assert peak > 0
