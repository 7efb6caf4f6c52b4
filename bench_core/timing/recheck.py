"""The answer of the very callable that is timed, checked before it is timed and again after.

A check made beforehand says nothing of what the clock saw: a call may have returned what an earlier one computed, done
half of its work, or gone on after it was timed. So when the last block is over, other numbers are written over the
inputs where they lie, the outputs are filled with rubbish, and the timed callable is called once more. Its outputs must
be right for the new numbers. They are read only after the inputs were spoilt, so that nothing can be computed late, and
read again later, so that nothing can have gone on.

What it cannot see: a callable that tells this look from a timed call by what only a spy could know. One that keeps the
answers for every input that it has met, or finds that nothing is to be done, shows by the time of the call that is
looked at, if the work takes more than a millisecond; that is a flag. The second of two steps of training is held to
wide bounds.
"""

from __future__ import annotations

import contextlib
import math
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench_core.backends.base import Backend, finish, overwrite
from bench_core.errors import CaseError, WrongAnswer
from bench_core.records import UNCHECKED, Case, Clock, Costs, Series
from bench_core.timing.synchronisation import NAMING, TRIES, Awaited, hidden_work, is_late, unfinished
from bench_core.workload import HostArrays, Kernel, Workload

SLOW_ON_NEW_INPUT = "slow_on_new_input"
DRAWS = 3  # of other inputs that are tried, until the old outputs are wrong for them
FURTHER = 20  # the number of the first draw on which nothing is checked
BLOCK, MOST_CALLS = 1e-3, 1000  # seconds of calls that a proof of synchronisation takes, at least; calls, at most
# A call on new numbers that is so many times slower than those that were timed, and by so many seconds, is flagged.
SLOWER, SLOWER_S = 2.0, 1e-3
LONG, ALIKE = 0.03, 1.25  # a call of so many seconds is looked at once, if the call before it took about as long
SPOILT = 8  # places of an input that are spoilt
FINGERPRINT = 1 << 16  # elements of an output that are compared with themselves later


def generator(case_id: str, seed: int, draw: int = 0) -> np.random.Generator:
    """Return the random numbers of a case: fresh for every case, seed and draw, the same on every backend."""
    entropy = [seed, int(case_id.removeprefix("c_"), 16)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=(draw,) if draw else ())))


@dataclass(frozen=True, slots=True)
class Draw:
    """Inputs that answers are checked on, and what those are compared with."""

    inputs: HostArrays
    expected: Any


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What the second look saw: the largest relative error of any output, and flags."""

    rel_error: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    """What the last of a kernel's calls returned, and when it was done; of the first the outputs, and its seconds."""

    result: Any
    first: HostArrays
    seconds: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class _Looks:
    """What was seen in the looks at one callable.

    rel_error: the largest relative error. seconds: of the call in the first look. late: by how many seconds its outputs
    took longer to be read than when they were read again. result: what the last call returned.
    """

    rel_error: float
    seconds: float
    late: float
    result: Any


