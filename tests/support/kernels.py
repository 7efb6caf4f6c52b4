"""Runs a workload's kernels as the harness does, up to the check, on real libraries and on the CuPy stand-in."""

from contextlib import contextmanager

import numpy as np
import pytest

from bench_core.backends.cupy import CupyBackend
from bench_core.backends.numpy import NumpyBackend
from bench_core.records import Case
from bench_core.timing.case import generator
from tests.standin import install as standin


@contextmanager
def backend(name, gpus=1):
    """Yield a backend by name; "cupy" is the stand-in."""
    if name == "cupy":
        with standin.cupy_module(gpus):
            yield CupyBackend("cuda:0")
    elif name == "torch":
        pytest.importorskip("torch")
        from bench_core.backends.torch import TorchBackend

        yield TorchBackend("cpu")
    else:
        yield NumpyBackend("cpu")


def inputs(workload, work):
    return workload.inputs(work, generator(work.case_id, 0))


def kernel(workload, work, on, implementation="default", host=None):
    case = Case(work, on.name, on.device, implementation)
    return workload.build(on, case, inputs(workload, work) if host is None else host)


def answer(built, on):
    """Return the kernel's answer on the host, as the harness brings it there."""
    named = built.answer() if built.answer else {"out": built.run()}
    on.synchronize()
    return {name: on.to_host(array) for name, array in named.items()}


def verified(workload, work, on, implementation="default"):
    """Return the relative error of a kernel's answer; raises WrongAnswer for a wrong one."""
    host = inputs(workload, work)
    given = answer(kernel(workload, work, on, implementation, host), on)
    return workload.verify(work, host, {name: np.array(array) for name, array in given.items()})
