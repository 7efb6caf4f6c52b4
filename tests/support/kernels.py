"""Runs a workload's kernels as the harness does, without their times, on real libraries and on the CuPy stand-in.

`looked_at` is all that a run does but the timing. What takes a kernel apart, to spoil a piece of it, is below.
"""

from contextlib import contextmanager

import numpy as np
import pytest

from bench_core.backends.cupy import CupyBackend
from bench_core.backends.numpy import NumpyBackend
from bench_core.records import Case, Status
from bench_core.timing.case import Settings, generator, run_case
from bench_core.timing.recheck import UNCHECKED_TIMING, Checks
from bench_core.timing.sampling import Durations
from tests.standin import install as standin

CHECK = Settings(Durations(), seed=0, last_level_cache=1 << 25, check_only=True)


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
    elif name == "jax":
        jax = pytest.importorskip("jax")
        from bench_core.backends.jax import JaxBackend

        made = JaxBackend("cpu")
        made.set_precision("ieee")
        # As JAX's own tests do: the programs are the same, but LLVM takes less time over them. In a run it takes all.
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield made
        finally:
            jax.config.update("jax_disable_most_optimizations", before)
    else:
        yield NumpyBackend("cpu")


@contextmanager
def noted_programs():
    """Yield a list, to which every program of JAX is added that is made meanwhile."""
    from benchmarks.jax_kernels.programs import Program

    made, begin = [], Program.__init__

    def noted(self, *arguments, **named):
        begin(self, *arguments, **named)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "__init__", noted)
        yield made


def looked_at(workload, work, on, implementation="default"):
    """Return what becomes of a case whose answers are looked at twice, as in every run, and whose calls are not timed.

    The second look is at other numbers, written over the inputs; the outputs were filled with rubbish.
    """
    return run_case(Case(work, on.name, on.device, implementation), workload, on, CHECK)


def error_of(workload, work, on, implementation="default"):
    """Return the largest relative error of both looks; AssertionError with the reason unless all timed is right."""
    done = looked_at(workload, work, on, implementation)
    assert done.status is Status.OK, f"{done.case.label}: {done.status}: {done.reason}"
    assert UNCHECKED_TIMING not in done.flags, f"{done.case.label}: some of what is timed names no inputs"
    return done.rel_error


# ---------------------------------------------------------------- one kernel


def inputs(workload, work):
    return workload.inputs(work, generator(work.case_id, 0))


def kernel(workload, work, on, implementation="default", host=None):
    case = Case(work, on.name, on.device, implementation)
    return workload.build(on, case, inputs(workload, work) if host is None else host)


def sampled(workload, work):
    """Return inputs that an answer is checked on, and what it is compared with."""
    host = workload.sample(work, inputs(workload, work), generator(work.case_id, 0, 1))
    return host, workload.reference(work, host)


def answer(built, on):
    """Return host copies of a kernel's outputs, after as many calls from its beginning as they are checked after."""

    def copied(result, before=""):
        on.synchronize()
        return {f"{before}{name}": np.array(on.to_host(array)) for name, array in built.outputs(result).items()}

    if built.restart:
        built.restart()
    result = built.run()
    first = copied(result) if built.also_first else {}
    for _ in range(built.calls - 1):
        result = built.run()
    return first | copied(result, "last." if built.also_first else "")


def verified(workload, work, on, implementation="default"):
    """Return the relative error of a kernel that was built with the sample; raises WrongAnswer for a wrong one."""
    host, expected = sampled(workload, work)
    return workload.verify(work, expected, answer(kernel(workload, work, on, implementation, host), on))


def before_and_after(built, workload, work, on, runs=5, host=None):
    """Return the largest relative error of a kernel that runs some times between both looks; raises WrongAnswer.

    host: the inputs that it was built with, where they are not `inputs(workload, work)`.
    """
    host = inputs(workload, work) if host is None else host
    checks = Checks(Case(work, on.name, on.device), workload, on, 0, host)
    if built.prepare:
        built.prepare()
    checks.begin(built)
    first = checks.before(built, built.run())
    for _ in range(runs):
        built.run()
    return max(first, checks.after([built], ()).rel_error)
