"""NumPy's environment limits its threads, and asks for the kernels that the CPU can run where it is tuned."""

import pytest

from bench_core.backends.numpy import NumpyBackend, openblas_core


def test_numpy_s_environment_limits_threads_and_sets_no_core_type():
    assert NumpyBackend.environ(3, "default")["OPENBLAS_NUM_THREADS"] == "3"
    assert "OPENBLAS_CORETYPE" not in NumpyBackend.environ(3, "default"), "never tuned silently"


@pytest.mark.parametrize(
    ("flags", "core"),
    [
        ({"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}, "SKYLAKEX"),
        ({"avx2", "fma", "avx512f"}, "HASWELL"),
        ({"avx2", "fma"}, "HASWELL"),
        ({"avx2"}, None),
        ({"fma"}, None),
        ({"sse2"}, None),
    ],
)
def test_openblas_kernels_follow_the_instruction_set(monkeypatch, flags, core):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert openblas_core(frozenset(flags)) == core


def test_openblas_kernels_of_other_architectures_are_left_alone(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert openblas_core(frozenset({"avx2", "fma"})) is None
