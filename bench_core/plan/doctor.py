"""Advice about this machine: what is missing, and what would disturb a measurement.

Pure functions of the findings: nothing is read, run or printed here. Each check is one function. An unknown
fact gives no advice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench_core.backends import registry
from bench_core.machine import host, topology
from bench_core.machine.facts import (
    BARE_METAL,
    busy_share,
    kind_of_core,
    known,
    reduced_power,
    shown,
    slowed_down,
    small_quota,
)
from bench_core.machine.kernel_files import numbers, ranges
from bench_core.machine.topology import Gpu, Pair, Topology
from bench_core.plan.discovery import Probe
from bench_core.records import Fact, Facts
from bench_core.units import counted

# OpenBLAS cores by the vectors that their kernels use (OpenBLAS, TargetList.txt).
_OPENBLAS_AVX512 = frozenset({"skylakex", "cooperlake", "sapphirerapids"})
_OPENBLAS_AVX2 = frozenset({"haswell", "zen", "excavator", "steamroller"})

_STEAL = 0.01  # share of the time that a hypervisor may take without a warning
_ROOM_B = 2e9  # memory in bytes, below which large cases are skipped
_SWAPPED = 0.01  # swap in use, as a share of the memory, without a warning
_COARSE_CLOCKS = frozenset({"hpet", "acpi_pm", "jiffies", "refined-jiffies"})

# Extras of pyproject.toml, the newest first: name, CUDA version, oldest driver branch that runs it (NVIDIA, CUDA
# Compatibility, "Minor Version Compatibility").
_EXTRAS = (("cuda13", 13, 580), ("cuda12", 12, 525))
_WITH_EXTRAS = frozenset({"cupy", "torch", "jax"})

_VARIABLES = {
    "OPENBLAS_CORETYPE": "it fixes the kernels that NumPy's OpenBLAS uses",
    "MKL_DEBUG_CPU_TYPE": "it fixes the kernels that MKL uses",
    "ONEDNN_MAX_CPU_ISA": "it limits the kernels that oneDNN uses",
    "OMP_PROC_BIND": "it binds threads to cores",
    "KMP_AFFINITY": "it binds threads to cores",
    "GOMP_CPU_AFFINITY": "it binds threads to cores",
    "OMP_WAIT_POLICY": "it decides whether idle threads spin",
    "LD_PRELOAD": "it loads code into every process",
}

# With these variables set, GPU rows do not measure what they claim.
_SPOILING = {
    "CUDA_LAUNCH_BLOCKING": "every GPU launch waits for its kernel; GPU rows are flagged `launch_blocking`",
    "NVIDIA_TF32_OVERRIDE": "it changes the precision of products below the library",
}


class Level(StrEnum):
    """How serious a finding is: it prevents measuring, it makes numbers wrong or noisy, or it is good to know."""

    BLOCKER = "blocker"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Advice:
    """One finding: what it is, why it matters, and the remedy."""

    level: Level
    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Findings:
    """The facts that the checks examine.

    host: facts of environment.host_environment and of `load_facts`. openblas_best: the OpenBLAS core type with the
    widest vectors that this CPU can run; None if unknown. cards: the driver's facts of each GPU; no_cards: why there
    are none. shadows: files of the working folder that have names of Python's own modules. topology: how the GPUs are
    connected.
    """

    host: Facts
    probes: Sequence[Probe]
    openblas_best: str | None = None
    cards: Sequence[Facts] = ()
    no_cards: str = ""
    shadows: Sequence[str] = ()
    topology: Topology = field(default_factory=Topology)


def examine(found: Findings) -> list[Advice]:
    """Return all advice, the most serious first; an empty list if the machine is ready."""
    advice = [item for check in _CHECKS for item in check(found)]
    return sorted(advice, key=lambda item: list(Level).index(item.level))


def load_facts(busy_share: float, steal_share: float) -> Facts:
    """Return the CPU load while nothing was measured, as facts. Both values are shares (0 to 1) of all CPU time."""
    return {"load.busy": Fact(busy_share, "psutil.cpu_times"), "load.steal": Fact(steal_share, "psutil.cpu_times")}


def _backends(found: Findings) -> Iterator[Advice]:
    if not any(probe.devices for probe in found.probes):
        yield Advice(Level.BLOCKER, "No backend works", "There is nothing to measure with", _install(found, "torch"))
    for probe in found.probes:
        if probe.available:
            continue
        if probe.reason_code == "not_installed":
            remedy = f"{_install(found, probe.backend)}, if you want it"
            yield Advice(
                Level.NOTE, f"{probe.backend} is missing", f"Its rows will have no value: {probe.reason}", remedy
            )
        elif probe.reason_code == "no_device":
            yield Advice(
                Level.NOTE, f"{probe.backend} has no device", probe.reason, "Nothing, on a machine without a GPU"
            )
        else:
            remedy = f"python -m bench_core.plan.discovery {probe.backend}"
            yield Advice(Level.WARNING, f"{probe.backend} does not work", probe.reason, f"See its output: {remedy}")


def _install(found: Findings, backend: str, before: str = "") -> str:
    """Return how to install a backend for this machine: for its GPU, by the driver's version, or for the CPU.

    before: an instruction that precedes the command.
    """
    if backend not in _WITH_EXTRAS:
        return f"Install the packages that {backend} needs"
    extra = _cuda_extra(found.cards[0]) if found.cards else "cuda13" if backend == "cupy" else backend
    if not extra:
        name, cuda, oldest = _EXTRAS[-1]
        return f"Update the driver: CUDA {cuda} (the extra {name}) needs {oldest} or newer"
    if backend == "jax" and found.cards:  # JAX has its own extras, of the same names
        return f'{before}python -m pip install "jax[{extra}]"'
    return f'{before}python -m pip install -e ".[{extra}]"'


def _cuda_extra(card: Facts) -> str:
    """Return the newest extra whose CUDA a card's driver supports; "" if it is too old, the newest if unknown."""
    cuda, driver = (_major(known(card, name)) for name in ("gpu.driver_cuda", "gpu.driver"))
    for extra, needs_cuda, needs_driver in _EXTRAS:
        if cuda >= needs_cuda or (not cuda and driver >= needs_driver) or not cuda + driver:
            return extra
    return ""


