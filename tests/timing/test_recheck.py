"""The second look, part by part, on NumPy; tests/faulty/test_cheats.py shows what it catches in real runs."""

import functools
from dataclasses import replace
from itertools import takewhile
from time import perf_counter
from typing import ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.backends.base import Timed
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import CaseError, WrongAnswer
from bench_core.records import Cache, Case, Clock, Costs, Part, Series, Status
from bench_core.timing import recheck
from bench_core.timing.case import Settings, run_case
from bench_core.timing.recheck import Checks, Rechecked, generator
from bench_core.timing.sampling import Durations
from bench_core.workload import Kernel, Kernels
from tests.support.fakes import AsyncBackend, FakeClock
from tests.support.workloads import Double, doubling

NUMPY = NumpyBackend("cpu")
SETTINGS = Settings(Durations(budget=0.02, least=0.01, warmup=0.01, warmup_cap=0.05), seed=3, last_level_cache=1 << 16)


class Doubling(Double):
    """2 x by a kernel that the test makes of a backend and the inputs."""

    kernels: ClassVar[Kernels] = {"array": {"default": None}}

    def __init__(self, make=doubling):
        self.make = make

    def build(self, backend, case, host):
        return self.make(backend, host)


def case_of(workload, backend=NUMPY, **special):
    return Case(workload.work("1024", "float64", **special), backend.name, backend.device)


def run(workload, backend=NUMPY, settings=SETTINGS, **special):
    return run_case(case_of(workload, backend, **special), workload, backend, settings)


