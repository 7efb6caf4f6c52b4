"""How the ranks wait for the moment at which they begin together (ranks.py)."""

from types import SimpleNamespace

import pytest

from bench_core.timing.ranks import LONGEST_LEAD, SHORTEST_LEAD, SPIN, RanksTimer
from tests.support.fake_ranks import TickingClock, Together


@pytest.mark.parametrize("lead", [SHORTEST_LEAD, LONGEST_LEAD])
def test_a_rank_sleeps_until_shortly_before_the_common_begin(lead):
    """Where others want its core, who has spun for long is the next to lose it: in the middle of a timed block."""
    slept = [0.0, 0.0]

    def measure(ranks):
        clock = TickingClock()

        def sleep(long):
            slept[ranks.rank] += long
            clock.pass_(long)

        timer = RanksTimer(SimpleNamespace(synchronize=lambda: None), ranks, clock, sleep)
        timer._lead = lead
        return timer.time(lambda: sleep(0.0), 1).seconds

    seconds = Together(2).run(measure)
    assert slept == pytest.approx([max(0.0, lead - SPIN)] * 2, abs=5e-6)
    assert max(seconds) < 1e-5, "sleeping is over before the block begins"


@pytest.mark.parametrize(("calls", "made"), [(1, 3), (4, 15)])
def test_before_several_calls_one_is_made_after_sleeping_that_is_not_timed(calls, made):
    """Cores and threads that have slept since the last block are slow in the first call after."""

    def measure(ranks):
        clock, counted, events = TickingClock(), [], []

        def run():
            counted.append(clock.seconds)
            events.append("call")
            clock.pass_(1e-3)

        def sleep(long):
            events.append("sleep")
            clock.pass_(long)

        timer = RanksTimer(SimpleNamespace(synchronize=lambda: None), ranks, clock, sleep)
        timer._lead = LONGEST_LEAD
        seconds = [timer.time(run, calls).seconds for _ in range(3)]
        return seconds, len(counted), events[-calls - (calls > 1) - 1 :]

    for seconds, counted, last in Together(2).run(measure):
        assert counted == made
        assert seconds == pytest.approx([calls * 1e-3] * 3, abs=1e-5)
        assert last == ["sleep", *["call"] * (calls + (calls > 1))]
