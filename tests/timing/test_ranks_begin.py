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