def checks_of(workload):
    """Return the checks of a workload's case, its kernel, and the inputs that it was built with."""
    case = case_of(workload)
    data = workload.inputs(case.work, generator(case.work.case_id, 3))
    return Checks(case, workload, NUMPY, 3, data), workload.build(NUMPY, case, data), data


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only in calls, for tests that count them: looks that took too long are made again."""
    fake = FakeClock()
    monkeypatch.setattr(recheck, "perf_counter", fake)
    for name in ("unfinished", "hidden_work"):
        monkeypatch.setattr(recheck, name, functools.partial(getattr(recheck, name), now=fake))
    return fake


def test_draws_of_a_case_differ_and_the_first_is_that_of_the_timing():
    numbers = [generator("c_00ff", 1, draw).standard_normal(4).tolist() for draw in (0, 1, 2)]
    assert len(set(map(tuple, numbers))) == 3
    assert generator("c_00ff", 1).standard_normal(4).tolist() == numbers[0]


def test_the_timed_callable_sees_other_numbers_at_the_same_address():
    seen = []

    def make(backend, host):
        kernel = doubling(backend, host)
        x = kernel.inputs["x"]
        return replace(kernel, run=lambda: (seen.append((x.ctypes.data, x.copy())), kernel.run())[1])

    checks, kernel, data = checks_of(Doubling(make))
    assert checks.after([kernel], ()) == Rechecked(0.0)
    addresses, numbers = zip(*seen, strict=True)
    assert len(set(addresses)) == 1
    assert np.array_equal(numbers[0], data["x"])
    assert not np.isin(numbers[-1], data["x"]).any()
    assert np.array_equal(numbers[-1], numbers[-2]), "two looks in a row are at the same numbers"


def test_outputs_are_full_of_rubbish_before_a_look():
    """What is not written stays wrong: here every call but the first writes all elements but one."""
    calls = []

    def make(backend, host):
        kernel = doubling(backend, host)
        x, out = kernel.inputs["x"], np.empty(1024)

        def partly():
            calls.append(1)
            first = 0 if len(calls) == 1 else 1
            np.multiply(x[first:], 2, out=out[first:])
            return out

        return replace(kernel, run=partly)

    done = run(Doubling(make))
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_second_look")
    assert done.reason == ("right in the first check, wrong in the second: 1 of 1024 elements of 'out' are not finite")


def test_an_answer_that_is_computed_when_it_is_asked_for_is_wrong():
    def make(backend, host):
        kernel = doubling(backend, host)
        return replace(kernel, outputs=lambda _: {"out": kernel.inputs["x"] * 2})

    assert run(Doubling(make)).reason_code == "wrong_second_look"


def test_an_answer_that_changes_while_it_is_verified_was_not_done():
    def make(backend, host):
        kernel = doubling(backend, host)
        asked = []

        def outputs(result):
            asked.append(1)
            return {"out": result + (len(asked) % 2) * 1e-12}

        return replace(kernel, outputs=outputs)

    class Lenient(Doubling):
        def tolerance(self, work):
            return check.Tolerance(1e-6)

    done = run(Lenient(make))
    assert done.reason_code == "not_synchronised"
    assert done.reason == "the outputs changed after numpy reported all work complete"


def test_a_look_that_old_outputs_would_pass_is_an_error_of_the_check():
    class Blind(Doubling):
        def error(self, work, expected, answer):
            return 0.0

    done = run(Blind())
    assert (done.status, done.reason_code) == (Status.ERROR, "blind_recheck")
    assert "right for 3 other inputs" in done.reason


def test_outputs_that_are_right_by_chance_have_another_draw():
    """A walk may end where the last one did: the next draw tells."""

    class Parity(Doubling):
        draws: ClassVar[list[int]] = []

        def inputs(self, work, rng):
            self.draws.append(1)
            return {"x": np.full(1024, 1.0 if len(self.draws) < 3 else 2.0)}

    done = run(Parity())
    assert (done.status, len(Parity.draws)) == (Status.OK, 3)


def test_a_workload_without_inputs_is_looked_at_by_poison_alone():
    class Fill(Doubling):
        def inputs(self, work, rng):
            return {}

        def error(self, work, expected, answer):
            return check.relative_error(answer["out"], np.full(16, 3.0))

    def fill(backend, host):
        out = np.empty(16)
        return Kernel(lambda: out.fill(3.0), outputs=lambda _: {"out": out})

    def once(backend, host):
        out = np.full(16, 3.0)
        return Kernel(lambda: None, outputs=lambda _: {"out": out})

    assert (run(Fill(fill)).status, run(Fill(fill)).flags) == (Status.OK, ())
    assert run(Fill(once)).reason_code == "wrong_second_look"


@pytest.mark.usefixtures("clock")
def test_a_walk_is_looked_at_from_its_start():
    """`restart` comes before each look, and `calls` calls after it, of which the last one's outputs count."""
    log = []

    def make(backend, host):
        x, state = backend.from_host(host["x"]), {"sum": 0.0}

        def restart():
            log.append("restart")
            state["sum"] = np.zeros(1024)

        def step():
            log.append("step")
            state["sum"] = state["sum"] + x
            return state["sum"]

        restart()
        return Kernel(step, inputs={"x": x}, restart=restart, calls=2)

    checks, kernel, _ = checks_of(Doubling(make))
    checks.begin(kernel)
    checks.before(kernel, kernel.run())
    log.clear()
    checks.after([kernel], ())
    assert log == ["step", "restart", "restart", "step", "step"]  # the first shows that it does not do the work


def test_probes_are_held_to_the_same():
    def make(backend, host):
        kernel, other = doubling(backend, host), doubling(backend, host)
        stale = other.run().copy()
        cheat = replace(other, run=lambda: stale * 1)
        return replace(kernel, probes={"time_to_first_token": cheat})

    assert run(Doubling(make)).reason_code == "wrong_second_look"


def test_one_of_the_buffer_sets_is_looked_at():
    def make(backend, host):
        kernels.append(doubling(backend, host))
        return kernels[-1]

    kernels = []
    assert run(Doubling(make), cache=Cache.COLD).status is Status.OK
    changed = [k for k in kernels if not np.array_equal(k.inputs["x"][1:], kernels[0].inputs["x"][1:])]
    assert len(kernels) > 2
    assert len(changed) in {1, len(kernels) - 1}  # the first may be the one


