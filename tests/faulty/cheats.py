"""Kernels that would pass any check made before the clock starts, and honest ones of the same work beside them.

The size of a work names the cheat. Each runs on NumPy, on the stand-in for CuPy and on PyTorch.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import Costs, Kernel, Kernels, Preset, Unsupported, Workload
from benchmarks import bench_cnn, bench_gpt, bench_mlp
from benchmarks.nn import batches

batches.CHECK_FLOPS = 0  # a check has to do with two samples of each batch
ELEMENTS = 1_000_000  # so many that nobody computes their squares unseen, between one line and the next


class Parts:
    """What the cheats are made of: x, a place y for its squares, which it holds already, and the call that writes them.

    calls: how often the kernel has been called before.
    """

    def __init__(self, backend, host):
        xp = backend.xp
        self.x = backend.from_host(host["x"])
        self.y = xp.empty_like(self.x)
        self._multiply = xp.multiply
        self.calls = -1
        self.square()

    def square(self, part=slice(None)):
        self._multiply(self.x[part], self.x[part], out=self.y[part])
        return self.y

    def copy(self):
        return self.y.clone() if hasattr(self.y, "clone") else self.y.copy()


def honest(parts):
    return parts.square()


def previous(parts):
    """Return what the call before has computed."""
    before = parts.copy()
    parts.square()
    return before


def cached(calls, parts):
    """Keep what a call has returned for all later ones."""
    if parts.calls < calls:
        parts.square()
    if parts.calls == calls:
        parts.kept = parts.copy()
    return parts.y if parts.calls < calls else parts.kept * 1


def nothing(parts):
    """Return what was computed when the kernel was built."""
    return parts.y


def half(parts):
    return parts.square(slice(ELEMENTS // 2))


def alternate(parts):
    return parts.square() if parts.calls % 2 else parts.y


_thread = ThreadPoolExecutor(1)
_pending: list[Any] = []
LATER = 0.05  # seconds, far more than from a call to the look at its answer, so that no stall of that call hides it


def thread(parts):
    """Let another thread do it later, and do not wait.

    One at a time, so that little is left when the next case begins.
    """

    def later():
        time.sleep(LATER)
        parts.square()

    if not _pending or _pending[-1].done():
        _pending[:] = [_thread.submit(later)]
    return parts.y


def lazy(parts):
    """Return a promise: it is kept when the answer is asked for."""
    return parts.square


CALLS = {
    "honest": honest,
    "previous": previous,
    "cached_1": partial(cached, 1),
    "cached_50": partial(cached, 50),
    "nothing": nothing,
    "half": half,
    "alternate": alternate,
    "thread": thread,
    "lazy": lazy,
}


class Squares(Workload):
    """The squares of many numbers."""

    suite, name = "cheats", "squares"

    def works(self, preset, machine):
        return [self.work(cheat, "float64") for cheat in CALLS if cheat != "cached_50"]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(ELEMENTS)}

    def costs(self, work):
        return Costs(flops=1.0 * ELEMENTS, bytes=16.0 * ELEMENTS, least_bytes=16.0 * ELEMENTS)

    def error(self, work, expected, answer):
        return check.relative_error(answer["out"], expected["x"] ** 2)

    def build(self, backend, case, host):
        parts, call = Parts(backend, host), CALLS[case.work.size]
        if call is thread and backend.name == "cupy":
            raise Unsupported("one_thread", "the stand-in is for one thread")

        def run():
            parts.calls += 1
            return call(parts)

        def outputs(result):
            return {"out": result() if callable(result) else result}

        return Kernel(run, inputs={"x": parts.x}, outputs=outputs)

    kernels: ClassVar[Kernels] = {"array": {"default": None}, "torch": {"default": None}}


class Short(Squares):
    """The squares of few numbers, over and over in one call: `slowing` does 0.5 % more of it than the time before.

    A call takes so little that there are always more than 50 of them.
    """

    name = "short"
    times: ClassVar[int] = 20

    def works(self, preset, machine):
        return [self.work(cheat, "float64") for cheat in ("honest", "slowing", "cached_50")]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(1000)}

    def build(self, backend, case, host):
        parts, more = Parts(backend, host), 1.005 if case.work.size == "slowing" else 1.0
        call = CALLS.get(case.work.size, honest)

        def run():
            parts.calls += 1
            for _ in range(int(self.times * more**parts.calls)):
                result = call(parts)
            return result

        return Kernel(run, inputs={"x": parts.x})


class Repeated(Squares):
    """The same squares again and again in one call: `once` leaves out all repetitions, which no answer can show."""

    name = "repeated"
    times: ClassVar[dict[str, int]] = {"honest": 3, "once": 100_000_000}

    def works(self, preset, machine):
        return [self.work(cheat, "float64") for cheat in self.times]

    def costs(self, work):
        return Costs(flops=1.0 * ELEMENTS * self.times[work.size])

    def build(self, backend, case, host):
        parts, times = Parts(backend, host), {"honest": 3, "once": 1}[case.work.size]
        return Kernel(lambda: [parts.square() for _ in range(times)][-1], inputs={"x": parts.x})


# ---------------------------------------------------------------- models


def halved(batch_of):
    """Return a `batch_of` whose batch, when it is loaded, is only the first half."""

    def of(*args, **kwargs):
        whole = batch_of(*args, **kwargs)
        return batches.Batch(whole.arrays, lambda: tuple(array[: len(array) // 2] for array in whole()))

    return of


@contextmanager
def half_batch(backend):
    with patched(backend, bench_mlp, "batch_of", halved, module="training"):
        yield


@contextmanager
def no_decay(backend):
    if backend.name == "torch":
        adamw = partial(backend.xp.optim.AdamW, lr=bench_gpt.RATE, fused=True, weight_decay=0)
        with patch("benchmarks.nn.modules.training.adamw", lambda rate, implementation: adamw):
            yield
    else:
        with patch.object(bench_gpt, "AdamW", partial(bench_gpt.AdamW, decay=0)):
            yield


@contextmanager
def half_the_steps(backend):
    """Compute the first half of all new tokens only; each of the others is the one before."""

    def slowly(loop):
        class Half(loop):
            def decode(self, token, at):
                if at < self.inputs["x"].shape[1] + self.new // 2:
                    self.latest = super().decode(token, at)
                return self.latest

        return Half

    with patched(backend, bench_gpt, "ArrayGeneration", slowly, module="generation", name="EagerGeneration"):
        yield


@contextmanager
def patched(backend, array_module, attribute, change, *, module, name=None):
    """Change what a kernel is built of: in a module of array code or, for torch, in one of benchmarks.nn.modules."""
    if backend.name != "torch":
        with patch.object(array_module, attribute, change(getattr(array_module, attribute))):
            yield
        return
    from importlib import import_module

    there, name = import_module(f"benchmarks.nn.modules.{module}"), name or attribute
    with patch.object(there, name, change(getattr(there, name))):
        yield


def after_each_call(change):
    """Return what turns a kernel into one that changes its own outputs after each call."""

    def tampered(backend, kernel):
        state = {}

        def run():
            result = kernel.run()
            change(backend, kernel.outputs(result), state)
            return result

        return replace(kernel, run=run)

    return tampered


def keep_averages(backend, outputs, state):
    """Put running averages back to where they were before the first call."""
    for name, array in outputs.items():
        if name.startswith("average."):
            backend.overwrite(array, state.setdefault(name, np.full(array.shape, 1.0)))


def shorten_a_gradient(backend, outputs, state):
    """Scale one gradient, of a matrix in the middle of the network."""
    name = min(name for name in outputs if name.startswith("gradient.") and name.endswith("up.weight"))
    backend.overwrite(outputs[name], 0.92 * np.array(backend.to_host(outputs[name])))


def every_second_step(backend, kernel):
    calls: list[Any] = []

    def run():
        calls.append(calls[-1] if len(calls) % 2 else kernel.run())
        return calls[-1]

    return replace(kernel, run=run)


def untouched(backend, kernel):
    return kernel


def plain(backend):
    return nullcontext()


# cheat: what is changed while the kernel is built, and what of the kernel
MODELS = {
    "honest": (plain, untouched),
    "half_batch": (half_batch, untouched),
    "no_decay": (no_decay, untouched),
    "half_steps": (half_the_steps, untouched),
    "averages": (plain, after_each_call(keep_averages)),
    "gradient": (plain, after_each_call(shorten_a_gradient)),
    "second_step": (plain, every_second_step),
}


class Cheating:
    """A model's workload of smoke, built with the cheats of `cheats`."""

    cheats: ClassVar[tuple[str, ...]] = ()

    def works(self, preset, machine):
        work = self.variant(*self.presets[Preset.SMOKE])
        return [replace(work, size=cheat) for cheat in ("honest", *self.cheats)]

    def selects(self, work, implementation):
        return implementation == "default"

    def build(self, backend, case, host):
        building, tampered = MODELS[case.work.size]
        with building(backend):
            return tampered(backend, super().build(backend, case, host))


class MlpTrain(Cheating, bench_mlp.MlpTrain):
    cheats = ("half_batch", "second_step")


class CnnTrain(Cheating, bench_cnn.CnnTrain):
    cheats = ("averages", "second_step")


class GptTrain(Cheating, bench_gpt.GptTrain):
    cheats = ("no_decay", "gradient", "second_step")


class GptDecode(Cheating, bench_gpt.GptDecode):
    cheats = ("half_steps",)


@pytest.mark.workload(Squares())
def test_squares(measure):
    measure()


@pytest.mark.workload(Short())
def test_short(measure):
    measure()


@pytest.mark.workload(Repeated())
def test_repeated(measure):
    measure()


@pytest.mark.workload(MlpTrain())
def test_mlp_train(measure):
    measure()


@pytest.mark.workload(CnnTrain())
def test_cnn_train(measure):
    measure()


@pytest.mark.workload(GptTrain())
def test_gpt_train(measure):
    measure()


@pytest.mark.workload(GptDecode())
def test_gpt_decode(measure):
    measure()
