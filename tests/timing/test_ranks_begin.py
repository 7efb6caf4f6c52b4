"""How the ranks wait for the moment at which they begin together (ranks.py)."""

import threading
from types import SimpleNamespace

import pytest

from bench_core.timing.ranks import LONGEST_LEAD, SHORTEST_LEAD, SPIN, RanksTimer
from tests.support.simulated_ranks import Meeting, SimulatedRanks


@pytest.mark.parametrize("lead", [SHORTEST_LEAD, LONGEST_LEAD])
def test_a_rank_sleeps_until_shortly_before_the_common_begin(lead):
    """Where others want its core, who has spun for long is the next to lose it: in the middle of a timed block."""
    meeting, slept, seconds = Meeting(2), [0.0, 0.0], [0.0, 0.0]

    def measure(rank):
        clock = [0.0]

        def now():
            clock[0] += 1e-6
            return clock[0]

        def sleep(long):
            slept[rank] += long
            clock[0] += long

        timer = RanksTimer(SimpleNamespace(synchronize=lambda: None), SimulatedRanks(meeting, rank), now, sleep)
        timer._lead = lead
        seconds[rank] = timer.time(lambda: sleep(0.0), 1).seconds

    ranks = [threading.Thread(target=measure, args=(rank,)) for rank in range(2)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join()
    assert slept == pytest.approx([max(0.0, lead - SPIN)] * 2, abs=5e-6)
    assert max(seconds) < 1e-5, "sleeping is over before the block begins"
