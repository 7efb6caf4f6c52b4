"""The device's clock on a simulated GPU, with an injected clock: which times are the device's, and what they cost.

Figures are those of today's GPUs and libraries: kernels of 1 us and more, launches of 5 to 20 us, a queue of 1024.
"""

import gc
import weakref

import pytest

from bench_core.backends.event_timer import LONGEST_SPIN, SHORT_FOR, EventTimer
from bench_core.timing.sampling import BLOCK, DeviceTimer, Durations, sample_series
from tests.support.fakes import FakeStream
from tests.support.watches import calm

MS, US = 1e-3, 1e-6


class Clocked:
    """A simulated GPU with its device clock; a backend as far as DeviceTimer needs one."""

    def __init__(self, *, spins=True):
        self.stream = FakeStream()
        self.clock = self.stream.clock
        spin = self.stream.spin if spins else lambda seconds: None
        self.device_time = EventTimer(self.stream.event, spin, self.stream.synchronize, self.clock).time

    def launches(self, kernel, host, count=1):
        """Return a call that launches `count` kernels, each `host` seconds for the host and `kernel` for the device."""

        def call():
            for _ in range(count):
                self.stream.launch(kernel, host)

        return call

    def waits(self, kernel, host):
        """Return a call that launches a kernel and waits for it, as `launch_synchronize` does, or a pageable copy."""

        def call():
            self.stream.launch(kernel, host)
            self.stream.synchronize()

        return call

    def blocks(self, call, calls, count):
        """Time a number of blocks; return the last one and the seconds of spin that each cost."""
        before = self.stream.spun
        for _ in range(count):
            last = self.device_time(call, calls)
        return last, (self.stream.spun - before) / count


# ---------------------------------------------------------------- times that are the device's


@pytest.mark.parametrize("kernel", [1 * US, 2 * US, 5 * US, 20 * US])
@pytest.mark.parametrize("host", [5 * US, 8 * US, 10 * US, 20 * US, 40 * US])
def test_a_kernel_shorter_than_its_launch_is_timed_exactly_once_the_queueing_is_learnt(kernel, host):
    """A 1 ms block of 1 us kernels behind launches of 40 us would take 40 ms to queue, and the queue is full before."""
    gpu = Clocked()
    series = sample_series("time", gpu.launches(kernel, host), DeviceTimer(gpu), Durations(), calm(), gpu.clock)
    assert series.flags == ()
    assert series.seconds == pytest.approx([kernel] * len(series.seconds), rel=1e-6)
    assert series.inner_loops * kernel >= BLOCK / 4 * 0.99


def test_calls_of_which_the_host_can_queue_but_one_behind_the_longest_spin_are_timed_singly():
    gpu = Clocked()
    series = sample_series("time", gpu.launches(150 * US, 14 * MS), DeviceTimer(gpu), Durations(), calm(), gpu.clock)
    assert (series.inner_loops, series.flags) == (1, ())
    assert series.seconds == pytest.approx([150 * US] * len(series.seconds))


def test_calls_that_keep_the_host_busy_and_do_nothing_on_the_device_have_no_unflagged_time():
    gpu = Clocked()
    series = sample_series("time", lambda: gpu.clock.pass_(10 * US), DeviceTimer(gpu), Durations(), calm(), gpu.clock)
    assert "launch_bound" in series.flags


@pytest.mark.parametrize(
    ("kernel", "host", "starved"),
    [
        *((kernel, host, True) for kernel in (2 * US, 3 * US, 4.5 * US) for host in (5 * US, 8 * US, 10 * US)),
        *((20 * US, host, False) for host in (5 * US, 8 * US, 10 * US)),
    ],
)
def test_without_a_spin_kernels_starve_exactly_where_they_are_shorter_than_their_launch(kernel, host, starved):
    gpu = Clocked(spins=False)
    took = gpu.device_time(gpu.launches(kernel, host), 333)
    assert took.starved is starved
    assert took.seconds == pytest.approx(333 * max(kernel, host), rel=0.02)


def test_a_slow_first_block_is_reported_and_the_next_one_is_right():
    gpu = Clocked()
    call = gpu.launches(10 * US, 100 * US)
    first, second = gpu.device_time(call, 50), gpu.device_time(call, 50)
    assert (first.starved, second.starved) == (True, False)
    assert second.seconds == pytest.approx(500 * US)


@pytest.mark.parametrize("calls", [1, 2, 50])
def test_kernels_longer_than_their_launch_never_starve_whatever_the_spin(calls):
    gpu = Clocked()
    call = gpu.launches(20 * US, 5 * US, 40)
    took = gpu.device_time(call, calls)
    assert not took.starved
    assert took.seconds == pytest.approx(calls * 40 * 20 * US)


@pytest.mark.parametrize("launches", [1100, 3000])
def test_a_full_queue_that_holds_the_host_is_no_starved_device(launches):
    gpu = Clocked()
    call = gpu.launches(20 * US, 8 * US, launches)
    for _ in range(20):
        took = gpu.device_time(call, 1)
        assert not took.starved
        assert took.seconds == pytest.approx(launches * 20 * US, rel=1e-3)


def test_a_call_that_just_overfills_the_queue_is_timed_right():
    """1100 kernels of 3 us: while the host queues the last 78, the device has the 3 ms that the queue holds."""
    gpu = Clocked()
    call = gpu.launches(3 * US, 8 * US, 1100)
    timed = [gpu.device_time(call, 1) for _ in range(20)]
    assert [t.starved for t in timed] == [True] + [False] * 19
    assert [t.seconds for t in timed[1:]] == pytest.approx([1100 * 3 * US] * 19)