def _major(version: str | None) -> int:
    """Return the first number of a version; 0 if unknown."""
    first = str(version or "").partition(".")[0]
    return int(first) if first.isdecimal() else 0


def _gpus_unseen(found: Findings) -> Iterator[Advice]:
    """Warn of each library that cannot use a GPU that the driver lists, or once if no library can."""
    if not found.cards:
        return
    seeing = [probe for probe in found.probes if any(d.device.startswith("cuda") for d in probe.devices)]
    if seeing:
        for probe in (p for p in found.probes if p.available and p not in seeing and _expects_cuda(p.backend)):
            yield Advice(
                Level.WARNING,
                f"{probe.backend} does not see the GPU",
                "It was built without CUDA, or for a newer CUDA than the driver's; its GPU rows will be skipped",
                _install(found, probe.backend, "Uninstall it, then "),
            )
        return
    visible = known(found.host, "env.CUDA_VISIBLE_DEVICES")
    if visible in {"", "-1"}:
        remedy = "Unset CUDA_VISIBLE_DEVICES, which hides every GPU"
    else:
        remedy = _install(found, "torch", "Uninstall a torch that was built without CUDA, then ")
    name = known(found.cards[0], "gpu.name") or "GPU"
    yield Advice(Level.WARNING, f"No library uses the {name}", "Every GPU row will be skipped", remedy)


def _expects_cuda(backend: str) -> bool:
    return "cuda" in registry.load(backend).devices_expected


