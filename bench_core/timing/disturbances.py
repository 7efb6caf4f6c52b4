"""Detect what changed during a whole measurement (clock drift, GPU throttling) from readings before and after it.

It becomes a flag. What disturbs single blocks is noted by watch.py.
"""

from __future__ import annotations

import hashlib
from time import perf_counter

from bench_core.machine import nvml
from bench_core.records import DRIFT, THROTTLED

_DRIFTED = 1.1  # ratio of the times of the reference work after and before, or before and after


class Disturbances:
    """Watches one measurement, from construction to `stop`.

    device: its address. uuid: of an NVIDIA GPU, to find it in NVML; None for other devices. Drift is judged on a CPU
    only: the reference work says nothing about the clock of a GPU, so it does not run for one.
    """

    def __init__(self, device: str, uuid: str | None) -> None:
        self._uuid = uuid
        self._reference = reference_seconds() if device == "cpu" else None
        self._gpu_before = nvml.state(uuid)
        self._gpu_after: nvml.GpuState | None = None
        self._drift = 1.0

    def stop(self) -> None:
        """Take the final readings. Call it right after the last timed block: clocks and power fall in milliseconds."""
        self._gpu_after = nvml.state(self._uuid)
        if self._reference is not None:
            self._drift = reference_seconds() / self._reference

    def flags(self) -> tuple[str, ...]:
        """Return the flags of the disturbances that were found."""
        states = [state for state in (self._gpu_before, self._gpu_after) if state]
        earned = {
            DRIFT: not 1 / _DRIFTED < self._drift < _DRIFTED,
            THROTTLED: any(state.is_limited for state in states),
        }
        return tuple(flag for flag, is_earned in earned.items() if is_earned)

    def values(self) -> dict[str, float]:
        """Return the GPU's power (W), SM clock (Hz) and temperature (degC) at the end, if the driver reports them."""
        state = self._gpu_after
        if state is None:
            return {}
        known = {"gpu_power": state.power, "gpu_clock": state.sm_clock, "gpu_temperature": state.temperature}
        return {name: value for name, value in known.items() if value is not None}


def reference_seconds() -> float:
    """Return the seconds of a fixed single-threaded task of the standard library: the minimum of five runs."""
    block = bytes(1 << 19)
    times = []
    for _ in range(5):
        start = perf_counter()
        hashlib.sha256(block).digest()
        times.append(perf_counter() - start)
    return min(times)
