"""NumPy's environment limits its threads; where it is tuned, it also asks for the CPU's kernels and keeps memory."""

import os
import subprocess
import sys

import pytest

from bench_core.backends.numpy import NumpyBackend, openblas_core
from bench_core.machine.host import KEEP_MEMORY


def test_numpy_s_environment_limits_threads_and_sets_no_core_type():
    assert NumpyBackend.environ(3, "default")["OPENBLAS_NUM_THREADS"] == "3"
    assert "OPENBLAS_CORETYPE" not in NumpyBackend.environ(3, "default"), "never tuned silently"
    assert not KEEP_MEMORY.keys() & NumpyBackend.environ(3, "default").keys(), "never tuned silently"


ALLOCATE = """
import numpy as np, resource
for _ in range(3):
    np.ones(1 << 22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the variables are those of glibc")
def test_tuned_numpy_gets_large_arrays_without_new_pages():
    """Counts page faults of 50 arrays of 32 MiB: each is 16 huge pages or 8192 small ones, if it is new memory."""

    def faults(implementation):
        environment = {**os.environ, **NumpyBackend.environ(1, implementation)}
        command = [sys.executable, "-c", ALLOCATE]
        return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    default, tuned = faults("default"), faults("tuned")
    if default < 50:
        pytest.skip("this C library keeps freed memory anyway")
    assert tuned < default / 10


def test_a_process_says_what_its_malloc_was_told(monkeypatch):
    def said():
        return NumpyBackend("cpu").facts()["malloc"].value

    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    for name in (*KEEP_MEMORY, "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    assert said() == "glibc, default"
    for name, value in KEEP_MEMORY.items():
        monkeypatch.setenv(name, value)
    assert said() == "glibc, MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=1099511627776"
    monkeypatch.setenv("LD_PRELOAD", "/home/me/libjemalloc.so")
    assert said().endswith("LD_PRELOAD")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert "malloc" not in NumpyBackend("cpu").facts()


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
