"""Energy is read between two updates of a counter, never guessed, and absent where nothing counts it."""

import itertools
import math
import shutil

import pytest

from bench_core.machine import kernel_files, nvml, rapl
from bench_core.records import Case, Clock, Costs, Measurement, Run, Series, Status, Work
from bench_core.results.metrics import METRICS
from bench_core.results.rows import rows_of_case
from bench_core.timing import energy
from bench_core.timing.energy import Meter, per_call
from bench_core.timing.sampling import WallTimer
from tests.support.fakes import FakeDevice
from tests.support.kernel import forget

WATTS = 350.0


class Counter:
    """A counter on a fake clock that is brought up to date every `interval` seconds."""

    def __init__(self, clock, interval=0.1, watts=WATTS):
        self.clock, self.interval, self.watts = clock, interval, watts

    def __call__(self):
        return (math.floor(self.clock() / self.interval + 1e-9) * self.interval * self.watts,)


def joules(work, counter=Counter, window=1.0, **meter):
    device = FakeDevice(work=work, launch=1e-7)
    device.clock.pass_(0.037)  # between two updates
    timer = WallTimer(device.synchronize, device.clock)
    found = per_call(device.run, timer, Meter(counter(device.clock), **meter), work, window, device.clock)
    return found and found.joules


@pytest.mark.parametrize("work", [2e-5, 1e-3, 0.03, 0.7])
def test_a_call_costs_power_times_its_time_however_seldom_the_counter_is_updated(work):
    assert joules(work) == pytest.approx(WATTS * work, rel=0.02)
    assert joules(work, lambda clock: Counter(clock, 1e-6)) == pytest.approx(WATTS * work, rel=0.01)


class Board(FakeDevice):
    """A GPU that takes 300 W at work and 120 W at rest, with a counter that moves in irregular steps.

    Waiting for it takes 30 us more than its work, and a reading `reading` seconds: both leave it at rest.
    """

    BUSY, IDLE, DRAIN = 300.0, 120.0, 30e-6

    def __init__(self, work, reading, intervals):
        super().__init__(work, launch=2e-6)
        self._reading, self._updates = reading, itertools.accumulate(itertools.cycle(intervals))
        self._next, self._told, self._worked, self.readings = next(self._updates), 0.0, 0.0, []

    def run(self):
        self._advance(self.clock())
        super().run()
        self._worked += self.work

    def synchronize(self):
        super().synchronize()
        self._advance(self.clock())
        self.clock.pass_(self.DRAIN)

    def read(self):
        self.clock.pass_(self._reading)
        self._advance(self.clock())
        self.readings.append(self.clock())
        return (self._told,)

    def _advance(self, until):
        """Bring the counter up to date, before anything else is queued."""
        while self._next <= until:
            self._told, self._next = self._joules(self._next), next(self._updates)

    def _joules(self, at):
        """At a moment at which the device is at work until `busy_until`, or at rest since then."""
        busy = self._worked - max(0.0, self.busy_until - at)
        return self.IDLE * at + (self.BUSY - self.IDLE) * busy


@pytest.mark.parametrize("intervals", [(0.02,), (0.1,), (0.02, 0.1, 0.05, 0.07)])
@pytest.mark.parametrize("reading", [20e-6, 0.2e-3, 1e-3, 10e-3])
@pytest.mark.parametrize(("work", "rel"), [(3e-5, 0.01), (2e-4, 0.01), (4e-3, 0.01), (0.03, 0.02), (0.3, 0.02)])
def test_idle_time_while_the_counter_is_read_is_not_the_work_s(work, rel, reading, intervals):
    """A reading every 10 ms, and asking for the MIG mode each time, made it up to 8 % more (1 ms each)."""
    board = Board(work, reading, intervals)
    board.clock.pass_(0.0123)
    timer = WallTimer(board.synchronize, board.clock)
    taken = per_call(board.run, timer, Meter(board.read), work, 1.0, board.clock)
    assert taken.joules == pytest.approx(Board.BUSY * work, rel=rel)
    assert taken.idle < energy.IDLE
    assert taken.flags == ()
    longest = max(after - before for before, after in itertools.pairwise(board.readings))
    assert longest >= 1.0, "one stretch without a reading"


