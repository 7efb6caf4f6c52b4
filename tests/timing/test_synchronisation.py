"""A backend that says that its device is done before it is cannot hide it, nor can work that its clock does not see."""

import pytest

from bench_core.errors import CaseError
from bench_core.timing.synchronisation import hidden_work, unfinished
from tests.support.fakes import FakeDevice, FakeFutures, FakeStream


class Forgetful(FakeDevice):
    name = "forgetful"

    def synchronize(self): ...

    def to_host(self, array):
        FakeDevice.synchronize(self)
        return array


def test_a_backend_that_does_not_wait_is_caught_by_its_first_copy_to_the_host():
    honest, forgetful = FakeDevice(work=1e-3), Forgetful(work=1e-3)
    assert unfinished(honest.run, 10, honest, now=honest.clock).left is None
    assert unfinished(forgetful.run, 10, forgetful, now=forgetful.clock).left == pytest.approx(0.01, rel=1e-2)


class Disturbed(FakeDevice):
    """Waits for all work; the first copy of each of some tries is disturbed."""

    def __init__(self, work, disturbed):
        super().__init__(work=work)
        self.copies, self.disturbed = 0, disturbed

    def to_host(self, array):
        if self.copies % 2 == 0 and self.copies // 2 < self.disturbed:
            self.clock.pass_(self.work)
        self.copies += 1


@pytest.mark.parametrize(
    ("work", "disturbed", "tries"), [(3e-4, 0, 1), (3e-4, 9, 10), (3e-4, 99, 10), (0.05, 2, 3), (0.05, 99, 3)]
)
def test_a_busy_machine_may_disturb_nine_tries_of_a_short_call_and_two_of_a_long_one(work, disturbed, tries):
    device = Disturbed(work, disturbed)
    done = unfinished(device.run, 1, device, now=device.clock)
    assert (done.left is None) == (disturbed < 99)
    assert device.copies == 2 * tries


def test_the_seconds_of_a_call_are_those_until_all_was_done():
    device = FakeDevice(work=1e-3)
    assert unfinished(device.run, 10, device, now=device.clock).seconds == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(("arrays", "left"), [(100, None), (1, 200e-6)])
def test_naming_a_hundred_arrays_may_take_longer_than_computing_them(arrays, left):
    """As those of a captured step of training do on an H100. One array that takes so long is computed then."""
    device = FakeDevice(work=60e-6)

    def outputs(result):
        device.clock.pass_(200e-6)
        return dict.fromkeys(range(arrays), result)

    done = unfinished(device.run, 1, device, outputs, device.clock)
    assert done.left == (left and pytest.approx(left))


class Compiling(FakeFutures):
    """Futures; to cut a piece out of an output is compiled at first, which takes a second, and then disturbed."""

    def __init__(self, work, disturbed):
        super().__init__(work=work)
        self.compilations, self.copies, self.disturbed = 0, 0, disturbed

    def to_host(self, array):
        first_of_two = self.copies % 2 == 0
        if not self.copies:
            self.compilations += 1
            self.clock.pass_(1.0)
        elif first_of_two and self.copies // 2 <= self.disturbed:
            self.clock.pass_(2 * self.work)
        self.copies += 1


@pytest.mark.parametrize(
    ("work", "disturbed", "tries"), [(1e-3, 0, 2), (1e-3, 9, 11), (1e-3, 99, 11), (0.03, 4, 6), (0.03, 99, 6)]
)
def test_futures_are_not_accused_of_what_compiling_and_noise_did(work, disturbed, tries):
    """Nine tries may be disturbed after one that compiled, a tenth shows a fault; of long calls a fifth does."""
    device = Compiling(work, disturbed)
    done = unfinished(device.run, 1, device, now=device.clock)
    assert (done.left is None) == (disturbed < 99)
    assert device.copies == 2 * tries


def test_a_kernel_without_outputs_is_an_error():
    device = FakeDevice(work=1e-3)
    with pytest.raises(CaseError, match="names no outputs"):
        unfinished(device.run, 1, device, lambda made: {}, device.clock)


def test_what_is_copied_is_what_the_result_stands_for():
    """A call may return nothing, and write to a buffer."""
    device, buffer, copied = FakeDevice(work=1e-3), object(), []
    device.to_host = copied.append
    done = unfinished(lambda: device.run() is None, 3, device, lambda made: {"out": buffer}, device.clock)
    assert (done.result, done.left) == (False, None)
    assert copied == [buffer] * 2


class Streams:
    """Two streams of one device on one clock; `synchronize` waits for both, an event is of the first alone."""

    def __init__(self):
        self.first, self.second = FakeStream(), FakeStream()
        self.clock = self.second.clock = self.first.clock

    def synchronize(self):
        self.first.synchronize()
        self.second.synchronize()


@pytest.mark.parametrize("work", [20e-6, 1e-3])
def test_work_of_another_stream_is_what_the_host_waits_for_and_the_clock_does_not_see(work):
    device = Streams()
    assert hidden_work(lambda: device.first.launch(work), 100, device, work, device.clock) is None
    hidden = hidden_work(lambda: device.second.launch(work), 100, device, 2e-8, device.clock)
    assert hidden == pytest.approx(work - 8e-6, rel=0.1)  # but what is done while the next is launched


def test_calls_that_wait_for_the_host_hide_nothing():
    """A device that is done long before the next launch leaves nothing to wait for, whatever its clock has seen."""
    device = Streams()
    assert hidden_work(lambda: device.first.launch(1e-6, host=50e-6), 100, device, 1e-6, device.clock) is None
    assert hidden_work(lambda: device.clock.pass_(1e-3), 10, device, 0.0, device.clock) is None


@pytest.mark.parametrize(("seconds", "disturbed", "hidden"), [(1e-3, 9, False), (1e-3, 10, True), (0.05, 3, True)])
def test_a_wait_that_was_disturbed_is_tried_again(seconds, disturbed, hidden):
    """The host waits long in some tries though the device has done nothing; a short try is made ten times."""
    device = Streams()
    waits = iter([0.0, seconds] * disturbed + [0.0] * 99)
    device.synchronize = lambda: device.clock.pass_(next(waits))
    assert (hidden_work(lambda: None, 1, device, 1e-6, device.clock) is not None) == hidden
