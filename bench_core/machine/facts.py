"""Rules for facts about a machine: which ones change, how to show values, which values are problems.

`doctor` uses these rules to give advice before a measurement, `machine_check` to find causes after it, `compare` and
`run` to tell two computers apart.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from bench_core.records import Fact, type_of
from bench_core.units import counted, show

_REDUCED = 0.99  # a power limit below this share of its default was lowered on purpose
_BUSY = 0.1  # share of the CPU that other programs may use without a warning

# Facts that change from minute to minute: shown, but not part of `env_id`.
# `memory.limit` and `memory.nodes` are among them because the kernel's own share changes a little with every boot.
VOLATILE = frozenset(
    {
        *("memory.available", "memory.limit", "memory.nodes", "memory.swap_used", "load.average", "cpu.frequency"),
        *("gpu.sm_clock", "gpu.memory_clock", "gpu.power", "gpu.temperature", "gpu.throttle_reasons"),
        *("gpu.other_processes", "gpu.pcie_generation", "gpu.pcie_width", "gpu.ecc_errors", "gpu.remapped_rows"),
    }
)

# Facts that stay the same as long as a computer is not rebuilt.
_MODEL, _TOTAL, _VIRTUAL = "cpu.model", "memory.total", "system.virtual_machine"
_IDENTITY, _DEVICE = "cpu.identity", "device_name of "
LASTING = (_MODEL, _IDENTITY, "cpu.cores", "cpu.threads", _TOTAL, _VIRTUAL)
BARE_METAL, UNKNOWN_MAKE = "none", "of unknown make"  # values of `system.virtual_machine` besides the maker's name
# Names of hypervisors in those of machines and CPUs, as a regular expression: one name covers many unlike CPUs.
HYPERVISORS = (
    "QEMU|KVM|VMware|Xen|z/VM|Parallels|VirtualBox|innotek|OpenStack|Nutanix|bhyve|"
    r"Microsoft Corporation Virtual Machine|Apple Virtualization|VirtualApple(?! \()|dummy-virt"
)
BOARD_UNKNOWN = "board unknown"  # in `cpu.model`, where only the cores are known
NO_CONTAINER = "none"  # value of `system.container` where Linux shows none
_KERNELS_SHARE = 0.03  # totals of memory that differ by less are alike: the kernel's own share changes with its version
# What `platform.processor` gives instead of a model: the name of an architecture, or Windows' family and model.
_NO_MODEL = re.compile(
    r"\s*|unknown|none|generic|arm|armv?\d*\w*|aarch64\w*|i[3-6]86(-.*)?|x86([-_]64)?|amd64|ia64|powerpc|ppc\w*|sparc\w*|"
    r"riscv\w*|s390x?|mips\w*|loongarch\w*|alpha|(?-i:.* Family [\dA-F]+ Model [\dA-F]+.*)",
    re.IGNORECASE,
)
_MOST = 1e18  # larger numbers of cores or bytes are errors of the file

Lasting = Mapping[str, str | float]  # the known ones of `LASTING`, and "device_name of cuda:0" for each GPU

_UNITS = dict.fromkeys(("memory.available", "memory.limit", "memory.total", "memory.swap_used", "gpu.memory"), "B")
_UNITS |= {"memory.bandwidth": "B/s", "cpu.frequency": "Hz", "sm_clock": "Hz", "memory_clock": "Hz"}
_UNITS |= {"ranks.link_bandwidth": "B/s", "power": "W", "power_limit": "W", "power_limit_default": "W"}
_SHARES = {"load.busy", "load.steal"}


def known(facts: Mapping[str, Fact], name: str) -> Any:
    """Return the value of a fact; None if the fact is missing or has no value."""
    return facts.get(name, Fact()).value


def absent(name: str) -> str:
    """Return what it means that a fact is not among known ones: of a package "not installed", of a variable "unset".

    It is "" for any other fact: nothing is known of it.
    """
    return "not installed" if name.startswith("package.") else "unset" if name.startswith("env.") else ""


def is_model(name: str) -> bool:
    """Whether a name may be that of a CPU model: "arm" is an architecture, which an M1 and an M2 share."""
    return not _NO_MODEL.fullmatch(name)


def lasting(facts: Mapping[str, Fact], devices: Iterable[tuple[str, str]] = ()) -> dict[str, str | float]:
    """Return the facts of `LASTING` that are known and valid, and the model of each GPU.

    devices: device and device_name of the rows of a run, in any number. The name of the device "cpu" is the CPU's
    model, which is used if `facts` lack it. A device with several names counts as one without a name.
    """
    found = {name: value for name in LASTING if _is_valid(name, value := known(facts, name))}
    names: dict[str, set[str]] = {}
    for device, name in devices:
        if name:
            names.setdefault(device, set()).add(name)
    for device, several in names.items():
        on_cpu = type_of(device) == "cpu"
        if len(several) == 1 and (not on_cpu or is_model(*several)):
            found.setdefault(_MODEL if on_cpu else f"{_DEVICE}{device}", *several)
    return found


def _is_valid(name: str, value: Any) -> bool:
    if name == _MODEL:
        return isinstance(value, str) and is_model(value)
    if name in {_IDENTITY, _VIRTUAL}:
        return isinstance(value, str) and value != ""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST


def valid(plain: Mapping[str, Any]) -> dict[str, str | float]:
    """Return those items of a file that can be lasting facts."""
    found = {name: value for name, value in plain.items() if name in LASTING and _is_valid(name, value)}
    return found | {name: value for name, value in gpu_models(plain).items() if isinstance(value, str)}


def gpu_models(of: Lasting) -> dict[str, str | float]:
    """Return the models of the GPUs among lasting facts."""
    return {name: value for name, value in of.items() if name.startswith(_DEVICE)}


def contradictions(first: Lasting, second: Lasting) -> tuple[str, ...]:
    """Return the names of the lasting facts that two computers cannot share; a fact that one side lacks is none."""
    return tuple(name for name in first if name in second and not _alike(name, first[name], second[name]))


def _alike(name: str, first: Any, second: Any) -> bool:
    if name == _TOTAL:
        return bool(abs(first - second) <= _KERNELS_SHARE * max(first, second))
    if name == _VIRTUAL and UNKNOWN_MAKE in {first, second}:
        return BARE_METAL not in {first, second}
    return bool(first == second)


def against(name: str, values: Iterable[str | float | None]) -> str:
    """Return the values of one fact on several computers as text: "memory.total: 25.3 GB against 135 GB"."""
    return f"{name}: " + " against ".join("unknown" if value is None else shown(name, value) for value in values)


def reduced_power(facts: Mapping[str, Fact]) -> tuple[float, float] | None:
    """Return a card's power limit and its default, in W; None unless the limit was set below the default."""
    limit, default = known(facts, "gpu.power_limit"), known(facts, "gpu.power_limit_default")
    return (limit, default) if limit and default and limit < _REDUCED * default else None