@pytest.mark.parametrize("work", [1e-4, 0.05, 3.0])
def test_a_cpu_s_counter_moves_so_often_that_a_second_is_enough_for_any_call(work):
    """A reading of RAPL's files takes some tenths of a millisecond too; its counter starts again after a while."""
    board = Board(work, 0.3e-3, (1e-3,))
    timer = WallTimer(board.synchronize, board.clock)
    wrapped = Meter(lambda: ((board.read()[0] + 9900.0) % 10000.0,), (10000.0,), update=1e-3, most_watts=1000.0)
    taken = per_call(board.run, timer, wrapped, work, 1.0, board.clock)
    assert taken.joules == pytest.approx(Board.BUSY * work, rel=0.01)
    assert taken.flags == ()
    assert board.clock() < max(1.2, work + 0.1)


def test_an_average_with_more_idle_time_than_a_hundredth_says_so():
    """A counter that takes 40 ms to read, and seconds to move."""
    board = Board(1e-3, 40e-3, (0.9,))
    timer = WallTimer(board.synchronize, board.clock)
    taken = per_call(board.run, timer, Meter(board.read), 1e-3, 1.0, board.clock)
    assert taken.idle > energy.IDLE
    assert taken.flags == ("idle_energy",)


def test_reading_a_slow_counter_before_and_after_alone_would_be_wrong():
    """The same second of calls, but begun at any moment: what the alignment is for."""
    device = FakeDevice(work=0.09)
    device.clock.pass_(0.01)
    counter = Counter(device.clock, 0.1)
    before = counter()
    WallTimer(device.synchronize, device.clock).time(device.run, 1)
    assert counter()[0] - before[0] == pytest.approx(WATTS * 0.1), "an update for 0.09 s: 11 % too much"


def test_a_long_call_is_made_once():
    device = FakeDevice(work=20.0)
    counter = Meter(Counter(device.clock))
    timer = WallTimer(device.synchronize, device.clock)
    assert per_call(device.run, timer, counter, 20.0, 1.0, device.clock).joules == pytest.approx(WATTS * 20, rel=0.01)
    assert device.calls == 1


def test_a_counter_that_stands_still_gives_no_value_and_not_zero():
    assert joules(1e-3, lambda _: lambda: (5.0,)) is None
    assert joules(5.0, lambda _: lambda: (5.0,)) is None


@pytest.mark.parametrize("lost_after", [0, 1, 30])
def test_a_device_that_is_lost_gives_no_value(lost_after):
    def counter(clock):
        readings = iter(range(lost_after))
        return lambda: Counter(clock)() if next(readings, None) is not None else None

    assert joules(1e-3, counter) is None


def test_a_counter_that_starts_again_loses_nothing():
    last = 1e5
    wrapped = joules(0.03, lambda clock: lambda: ((Counter(clock)()[0] + last - 100.0) % last,), ranges=(last,))
    assert wrapped == pytest.approx(WATTS * 0.03, rel=0.03)


def test_the_parts_of_a_device_are_added():
    parts = Meter(lambda: None, (1e3, 1e3), 1e-3, 100.0)
    assert parts.joules((1.0, 999.0), (2.0, 1.0), 1.0) == pytest.approx(1.0 + 2.0)


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        ((500.0,), (2.0,), 1.0),  # set back by a suspend: as a wrap it would be 502 J in a second
        ((5.0,), (300.0,), 1.0),
        ((5.0,), (5.0,), 1.0),
        ((5.0,), (50.0,), 20.0),  # it may have wrapped more than once
        ((5.0, 5.0), (6.0, 700.0), 1.0),  # one of two parts
        ((5.0, 5.0), (50.0, 5.0), 1.0),  # one of two stands still: no package takes no energy
    ],
)
def test_a_reading_that_physics_forbids_gives_no_value(before, after, seconds):
    counter = Meter(lambda: None, (1e3,) * len(before), 1e-3, most_watts=100.0)
    assert counter.joules(before, after, seconds) is None
    assert Meter(lambda: None).joules((5.0,), (4.0,), 1.0) is None, "a counter that does not wrap went back"


# ---------------------------------------------------------------- where counters are