def _slow_blas(found: Findings) -> Iterator[Advice]:
    """Warn of AVX2 kernels on a CPU with AVX-512: OpenBLAS uses them for CPU models that it does not know."""
    best = found.openblas_best
    for pool in _pools(found, "numpy"):
        core = str(pool.get("architecture") or "").lower()
        if pool.get("internal_api") != "openblas" or not core or best is None:
            continue
        fast = _OPENBLAS_AVX512 if best == "SKYLAKEX" else _OPENBLAS_AVX512 | _OPENBLAS_AVX2
        if core not in fast:
            forced = known(found.host, "env.OPENBLAS_CORETYPE") is not None
            cause = "OPENBLAS_CORETYPE selects them" if forced else "OpenBLAS does not know this model"
            yield Advice(
                Level.WARNING,
                f"NumPy multiplies with OpenBLAS's {core} kernels; this CPU can run {best.lower()}",
                f"{cause}; wider vectors give up to twice the speed",
                f"Unset OPENBLAS_CORETYPE, or set it to {best}; compare the `tuned` rows",
            )


def _governor(found: Findings) -> Iterator[Advice]:
    governor = known(found.host, "cpu.governor")
    if governor and governor != "performance":
        remedy = "sudo cpupower frequency-set --governor performance"
        yield Advice(Level.WARNING, f"The CPU governor is {governor}", "Clocks rise only after work has begun", remedy)


def _quota(found: Findings) -> Iterator[Advice]:
    quota = small_quota(found.host)
    if quota:
        yield Advice(
            Level.WARNING,
            f"A control group limits this process to {quota:g} core{'s' * (quota != 1)}",
            "Threads are stopped within each 100 ms once the quota is spent",
            "Give the container whole cores by affinity (--cpuset-cpus) instead of a quota (--cpus)",
        )


def _given(found: Findings) -> Iterator[Advice]:
    fact = found.host.get("cpu.given", Fact())
    if fact.value:
        what = f"{fact.source} gives this job {fact.value:g} of {known(found.host, 'cpu.threads')} hardware threads"
        why = "CPU rows use no more; nothing keeps other jobs off these cores"
        yield Advice(Level.NOTE, what, why, "Ask the batch system to bind the job to its cores")


def _unlike_cores(found: Findings) -> Iterator[Advice]:
    """Name the kinds of cores that this process may use, if there are several, and how to keep to one of them."""
    kinds = [kind for kind in known(found.host, "cpu.core_kinds") or () if _usable(found, kind)]
    if len(kinds) < 2:
        return
    fastest = str(kinds[0].get("cpus") or "")
    remedy = f"{_pinned(fastest)} measures the first kind alone"
    if not fastest:
        remedy = "Nothing: this system chooses the cores. Compare such machines with their own kind"
    words = "; ".join(kind_of_core(kind) for kind in kinds)
    why = "Work that is divided equally waits for the slowest core"
    yield Advice(Level.WARNING, f"The cores are not alike: {words}", why, remedy)


def _usable(found: Findings, kind: Mapping[str, Any]) -> bool:
    """Whether this process may use a core of a kind; yes if the system does not number its cores."""
    cpus, affinity = numbers(str(kind.get("cpus") or "")), numbers(known(found.host, "cpu.affinity") or "")
    return not cpus or not affinity or bool(cpus & affinity)


def _unlike_memory(found: Findings) -> Iterator[Advice]:
    """Name memory that differs by its node: nodes without CPUs are of another kind, as HBM or an expander."""
    nodes = known(found.host, "memory.nodes") or ()
    bare = [node for node in nodes if not node.get("cpus")]
    if bare and len(bare) < len(nodes):
        first = next(node for node in nodes if node.get("cpus"))
        what = f"The memory is not alike: {shown('memory.nodes', list(nodes))}"
        remedy = f"numactl --cpunodebind={first['node']} --membind={first['node']} bench-core run keeps to one node"
        yield Advice(Level.NOTE, what, "A node without CPUs is memory of another kind and speed", remedy)


def _pinned(cpus: str) -> str:
    """Return the command that runs the suite on some CPUs, on this system."""
    pin = "cpuset -l" if sys.platform.startswith("freebsd") else "taskset --cpu-list"
    return f"{pin} {cpus} bench-core run"


def _shadows(found: Findings) -> Iterator[Advice]:
    if found.shadows:
        what = f"{', '.join(found.shadows)} in this folder: a name of Python's own modules"
        why = "Programs that import from this folder first, such as `python -m pytest`, get it in place of Python's"
        yield Advice(Level.WARNING, what, why, "Rename it, or start with `bench-core run` or `pytest`")


