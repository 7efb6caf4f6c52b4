"""Stand-ins for what a test must control: clocks and a device that finishes its work late."""

from collections import deque
from time import perf_counter, sleep

import numpy as np

from bench_core.backends.base import Memory, Timed
from bench_core.records import Fact


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def pass_(self, seconds):
        self.seconds += seconds


class FakeDevice:
    """A device on a fake clock: queueing a call takes `launch` seconds, doing it takes `work` seconds, later."""

    def __init__(self, work, launch=1e-6, clock=None):
        self.clock = clock or FakeClock()
        self.work, self.launch = work, launch
        self.busy_until = 0.0
        self.calls = 0

    def run(self):
        self.clock.pass_(self.launch)
        self.busy_until = max(self.clock(), self.busy_until) + self.next_work()
        self.calls += 1
        return np.ones(1)

    def next_work(self):
        return self.work(self.calls) if callable(self.work) else self.work

    def synchronize(self):
        self.clock.seconds = max(self.clock(), self.busy_until)

    def to_host(self, array):
        self.synchronize()
        return array


class FakeFutures:
    """A device on a fake clock whose results are futures: a call is worked on when its result is waited for."""

    def __init__(self, work, launch=1e-6):
        self.clock, self.work, self.launch = FakeClock(), work, launch
        self.said = []

    def run(self):
        self.clock.pass_(self.launch)
        self.said.append("run")
        return self

    def wait_for(self, result):
        assert result is self
        self.clock.pass_(self.work)
        self.said.append("wait")

    def synchronize(self):
        """Nothing that was not asked for is queued."""
        self.said.append("synchronize")


class FakeStream:
    """A GPU's stream on a fake clock: launches are queued, begin in order when they have arrived, and run late.

    queue: entries that it holds; with so many outstanding a launch waits. arrival: seconds from the end of a launch on
    the host to the earliest beginning on the device. spun: seconds of all spins so far.
    """

    EVENT = 1e-6  # seconds of the host to record an event

    def __init__(self, queue=1024, arrival=3e-6):
        self.clock, self.arrival, self.spun = FakeClock(), arrival, 0.0
        self._busy_until, self._ends = 0.0, deque(maxlen=queue)

    def launch(self, kernel, host=8e-6):
        """Queue `kernel` seconds of the device, which takes `host` seconds."""
        self.clock.pass_(host)
        return self._enqueue(kernel)

    def spin(self, seconds):
        self.spun += seconds
        self.launch(seconds)

    def synchronize(self):
        self.wait_until(self._busy_until)

    def wait_until(self, seconds):
        self.clock.seconds = max(self.clock(), seconds)

    def event(self):
        return FakeEvent(self)

    def _enqueue(self, seconds):
        if len(self._ends) == self._ends.maxlen:
            self.wait_until(self._ends[0])
        self._busy_until = max(self.clock() + self.arrival, self._busy_until) + seconds
        self._ends.append(self._busy_until)
        return self._busy_until


class FakeEvent:
    """An event of a FakeStream."""

    def __init__(self, stream):
        self._stream, self.at = stream, None

    def record(self):
        self.at = self._stream.launch(0.0, FakeStream.EVENT)

    def query(self):
        return self.at <= self._stream.clock()

    def synchronize(self):
        self._stream.wait_until(self.at)

    def elapsed_time(self, end):
        return (end.at - self.at) * 1e3


class LateArray(np.ndarray):
    """An array whose products take a millisecond, so that a busy machine cannot hide that they come late."""

    def __matmul__(self, other):
        self.backend.launch(1e-3)
        return np.ones(4)


class AsyncBackend:
    """A real-time asynchronous device: every call is finished `work` seconds after the one before it."""

    name, dialect, devices_expected = "late", "array", ("late",)
    version, device_name, library, device_uuid = "1", "Late Device", "late", None
    has_device_clock = True
    xp = np

    def __init__(self, device="late:0", work=2e-3):
        self.device, self.threads, self._work, self._busy_until = device, None, work, 0.0

    def launch(self, work=None):
        self._busy_until = max(perf_counter(), self._busy_until) + (work or self._work)

    def synchronize(self):
        sleep(max(0.0, self._busy_until - perf_counter()))

    def device_time(self, call, calls):
        for _ in range(calls):
            call()
        self.synchronize()
        return Timed(calls * self._work)

    def from_host(self, array, dtype=None):
        late = np.array(array).view(LateArray)
        late.backend = self
        return late

    def overwrite(self, target, values):
        np.copyto(target, values)

    def to_host(self, array):
        AsyncBackend.synchronize(self)  # a copy has to wait, whatever synchronize() was made of
        return array

    def memory(self):
        return Memory(free=1 << 30, used=200, peak=1000)

    def reset_peak_memory(self): ...

    def free(self): ...

    def why_unsupported(self, dtype, precision):
        return None if dtype == "float64" else f"the late device has no {dtype}"

    def set_precision(self, precision): ...

    def set_threads(self, threads): ...

    def facts(self):
        return {"late": Fact(1, "fakes")}

    def is_out_of_memory(self, error):
        return isinstance(error, MemoryError)


class ForgetfulBackend(AsyncBackend):
    """The error of the field: synchronize() that does not."""

    def synchronize(self): ...