@pytest.fixture
def powercap(monkeypatch, tmp_path):
    """Return a function that makes a zone of RAPL, below the root that bench_core sees, and returns its folder."""
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)

    def zone(name, label, microjoules="1500000", last="262143328850"):
        forget()
        folder = tmp_path / "sys/class/powercap" / name
        folder.mkdir(parents=True)
        for file, text in (("name", label), ("max_energy_range_uj", last), ("energy_uj", microjoules)):
            if text is not None:
                (folder / file).write_text(f"{text}\n")
        return folder

    forget()
    yield zone
    monkeypatch.undo()
    forget()


def plant_cores(root, *packages_and_dies):
    for cpu, (package, die) in enumerate(packages_and_dies):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "die_id").write_text(f"{die}\n")


def test_a_cpu_s_packages_are_read_and_their_parts_are_not_read_twice(powercap, tmp_path):
    plant_cores(tmp_path, (0, 0), (0, 1), (1, 0), (1, 1))
    powercap("intel-rapl:0", "package-0")
    powercap("intel-rapl:1", "package-1", "2500000")
    powercap("intel-rapl:0:0", "core")
    powercap("intel-rapl:2", "psys", "9000000")
    found = energy.meter("cpu", None)
    assert found.read() == (1.5, 2.5)
    assert list(found.ranges) == [262143.32885] * 2
    assert found.update == 1e-3
    assert rapl.fact().value == ["package-0", "package-1"]


def test_a_cpu_without_counters_has_none_and_a_reason(powercap):
    assert energy.meter("cpu", None) is None
    assert rapl.fact().reason == "no /sys/class/powercap/intel-rapl:*/energy_uj"
    powercap("intel-rapl:0", "package-0", None)  # as it looks to others than root
    assert energy.meter("cpu", None) is None
    assert rapl.fact().reason == "no /sys/class/powercap/intel-rapl:0/energy_uj"


def test_a_zone_without_a_name_may_be_a_package_and_is_named(powercap, tmp_path):
    """As in a container, whose links below /sys/class/powercap lead nowhere."""
    powercap("intel-rapl:0", "package-0")
    hidden = tmp_path / "sys/class/powercap/intel-rapl:1"
    hidden.symlink_to(tmp_path / "hidden")
    assert energy.meter("cpu", None).read() is None
    assert rapl.fact().reason == "no /sys/class/powercap/intel-rapl:1/name"
    hidden.rename(hidden.with_name("intel-rapl:0:0"))
    shutil.rmtree(hidden.with_name("intel-rapl:0"))
    hidden.symlink_to(tmp_path / "hidden")
    forget()
    assert energy.meter("cpu", None) is None, "nothing was there to lose"


def per_call_of(found):
    device = FakeDevice(work=1e-3)
    return per_call(device.run, WallTimer(device.synchronize, device.clock), found, 1e-3, 1.0, device.clock)


def test_energy_of_a_part_of_the_packages_is_that_of_none(powercap):
    """One package cannot be read from the start, is lost later, or tells what its counter cannot hold."""
    powercap("intel-rapl:0", "package-0")
    file = powercap("intel-rapl:1", "package-1", "no number") / "energy_uj"
    assert energy.meter("cpu", None).read() is None
    assert rapl.fact().reason == "no value in /sys/class/powercap/intel-rapl:1/energy_uj"
    file.write_text("2500000")
    forget()
    found = energy.meter("cpu", None)
    assert found.read() == (1.5, 2.5)
    for text in ("-1", "999999999999999", "", "x"):
        file.write_text(text)
        assert found.read() is None
    file.unlink()
    assert found.read() is None
    assert per_call_of(found) is None, "the case goes on"


@pytest.mark.parametrize("names", [["package-0", "package-1"], ["package-0-die-0", "package-0-die-1"]])
def test_a_package_that_vanished_is_lost_to_every_later_case_and_every_later_process(powercap, tmp_path, names):
    """And not that the rest is read as the whole, without a flag."""
    plant_cores(tmp_path, *[(0, 0), (0, 1)] if "die" in names[0] else [(0, 0), (1, 0)])
    powercap("intel-rapl:0", names[0])
    last = powercap("intel-rapl:1", names[1])
    assert energy.meter("cpu", None).read() == (1.5, 1.5)
    shutil.rmtree(last)
    later = energy.meter("cpu", None)
    assert later.read() is None
    assert per_call_of(later) is None
    forget()  # what another process knows
    assert per_call_of(energy.meter("cpu", None)) is None
    assert rapl.fact().reason == f"no /sys/class/powercap/intel-rapl:*/name is {names[1]}"