class Checks:
    """The checks of one case.

    data: the inputs that its kernels were built with. keep: whether what the first check's calls returned is kept for
    the second look, which saves a call: where nothing is timed, and no memory measured.
    """

    def __init__(
        self, case: Case, workload: Workload, backend: Backend, seed: int, data: HostArrays, *, keep: bool = False
    ) -> None:
        self._work, self._workload, self._backend, self._seed = case.work, workload, backend, seed
        self._data = data
        self._sample: HostArrays = data  # what the first check is made on
        self._keep = keep
        self._places = _places()
        self._kept: Mapping[str, Any] = {}
        self._buffer: Callable[[], Any] = lambda: None  # returns what the first call returned, if it is still held
        self._checked: Kernel | None = None

    def begin(self, kernel: Kernel) -> None:
        """Bring a kernel to its start, on the inputs of the first check, of which its first call is then a part."""
        if self._workload.idle:
            self._require_no_costs()
        if self._workload.idle or self._is_unchecked(kernel):
            return
        self._sample = self._inputs(0, kernel)
        if not self._lies_there(kernel):
            self._write(kernel, self._sample)
        if kernel.restart:
            kernel.restart()

    def before(self, kernel: Kernel, result: Any) -> float | None:
        """Return the largest relative error of what will be timed, None for work that does nothing on purpose.

        result: what the first call of `kernel.run` returned, after `begin`. Afterwards `run` is at its start again, on
        `data`. Raises WrongAnswer.
        """
        if self._workload.idle:
            return None
        self._checked = kernel
        with contextlib.suppress(TypeError):  # what holds several arrays is no buffer
            self._buffer = weakref.ref(result)
        draw = Draw(self._sample, self._workload.reference(self._work, self._sample))
        if kernel.answer is not None:
            return self._verified(draw, self._on_host(kernel.answer()))
        done = self._rest(kernel, result)
        results, errors = {"time": done.result}, [self._verified(draw, self._named(kernel, done))]
        for metric, probe in kernel.probes.items():
            if not self._is_unchecked(probe):
                done = self._called(probe)
                results[metric] = done.result
                errors += [self._verified(draw, self._named(probe, done))]
        self._kept = results if self._keep else {}
        if not self._lies_there(kernel):
            self._write(kernel, self._data)
        if kernel.restart:
            kernel.restart()
        return max(errors)

    def after(self, kernels: Sequence[Kernel], series: Sequence[Series]) -> Rechecked:
        """Return what the second look saw of one of the kernels that took turns in being timed, chosen at random.

        series: what was timed; empty if only answers are checked. Raises WrongAnswer if an output is wrong or comes
        late, CaseError if the look is blind: outputs of earlier calls pass it too. The inputs are spoilt afterwards.
        """
        if self._workload.idle:
            return Rechecked()
        kernel = kernels[int(generator(self._work.case_id, self._seed, 1).integers(len(kernels)))]
        by_wall = {s.metric: s for s in series if s.clock is Clock.WALL}
        if series and self._backend.has_device_clock:
            self._require_nothing_hidden(kernel, series)
        if self._is_unchecked(kernel):
            self._waited_for(kernel, by_wall.get("time"))
            return Rechecked(flags=(UNCHECKED,))
        told = {metric: each for metric, each in timed(kernel).items() if not self._is_unchecked(each)}
        # Before the calls that are compared with each other: NumPy's threads spin for a while after a reference.
        draw = self._draw(1 if kernel.inputs else 0, kernel)
        alone = (
            self._looked_at_alone(kernel, by_wall["time"], draw) if told.keys() == by_wall.keys() == {"time"} else None
        )
        looks = {"time": alone} if alone else self._looked_at_all(kernel, told, by_wall, draw)
        slow = any(self._is_always_slow(told[m], looks[m], by_wall[m]) for m in looks if m in by_wall)
        earned = {UNCHECKED: len(told) <= len(kernel.probes), SLOW_ON_NEW_INPUT: slow}
        worst = max(look.rel_error for look in looks.values())
        return Rechecked(worst, tuple(flag for flag, is_earned in earned.items() if is_earned))

    # ---------------------------------------------------------------- draws

    def _inputs(self, number: int, kernel: Kernel) -> HostArrays:
        """Return what a check is made on: a sample of `data` for 0, else of new numbers for all that is read anew."""
        names = {name for each in timed(kernel).values() for name in each.inputs}
        if unknown := sorted(names - set(self._data)):
            raise CaseError("unknown_input", f"{unknown[0]!r} is an input of the kernel, and none of the workload")
        inputs = self._data
        if number:
            fresh = self._workload.inputs(self._work, generator(self._work.case_id, self._seed, number))
            inputs = {**inputs, **{name: fresh[name] for name in names}}
        # Numbers of their own for the sample, which no draw has.
        rng = generator(self._work.case_id, self._seed, number + DRAWS + 2)
        return self._workload.sample(self._work, inputs, rng)

    def _draw(self, number: int, kernel: Kernel) -> Draw:
        inputs = self._inputs(number, kernel)
        return Draw(inputs, self._workload.reference(self._work, inputs))

    def _telling(self, draw: Draw, kernel: Kernel, old: Sequence[HostArrays]) -> Draw:
        """Return the first draw or a later one, for which none of the old outputs are right.

        Raises CaseError if there is none.
        """
        for number in range(2, DRAWS + 2):
            if not any(self._passes(draw, answer) for answer in old):
                return draw
            if number <= DRAWS:
                draw = self._draw(number, kernel)
        reason = f"the check cannot tell new answers from old: they are right for {DRAWS} draws of other inputs too"
        raise CaseError("blind_recheck", reason)

    def _passes(self, draw: Draw, answer: HostArrays) -> bool:
        try:
            error = self._workload.error(self._work, draw.expected, answer)
            self._workload.tolerance(self._work).require(error)
        except WrongAnswer:
            return False
        return True

    def _lies_there(self, kernel: Kernel) -> bool:
        """Whether the first check is made on the very inputs that the kernel was built with."""
        return all(self._sample[name] is self._data[name] for name in kernel.inputs)

    def _is_unchecked(self, kernel: Kernel) -> bool:
        """Whether a kernel tells nothing that other numbers could be written over, though its work has inputs."""
        return kernel.answer is not None or bool(self._data and not kernel.inputs)

    def _require_no_costs(self) -> None:
        if self._workload.costs(self._work) != Costs():
            raise CaseError("idle_with_costs", f"{self._workload.name} says that it does nothing, and has costs")

    # ---------------------------------------------------------------- looks

    def _looked_at_all(
        self, kernel: Kernel, told: Mapping[str, Kernel], by_wall: Mapping[str, Series], draw: Draw
    ) -> dict[str, _Looks]:
        """Return what was seen of a kernel and its probes, each first called on the old inputs, and waited for."""
        kept = self._kept
        waited = {} if kept else {metric: self._waited_for(each, by_wall.get(metric)) for metric, each in told.items()}
        last = kept or {metric: done.result for metric, done in waited.items()}
        if kernel.inputs:
            draw = self._telling(draw, kernel, [self._named(k, self._as_it_is(k, last[m])) for m, k in told.items()])
        return {
            m: self._looked_at(each, last[m], draw, waited[m].seconds if waited else None) for m, each in told.items()
        }

    def _looked_at_alone(self, kernel: Kernel, wall: Series, draw: Draw) -> _Looks | None:
        """Return what was seen of a long call without one on the old inputs before it; None if that proves too little.

        The last block was one call, and took about as long as the block before and as the look. The old outputs are in
        the buffer that the first call returned and the kernel keeps; the look's call returns it again. Its outputs are
        there at once when they are read.
        """
        result, lasts = self._buffer(), wall.seconds[-2:]
        if result is None or kernel is not self._checked or wall.inner_loops > 1 or len(lasts) < 2:
            return None
        if min(lasts) < LONG or not _are_alike(*lasts):
            return None
        if kernel.inputs and self._passes(draw, self._named(kernel, self._as_it_is(kernel, result))):
            return None
        look = self._looked_at(kernel, result, draw, lasts[-1])
        if look.result is result and not is_late(look.late - NAMING * len(kernel.outputs(result)), look.seconds):
            return look
        self._write(kernel, self._data)
        if kernel.restart:
            kernel.restart()
        return None

    def _waited_for(self, kernel: Kernel, wall: Series | None) -> Awaited:
        """Make some calls on the old inputs; raises WrongAnswer if the backend does not wait for them."""
        answer, calls = kernel.answer, _calls(wall) if wall else 1

        def outputs(made: Any) -> Mapping[str, Any]:
            return answer() if answer else kernel.outputs(made)

        done = unfinished(kernel.run, calls, self._backend, outputs)
        if done.left is not None:
            name = self._backend.name
            reason = f"{done.left:.2g} s of work went on after {name} said it was done: its times are of the launch"
            raise WrongAnswer(reason, code="not_synchronised")
        return done

    def _require_nothing_hidden(self, kernel: Kernel, series: Sequence[Series]) -> None:
        """Raise WrongAnswer if the device does work that its clock, between two events in one stream, does not see."""
        wall, device = (next((s for s in series if s.clock is clock), None) for clock in (Clock.WALL, Clock.DEVICE))
        assert wall is not None  # noqa: S101 - every case has one
        seen = median(device.seconds) if device else 0.0
        if (waited := hidden_work(kernel.run, _calls(wall), self._backend, seen)) is not None:
            reason = (
                f"the device works for {waited:.2g} s a call, and its clock sees {seen:.2g} s: another stream's work"
            )
            raise WrongAnswer(reason, code="hidden_work")

    def _looked_at(self, kernel: Kernel, result: Any, draw: Draw, before: float | None) -> _Looks:
        """Return what was seen of a kernel. result: what its last call returned. before: the seconds of that call.

        Where the outputs are of a single call it is looked at twice in a row, in case only every second one works; the
        second time by the fingerprints of its outputs, if those are the same. Of long calls one look is enough, unless
        it took longer or shorter than the call before, by more than a call is likely to.
        """
        self._poison(kernel.outputs(result))
        self._write(kernel, draw.inputs)
        self._require_wrong_before(kernel, result, draw)
        done = first = self._called_anew(kernel)
        steady = before is None or _are_alike(before, done.seconds)
        once = kernel.calls > 1 or (steady and done.seconds > LONG)
        try:
            error, seen, behind = self._verified_while_it_stays(draw, kernel, done)
            if not once:
                self._poison(kernel.outputs(done.result))
                self._mend(kernel, draw.inputs)
                done = self._called_anew(kernel)
                if not _alike(seen, self._fingerprints(kernel, done)):  # as sums in another order are not
                    error = max(error, self._verified_while_it_stays(draw, kernel, done)[0])
        except WrongAnswer as wrong:
            if wrong.code == "not_synchronised":
                raise
            reason = f"right at first, wrong when looked at again: {wrong}"
            raise WrongAnswer(reason, wrong.rel_error, code="wrong_second_look") from None
        return _Looks(error, first.seconds, behind, done.result)

    def _is_always_slow(self, kernel: Kernel, look: _Looks, wall: Series) -> bool:
        """Whether the look was slow, and so are further calls, each on numbers that it has not met."""
        typical, seconds = median(wall.seconds), look.seconds
        for number in range(FURTHER, FURTHER + TRIES - 1):
            if not _is_slow(seconds, typical):
                return False
            self._write(kernel, self._inputs(number, kernel))
            _, seconds = self._called_once(kernel)
        return _is_slow(seconds, typical)

    def _require_wrong_before(self, kernel: Kernel, before: Any, draw: Draw) -> None:
        """Raise an error if outputs are right for a draw before the timed call is made. before: what it returned last.

        WrongAnswer if it is `restart` that does the work; CaseError where outputs cannot be poisoned, and there are no
        inputs to tell new ones from old by.
        """
        if kernel.inputs and not kernel.restart:
            return
        if kernel.restart:
            kernel.restart()
        if self._passes(draw, self._named(kernel, self._as_it_is(kernel, before))):
            if kernel.restart:
                raise WrongAnswer("the answer is there before the call that is timed", code="wrong_second_look")
            raise CaseError("blind_recheck", "the kernel has no inputs, and its outputs cannot be written over")

    def _called_anew(self, kernel: Kernel) -> _Done:
        """Call a kernel from its start, and spoil its inputs at once."""
        result, seconds = self._called_once(kernel)
        done = self._rest(kernel, result)
        finish(self._backend, done.result)
        end = perf_counter()
        self._spoil(kernel)
        return replace(done, seconds=seconds, end=end)

    def _called_once(self, kernel: Kernel) -> tuple[Any, float]:
        """Return what a call from the kernel's start returned, and its seconds until it was done."""
        if kernel.restart:
            kernel.restart()
        self._backend.synchronize()
        begin = perf_counter()
        result = kernel.run()
        finish(self._backend, result)
        return result, perf_counter() - begin

    def _called(self, kernel: Kernel) -> _Done:
        """Make all of a kernel's calls from its start."""
        if kernel.restart:
            kernel.restart()
        return self._rest(kernel, kernel.run())

    def _rest(self, kernel: Kernel, result: Any) -> _Done:
        """Make the calls after the first, which returned `result`."""
        first = self._copied(kernel, result) if kernel.also_first else {}
        for _ in range(kernel.calls - 1):
            result = kernel.run()
        return _Done(result, first)

    def _as_it_is(self, kernel: Kernel, result: Any) -> _Done:
        """Return what there is without a call from the start: the outputs of one call for those of all."""
        return _Done(result, self._copied(kernel, result) if kernel.also_first else {})

    def _copied(self, kernel: Kernel, result: Any) -> HostArrays:
        return {name: np.array(array) for name, array in self._on_host(kernel.outputs(result)).items()}

    def _named(self, kernel: Kernel, done: _Done) -> HostArrays:
        """Return a kernel's answer on the host: its outputs now and, where they count as well, after the first call."""
        now = self._on_host(kernel.outputs(done.result))
        return {**done.first, **{f"last.{name}": array for name, array in now.items()}} if kernel.also_first else now

    def _verified_while_it_stays(
        self, draw: Draw, kernel: Kernel, done: _Done
    ) -> tuple[float, dict[str, np.ndarray], float]:
        """Return the relative error of an answer that stays what it is while it is verified, and its fingerprints.

        And by how many seconds it took longer to be read, from the end of the call on, than when it was read again.
        """
        answer = self._named(kernel, done)
        first = perf_counter() - done.end
        seen = {name: _fingerprint(array) for name, array in answer.items()}
        error = self._workload.verify(self._work, draw.expected, answer)
        begin = perf_counter()
        again = self._named(kernel, done)
        late = first - (perf_counter() - begin)
        if not _alike(seen, {name: _fingerprint(array) for name, array in again.items()}):
            reason = f"its outputs changed after {self._backend.name} said that all work was done"
            raise WrongAnswer(reason, code="not_synchronised")
        return error, seen, late

    def _fingerprints(self, kernel: Kernel, done: _Done) -> dict[str, np.ndarray]:
        return {name: _fingerprint(array) for name, array in self._named(kernel, done).items()}

    def _verified(self, draw: Draw, answer: HostArrays) -> float:
        return self._workload.verify(self._work, draw.expected, answer)

    def _on_host(self, outputs: Mapping[str, Any]) -> HostArrays:
        self._backend.synchronize()
        return {name: self._backend.to_host(array) for name, array in outputs.items()}

    # ---------------------------------------------------------------- writing

    def _write(self, kernel: Kernel, host: HostArrays) -> None:
        for name, array in kernel.inputs.items():
            kernel.inputs[name] = overwrite(self._backend, array, host[name])

    def _poison(self, outputs: Mapping[str, Any]) -> None:
        """Fill outputs with what no answer holds, where they can be written to: a number alone cannot."""
        for array in outputs.values():
            # What cannot be written to is no buffer that `run` writes to either.
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                overwrite(self._backend, array, _rubbish(array))

    def _spoil(self, kernel: Kernel) -> None:
        """Spoil some places of every input that nobody knows: what is computed from now on is wrong."""
        self._places = _places()
        for _, array in _with_places(kernel.inputs):
            for place in self._places:
                at = int(place * len(array))
                part = array[at : at + 1]
                overwrite(self._backend, part, np.asarray(0) if _is_integer(part) else _rubbish(part))

    def _mend(self, kernel: Kernel, host: HostArrays) -> None:
        for name, array in _with_places(kernel.inputs):
            for place in self._places:
                at = int(place * len(array))
                here = at % len(host[name])
                overwrite(self._backend, array[at : at + 1], host[name][here : here + 1])


