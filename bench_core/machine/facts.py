"""Rules for facts about a machine: which ones change between runs, how to show values, which values are problems.

`doctor` uses these rules to give advice before a measurement, `machine_check` to find causes after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench_core.records import Fact
from bench_core.units import show

_REDUCED = 0.99  # a power limit below this share of its default was lowered on purpose
_BUSY = 0.1  # share of the CPU that other programs may use without a warning

# Facts that change from minute to minute: shown, but not part of `env_id`.
# `memory.limit` is among them because the kernel's own share changes a little with every boot.
VOLATILE = frozenset(
    {
        *("memory.available", "memory.limit", "memory.swap_used", "load.average", "cpu.frequency"),
        *("gpu.sm_clock", "gpu.memory_clock", "gpu.power", "gpu.temperature", "gpu.throttle_reasons"),
        *("gpu.other_processes", "gpu.pcie_generation", "gpu.pcie_width"),
    }
)

_UNITS = dict.fromkeys(("memory.available", "memory.limit", "memory.total", "memory.swap_used", "gpu.memory"), "B")
_UNITS |= {"memory.bandwidth": "B/s", "cpu.frequency": "Hz", "sm_clock": "Hz", "memory_clock": "Hz"}
_UNITS |= {"power": "W", "power_limit": "W", "power_limit_default": "W"}
_SHARES = {"load.busy", "load.steal"}


def known(facts: Mapping[str, Fact], name: str) -> Any:
    """Return the value of a fact; None if the fact is missing or has no value."""
    return facts.get(name, Fact()).value


def reduced_power(facts: Mapping[str, Fact]) -> tuple[float, float] | None:
    """Return a card's power limit and its default, in W; None unless the limit was set below the default."""
    limit, default = known(facts, "gpu.power_limit"), known(facts, "gpu.power_limit_default")
    return (limit, default) if limit and default and limit < _REDUCED * default else None


def slowed_down(facts: Mapping[str, Fact]) -> list[str]:
    """Return the reasons of heat or power supply that limited a card's clocks when it was read."""
    reasons = known(facts, "gpu.throttle_reasons") or ()
    return [reason for reason in reasons if reason.endswith(("thermal", "slowdown", "brake"))]


def small_quota(facts: Mapping[str, Fact]) -> float | None:
    """Return the CPU quota in cores if it is below the machine's core count or not a whole number, else None."""
    quota, cores = known(facts, "cpu.quota"), known(facts, "cpu.cores")
    return quota if quota and (quota != int(quota) or (cores and quota < cores)) else None


def busy_share(facts: Mapping[str, Fact]) -> float | None:
    """Return the share of the CPU that other programs used, if it is large enough for a warning, else None."""
    busy = known(facts, "load.busy")
    return busy if busy and busy > _BUSY else None


def shown(name: str, value: Any) -> str:
    """Return the value of a fact as text for people; a value of an unexpected type becomes JSON."""
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