def test_where_there_is_a_counter_for_each_package_none_is_missing_whatever_the_kernel_numbers_them(powercap, tmp_path):
    plant_cores(tmp_path, (0, 0), (36, 0))
    powercap("intel-rapl:0", "package-0")
    powercap("intel-rapl:1", "package-1")
    assert energy.meter("cpu", None).read() == (1.5, 1.5)


def test_the_packages_of_a_large_machine_are_listed_once(powercap, tmp_path, monkeypatch):
    plant_cores(tmp_path, (0, 0), (0, 1))
    powercap("intel-rapl:0", "package-0")
    read = []
    monkeypatch.setattr(rapl, "read_number", lambda path: read.append(path) or kernel_files.read_number(path))
    assert (rapl.fact().value, len(rapl.packages()), rapl.fact().value) == (["package-0"], 1, ["package-0"])
    assert len([path for path in read if "topology" in path]) == 2


def test_a_gpu_s_counter_is_that_of_its_board_in_joules(pynvml):
    device = pynvml.devices[0]
    device.answers["TotalEnergyConsumption"] = 123_456
    assert energy.meter("cuda:0", device.uuid).read() == (123.456,)
    assert nvml.facts(device.uuid)["gpu.energy_counter"].value is True
    device.lost = True
    assert energy.meter("cuda:0", device.uuid) is None


def test_a_gpu_without_a_counter_has_none_and_a_reason(pynvml):
    device = pynvml.h100(TotalEnergyConsumption=None)
    pynvml.devices[:] = [device]
    assert energy.meter("cuda:0", device.uuid) is None
    assert "Not Supported" in nvml.facts(device.uuid)["gpu.energy_counter"].reason
    assert energy.meter("mps", None) is None


def test_a_slice_is_not_charged_with_the_energy_of_its_card(pynvml):
    card = pynvml.devices[0]
    card.slices = [pynvml.Device("MIG-bbbbbbbb-0506-0708-090a-0b0c0d0e0f10")]
    assert energy.meter("cuda:0", card.slices[0].uuid) is None
    assert "slices" in nvml.facts(card.slices[0].uuid)["gpu.energy_counter"].reason


# ---------------------------------------------------------------- what follows from it


def measured(joules, process=0):
    case = Case(Work("model", "gpt", "s", "float32"), "torch", "cuda:0")
    costs = Costs(flops=8e9, amounts={"tokens": 100.0})
    series = (Series("time", Clock.WALL, (0.01, 0.01)),)
    return Measurement(case, Status.OK, costs=costs, series=series, values={"energy": joules}, process=process)


def test_work_per_joule_follows_from_energy_and_keeps_its_interval():
    found = {row.metric: row for row in rows_of_case(Run("r", "t", "m"), [measured(2.0), measured(4.0, 1)])}
    assert (found["energy"].value, found["energy"].unit, found["energy"].clock) == (3.0, "J", "")
    assert found["tokens_per_joule"].value == pytest.approx(100 / 3)
    assert found["tokens_per_joule"].ci_low == pytest.approx(100 / found["energy"].ci_high)
    assert found["flops_per_joule"].value == pytest.approx(8e9 / 3)
    assert found["token_rate"].value == pytest.approx(1e4), "rates are still of time"
    assert "samples_per_joule" not in found, "of what has no samples"


def test_without_a_counter_there_is_no_row_of_energy():
    case = measured(1.0).case
    done = Measurement(case, Status.OK, series=(Series("time", Clock.WALL, (0.01,)),))
    of_energy = {m.name for m in METRICS.values() if m.formula and m.formula.depends_only_on("energy")}
    assert "tokens_per_joule" in of_energy
    assert not (of_energy | {"energy"}) & {row.metric for row in rows_of_case(Run("r", "t", "m"), [done])}
