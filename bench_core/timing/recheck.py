"""Check the answer of the timed callable itself, before it is timed and again after.

A check before the timing says nothing about the timed calls: they may have returned an earlier result, done half of the
work, or continued after the timer stopped. So after the last block, the inputs are overwritten in place with new
numbers, the outputs are filled with poison (NaN or -1), and the timed callable is called once more. Its outputs must be
right for the new numbers. They are read only after the inputs have been spoilt, so that nothing can be computed late,
and read again later, so that work that still runs is detected.

This does not detect a callable that distinguishes this call from a timed one by spying on the harness. A callable that
caches its answers by input, or that detects that nothing has to be done, is slow on new inputs: if the work takes more
than a millisecond, it is flagged. The second of two training steps is checked with wide bounds.
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

from bench_core.backends.base import Backend, Immutable, finish, overwrite, overwrite_rows, ranks_of
from bench_core.errors import CaseError, WrongAnswer
from bench_core.records import UNCHECKED, UNCHECKED_TIMING, Case, Clock, Costs, Part, Series
from bench_core.timing.account import part
from bench_core.timing.ranks import any_of, failing_together, most
from bench_core.timing.shared import Shared
from bench_core.timing.synchronisation import NAMING, TRIES, Awaited, hidden_work, is_late, unfinished
from bench_core.workload import HostArrays, Kernel, Workload

SLOW_ON_NEW_INPUT = "slow_on_new_input"
DRAWS = 3  # number of new inputs that are tried, until the old outputs are wrong for them
FURTHER = 20  # number of the first draw that is used for its time only
BLOCK, MOST_CALLS = 1e-3, 1000  # calls in a proof of synchronisation: seconds at least, number at most
# A call on new inputs is flagged if it takes more than SLOWER x the median of the timed calls + SLOWER_S seconds.
SLOWER, SLOWER_S = 2.0, 1e-3
# A call of more than LONG seconds is checked once, if the ratio of its time to that of the call before is below ALIKE.
LONG, ALIKE = 0.015, 1.25
SPOILT = 8  # positions along the first axis of an input that are spoilt
FINGERPRINT = 1 << 16  # elements of an output that are compared with their later values


def generator(case_id: str, seed: int, draw: int = 0) -> np.random.Generator:
    """Return the random generator of a case: a different one for each case, seed and draw, the same on each backend."""
    entropy = [seed, int(case_id.removeprefix("c_"), 16)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=(draw,) if draw else ())))


@dataclass(frozen=True, slots=True)
class Draw:
    """The inputs of a check, and the reference for the answer."""

    inputs: HostArrays
    expected: Any


@dataclass(frozen=True, slots=True)
class Rechecked:
    """The result of the second check: the largest relative error of any output, and flags."""

    rel_error: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    """A kernel's calls from its start.

    result: of the last. first: host outputs of the first; seconds: of the first. end: when the last was done.
    """

    result: Any
    first: HostArrays
    seconds: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class _Looks:
    """The checks of one callable on new inputs.

    rel_error: the largest. seconds: of the first call. late: seconds by which reading its outputs took longer than
    reading them again. result: of the last call.
    """

    rel_error: float
    seconds: float
    late: float
    result: Any


class Checks:
    """The checks of one case.

    data: the inputs that its kernels were built with. keep: whether to keep the results of the first check for the
    second one. This saves a call, if nothing is timed and no memory is measured.
    """

    def __init__(
        self,
        case: Case,
        workload: Workload,
        backend: Backend,
        seed: int,
        data: HostArrays,
        shared: Shared | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self._work, self._workload, self._backend, self._seed = case.work, workload, backend, seed
        self._ranks = ranks_of(backend)
        self._data = data
        self._shared = shared or Shared()
        self._sample: HostArrays = data  # inputs of the first check
        self._keep = keep
        self._places = _places()
        self._kept: Mapping[str, Any] = {}
        self._buffer: Callable[[], Any] = lambda: None  # returns what the first call returned, if it is still held
        self._checked: Kernel | None = None

    def begin(self, kernel: Kernel) -> None:
        """Write the inputs of the first check and restart the kernel, so that its first call is part of that check."""
        if self._has_no_answer:
            self._require_no_costs()
        if self._has_no_answer or self._takes_no_new_inputs(kernel):
            return
        self._sample = self._inputs(0, kernel)
        if not self._checks_built_inputs(kernel):
            self._write(kernel, self._sample)
        if kernel.restart:
            kernel.restart()

    def before(self, kernel: Kernel, result: Any) -> float | None:
        """Check what will be timed, and return its largest relative error; None if no right answer is known.

        result: return value of the first call of `kernel.run`, after `begin`. Afterwards the kernel is restarted, with
        `data` as its inputs. Raises WrongAnswer.
        """
        if self._has_no_answer:
            return None
        self._checked = kernel
        with contextlib.suppress(TypeError):  # tuples, lists and dicts have no weak references
            self._buffer = weakref.ref(result)
        draw = self._drawn(self._sample, "sample")
        if kernel.answer is not None:
            return self._verified(draw, self._on_host(kernel.answer()))
        done = self._rest(kernel, result)
        results, errors = {"time": done.result}, [self._verified(draw, self._named(kernel, done))]
        for metric, probe in kernel.probes.items():
            if not self._takes_no_new_inputs(probe):
                done = self._called(probe)
                results[metric] = done.result
                errors += [self._verified(draw, self._named(probe, done))]
        self._kept = results if self._keep else {}
        if not self._checks_built_inputs(kernel):
            self._write(kernel, self._data)
        if kernel.restart:
            kernel.restart()
        return max(errors)

    def after(self, kernels: Sequence[Kernel], series: Sequence[Series]) -> Rechecked:
        """Check one of the timed kernels again, chosen at random, and return the result.

        series: what was timed; empty if answers are checked only. Raises WrongAnswer if an output is wrong or late,
        CaseError if the check is blind, because outputs of earlier calls pass it too. The inputs are spoilt afterwards.
        """
        if self._workload.idle:
            return Rechecked()
        kernel = kernels[int(generator(self._work.case_id, self._seed, 1).integers(len(kernels)))]
        by_wall = {s.metric: s for s in series if s.clock is Clock.WALL}
        if series and self._backend.has_device_clock:
            self._require_nothing_hidden(kernel, series)
        if not self._workload.has_reference or self._takes_no_new_inputs(kernel):
            self._waited_for(kernel, by_wall.get("time"))
            return Rechecked(flags=(UNCHECKED_TIMING if self._workload.has_reference else UNCHECKED,))
        checked = {metric: each for metric, each in timed(kernel).items() if not self._takes_no_new_inputs(each)}
        # Before the calls whose times are compared: NumPy's threads spin for a while after a reference.
        draw = self._draw(1 if kernel.inputs else 0, kernel)
        is_alone = checked.keys() == by_wall.keys() == {"time"} and self._ranks.size == 1
        alone = self._looked_at_alone(kernel, by_wall["time"], draw) if is_alone else None
        looks = {"time": alone} if alone else self._looked_at_all(kernel, checked, by_wall, draw)
        slow = any(self._is_always_slow(checked[m], looks[m], by_wall[m]) for m in looks if m in by_wall)
        earned = {UNCHECKED_TIMING: len(checked) <= len(kernel.probes), SLOW_ON_NEW_INPUT: slow}
        worst = max(look.rel_error for look in looks.values())
        return Rechecked(worst, tuple(flag for flag, is_earned in earned.items() if is_earned))

    # ---------------------------------------------------------------- draws

    def _inputs(self, number: int, kernel: Kernel) -> HostArrays:
        """Return the inputs of a check: a sample of `data` for number 0, else with new kernel inputs."""
        names = _names(kernel)
        if unknown := sorted(names - set(self._data)):
            raise CaseError("unknown_input", f"{unknown[0]!r} is an input of the kernel, but not of the workload")
        inputs = self._data
        with part(Part.INPUTS):
            if number:
                rng = generator(self._work.case_id, self._seed, number)
                key = self._key("inputs", number)
                fresh = self._shared.get(key, lambda: self._workload.redraw(self._work, self._data, rng))
                inputs = {**inputs, **{name: fresh[name] for name in names}}
            # The sample has its own random numbers, which no draw uses.
            rng = generator(self._work.case_id, self._seed, number + DRAWS + 2)
            return self._workload.sample(self._work, inputs, rng)

    def _draw(self, number: int, kernel: Kernel) -> Draw:
        # Kernels differ in which of their arrays are inputs, and so are drawn anew.
        return self._drawn(self._inputs(number, kernel), number, *(sorted(_names(kernel)) if number else ()))

    def _drawn(self, inputs: HostArrays, *drawn: object) -> Draw:
        """Return inputs with the reference for them. drawn: what tells them from other inputs of this case."""
        with part(Part.CHECKS):
            key = self._key("reference", *drawn, *([self._ranks.rank] if self._ranks.size > 1 else []))
            own = self._own(inputs)
            return Draw(inputs, self._shared.get(key, lambda: self._workload.reference(self._work, own)))

    def _own(self, host: HostArrays) -> HostArrays:
        """Return this rank's part of the arrays of all."""
        return self._workload.on_rank(self._work, host, self._ranks.rank)

    def _key(self, *what: object) -> str:
        """Return the name of arrays or a reference among all that the processes of a run share."""
        return " ".join(map(str, (self._work.case_id, self._seed, *what)))

    def _distinguishing(self, draw: Draw, kernel: Kernel, old: Sequence[HostArrays]) -> Draw:
        """Return `draw` or a later one for which all old outputs are wrong; raises CaseError if there is none."""
        for number in range(2, DRAWS + 2):
            if not any(self._passes(draw, answer) for answer in old):
                return draw
            if number <= DRAWS:
                draw = self._draw(number, kernel)
        reason = f"the check cannot distinguish new answers from old ones, which are right for {DRAWS} other inputs too"
        raise CaseError("blind_recheck", reason)

    def _passes(self, draw: Draw, answer: HostArrays) -> bool:
        """Return whether an answer is right, on any rank."""
        return any_of(self._ranks, self._passes_here(draw, answer))

    def _passes_here(self, draw: Draw, answer: HostArrays) -> bool:
        try:
            with part(Part.CHECKS):
                error = self._workload.error(self._work, draw.expected, answer)
            self._workload.tolerance(self._work).require(error)
        except WrongAnswer:
            return False
        return True

    def _checks_built_inputs(self, kernel: Kernel) -> bool:
        """Return whether the first check uses the same inputs that the kernel was built with."""
        return all(self._sample[name] is self._data[name] for name in kernel.inputs)

    def _takes_no_new_inputs(self, kernel: Kernel) -> bool:
        """Return whether a kernel names no inputs to overwrite, though its work has some, or has its own `answer`."""
        return kernel.answer is not None or bool(self._data and not kernel.inputs)

    @property
    def _has_no_answer(self) -> bool:
        return self._workload.idle or not self._workload.has_reference

    def _require_no_costs(self) -> None:
        if self._workload.costs(self._work) != Costs():
            declared = "declared idle" if self._workload.idle else "not checked"
            raise CaseError("idle_with_costs", f"{self._workload.name} is {declared}, but has costs")

    # ---------------------------------------------------------------- the second check

    def _looked_at_all(
        self, kernel: Kernel, checked: Mapping[str, Kernel], by_wall: Mapping[str, Series], draw: Draw
    ) -> dict[str, _Looks]:
        """Check a kernel and its probes on new inputs, after a call of each on the old ones."""
        kept = self._kept
        waited = {} if kept else {m: self._waited_for(each, by_wall.get(m)) for m, each in checked.items()}
        last = kept or {metric: done.result for metric, done in waited.items()}
        before = {metric: done.seconds for metric, done in waited.items()}
        if kernel.inputs:
            old = [self._named(k, self._without_calls(k, last[m])) for m, k in checked.items()]
            draw = self._distinguishing(draw, kernel, old)
        return {m: self._looked_at(each, last[m], draw, before.get(m)) for m, each in checked.items()}

    def _looked_at_alone(self, kernel: Kernel, wall: Series, draw: Draw) -> _Looks | None:
        """Check a long call on new inputs, without a call on the old ones; None if that proves too little.

        It proves enough if the last calm blocks were single calls that took about as long as each other and as the
        checked call, if the first call and the checked one returned the same buffer, which then holds the old outputs,
        and if the outputs were there when they were read.
        """
        result, lasts = self._buffer(), wall.calm[-2:]
        if result is None or kernel is not self._checked or wall.inner_loops > 1 or len(lasts) < 2:
            return None
        if min(lasts) < LONG or not _are_alike(*lasts):
            return None
        if kernel.inputs and self._passes(draw, self._named(kernel, self._without_calls(kernel, result))):
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
            reason = f"work went on for {done.left:.2g} s after {name} reported it complete: only the launch was timed"
            raise WrongAnswer(reason, code="not_synchronised")
        return done

    def _require_nothing_hidden(self, kernel: Kernel, series: Sequence[Series]) -> None:
        """Raise WrongAnswer if the device does work that its clock (two events in one stream) does not see."""
        wall, device = (next((s for s in series if s.clock is clock), None) for clock in (Clock.WALL, Clock.DEVICE))
        assert wall is not None  # noqa: S101 - every case has one
        seen = median(device.calm) if device else 0.0
        if (waited := hidden_work(kernel.run, _calls(wall), self._backend, seen)) is not None:
            reason = f"the device works {waited:.2g} s per call, its clock sees {seen:.2g} s: work is in another stream"
            raise WrongAnswer(reason, code="hidden_work")

    def _looked_at(self, kernel: Kernel, result: Any, draw: Draw, before: float | None) -> _Looks:
        """Check a kernel on new inputs. result: of its last call; before: the seconds of that call, if it was timed.

        If the outputs are those of a single call, two calls in a row are checked, in case only every second one works;
        for the second, equal fingerprints of the outputs are enough. For long calls one check is enough, if the call
        before took about as long.
        """
        if isinstance(self._backend, Immutable):
            self._require_new_arrays(kernel, result)
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
                differs = not _alike(seen, _fingerprints(self._named(kernel, done)))  # as sums in another order do
                if any_of(self._ranks, differs):
                    error = max(error, self._verified_while_it_stays(draw, kernel, done)[0])
        except WrongAnswer as wrong:
            if wrong.code == "not_synchronised":
                raise
            reason = f"right in the first check, wrong in the second: {wrong}"
            raise WrongAnswer(reason, wrong.rel_error, code="wrong_second_look") from None
        return _Looks(error, first.seconds, behind, done.result)

    def _is_always_slow(self, kernel: Kernel, look: _Looks, wall: Series) -> bool:
        """Return whether the checked call was slow, and two further calls, each on new inputs, are too."""
        typical, seconds = median(wall.calm), look.seconds
        for number in range(FURTHER, FURTHER + TRIES - 1):
            if not _is_slow(seconds, typical):
                return False
            self._write(kernel, self._inputs(number, kernel))
            _, seconds = self._called_once(kernel)
        return _is_slow(seconds, typical)

    def _require_wrong_before(self, kernel: Kernel, before: Any, draw: Draw) -> None:
        """Raise an error if the outputs are right before the timed call is made. before: what it returned last.

        WrongAnswer if `restart` does the work; CaseError if the outputs cannot be poisoned and there are no inputs by
        which new outputs could be distinguished from old ones. Of several ranks one may have the answer before, as the
        root of a broadcast has.
        """
        if kernel.inputs and not kernel.restart:
            return
        if kernel.restart:
            kernel.restart()
        is_wrong_here = not self._passes_here(draw, self._named(kernel, self._without_calls(kernel, before)))
        if not any_of(self._ranks, is_wrong_here):
            if kernel.restart:
                raise WrongAnswer("the answer exists before the timed call is made", code="wrong_second_look")
            raise CaseError("blind_recheck", "the kernel has no inputs, and its outputs cannot be overwritten")

    def _require_new_arrays(self, kernel: Kernel, result: Any) -> None:
        """Raise WrongAnswer if one of three calls in a row, the last and two more, returns an array of the one before.

        An array that nobody can overwrite with poison is proven to be made anew by being another one.
        """
        earlier = dict(kernel.outputs(result))
        for _ in range(2):
            later = dict(kernel.outputs(self._called(kernel).result))
            if same := [name for name, array in later.items() if array is earlier.get(name)]:
                reason = f"a call returned the array {same[0]!r} that the call before it had returned"
                raise WrongAnswer(reason, code="wrong_second_look")
            earlier = later

    def _called_anew(self, kernel: Kernel) -> _Done:
        """Restart a kernel, make all its calls, wait for them, and spoil its inputs at once."""
        result, seconds = self._called_once(kernel)
        done = self._rest(kernel, result)
        finish(self._backend, done.result)
        end = perf_counter()
        self._spoil(kernel)
        return replace(done, seconds=seconds, end=end)

    def _called_once(self, kernel: Kernel) -> tuple[Any, float]:
        """Restart a kernel and call it once; return the result, and the seconds until it was done."""
        if kernel.restart:
            kernel.restart()
        self._backend.synchronize()
        begin = perf_counter()
        result = kernel.run()
        finish(self._backend, result)
        return result, most(self._ranks, perf_counter() - begin)

    def _called(self, kernel: Kernel) -> _Done:
        """Restart a kernel and make all its calls."""
        if kernel.restart:
            kernel.restart()
        return self._rest(kernel, kernel.run())

    def _rest(self, kernel: Kernel, result: Any) -> _Done:
        """Make the calls after the first one, which returned `result`."""
        first = self._copied(kernel, result) if kernel.also_first else {}
        for _ in range(kernel.calls - 1):
            result = kernel.run()
        return _Done(result, first)

    def _without_calls(self, kernel: Kernel, result: Any) -> _Done:
        """Return the current outputs, without a call, as the outputs of both the first and the last call."""
        return _Done(result, self._copied(kernel, result) if kernel.also_first else {})

    def _copied(self, kernel: Kernel, result: Any) -> HostArrays:
        return {name: np.array(array) for name, array in self._on_host(kernel.outputs(result)).items()}

    def _named(self, kernel: Kernel, done: _Done) -> HostArrays:
        """Return a kernel's answer on the host: its outputs now and, with `also_first`, those after the first call."""
        now = self._on_host(kernel.outputs(done.result))
        return {**done.first, **{f"last.{name}": array for name, array in now.items()}} if kernel.also_first else now

    def _verified_while_it_stays(
        self, draw: Draw, kernel: Kernel, done: _Done
    ) -> tuple[float, dict[str, np.ndarray], float]:
        """Verify an answer, which must not change meanwhile.

        Return its relative error, its fingerprints, and the seconds by which reading it took longer than again.
        """
        answer = self._named(kernel, done)
        first = perf_counter() - done.end
        seen = _fingerprints(answer)
        error = self._verified(draw, answer)
        begin = perf_counter()
        again = self._named(kernel, done)
        late = first - (perf_counter() - begin)
        with failing_together(self._ranks):
            if not _alike(seen, _fingerprints(again)):
                reason = f"the outputs changed after {self._backend.name} reported all work complete"
                raise WrongAnswer(reason, code="not_synchronised")
        return error, seen, late

    def _verified(self, draw: Draw, answer: HostArrays) -> float:
        with part(Part.CHECKS), failing_together(self._ranks):
            error = self._workload.verify(self._work, draw.expected, answer)
        return most(self._ranks, error)

    def _on_host(self, outputs: Mapping[str, Any]) -> HostArrays:
        self._backend.synchronize()
        return {name: self._backend.to_host(array) for name, array in outputs.items()}

    # ---------------------------------------------------------------- writing

    def _write(self, kernel: Kernel, host: HostArrays) -> None:
        host = self._own(host)
        for name, array in kernel.inputs.items():
            kernel.inputs[name] = overwrite(self._backend, array, host[name])

    def _poison(self, outputs: Mapping[str, Any]) -> None:
        """Fill outputs with values that are in no right answer, if they can be written to: a single number cannot."""
        if isinstance(self._backend, Immutable):
            return
        for array in outputs.values():
            # If the harness cannot write to an output, `run` cannot either.
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                overwrite(self._backend, array, _poison_value(array))

    def _spoil(self, kernel: Kernel) -> None:
        """Overwrite unpredictable positions of every input, so that anything computed from now on is wrong."""
        self._places = _places()
        for name, array in _with_places(kernel.inputs):
            poison = np.asarray(0) if _is_integer(array) else _poison_value(array)
            kernel.inputs[name] = overwrite_rows(self._backend, array, self._rows(array), poison)

    def _mend(self, kernel: Kernel, host: HostArrays) -> None:
        """Write the original values back to the spoilt positions."""
        host = self._own(host)
        for name, array in _with_places(kernel.inputs):
            rows = self._rows(array)
            values = host[name][[row % len(host[name]) for row in rows]]
            kernel.inputs[name] = overwrite_rows(self._backend, array, rows, values)

    def _rows(self, array: Any) -> list[int]:
        """Return the rows of an array at the places that are spoilt."""
        return [int(place * len(array)) for place in self._places]