def _other_load(found: Findings) -> Iterator[Advice]:
    busy, steal = busy_share(found.host), known(found.host, "load.steal")
    if busy:
        what = f"Other programs use {busy:.0%} of the CPU"
        yield Advice(Level.WARNING, what, "They take cores and cache from the measurement", "Stop them, or wait")
    if steal is not None and steal > _STEAL:
        what = f"The hypervisor takes {steal:.1%} of the CPU time away"
        yield Advice(Level.WARNING, what, "Other virtual machines on the host slow it down", "Use a dedicated instance")


def _memory(found: Findings) -> Iterator[Advice]:
    available, total = known(found.host, "memory.available"), known(found.host, "memory.total")
    swapped = known(found.host, "memory.swap_used")
    if available is not None and available < _ROOM_B:
        what = f"Only {available / 1e9:.1f} GB of memory are free"
        yield Advice(Level.WARNING, what, "Larger cases will be skipped as too_large", "Close other programs")
    if swapped and total and swapped > _SWAPPED * total:
        what = f"{swapped / 1e9:.1f} GB are in swap"
        yield Advice(Level.WARNING, what, "Reading a page back takes milliseconds", "sudo swapoff --all")


def _threads(found: Findings) -> Iterator[Advice]:
    threads, cores = known(found.host, "cpu.threads"), known(found.host, "cpu.cores")
    if threads and cores and threads > cores:
        what = f"{threads} hardware threads share {counted(cores, 'core')}"
        yield Advice(Level.NOTE, what, "One thread per core is fastest, and is what the suite uses", "Nothing")
    usable = known(found.host, "cpu.cores_usable")
    every = cores or threads
    if usable and every and usable < every:
        what = f"This process may use {usable} of {counted(every, 'core' if cores else 'hardware thread')}"
        yield Advice(Level.NOTE, what, "CPU rows measure only those cores", "Widen the affinity or the quota")


def _variables(found: Findings) -> Iterator[Advice]:
    unused = dict.fromkeys(host.THREAD_VARIABLES, "it has no effect: each worker gets its own thread count")
    for name, effect in (_SPOILING | _VARIABLES | unused).items():
        fact = found.host.get(f"env.{name}")
        if fact is None or (fact.value == "0" and name != "NVIDIA_TF32_OVERRIDE"):  # its 0 turns TF32 off
            continue
        value = f"={fact.value}" if fact.value is not None else ""
        level = Level.WARNING if name in _SPOILING else Level.NOTE
        yield Advice(
            level, f"{name}{value} is set", effect[0].upper() + effect[1:], f"unset {name}, unless it is intended"
        )


def _clock(found: Findings) -> Iterator[Advice]:
    source = known(found.host, "system.clock_source")
    if source in _COARSE_CLOCKS:
        why = "Reading the time is a system call and takes microseconds"
        yield Advice(
            Level.WARNING, f"The kernel's clock is {source}", why, "Boot with clocksource=tsc where the CPU has it"
        )


def _virtual(found: Findings) -> Iterator[Advice]:
    maker = known(found.host, "system.virtual_machine")
    if maker and maker != BARE_METAL:
        what = f"This is a virtual machine ({maker})"
        yield Advice(Level.NOTE, what, "Other virtual machines and unknown clocks add noise", "Repeat runs (--runs)")


def _gpus(found: Findings) -> Iterator[Advice]:
    several = len(found.cards) + len(found.topology.silent) > 1
    for card in found.cards:
        name, number = known(card, "gpu.name") or "GPU", known(card, "gpu.number")
        whose = f"GPU {number}, {name}" if several and number is not None else name
        yield from (Advice(level, f"{whose}: {what}", why, remedy) for level, what, why, remedy in _gpu(card))


def _silent_gpus(found: Findings) -> Iterator[Advice]:
    """Warn of GPUs of which the driver tells nothing, unless it says that they are withheld from this process."""
    for gpu in found.topology.silent:
        if not gpu.is_withheld:
            what = f"GPU {gpu.number} does not answer: {gpu.reason}"
            remedy = "See dmesg for Xid, and restart the machine; if it happens again, check the card and its slot"
            yield Advice(Level.WARNING, what, "Nothing can be measured on it", remedy)