def timed(kernel: Kernel) -> dict[str, Kernel]:
    """Return all that is timed of a kernel by metric: itself and its probes."""
    return {"time": kernel, **kernel.probes}


def _calls(wall: Series) -> int:
    """Return how many calls take long enough to prove something by their time."""
    return max(wall.inner_loops, min(MOST_CALLS, math.ceil(BLOCK / max(median(wall.seconds), 1e-9))))


def _are_alike(some: float, others: float) -> bool:
    """Whether two calls took about as long as each other."""
    return some < ALIKE * others and others < ALIKE * some


def _is_slow(seconds: float, typical: float) -> bool:
    """Whether a call on new numbers took far longer than those that were timed, of which `typical` is the median.

    A call that keeps its answer for the numbers it has met does so, and one that finds it has nothing to do.
    """
    return seconds > SLOWER * typical + SLOWER_S


def _places() -> tuple[float, ...]:
    """Return some places of an array as shares of its length, which no kernel can foresee."""
    return (0.0, *(random.SystemRandom().random() for _ in range(SPOILT - 1)))


def _with_places(inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the inputs that have elements along a first axis."""
    return [(name, array) for name, array in inputs.items() if getattr(array, "shape", ()) and len(array)]


def _fingerprint(array: np.ndarray) -> np.ndarray:
    """Return a copy of some elements, spread over the whole of an array, as bytes."""
    flat = np.asarray(array).reshape(-1)
    return np.array(flat[:: max(1, flat.size // FINGERPRINT)]).view(np.uint8)


def _alike(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    """Whether all fingerprints are the same, bit by bit."""
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def _is_integer(array: Any) -> bool:
    return "int" in str(getattr(array, "dtype", ""))


def _rubbish(array: Any) -> np.ndarray:
    """Return what no answer holds: not a number or, of integers, -1."""
    return np.asarray(-1 if _is_integer(array) else math.nan)
