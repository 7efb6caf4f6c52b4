"""Compare a child's times with the parent's clock: a kernel shares its process with the timer, and can patch it.

This does not detect a kernel that forges the messages of the worker; a clock that loses less than a tenth of the phase
plus a quarter of a second (at half speed: a phase of 0.6 s); a clock that is slow inside the blocks only, if they last
no longer than a quarter of a second; a timer that is patched alone, if `_all_is_timed` is false. A case that runs in
the parent's own process (workers.InProcess) has no second clock and is not judged.
"""

from __future__ import annotations

from dataclasses import replace

from bench_core.records import Clock, Measurement, Part, Status

CODE = "clock_patched"
PHASE = "measure"
# A child must claim at least this share of the phase's seconds, and its timers this share of what it claims. The timers
# of all CPU cases of the preset `smoke` claim 0.985 or more of the time that the series took.
CLAIMED, TIMED = 0.9, 0.9
# Seconds that an answer may arrive late, if other work uses all cores, or if a quota stops both processes for the rest
# of its period of 100 ms. A late beginning makes the phase look shorter, a late end longer.
LATE = 0.25
# Seconds of the phase outside the timers: on a CPU the reference work, 0.02 s. On a GPU also the queries to the driver,
# for which there is no figure yet; there a phase lasts 1.4 s or more. On several devices what the ranks agree on, for
# which one may have to wait for others on busy cores.
BESIDE_CPU, BESIDE_MORE = 0.1, 0.5
BETWEEN = 20e-6  # seconds between two blocks; this adds up if blocks are short


class MeasuredPhase:
    """The length of the phase "measure": from the arrival of its announcement to that of the next answer.

    seconds: by the parent's clock; 0 if the phase did not begin or end.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._end: float | None = None

    def answered(self, phase: object, at: float) -> None:
        """Record that an answer arrived at time `at` (seconds), and which phase it announced, if any."""
        if self._begin is None:
            self._begin = at if phase == PHASE else None
        elif self._end is None:
            self._end = at

    @property
    def seconds(self) -> float:
        return 0.0 if self._begin is None or self._end is None else self._end - self._begin


def judged(done: Measurement, seen: float) -> Measurement:
    """Return the measurement unchanged, or `invalid` without values if its times contradict the parent's clock.

    seen: length of the phase "measure" by the parent's clock, in seconds.
    """
    reason = _impossible(done, seen) if done.status is Status.OK and done.series else ""
    if not reason:
        return done
    # The run adds up what its cases spent, so it must not come from a patched clock.
    spent = {Part.TIMED: seen}
    refused = replace(done, status=Status.INVALID, reason_code=CODE, reason=reason, series=(), values={}, spent=spent)
    return replace(refused, elapsed_s=max(done.elapsed_s, seen))


def _impossible(done: Measurement, seen: float) -> str:
    """Return why a child's claims cannot be true; "" if they can.

    First the phase as a whole is checked, then the blocks, which cannot last longer than the phase, then the timers.
    The timers run nearly all the time, so blocks that lasted longer than they claim leave a gap. The gap is computed
    from the seconds that the child claims for the phase: they are checked by then, and contain no message delay.
    """
    claim = done.measuring_phase_s
    blocks = sum(sum(series.seconds) * series.inner_loops for series in done.series if series.clock is Clock.WALL)
    by_parent = f"{seen:.3g} s by its parent's clock"
    if not CLAIMED * seen - LATE <= claim <= seen + LATE:
        return f"the worker reports that measuring took {claim:.3g} s, but it took {by_parent}"
    if blocks > seen + LATE:
        return f"the timed blocks add up to {blocks:.3g} s, but measuring took {by_parent}"
    timers = sum(series.claimed_s for series in done.series)
    between = BETWEEN * sum(len(series.seconds) for series in done.series)
    beside = BESIDE_CPU if done.case.device_type == "cpu" and done.case.ranks == 1 else BESIDE_MORE
    if _all_is_timed(done) and timers + between < TIMED * claim - beside:
        return f"the timers account for {timers:.3g} s of measuring, which took {claim:.3g} s ({by_parent})"
    return ""


def _all_is_timed(done: Measurement) -> bool:
    """Return whether the series of a measurement account for all timing in the phase.

    If the device's clock saw no work, there is no series by it, but finding that out took time.
    """
    return done.case.device_type == "cpu" or any(s.clock is Clock.DEVICE for s in done.series)
