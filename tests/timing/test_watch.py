"""What is told of disturbances: exact readings of counters of the test's own, and that the real ones can be read."""

import os
import sys

import pytest

from bench_core.machine import kernel_files
from bench_core.machine.nvml import GpuState
from bench_core.timing import watch
from bench_core.timing.watch import Gpu, RunDelay, Steal, Switches, Waits, Watch, wait_for_quiet, witnesses
from tests.support.fakes import FakeClock
from tests.support.watches import Counter

MS = 1_000_000  # nanoseconds


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(watch.allotment, "usable_cores", lambda: 2)
    monkeypatch.setattr(watch.allotment, "logical_cpus", lambda: 2)


def judged(before, after, seconds=0.1, cpu=0.0):
    return RunDelay().judge(Waits(before, 0.0), Waits(after, cpu), seconds)


@pytest.mark.parametrize(("delay", "found"), [(1 * MS, {}), (20 * MS, {"context_switches": pytest.approx(0.2)})])
def test_a_thread_that_waits_for_a_core_loses_its_share_of_the_time(two_cores, delay, found):
    assert judged({7: (5 * MS, 3)}, {7: (5 * MS + delay, 3)}) == found


def test_the_thread_that_waited_longest_decides(two_cores):
    """A block of several threads ends when the last of them does."""
    before = {1: (0, 0), 2: (0, 0), 3: (0, 0)}
    assert judged(before, {1: (2 * MS, 0), 2: (30 * MS, 0), 3: (0, 0)}) == {"context_switches": pytest.approx(0.3)}


def test_waking_a_thread_often_is_no_disturbance(two_cores):
    assert judged({1: (0, 0)}, {1: (20 * MS, 400)}) == {}
    assert judged({1: (0, 0)}, {1: (20 * MS, 100)}) == {"context_switches": pytest.approx(0.15)}


def test_threads_that_come_or_end_between_two_readings_are_not_judged(two_cores):
    assert judged({1: (0, 0), 2: (0, 0)}, {1: (0, 0), 3: (90 * MS, 1)}) == {}
    assert judged({}, {}) == {}


@pytest.mark.parametrize(("cpu", "found"), [(0.2, {}), (0.1995, {}), (0.15, {"context_switches": pytest.approx(0.5)})])
def test_what_the_threads_of_a_process_take_from_each_other_is_no_disturbance(two_cores, cpu, found):
    """Eight threads on two cores wait for each other: of 0.2 s of the cores the process itself has used so much."""
    threads = range(8)
    assert judged(dict.fromkeys(threads, (0, 0)), dict.fromkeys(threads, (75 * MS, 0)), cpu=cpu) == found


@pytest.mark.parametrize(("switches", "found"), [(10, {}), (11, {"context_switches": pytest.approx(0.011)})])
def test_switches_are_judged_by_their_number_where_their_length_is_unknown(switches, found):
    assert Switches().judge(3, 3 + switches, 0.1) == found


@pytest.mark.parametrize(("stolen", "found"), [(0.019, {}), (0.021, {"steal": pytest.approx(0.0105)})])
def test_steal_is_a_share_of_all_hardware_threads_of_the_machine(two_cores, stolen, found):
    assert Steal().judge(5.0, 5.0 + stolen, 1.0) == found


def gpu(*states):
    """Return what a GPU in these states has lost in the time before the last one."""
    witness, readings = Gpu("GPU-0"), iter(states)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.nvml, "state", lambda uuid: next(readings))
        read = [witness.read() for _ in states]
    return witness.judge(read[-2], read[-1], 0.1)


def state(clock=2e9, *reasons, others=None):
    return GpuState(clock, 300.0, 50.0, reasons, others)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (state(), {}),
        (state(1.81e9), {}),
        (state(1.5e9), {"slow_clock": 0.25}),
        (state(1.5e9, "power_cap"), {}),
        (state(1.5e9, "software_thermal"), {"throttled": 0.25}),
        (state(2e9, "hardware_slowdown", "power_cap"), {"throttled": 0.01}),
        (state(2e9, "idle"), {}),
        (state(others=0), {}),
        (state(others=1), {"shared_gpu": 0.5}),
        (state(None), {}),
        (None, {}),
    ],
)
def test_a_gpu_is_disturbed_by_heat_a_fallen_clock_and_other_processes_but_not_by_its_power_cap(after, found):
    assert gpu(state(), after) == found


def test_a_gpu_is_judged_by_its_clock_at_the_beginning_not_at_the_last_reading():
    assert gpu(state(2e9), state(1.7e9), state(1.6e9)) == {"slow_clock": pytest.approx(0.2)}
    assert gpu(None, state(2e9), state(1.6e9)) == {"slow_clock": pytest.approx(0.2)}


def test_each_device_has_its_witnesses(monkeypatch):
    monkeypatch.setattr(RunDelay, "is_told", lambda: True)
    kinds = [[type(w) for w in witnesses(*of)] for of in (("cpu", None), ("mps", None), ("cuda:0", "GPU-0"))]
    assert kinds == [[RunDelay, Steal], [RunDelay, Steal], [RunDelay, Steal, Gpu]]
    monkeypatch.setattr(RunDelay, "is_told", lambda: False)
    assert [type(w) for w in witnesses("cpu", None)] == [Switches, Steal]


