"""What is common to all facts about a machine: which are stable from run to run, and how values are shown."""

from __future__ import annotations

import json
from typing import Any

from bench_core.units import show

# Facts that differ from one minute to the next: shown, but no part of what an environment is.
# `memory.limit` is among them because the kernel's own share changes a little with every boot.
VOLATILE = frozenset(
    {
        *("memory.available", "memory.limit", "memory.swap_used", "load.average", "cpu.frequency"),
        *("gpu.sm_clock", "gpu.memory_clock", "gpu.power", "gpu.temperature", "gpu.throttle_reasons"),
        *("gpu.other_processes", "gpu.pcie_generation", "gpu.pcie_width"),
    }
)

_UNITS = dict.fromkeys(("memory.available", "memory.limit", "memory.total", "memory.swap_used", "gpu.memory"), "B")
_UNITS |= {"cpu.frequency": "Hz", "sm_clock": "Hz", "memory_clock": "Hz"}
_UNITS |= {"power": "W", "power_limit": "W", "power_limit_default": "W"}
_SHARES = {"load.busy", "load.steal"}


def shown(name: str, value: Any) -> str:
    """Return the value of a fact for a person; a value of an unexpected type, from elsewhere, as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(name, value)
    if isinstance(value, list):
        return ", ".join(f"{item:.2f}" if isinstance(item, float) else str(item) for item in value) or "none"
    if name == "cpu.caches" and isinstance(value, dict) and all(isinstance(size, int) for size in value.values()):
        return ", ".join(f"{level} {show(size, 'B')}" for level, size in value.items())
    return json.dumps(value, ensure_ascii=False)


def _number(name: str, value: float) -> str:
    if name in _SHARES:
        return f"{value:.1%}"
    unit = _UNITS.get(name) or _UNITS.get(name.rpartition(".")[2].removesuffix("_max"))
    return show(value, unit) if unit else str(value)