def timed(kernel: Kernel) -> dict[str, Kernel]:
    """Return the timed callables of a kernel by metric: the kernel itself and its probes."""
    return {"time": kernel, **kernel.probes}


def _names(kernel: Kernel) -> set[str]:
    """Return the names of the inputs of a kernel and its probes."""
    return {name for each in timed(kernel).values() for name in each.inputs}


def _calls(wall: Series) -> int:
    """Return how many calls take long enough for a proof of synchronisation."""
    return max(wall.inner_loops, min(MOST_CALLS, math.ceil(BLOCK / max(median(wall.calm), 1e-9))))


def _are_alike(some: float, others: float) -> bool:
    """Whether two calls took about as long as each other."""
    return some < ALIKE * others and others < ALIKE * some


def _is_slow(seconds: float, typical: float) -> bool:
    """Return whether a call on new inputs took far longer than the timed calls. typical: their median, in seconds.

    A callable that caches its answers by input does so, and one that detects that nothing has to be done.
    """
    return seconds > SLOWER * typical + SLOWER_S


def _places() -> tuple[float, ...]:
    """Return positions in an array as shares of its length: 0, and random ones that no kernel can predict."""
    return (0.0, *(random.SystemRandom().random() for _ in range(SPOILT - 1)))


def _with_places(inputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the inputs that have elements along a first axis."""
    return [(name, array) for name, array in inputs.items() if getattr(array, "shape", ()) and len(array)]


def _fingerprints(answer: HostArrays) -> dict[str, np.ndarray]:
    return {name: _fingerprint(array) for name, array in answer.items()}


def _fingerprint(array: np.ndarray) -> np.ndarray:
    """Return a copy of elements that are spread over the whole array, as bytes."""
    flat = np.asarray(array).reshape(-1)
    return np.array(flat[:: max(1, flat.size // FINGERPRINT)]).view(np.uint8)


def _alike(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    """Return whether all fingerprints are equal, bit by bit."""
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def _is_integer(array: Any) -> bool:
    return "int" in str(getattr(array, "dtype", ""))


def _poison_value(array: Any) -> np.ndarray:
    """Return a value that is in no right answer: NaN or, for integers, -1."""
    return np.asarray(-1 if _is_integer(array) else math.nan)
