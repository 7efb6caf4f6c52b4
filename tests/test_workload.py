"""A workload finds the most specific kernel, carries its version and judges an answer."""

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import Unsupported, WrongAnswer
from bench_core.records import Case
from tests.support.workloads import Sum, built_as


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
    with pytest.raises(Unsupported, match="the form 'compile' of sum is not written for numpy"):
        Sum().build(NumpyBackend("cpu"), case, {})


def test_what_has_kernels_for_other_libraries_alone_is_refused_before_its_inputs_are_made():
    """Though it builds them by itself; one without any kernels may build whatever it likes."""

    class Built(Sum):
        def build(self, backend, case, host):
            return super().build(backend, case, host)

    case = Case(Sum().work("8", "float64", n=8), "numpy", "cpu")
    Built.kernels = {"torch": {"default": built_as("torch's")}}
    with pytest.raises(Unsupported, match="sum is not written for numpy"):
        Built().require_supported(NumpyBackend("cpu"), case)
    Built.kernels = {}
    Built().require_supported(NumpyBackend("cpu"), case)


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