def _gpu(card: Facts) -> Iterator[tuple[Level, str, str, str]]:
    others = known(card, "gpu.other_processes")
    if others:
        what = f"{others} other processes compute" if others > 1 else "1 other process computes"
        yield Level.WARNING, f"{what} on it", "They share its time and memory", "Stop them"
    if power := reduced_power(card):
        limit, default = power
        remedy = f"sudo nvidia-smi --power-limit {default:g}"
        yield Level.WARNING, f"power limit {limit:g} W of {default:g} W", "Clocks fall under load", remedy
    if known(card, "gpu.persistence") is False:
        why = "The driver unloads between processes: first calls take seconds"
        yield Level.NOTE, "persistence mode is off", why, "sudo nvidia-smi --persistence-mode 1"
    width, widest = known(card, "gpu.pcie_width"), known(card, "gpu.pcie_width_max")
    if width and widest and width < widest:
        why = "Transfers have only that share of the bandwidth"
        yield Level.WARNING, f"{width} of {widest} PCIe lanes", why, "Use a slot with all lanes"
    if reasons := slowed_down(card):
        what = f"slowed down ({', '.join(reasons)})"
        yield Level.WARNING, what, "Its clocks are limited even without load", "Check its cooling and power supply"
    if known(card, "gpu.mig"):
        yield (
            Level.NOTE,
            "MIG is on",
            "A slice of the card is measured, not the card",
            "Compare slices with slices only",
        )


def _without_p2p(found: Findings) -> Iterator[Advice]:
    """Warn of GPUs that cannot read each other's memory, once for each cause."""
    without = [pair for pair in found.topology.pairs if pair.p2p.value is False]
    for cause in dict.fromkeys(pair.refusal for pair in without):
        pairs = [pair for pair in without if pair.refusal == cause]
        why = f"Here {cause}; what they exchange goes through the memory of the host"
        remedy = "nvidia-smi topo -p2p r shows them; compare such machines with their own kind"
        yield Advice(Level.WARNING, f"No P2P between {_gpus_of(pairs, found)}", why, remedy)


def _unlike_links(found: Findings) -> Iterator[Advice]:
    """Warn of pairs of GPUs with no or fewer NVLinks than others, and name pairs that exchange across NUMA nodes."""
    pairs = found.topology.pairs
    linked, bare = [p for p in pairs if p.nvlinks], [p for p in pairs if p.nvlinks == 0]
    if linked and bare:
        what = f"NVLink connects {_gpus_of(linked, found)}, but not {_gpus_of(bare, found)}"
        yield _unlike(what, linked[0])
    counts = {pair: pair.nvlinks or 0 for pair in linked if not _lacks_links(pair, found)}
    if len(set(counts.values())) > 1:
        best, least = max(counts, key=lambda pair: counts[pair]), min(counts.values())
        fewest = _gpus_of([pair for pair, links in counts.items() if links == least], found)
        yield _unlike(f"{counted(least, 'NVLink')} between {fewest}, up to {counts[best]} between others", best)
    across = [pair for pair in pairs if pair.level.value == topology.ACROSS and not pair.nvlinks]
    if across:
        what = f"The way between {_gpus_of(across, found)} is across NUMA nodes"
        near = next((pair for pair in pairs if pair not in across), None)
        remedy = f"Measure {_selected(near)}" if near else "Nothing, if these are all GPUs"
        why = "What they exchange crosses the link between the sockets or nodes"
        yield Advice(Level.NOTE, what, why, f"{remedy}; nvidia-smi topo -m shows all ways")


def _unlike(what: str, best: Pair) -> Advice:
    remedy = f"Measure {_selected(best)}, or compare such machines with their own kind"
    return Advice(Level.WARNING, what, "The slowest connection decides how fast all GPUs exchange", remedy)


