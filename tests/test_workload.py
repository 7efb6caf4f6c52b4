"""How a workload expands to cases, finds its kernel and judges an answer."""

from typing import ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import Unsupported, WrongAnswer
from bench_core.model import Case, Costs, Preset
from bench_core.workload import Kernel, Kernels, Machine, Target, Workload, expand

MACHINE = Machine(last_level_cache=32 << 20, cores=4)
CPU, GPU, TORCH = Target("numpy", "array", "cpu"), Target("cupy", "array", "cuda:0"), Target("torch", "torch", "cpu")


def built_as(word):
    return lambda backend, work, host: Kernel(lambda: word, library=word)


class Sum(Workload):
    suite, name, version = "tests", "sum", 3
    kernels: ClassVar[Kernels] = {"array": {"default": built_as("array"), "tuned": built_as("tuned")}}
    counts = (None,)

    def works(self, preset, machine):
        return [self.work("8", "float64", n=8), self.work("9", "float64", n=9)]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(work["n"])}

    def costs(self, work):
        return Costs(flops=float(work["n"]), least_bytes=8.0 * work["n"])

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], host["x"].sum(keepdims=True))

    def threads(self, work, preset):
        return self.counts


def cases(workload, *targets):
    return [
        (c.backend, c.device, c.implementation, c.work.size, c.threads)
        for c in expand(workload, Preset.QUICK, targets, lambda _: MACHINE)
    ]


def test_works_times_targets_times_implementations():
    assert cases(Sum(), CPU, GPU) == [
        (backend, device, implementation, size, None)
        for backend, device in (("numpy", "cpu"), ("cupy", "cuda:0"))
        for size in "89"
        for implementation in ("default", "tuned")
    ]


class Featured(Sum):
    """Measured with one and all threads by standard; its second size, in the usual form, says most."""

    counts = (1, None)

    def works(self, preset, machine):
        assert preset is not Preset.HEADLINE, "the headline is chosen from what standard holds"
        return super().works(preset, machine)

    def is_headline(self, work, implementation, machine):
        return work["n"] == 9 and implementation == "default"


def test_the_headline_is_some_of_the_very_cases_of_standard():
    headline, standard = (
        list(expand(Featured(), preset, [CPU, GPU], lambda _: MACHINE)) for preset in (Preset.HEADLINE, Preset.STANDARD)
    )
    assert [c.label for c in headline] == ["numpy-cpu-float64-9", "cupy-cuda:0-float64-9"]
    assert set(headline) < set(standard)


def test_a_workload_without_the_trait_has_no_headline():
    assert not list(expand(Sum(), Preset.HEADLINE, [CPU, GPU], lambda _: MACHINE))


def test_the_cache_of_each_device_sizes_its_own_arrays():
    """A virtual machine that shows 300 MiB of cache to the CPU must not make the GPU's arrays eight times as large."""

    class Sized(Sum):
        def works(self, preset, machine):
            return [self.work(f"{machine.last_level_cache >> 20}MiB", "float64", n=8)]

    caches = {"cpu": 300 << 20, "cuda:0": 50 << 20}
    planned = expand(Sized(), Preset.QUICK, [CPU, GPU], lambda target: Machine(caches[target.device], 4))
    assert {(c.device, c.work.size) for c in planned} == {("cpu", "300MiB"), ("cuda:0", "50MiB")}


def test_a_dialect_without_a_kernel_still_has_its_cases():
    assert cases(Sum(), TORCH) == [("torch", "cpu", "default", size, None) for size in "89"]


def test_thread_counts_are_for_cpus_and_asking_for_every_core_is_the_default_case():
    class Threaded(Sum):
        counts = (1, None, 4)

    threads = [case[-1] for case in cases(Threaded(), CPU) if case[2:4] == ("default", "8")]
    assert threads == [1, None]
    assert {case[-1] for case in cases(Threaded(), GPU)} == {None}


@pytest.mark.parametrize(
    ("kernels", "word"),
    [
        ({"array": "dialect"}, "dialect"),
        ({"array": "dialect", "array:cpu": "dialect on a cpu"}, "dialect on a cpu"),
        ({"array:cpu": "dialect on a cpu", "numpy": "backend"}, "backend"),
        ({"numpy": "backend", "numpy:cpu": "backend on a cpu"}, "backend on a cpu"),
    ],
)
def test_the_most_specific_kernel_counts(kernels, word):
    class Specific(Sum):
        pass

    Specific.kernels = {key: {"default": built_as(value)} for key, value in kernels.items()}
    case = Case(Specific().work("8", "float64", n=8), "numpy", "cpu")
    assert Specific().build(NumpyBackend("cpu"), case, {}).library == word


def test_a_missing_implementation_is_unsupported_by_name():
    case = Case(Sum().work("8", "float64", n=8), "numpy", "cpu", "compile")
    with pytest.raises(Unsupported, match="sum has no 'compile' kernel for numpy"):
        Sum().build(NumpyBackend("cpu"), case, {})


def test_a_work_carries_the_version_of_its_workload():
    """Raising it changes the join key, so that old and new numbers never meet."""
    assert Sum().work("8", "float64", n=8).version == 3


def test_verify_refuses_infinities_before_it_compares():
    work, host = Sum().work("8", "float64", n=8), {"x": np.ones(8)}
    assert Sum().verify(work, host, {"out": np.array([8.0])}) == 0.0
    with pytest.raises(WrongAnswer, match="not finite"):
        Sum().verify(work, host, {"out": np.array([np.inf])})
    with pytest.raises(WrongAnswer, match="above the tolerance"):
        Sum().verify(work, host, {"out": np.array([8.001])})