def slowed_down(facts: Mapping[str, Fact]) -> list[str]:
    """Return the reasons of heat or power supply that limited a card's clocks when it was read."""
    reasons = known(facts, "gpu.throttle_reasons") or ()
    return [reason for reason in reasons if reason.endswith(("thermal", "slowdown", "brake"))]


def small_quota(facts: Mapping[str, Fact]) -> float | None:
    """Return the CPU quota in cores if it is below the machine's core count or not a whole number, else None.

    Hardware threads count as cores where the system does not tell which of them share one.
    """
    quota, cores = known(facts, "cpu.quota"), known(facts, "cpu.cores") or known(facts, "cpu.threads")
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
        return _items(name, value)
    if name == "cpu.caches" and isinstance(value, dict) and all(isinstance(size, int) for size in value.values()):
        return ", ".join(f"{level} {show(size, 'B')}" for level, size in value.items())
    return json.dumps(value, ensure_ascii=False)


def shown_text(name: str, text: str) -> str:
    """Return `shown` of a value that is a text already: JSON of lists and mappings, and of numbers that have a unit."""
    if text[:1] in {"[", "{"} or _unit(name):
        with contextlib.suppress(ValueError, RecursionError):
            return shown(name, json.loads(text))
    return text


def _items(name: str, value: list[Any]) -> str:
    if name in _PARTS and value and all(isinstance(part, dict) for part in value):
        return "; ".join(map(_PARTS[name], value))
    items = [_item(item) for item in value]
    return ", ".join(sorted(items) if name == "threadpools" else items) or "none"


def kind_of_core(kind: Mapping[str, Any]) -> str:
    """Return an item of `cpu.core_kinds` in words: "6 performance cores, CPUs 0-11, 4.7 GHz"."""
    cores, name = kind.get("cores"), f"{kind.get('kind', '')} core".strip()
    words = [counted(cores, name) if isinstance(cores, int) else f"? {name}s"]
    words += [f"CPUs {kind['cpus']}"] if kind.get("cpus") else []
    words += [show(clock, "Hz")] if _is_number(clock := kind.get("frequency")) else []
    words += [f"capacity {capacity:g}"] if _is_number(capacity := kind.get("capacity")) else []
    words += [f"{show(size, 'B')} of cache"] if _is_number(size := kind.get("last_level_cache")) else []
    return ", ".join(words)


def _memory_node(node: Mapping[str, Any]) -> str:
    size = node.get("bytes")
    where = f"CPUs {node['cpus']}" if node.get("cpus") else "without CPUs"
    return f"node {node.get('node')}: {show(size, 'B') if _is_number(size) else 'of unknown size'}, {where}"


_PARTS = {"cpu.core_kinds": kind_of_core, "memory.nodes": _memory_node}


def cuda_version(number: int) -> str:
    """Return CUDA's version number, 1000 major + 10 minor, as "major.minor"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _item(item: Any) -> str:
    """Return an item of a list: a thread pool of threadpoolctl becomes "libopenblas 0.3.31 SkylakeX with 2 threads"."""
    if isinstance(item, dict) and {"prefix", "num_threads"} <= item.keys():
        words = [str(item[key]) for key in ("prefix", "version", "architecture") if item.get(key)]
        return f"{' '.join(words)} with {item['num_threads']} threads"
    return f"{item:.2f}" if isinstance(item, float) else str(item)


def _number(name: str, value: float) -> str:
    if name in _SHARES:
        return f"{value:.1%}"
    unit = _unit(name)
    return show(value, unit) if unit else str(value)


def _unit(name: str) -> str:
    return _UNITS.get(name) or _UNITS.get(name.rpartition(".")[2].removesuffix("_max"), "")
