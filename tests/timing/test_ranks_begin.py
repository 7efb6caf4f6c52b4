"""How the ranks wait for the moment at which they begin together (ranks.py), and how long their blocks are."""

from types import SimpleNamespace

import pytest

from bench_core.timing import case
from bench_core.timing.ranks import LONGEST_LEAD, SHORTEST_LEAD, SPIN, RanksTimer
from bench_core.timing.sampling import Durations
from bench_core.timing.watch import Watch
from bench_core.workload import Kernel
from tests.support.fake_ranks import TickingClock, Together
from tests.support.fakes import FakeClock


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


@pytest.mark.parametrize(("call", "calls"), [(50e-6, 20), (250e-6, 4), (2e-3, 1)])
def test_a_block_of_several_ranks_has_as_many_calls_as_fill_a_millisecond(call, calls):
    """One device is waited for after a single call of 0.1 ms; to begin and to end on all takes longer."""
    clock = FakeClock()
    on = SimpleNamespace(synchronize=lambda: None, ranks=Together(1).ranks[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case, "RanksTimer", lambda backend, ranks: RanksTimer(backend, ranks, clock, clock.pass_))
        run = Kernel(lambda: clock.pass_(call))
        on.ranks.has_one_clock = False  # nobody waits on a clock that stands still meanwhile
        (series,), *_ = case._measure_over_ranks([run], on, Durations(), Watch([]))
    assert series.inner_loops == calls
    assert series.seconds[0] == pytest.approx(call)