@pytest.mark.parametrize(("text", "told"), [("12 34 5\n", True), ("0 0 0\n", False), ("1 2\n", False), (None, False)])
def test_a_kernel_without_these_counters_is_known_by_its_file(monkeypatch, tmp_path, text, told):
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    if text is not None:
        (tmp_path / "proc/self/schedstat").write_text(text, encoding="ascii")
    assert RunDelay.is_told() is told


@pytest.mark.skipif(sys.platform == "win32", reason="reads files at a position")
def test_threads_are_read_as_the_kernel_tells_and_new_ones_are_found_after_a_while(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)
    clock = FakeClock()
    witness = RunDelay(clock, cpu=lambda: 4.5)

    def tells(thread, text):
        (tmp_path / f"proc/self/task/{thread}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"proc/self/task/{thread}/schedstat").write_text(text, encoding="ascii")

    tells(1, "100 7 2\n")
    assert witness.read() == Waits({1: (7, 2)}, 4.5)
    tells(2, "100 9 1\n")
    tells(1, "200 8 3\n")
    assert witness.read().threads == {1: (8, 3)}
    clock.pass_(watch.THREADS_EVERY)
    assert witness.read().threads == {1: (8, 3), 2: (9, 1)}
    tells(2, "")  # as of a thread that has ended
    assert witness.read().threads == {1: (8, 3)}
    (file,) = witness._files.values()
    witness.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)


# ---------------------------------------------------------------- when the counters are read


class Slow(Counter):
    """A counter that takes some seconds to read, on a fake clock."""

    def __init__(self, clock, cost, every=0.0):
        super().__init__(self._reading, every=every)
        self._clock, self._cost, self.readings, self.lost = clock, cost, 0, 0.0

    def _reading(self):
        self._clock.pass_(self._cost)
        self.readings += 1
        return self.lost


def blocks(eye, clock, lost, seconds=1e-3):
    """Return what is known of blocks. lost: for each, whether the counter advances in it."""
    for each in lost:
        clock.pass_(seconds)
        eye._witnesses[0].lost += 0.1 * seconds * each
        eye.note()
    return [bool(block) for block in eye.blocks]


@pytest.mark.parametrize(
    ("cost", "every", "readings"), [(0.0, 0.0, 51), (45e-6, 0.0, 51), (140e-6, 0.0, 18), (0.0, 0.01, 6)]
)
def test_a_counter_is_read_between_blocks_but_takes_no_more_than_a_twentieth_of_the_time(cost, every, readings):
    clock = FakeClock()
    witness = Slow(clock, cost, every)
    eye = Watch([witness], clock)
    eye.begin()
    blocks(eye, clock, [0] * 50)
    assert witness.readings == pytest.approx(readings, abs=1)
    assert (witness.readings - 1) * cost <= 0.0501 * clock()


def test_blocks_since_the_last_reading_share_a_verdict_and_the_last_ones_have_it_when_asked_for():
    clock = FakeClock()
    eye = Watch([Slow(clock, 0.0, every=3e-3)], clock)
    eye.begin()
    assert blocks(eye, clock, [0, 0, 0, 0, 1]) == [False] * 5
    assert blocks(eye, clock, [0]) == [False] * 3 + [True] * 3
    assert blocks(eye, clock, [0, 1]) == [False] * 3 + [True] * 3 + [False] * 2
    assert eye.calm == 5
    eye.settle()
    assert [bool(block) for block in eye.blocks] == [False] * 3 + [True] * 5
    assert eye.calm == 3
    eye.settle()
    eye.begin()
    assert (eye.blocks, eye.calm) == ([], 0)


def test_two_witnesses_of_one_block_are_both_heard():
    clock = FakeClock()
    counters = [Counter(clock, "a"), Counter(lambda: 0.5 * clock(), "b")]
    eye = Watch(counters, clock)
    eye.begin()
    clock.pass_(1.0)
    eye.note()
    assert (eye.blocks, eye.calm) == ([{"a": 1.0, "b": 0.5}], 0)
    eye.close()
    assert all(counter.closed for counter in counters)


def test_the_real_counters_of_this_machine_can_be_read_and_judged():
    eye = Watch(witnesses("cpu", None))
    eye.begin()
    for _ in range(20):
        sum(range(10_000))
        eye.note()
    eye.settle()
    eye.close()
    assert len(eye.blocks) == 20
    assert {cause for block in eye.blocks for cause in block} <= {"context_switches", "steal"}
    assert all(0 < share <= 1 for block in eye.blocks for share in block.values())


# ---------------------------------------------------------------- waiting


@pytest.mark.parametrize(("busy", "waited"), [([0.0] * 9, 0.25), ([0.4, 0.4, 0.01, 0], 0.75), ([0.4] * 99, 2.0)])
def test_a_machine_that_does_other_work_is_waited_for_but_not_for_long(two_cores, monkeypatch, busy, waited):
    """busy: CPU seconds of others in each quarter of a second."""
    clock, readings, own = FakeClock(), iter(busy), [0.0]

    def pause(seconds):
        clock.pass_(seconds)
        own[0] += next(readings)

    monkeypatch.setattr(watch.host, "busy_seconds", lambda: own[0] + 100.0)
    monkeypatch.setattr(watch, "process_time", lambda: 100.0)
    begin = clock()
    wait_for_quiet(2.0, clock, pause)
    assert clock() - begin == pytest.approx(waited)
    end = clock()
    wait_for_quiet(0.0, clock, pause)
    assert clock() == end