@pytest.mark.parametrize("check_only", [True, False])
def test_answers_are_looked_at_twice_whether_or_not_they_are_timed(check_only):
    class Once(Doubling):
        def build(self, backend, case, host):
            kernel = doubling(backend, host)
            kept = kernel.run().copy()
            return replace(kernel, run=lambda: kept * 1)

    assert run(Once(), settings=replace(SETTINGS, check_only=check_only)).reason_code == "wrong_second_look"


def test_the_largest_error_of_both_checks_is_told():
    class Rounded(Doubling):
        def tolerance(self, work):
            return check.Tolerance(1e-3)

    def make(backend, host):
        kernel = doubling(backend, host)
        calls = []
        return replace(kernel, run=lambda: (calls.append(1), kernel.run() * (1 + 1e-4 * (len(calls) > 1)))[1])

    done = run(Rounded(make))
    assert (done.status, done.rel_error) == (Status.OK, pytest.approx(1e-4))
    assert 0 < done.spent[Part.SECOND_LOOK] < done.elapsed_s


def test_work_that_does_nothing_must_say_so_and_cost_nothing():
    class Idle(Doubling):
        idle = True

        def costs(self, work):
            return Costs()

    class Priced(Idle):
        def costs(self, work):
            return Costs(flops=1.0)

    nothing = lambda backend, host: Kernel([].clear)  # noqa: E731
    assert (run(Idle(nothing)).status, run(Idle(nothing)).rel_error) == (Status.OK, None)
    assert run(Priced(nothing)).reason_code == "idle_with_costs"
    assert run(Doubling(nothing)).status is not Status.OK


def test_a_name_that_is_no_input_is_told():
    def make(backend, host):
        kernel = doubling(backend, host)
        kernel.inputs["z"] = kernel.inputs["x"]
        return kernel

    done = run(Doubling(make))
    assert (done.status, done.reason_code) == (Status.ERROR, "unknown_input")
    assert "'z' is an input of the kernel" in done.reason


@pytest.mark.filterwarnings("ignore:Kernel")
@pytest.mark.parametrize(
    "make",
    [
        lambda b, h: Kernel(doubling(b, h).run, lambda: {"out": h["x"] * 2}),
        lambda b, h: Kernel(doubling(b, h).run),
        lambda b, h: doubling(b, h, probes={"time_to_first_token": lambda: None}),
    ],
    ids=["an answer of its own", "no inputs", "a bare probe"],
)
def test_a_kernel_of_the_last_release_is_measured_and_flagged(make):
    done = run(Doubling(make))
    assert (done.status, done.flags) == (Status.OK, ("unchecked_timing",))


def test_an_answer_of_its_own_is_warned_of():
    with pytest.warns(DeprecationWarning, match="give inputs and outputs"):
        Kernel(list, dict)


def test_work_that_the_device_s_clock_does_not_see_is_invalid():
    class Other(AsyncBackend):
        def device_time(self, call, calls):
            super().device_time(call, calls)
            return Timed(calls * 3e-6)

    def make(backend, host):
        kernel = doubling(backend, host)
        return replace(kernel, run=lambda: (backend.launch(), kernel.run())[1])

    done = run(Doubling(make), Other())
    assert (done.status, done.reason_code) == (Status.INVALID, "hidden_work")
    honest = AsyncBackend(work=10e-3)  # so long that no busy machine wakes up half of it late three times in a row
    assert run(Doubling(make), honest).status is Status.OK


@pytest.mark.parametrize(("seconds", "flagged"), [(0.010, True), (0.0051, True), (0.0049, False), (0.0001, False)])
def test_a_call_that_is_slow_on_new_numbers_is_flagged(seconds, flagged):
    assert recheck._is_slow(seconds, typical=0.002) is flagged


def test_a_call_that_skips_what_is_there_already_is_flagged():
    """It works when it is looked at, both times, and never when it is timed."""

    def make(backend, host):
        kernel = doubling(backend, host)
        x, out = kernel.inputs["x"], kernel.run()

        def run():
            if out[0] != 2 * x[0]:
                sum(range(500_000))  # some milliseconds
                np.multiply(x, 2, out=out)
            return out

        return replace(kernel, run=run)

    done = run(Doubling(make))
    assert (done.status, "slow_on_new_input" in done.flags) == (Status.OK, True)


