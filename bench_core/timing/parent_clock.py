"""What the clock of the parent says of a child's times. A kernel shares its process with the timer, and can patch it.

What is not seen here: a kernel that forges the answers themselves; a clock that loses less than a tenth of the phase
and a quarter of a second (at half speed: in a phase of 0.6 s); one that is slow inside the blocks only, where they last
no longer than a quarter of a second; a timer that is patched alone, where `_all_is_timed` does not hold. In the process
of the parent itself (worker.py, InProcess) there is no second clock, and nothing is judged.
"""

from __future__ import annotations

from dataclasses import replace

from bench_core.records import Clock, Measurement, Status

CODE = "clock_patched"
PHASE = "measure"
# Of the phase's seconds, a child claims at least this share, and its timers this share of what it claims. The timers of
# all CPU cases of the preset `smoke` claim 0.985 or more of the time that the series took.
CLAIMED, TIMED = 0.9, 0.9
# Seconds that an answer may arrive late where other work has all cores, or a quota holds both processes for the rest of
# its period of 100 ms. A late beginning makes the phase look shorter, a late end longer.
LATE = 0.25
# Seconds of the phase beside the timers: on a CPU the reference work, 0.02 s. On a GPU the driver is asked as well, for
# which there is no figure yet; there a phase lasts 1.4 s or more.
BESIDE_CPU, BESIDE_GPU = 0.1, 0.5
BETWEEN = 20e-6  # seconds between two blocks: it counts where they are short


class MeasuredPhase:
    """How long the phase "measure" lasted: from the arrival of its name to that of whatever came next.

    seconds: by the parent's clock; 0 if the phase did not begin or end.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._end: float | None = None

    def answered(self, phase: object, at: float) -> None:
        """Note that an answer arrived, and which phase it said would begin."""
        if self._begin is None:
            self._begin = at if phase == PHASE else None
        elif self._end is None:
            self._end = at

    @property
    def seconds(self) -> float:
        return 0.0 if self._begin is None or self._end is None else self._end - self._begin


def judged(done: Measurement, seen: float) -> Measurement:
    """Return a measurement as it is, or `invalid` and without values if its times cannot be those of the phase.

    seen: the seconds from the beginning of the phase "measure" to its end, as the parent saw them.
    """
    reason = _impossible(done, seen) if done.status is Status.OK and done.series else ""
    if not reason:
        return done
    # Seconds of the child's clock are nothing to add up a run's time by.
    return replace(done, status=Status.INVALID, reason_code=CODE, reason=reason, series=(), values={}, timed_s=seen)


def _impossible(done: Measurement, seen: float) -> str:
    """Return why a child's claims cannot be true; "" if they can.

    First the phase as a whole. Then the blocks, which cannot last longer than the phase. Last what the timers claim:
    they are at work nearly all the time, so blocks that lasted longer than they say leave a gap. It is looked for in
    the seconds that the child claims for the phase, which are good by then and have no message's delay in them.
    """
    claim = done.timed_s
    blocks = sum(sum(series.seconds) * series.inner_loops for series in done.series if series.clock is Clock.WALL)
    by_parent = f"{seen:.3g} s by its parent's clock"
    if not CLAIMED * seen - LATE <= claim <= seen + LATE:
        return f"the worker says that measuring took {claim:.3g} s, which were {by_parent}"
    if blocks > seen + LATE:
        return f"the timed blocks add up to {blocks:.3g} s, all of measuring to {by_parent}"
    timers = sum(series.claimed_s for series in done.series)
    between = BETWEEN * sum(len(series.seconds) for series in done.series)
    beside = BESIDE_CPU if done.case.device == "cpu" else BESIDE_GPU
    if _all_is_timed(done) and timers + between < TIMED * claim - beside:
        return f"the timers account for {timers:.3g} s of measuring, which took {claim:.3g} s ({by_parent})"
    return ""


def _all_is_timed(done: Measurement) -> bool:
    """Whether nothing but the series given takes time in the phase.

    A device whose clock saw no work has no series by it, but the time to find that out was spent.
    """
    return done.case.device == "cpu" or any(s.clock is Clock.DEVICE for s in done.series)