def test_a_call_of_more_small_kernels_than_the_queue_holds_is_reported_as_starved():
    gpu = Clocked()
    call = gpu.launches(3 * US, 8 * US, 5000)
    assert all(gpu.device_time(call, 1).starved for _ in range(20))


@pytest.mark.parametrize("kernels", [1, 64])
def test_graphs_launched_as_one_are_timed_by_their_kernels(kernels):
    gpu = Clocked()
    graph = gpu.launches(2 * US * kernels, 10 * US)
    series = sample_series("time", graph, DeviceTimer(gpu), Durations(), calm(), gpu.clock)
    assert series.flags == ()
    assert series.seconds == pytest.approx([2 * US * kernels] * len(series.seconds))


def test_a_device_that_idles_between_small_kernels_and_ends_with_a_longer_one_is_found_out():
    """A training step that the host is too slow for, with an optimiser of 1 ms at its end; 25 ms outlast any spin."""
    gpu = Clocked()

    def step():
        for _ in range(2500):
            gpu.stream.launch(3 * US, 10 * US)
        gpu.stream.launch(1 * MS)

    for _ in range(5):
        took = gpu.device_time(step, 1)
        assert took.seconds > 1.4 * (2500 * 3 * US + 1 * MS)
        assert took.starved


def test_a_device_that_idles_while_the_host_prepares_its_one_long_kernel_is_found_out():
    """25 ms of the host outlast any spin, and 5 ms of work are left when all is queued."""
    gpu = Clocked()
    call = gpu.launches(5 * MS, 25 * MS)
    timed = [gpu.device_time(call, 1) for _ in range(20)]
    assert [t.starved for t in timed[2:]] == [True] * 18


def test_a_first_block_that_took_longer_by_chance_makes_no_starved_device():
    """It loaded modules for as long as the second spin lasts; a full queue holds the host from then on."""
    gpu, starved = Clocked(), []

    def call():
        if not starved:
            gpu.stream.launch(19.95 * MS)
        for _ in range(3000):
            gpu.stream.launch(20 * US, 8 * US)

    while len(starved) < 30:
        starved.append(gpu.device_time(call, 1).starved)
    assert starved[1], "as far as two blocks can tell"
    assert not any(starved[2:])


# ---------------------------------------------------------------- what the spin costs


@pytest.mark.parametrize(
    ("calls", "kernel", "host"),
    [
        (66, 2 * US, 12 * US),
        (1, 150 * US, 10 * US),
        (1, 1 * MS, 10 * US),
        (1, 10 * MS, 10 * US),
        (1, 100 * MS, 10 * US),
    ],
)
def test_calls_that_wait_for_the_device_cost_a_millisecond_of_spin_at_most_and_are_reported(calls, kernel, host):
    gpu = Clocked()
    call = gpu.waits(kernel, host)
    _, cost = gpu.blocks(call, calls, 3)
    assert cost < LONGEST_SPIN
    took, cost = gpu.blocks(call, calls, 200)
    assert took.starved
    assert cost < (1 * MS if kernel < 10 * MS else 2.5 * MS)
    assert cost < calls * (kernel + host + 10 * US)


def test_calls_that_queue_slowly_have_a_spin_that_outlasts_them():
    """9 ms of the host for 1 ms of the device, in one call and in many."""
    for calls in (1, 90):
        gpu = Clocked()
        call = gpu.launches(11 * US, 9 * MS / calls / 90 if calls == 1 else 100 * US, 90 if calls == 1 else 1)
        gpu.blocks(call, calls, 2)
        took, cost = gpu.blocks(call, calls, 50)
        assert not took.starved
        assert took.seconds == pytest.approx(990 * US)
        assert 9 * MS < cost < 14 * MS


def test_a_call_that_is_slow_to_queue_and_then_waits_has_a_short_spin():
    gpu = Clocked()

    def call():
        for _ in range(500):
            gpu.stream.launch(2 * US, 10 * US)
        gpu.stream.synchronize()

    took, cost = gpu.blocks(call, 1, 400)
    assert took.starved
    assert cost < 1.5 * MS


def test_a_call_that_was_interrupted_once_is_not_taken_for_one_that_waits_for_long():
    """The second block is held up for as long as its spin lasts, which looks like waiting."""
    gpu, starved = Clocked(), []

    def call():
        gpu.clock.pass_(20 * MS if len(starved) == 1 else 0.0)
        for _ in range(300):
            gpu.stream.launch(3 * US, 10 * US)

    while len(starved) < 40:
        starved.append(gpu.device_time(call, 1).starved)
    assert starved[1]
    assert not any(starved[SHORT_FOR + 4 :])


def test_a_call_after_one_that_waits_is_learnt_anew_and_does_not_starve():
    """The launch that waits comes right before others in the suite: what it taught must not starve them."""
    gpu = Clocked()
    gpu.blocks(gpu.waits(2 * US, 8 * US), 66, 50)
    fast = gpu.launches(3 * US, 8 * US)
    assert not gpu.device_time(fast, 333).starved
    assert gpu.device_time(fast, 333).seconds == pytest.approx(999 * US)


def test_the_clock_does_not_keep_a_call_and_its_arrays_alive():
    class Arrays: ...

    gpu, arrays = Clocked(), Arrays()
    gone = weakref.ref(arrays)
    call = lambda arrays=arrays: gpu.stream.launch(3 * US)  # noqa: E731 - it has to own the arrays
    gpu.device_time(call, 5)
    del call, arrays
    gc.collect()
    assert gone() is None


def test_an_object_without_weak_references_can_be_timed():
    gpu = Clocked()

    class Slotted:
        __slots__ = ()

        def __call__(self):
            gpu.stream.launch(3 * US)

    call = Slotted()
    assert [gpu.device_time(call, 100).seconds for _ in range(3)] == pytest.approx([300 * US] * 3)