def test_a_restart_that_does_the_work_is_wrong():
    def make(backend, host):
        kernel = doubling(backend, host)
        out = kernel.run()
        return replace(kernel, run=lambda: out, restart=kernel.run)

    done = run(Doubling(make))
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_second_look")
    assert "before the timed call is made" in done.reason


def test_a_fill_whose_outputs_cannot_be_poisoned_is_an_error():
    class Fill(Doubling):
        def inputs(self, work, rng):
            return {}

        def error(self, work, expected, answer):
            return check.relative_error(answer["out"], np.full(16, 3.0))

    out = np.full(16, 3.0)
    done = run(Fill(lambda b, h: Kernel(lambda: None, outputs=lambda _: {"out": out.copy()})))
    assert (done.status, done.reason_code) == (Status.ERROR, "blind_recheck")


def test_an_answer_of_which_all_but_the_beginning_comes_late_is_wrong():
    def make(backend, host):
        kernel = doubling(backend, host)
        x = kernel.inputs["x"]

        def run():
            first = x[:1] * 2
            return lambda: np.concatenate([first, x[1:] * 2])

        return replace(kernel, run=run, outputs=lambda promise: {"out": promise()})

    assert run(Doubling(make)).reason_code in {"wrong_second_look", "not_synchronised"}


def test_a_number_of_python_s_is_an_output_like_any_other():
    class Total(Doubling):
        def error(self, work, expected, answer):
            return check.relative_error(answer["out"], np.asarray(expected["x"].sum()))

    def make(backend, host):
        x = backend.from_host(host["x"])
        return Kernel(lambda: float(x.sum()), inputs={"x": x})

    assert (run(Total(make)).status, run(Total(make)).flags) == (Status.OK, ())


def test_a_memory_of_all_inputs_shows_by_the_time_of_the_first_call():
    """It gives right answers to every look: only its first call on new numbers takes as long as the work does."""
    known = {}

    def make(backend, host):
        kernel = doubling(backend, host)

        def run():
            key = kernel.inputs["x"].tobytes()
            if key not in known:
                known[key] = sum(range(500_000)) * 0 + kernel.run()  # some milliseconds
            return known[key].copy()

        return replace(kernel, run=run)

    done = run(Doubling(make))
    assert (done.status, "slow_on_new_input" in done.flags) == (Status.OK, True)


def test_long_blocks_prove_as_many_calls_as_they_have_and_short_calls_a_millisecond_of_them():
    def calls(seconds, loops=1):
        return recheck._calls(Series("time", Clock.WALL, (seconds,), loops))

    assert (calls(0.5), calls(1e-5, 100), calls(1e-5), calls(1e-9)) == (1, 100, 100, 1000)


def test_what_is_raised_in_a_look_is_what_is_told():
    def make(backend, host):
        kernel = doubling(backend, host)
        calls = []

        def run():
            calls.append(1)
            if len(calls) > 2:
                raise CaseError("odd", "it fell over")
            return kernel.run()

        return replace(kernel, run=run)

    done = run(Doubling(make), settings=replace(SETTINGS, check_only=True))
    assert (done.status, done.reason_code, done.reason) == (Status.ERROR, "odd", "it fell over")


def test_the_first_look_refuses_a_wrong_answer_before_anything_is_timed():
    checks, kernel, _ = checks_of(Doubling())
    with pytest.raises(WrongAnswer, match="above the tolerance"):
        checks.before(kernel, kernel.run() * 1.001)


@pytest.mark.usefixtures("clock")
def test_the_first_call_is_a_part_of_the_first_check():
    """Work that takes long is not done once more only to be checked."""
    calls = []

    def make(backend, host):
        kernel = doubling(backend, host)
        return replace(kernel, run=lambda: (calls.append(1), kernel.run())[1])

    only = replace(SETTINGS, check_only=True)
    assert run(Doubling(make), settings=only).status is Status.OK
    assert len(calls) == 1 + 2  # and two looks