def _lacks_links(pair: Pair, found: Findings) -> bool:
    """Whether two GPUs meet at NVSwitch, and one has links that are down: `_nvlinks_down` names that one alone."""
    two = [gpu for gpu in found.topology.gpus if gpu.number in {pair.first, pair.second}]
    return pair.through_switch and any(len(gpu.up) < len(gpu.nvlinks.value or ()) for gpu in two)


def _gpus_of(pairs: Sequence[Pair], found: Findings) -> str:
    said = topology.named([str(pair) for pair in pairs], len(found.topology.pairs))
    return "each two GPUs" if said == "each two" else f"GPUs {said}"


def _selected(pair: Pair) -> str:
    return f"GPUs {pair} alone (CUDA_VISIBLE_DEVICES={pair.first},{pair.second})"


def _nvlinks_down(found: Findings) -> Iterator[Advice]:
    """Warn of a GPU with fewer NVLinks up than others of its model have, or than lead to NVSwitch; else only note it.

    Boards that connect some of the links, and cards without a bridge, are made so.
    """
    for gpu in found.topology.gpus:
        down = len(gpu.nvlinks.value or ()) - len(gpu.up)
        most = max(len(other.up) for other in found.topology.gpus if other.name == gpu.name)
        if not down or not most:
            continue
        what = f"GPU {gpu.number}, {gpu.name}: {down} of {counted(len(gpu.nvlinks.value), 'NVLink')} "
        what += "is down" if down == 1 else "are down"
        remedy = "See nvidia-smi nvlink --status, and dmesg for Xid 74"
        if len(gpu.up) < most:
            yield Advice(Level.WARNING, what, f"Another GPU of this model has {most} up", remedy)
        elif gpu.to_switch:
            yield Advice(Level.WARNING, what, "All links of a GPU lead to NVSwitch", remedy)
        else:
            why = "No GPU of this model has more up here: some boards connect only a part of the links"
            yield Advice(Level.NOTE, what, why, remedy)


def _few_lanes(found: Findings) -> Iterator[Advice]:
    """Warn of slots with fewer lanes than the card has; for a link with fewer lanes than the slot see `_gpu`."""
    for gpu in found.topology.gpus:
        lanes, most = gpu.pcie.width_max.value, gpu.pcie.lanes_of_card.value
        if lanes and most and lanes < most:
            what = f"GPU {gpu.number}, {gpu.name}: its slot has {lanes} of the card's {most} PCIe lanes"
            yield Advice(Level.WARNING, what, "Transfers have only that share of the bandwidth", "Use another slot")


def _far_cores(found: Findings) -> Iterator[Advice]:
    """Warn of GPUs at a NUMA node of which this process may use no core."""
    own = numbers(known(found.host, "cpu.affinity") or "")
    for node in known(found.host, "memory.nodes") or ():
        cpus = str(node.get("cpus") or "")
        gpus = [gpu for gpu in found.topology.gpus if gpu.numa_node.value == node.get("node")]
        if gpus and cpus and own and not numbers(cpus) & own:
            what = f"{_listed(gpus)} at NUMA node {node['node']}, of whose cores this process may use none"
            why = "Launches and transfers cross the link between the nodes"
            yield Advice(Level.WARNING, what, why, f"{_pinned(cpus)} keeps to that node")


def _listed(gpus: Sequence[Gpu]) -> str:
    said = ranges(gpu.number for gpu in gpus)
    return f"GPU {said} is" if len(gpus) == 1 else f"GPUs {said} are"


_CHECKS: tuple[Callable[[Findings], Iterator[Advice]], ...] = (
    _backends, _shadows, _gpus_unseen, _slow_blas, _governor, _quota, _unlike_cores, _other_load, _memory, _gpus,
    _silent_gpus, _few_lanes, _nvlinks_down, _without_p2p, _unlike_links, _far_cores, _clock, _variables, _given,
    _unlike_memory, _threads, _virtual,
)  # fmt: skip


def _pools(found: Findings, backend: str) -> Iterator[dict[str, Any]]:
    for probe in found.probes:
        for device in probe.devices if probe.backend == backend else ():
            yield from known(device.facts, "threadpools") or ()
