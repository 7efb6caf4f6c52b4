"""What is common to all facts about a machine: which are stable from run to run, how values are shown, which are bad.

The last are judged here once, for advice before a measurement (`doctor`) and for causes after it (`machine_check`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench_core.records import Fact
from bench_core.units import show

_REDUCED = 0.99  # share of its default below which a limit was set on purpose
_BUSY = 0.1  # share of the CPU that others may use unremarked

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


def known(facts: Mapping[str, Fact], name: str) -> Any:
    """Return the value of a fact, None where there is none."""
    return facts.get(name, Fact()).value


def reduced_power(facts: Mapping[str, Fact]) -> tuple[float, float] | None:
    """Return a card's power limit and its default, in W, where it was set below that."""
    limit, default = known(facts, "gpu.power_limit"), known(facts, "gpu.power_limit_default")
    return (limit, default) if limit and default and limit < _REDUCED * default else None


def slowed_down(facts: Mapping[str, Fact]) -> list[str]:
    """Return for what reasons heat or the power supply held a card back when it was looked at."""
    reasons = known(facts, "gpu.throttle_reasons") or ()
    return [reason for reason in reasons if reason.endswith(("thermal", "slowdown", "brake"))]


def small_quota(facts: Mapping[str, Fact]) -> float | None:
    """Return the cores of a control group that are fewer than the machine's, or no whole number."""
    quota, cores = known(facts, "cpu.quota"), known(facts, "cpu.cores")
    return quota if quota and (quota != int(quota) or (cores and quota < cores)) else None


def busy_share(facts: Mapping[str, Fact]) -> float | None:
    """Return the share of the CPU that other programs used, where it is worth a remark."""
    busy = known(facts, "load.busy")
    return busy if busy and busy > _BUSY else None


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