def test_a_long_call_is_looked_at_once(clock):
    calls = []

    def make(backend, host):
        kernel = doubling(backend, host)
        return replace(kernel, run=lambda: (calls.append(1), clock.pass_(2 * recheck.LONG), kernel.run())[-1])

    assert run(Doubling(make), settings=replace(SETTINGS, check_only=True)).status is Status.OK
    assert len(calls) == 1 + 1


def test_long_calls_are_looked_at_once_where_they_take_as_long_as_the_call_before(monkeypatch, clock):
    looks = []
    again = Checks._called_anew
    monkeypatch.setattr(Checks, "_called_anew", lambda self, *args: looks.append(1) or again(self, *args))

    def looked(*seconds):
        """The first of these is that of the proof that all was done; the looks are the next."""
        looks.clear()
        left = list(seconds)

        def make(backend, host):
            kernel = doubling(backend, host)
            return replace(kernel, run=lambda: (clock.pass_(left.pop(0)), kernel.run())[1])

        checks, kernel, _ = checks_of(Doubling(make))
        checks.after([kernel], (Series("time", Clock.WALL, (1.0,), 1),))
        return len(looks)

    assert (looked(0.05, 0.05), looked(0.0, 0.05, 0.0), looked(0.09, 0.05, 0.0)) == (1, 2, 2)
    assert looked(0.002, 0.002, 0.002) == 2


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ({}, 1),
        ({"seconds": (0.03, 0.05)}, 3),  # only every second call may work
        ({"loops": 2}, 3),
        ({"result": "new"}, 2),
        ({"result": "another"}, 3),  # a look, then all of it from the start
    ],
    ids=["long", "unlike the one before", "two in a block", "new arrays", "another buffer"],
)
def test_no_call_is_made_on_the_old_inputs_where_all_is_known_of_the_last_that_was_timed(changed, calls, clock):
    how = {"seconds": (0.05, 0.05), "loops": 1, "result": "kept"} | changed
    made = []

    def make(backend, host):
        kernel = doubling(backend, host)
        first, later = kernel.run(), kernel.run().copy()

        def run():
            made.append(1)
            clock.pass_(how["seconds"][len(made) % 2])
            out = later if how["result"] == "another" and started else first
            np.copyto(out, kernel.run())
            return out.copy() if how["result"] == "new" else out

        return replace(kernel, run=run)

    started = []
    checks, kernel, _ = checks_of(Doubling(make))
    checks.begin(kernel)
    checks.before(kernel, kernel.run())
    made.clear()
    started.append(1)
    checks.after([kernel], (Series("time", Clock.WALL, how["seconds"], how["loops"]),))
    assert len(made) == calls


def spin(seconds):
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def deferred(backend, host):
    """Keeps its inputs, and computes whenever it is asked for the answer."""
    kernel = doubling(backend, host)
    x = kernel.inputs["x"]
    return replace(kernel, run=x.copy, outputs=lambda kept: (spin(0.04), {"out": kept * 2})[1])


def lazy_from_the_second_call_on(backend, host):
    """Computes at once when it is called first, and later when its answer is read."""
    kernel = doubling(backend, host)
    x, calls = kernel.inputs["x"], []

    class Promise:
        out = kept = None

    first = Promise()

    def run():
        calls.append(1)
        spin(0.05)
        first.kept, first.out = x.copy(), x * 2 if len(calls) == 1 else None
        return first

    def outputs(promise):
        if promise.out is None:
            spin(0.06)
            promise.out = promise.kept * 2
        return {"out": promise.out}

    return replace(kernel, run=run, outputs=outputs)


@pytest.mark.parametrize("make", [deferred, lazy_from_the_second_call_on])
def test_work_that_is_done_when_the_answer_is_asked_for_is_found(make):
    long = replace(SETTINGS, durations=Durations(budget=0.2, least=0.1, warmup=0.05, warmup_cap=0.1))
    assert run(Doubling(make), settings=long).reason_code == "not_synchronised"


def test_a_backend_that_waits_only_at_first_is_found():
    class Later(AsyncBackend):
        def synchronize(self):
            if calls[1:]:
                return
            super().synchronize()

        def to_host(self, array):
            AsyncBackend.synchronize(self)
            return super().to_host(array)

    calls = []
    backend = Later(work=0.2)

    def make(_, host):
        kernel = doubling(NUMPY, host)

        def call():
            calls.append(1)
            backend.launch()
            spin(0.04)
            return kernel.run()

        return replace(kernel, run=call)

    long = replace(SETTINGS, durations=Durations(budget=0.2, least=0.1, warmup=0.05, warmup_cap=0.1))
    assert run(Doubling(make), backend, settings=long).reason_code == "not_synchronised"


def test_a_call_that_takes_as_long_and_writes_every_second_time_only_is_wrong():
    """Calls of 60 and of 35 ms: no block is like the one before."""
    calls = []

    def make(backend, host):
        kernel = doubling(backend, host)
        out = kernel.run().copy()

        def run():
            calls.append(1)
            spin(0.06 if len(calls) % 2 else 0.035)
            return np.copyto(out, kernel.run()) or out if len(calls) % 2 else out

        return replace(kernel, run=run)

    long = replace(SETTINGS, durations=Durations(budget=0.3, least=0.1, warmup=0.01, warmup_cap=0.1))
    assert run(Doubling(make), settings=long).reason_code == "wrong_second_look"


def by_its_first_number(x):
    return x[:1].tobytes()


def by_all_of_it(x):
    return x.tobytes()


@pytest.mark.parametrize("key", [by_its_first_number, by_all_of_it])
@pytest.mark.parametrize("shape", [(1024,), (1, 1024)])
def test_a_memory_of_inputs_by_whatever_key_is_slow_on_every_draw(key, shape):
    known = {}

    def make(backend, host):
        kernel = doubling(backend, host)
        x = kernel.inputs["x"].reshape(shape)

        def run():
            if key(x) not in known:
                spin(0.01)
                known[key(x)] = x * 2
            return known[key(x)].reshape(-1).copy()

        return replace(kernel, run=run)

    done = run(Doubling(make))
    assert (done.status, "slow_on_new_input" in done.flags) == (Status.OK, True)


@pytest.mark.parametrize(("later", "flags"), [(0.0, ()), (0.02, ("slow_on_new_input",))])
def test_a_look_is_slow_if_further_calls_on_new_numbers_are(later, flags, clock):
    """The machine may have been busy for one: a memory of all inputs is slow on every number that it has not met."""
    seconds = [0.0, 0.02, *[later] * 3]  # the proof that all was done, the look; another look, two calls on more draws

    def make(backend, host):
        kernel = doubling(backend, host)
        return replace(kernel, run=lambda: (clock.pass_(seconds.pop(0)), kernel.run())[1])

    checks, kernel, _ = checks_of(Doubling(make))
    assert checks.after([kernel], (Series("time", Clock.WALL, (0.002,) * 9, 1),)).flags == flags


def test_a_batch_is_the_sample_s_while_it_is_checked_and_its_own_while_it_is_timed():
    class Sampled(Doubling):
        def sample(self, work, host, rng):
            return {"x": np.resize(host["x"][:2], 1024)}

    kinds = []

    def make(backend, host):
        kernel = doubling(backend, host)
        x = kernel.inputs["x"]
        return replace(kernel, run=lambda: (kinds.append(len(np.unique(x))), kernel.run())[1])

    assert run(Sampled(make)).status is Status.OK
    looks = [*takewhile(lambda count: count == 2, reversed(kinds))]  # two, and more if one took too long
    assert kinds[0] == 2
    assert len(looks) >= 2
    assert set(kinds[1 : -len(looks)]) == {1024}
