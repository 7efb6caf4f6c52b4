"""What the CPU is: its model and identity on every system, and the kinds of cores of a hybrid one.

The readers are in the order of trust: /proc/cpuinfo (Linux, Android), sysctl (macOS, BSD), the registry (Windows), and
`platform.processor`, which often names only an architecture. That is no model: an M1 and an M2 are both "arm".
Serial numbers, which some systems list beside it (s390x: `identification`; OpenBSD: `hw.serialno`), are in no fact.
"""

from __future__ import annotations

import functools
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.machine import kernel_files
from bench_core.machine.facts import BOARD_UNKNOWN, is_model
from bench_core.machine.kernel_files import asked
from bench_core.machine.privacy import why_private
from bench_core.records import Fact
from bench_core.text import printable

CPUINFO = "/proc/cpuinfo"
_NO_NAME = frozenset({"", "unknown", "-", "0", "generic dt based system"})
_LONGEST = 100  # characters of a name

# Designers of Arm cores and their cores, by the numbers in /proc/cpuinfo (the register MIDR_EL1; Arm, Architecture
# Reference Manual for A-profile, DDI 0487; the technical reference manual of each core). An unknown number stays one.
_ARM_DESIGNERS = {
    0x41: "Arm", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x50: "APM",
    0x51: "Qualcomm", 0x53: "Samsung", 0x61: "Apple", 0x6D: "Microsoft", 0x70: "Phytium", 0xC0: "Ampere",
}  # fmt: skip
_ARM_CORES = {
    (0x41, 0xC07): "Cortex-A7", (0x41, 0xC09): "Cortex-A9", (0x41, 0xC0F): "Cortex-A15", (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35", (0x41, 0xD05): "Cortex-A55", (0x41, 0xD07): "Cortex-A57", (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73", (0x41, 0xD0A): "Cortex-A75", (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1", (0x41, 0xD0D): "Cortex-A77", (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78", (0x41, 0xD42): "Cortex-A78AE", (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710", (0x41, 0xD48): "Cortex-X2", (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4A): "Neoverse-E1", (0x41, 0xD4D): "Cortex-A715", (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2", (0x41, 0xD80): "Cortex-A520", (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4", (0x41, 0xD84): "Neoverse-V3", (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725", (0x41, 0xD8E): "Neoverse-N3", (0x43, 0x0AF): "ThunderX2", (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "Kunpeng-920", (0x4E, 0x004): "Carmel", (0x51, 0x001): "Oryon",
}  # fmt: skip

_ALIKE = 0.85  # cores whose highest clock, or capacity, is at least this share of the best's are of one kind
_SYSCTL_FILES = ("/usr/sbin/sysctl", "/sbin/sysctl")
_SYSCTL_NAMES = ("machdep.cpu", "machdep.cpu_brand", "hw", "kern.hv_vmm_present")


@functools.cache
def model() -> Fact:
    """Return the model of the CPU, or why it is unknown. The name of an architecture is no model."""
    sources = (
        (_from_cpuinfo, CPUINFO),
        (_from_sysctl, "sysctl"),
        (_from_registry, "the registry"),
        (platform.processor, "platform.processor"),
    )
    for read, source in sources:
        name = printable(read() or "", _LONGEST)
        if is_model(name):
            private = why_private(name)
            return Fact(reason=f"withheld: it contains {private}") if private else Fact(name, source)
    linux = sys.platform == "linux"
    here = kernel_files.why_unread(CPUINFO) if linux else _sysctl().reason or "sysctl does not name it"
    return Fact(reason=f"unknown CPU model: {here}; platform.processor is {platform.processor() or 'empty'!r}")


@functools.cache
def identity() -> Fact:
    """Return the numbers by which a maker tells its models apart; x86 and Arm on Linux only.

    One name may cover several models: on virtual machines every "Intel Xeon Processor" has a family and a model.
    """
    processors = _processors()
    first: Mapping[str, str] = processors[0] if processors else {}
    vendor, family, number, stepping = (first.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping"))
    if family.isdigit() and number.isdigit():
        return Fact(f"{vendor} family {family} model {number} stepping {stepping}", CPUINFO)
    if _arm_cores():
        revisions = dict.fromkeys(f"{_arm_core(core)} {_arm_revision(core)}" for core in processors)
        return Fact(", ".join(revisions), CPUINFO)
    return Fact(reason="only /proc/cpuinfo of x86 and Arm lists it")


@functools.cache
def flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux names them; empty if the kernel lists none."""
    return frozenset(next((text for key, text in _fields() if key in {"flags", "Features", "features"}), "").split())


@functools.cache
def kinds() -> Fact:
    """Return the kinds of cores of this machine, whichever of them this process may use; the fastest kind first.

    A list with one item for each kind: `kind` (its name), `cores`, `cpus` (as in "0-3,8"; "" where the system does not
    number them) and, if known, `frequency` (the highest of them, in Hz), `last_level_cache` (of each domain of cores,
    in bytes) and, of several kinds, `capacity` (the highest of them; 1024 is that of the most capable cores, and tells
    nothing where all are alike). Cores are of one kind if
    nothing that the system tells of them differs: the kind itself, the model, the last-level cache and, roughly, the
    capacity and the highest frequency.
    """
    if levels := _performance_levels():
        return Fact(levels, "sysctl hw.perflevel")
    source = "/sys/devices/system/cpu"
    cpus = kernel_files.numbers(kernel_files.read(f"{source}/online") or "") or _listed(source)
    if not cpus:
        return Fact(reason=f"no {source}/cpu*" if sys.platform == "linux" else "this system does not list its cores")
    designations, clocks = _designations(cpus), _ranks({cpu: _frequency(cpu) for cpu in cpus})
    capacities = _ranks({cpu: _capacity(cpu) for cpu in cpus})
    groups: dict[tuple[int, int, int, str], list[int]] = {}
    for cpu in sorted(cpus):
        key = (clocks[cpu], capacities[cpu], -(last_level(cpu) or 0), designations[cpu])
        groups.setdefault(key, []).append(cpu)
    order = sorted(groups, key=lambda key: key[:3])  # fast, capable, with more cache
    found = [_kind(key[3], groups[key]) for key in order]
    if len(found) == 1:
        found[0].pop("capacity", None)
    return Fact(found, source)


def _ranks(values: Mapping[int, float | None]) -> Mapping[int, int]:
    """Return 0 for the cores with the highest value and those like them, 1 for the next, and so on; 0 if unknown."""
    found, rank, highest = dict.fromkeys(values, 0), 0, 0.0
    for cpu, value in sorted(((cpu, value) for cpu, value in values.items() if value), key=lambda pair: -pair[1]):
        if value < _ALIKE * highest:
            rank, highest = rank + 1, value
        highest = highest or value
        found[cpu] = rank
    return found


def _kind(name: str, cpus: Sequence[int]) -> dict[str, Any]:
    siblings = {kernel_files.read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus}
    cores = len(cpus) if None in siblings else len(siblings)
    kind: dict[str, Any] = {"kind": name, "cores": cores, "cpus": kernel_files.ranges(cpus)}
    for fact, read in (("frequency", _frequency), ("capacity", _capacity), ("last_level_cache", last_level)):
        if known := [value for cpu in cpus if (value := read(cpu))]:
            kind[fact] = max(known)
    return kind


def _listed(folder: str) -> frozenset[int]:
    names = (path.rpartition("/cpu")[2] for path in kernel_files.matching(f"{folder}/cpu[0-9]*"))
    return frozenset(int(name) for name in names if name.isdigit())


def _designations(cpus: Collection[int]) -> Mapping[int, str]:
    """Return what the kernel calls the kind of each core: that of its counters (Intel), or its model (Arm); else ""."""
    names = dict.fromkeys(cpus, "")
    names |= {int(core["processor"]): _arm_core(core) for core in _processors()}
    for unit, name in (("cpu_core", "performance"), ("cpu_atom", "efficiency"), ("cpu_lowpower", "low power")):
        names |= dict.fromkeys(kernel_files.numbers(kernel_files.read(f"/sys/devices/{unit}/cpus") or ""), name)
    return names


def _frequency(cpu: int) -> float | None:
    """Return the highest frequency of a CPU in Hz, without or with boost as the driver reports it."""
    kilohertz = kernel_files.read_number(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq")
    return kilohertz * 1e3 if kilohertz else None


def _capacity(cpu: int) -> int | None:
    """Return the capacity of a CPU: its work per second, of 1024 for the most capable of the machine."""
    return kernel_files.read_number(f"/sys/devices/system/cpu/cpu{cpu}/cpu_capacity")


def last_level(cpu: int) -> int | None:
    """Return the size of the last-level cache that a CPU uses, in bytes; None if the kernel does not report it."""
    found = []
    for index in kernel_files.matching(f"/sys/devices/system/cpu/cpu{cpu}/cache/index[0-9]*"):
        level, size = kernel_files.read_number(f"{index}/level"), kernel_files.read(f"{index}/size") or ""
        if level and re.fullmatch(r"\d+[KMG]?", size) and kernel_files.read(f"{index}/type") != "Instruction":
            found.append((level, binary_size(size)))
    return max(found)[1] if found else None


def binary_size(text: str) -> int:
    """Return the bytes of a size as the kernel writes it: "512", "48K", "2M"."""
    return int(text.rstrip("KMG")) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1], 1)


# ---------------------------------------------------------------- Linux


def _fields() -> list[tuple[str, str]]:
    """Return the lines of /proc/cpuinfo as pairs of name and text."""
    lines = (line.partition(":") for line in (kernel_files.read(CPUINFO) or "").splitlines())
    return [(key.strip(), text.strip()) for key, colon, text in lines if colon]


@functools.cache
def _processors() -> tuple[Mapping[str, str], ...]:
    """Return the fields of /proc/cpuinfo of each hardware thread."""
    found: list[dict[str, str]] = []
    for key, text in _fields():
        if key == "processor" and text.isdigit():
            found.append({})
        if found:
            found[-1].setdefault(key, text)
    with_core = [of for of in found if "CPU part" in of]
    if with_core == found[-1:]:  # kernels before 3.8 on Arm list once, after all processors, what holds for each
        found = [found[-1] | of for of in found]
    return tuple(found)


def _from_cpuinfo() -> str:
    fields = dict(reversed(_fields()))  # of several lines of one name the first
    if cores := _arm_cores():
        return f"{' + '.join(cores)} ({_board(fields)})"
    for key in ("model name", "Model Name", "cpu model"):  # x86; LoongArch; MIPS
        if (name := fields.get(key, "")).lower() not in _NO_NAME:
            return name
    if fields.get("cpu family", "").isdigit() and fields.get("model", "").isdigit():  # x86 that gives no name
        return f"{fields.get('vendor_id', 'x86')} family {fields['cpu family']} model {fields['model']}"
    if "hart" in fields:  # RISC-V
        numbers = " ".join(filter(None, (fields.get("mvendorid"), fields.get("marchid"))))
        core = fields.get("uarch") or f"RISC-V {numbers or fields.get('isa', '').partition('_')[0]}"
        return f"{core} ({_board(fields)})"
    if "IBM/S390" in fields.get("vendor_id", ""):  # `identification` beside it is a serial number
        machine = re.search(r"\bmachine = (\w+)", " ".join(text for _, text in _fields()))
        return f"IBM Z {machine[1]}" if machine else ""
    return fields.get("cpu", "").partition(",")[0]  # POWER, SPARC


def _arm_cores() -> list[str]:
    """Return the models of the Arm cores, each once, in the order of their numbers; empty on another CPU."""
    return [name for name in dict.fromkeys(map(_arm_core, _processors())) if name]


def _arm_core(core: Mapping[str, str]) -> str:
    """Return the model of an Arm core; "" if its number is unknown, or 0, by which a hypervisor hides it (Apple's)."""
    try:
        designer, part = int(core["CPU implementer"], 16), int(core["CPU part"], 16)
    except (KeyError, ValueError):
        return ""
    name = _ARM_DESIGNERS.get(designer, f"designer {designer:#x}")
    return _ARM_CORES.get((designer, part)) or (f"{name} core {part:#05x}" if part else "")


def _arm_revision(core: Mapping[str, str]) -> str:
    variant, revision = core.get("CPU variant", "?"), core.get("CPU revision", "?")
    return f"r{int(variant, 16)}p{revision}" if re.fullmatch(r"0x[0-9a-f]+", variant) else f"r?p{revision}"


def _board(fields: Mapping[str, str]) -> str:
    """Return the model of the machine, by which those that have the same cores differ, or that it is not told."""
    told = (kernel_files.read("/proc/device-tree/model"), fields.get("Model"), product(), fields.get("Hardware"))
    for text in told:  # the last is a chip, which Android tells alone
        if text and text.lower() not in _NO_NAME and not why_private(text):
            return printable(text, 60)
    return BOARD_UNKNOWN


def product() -> str:
    """Return maker and product of the computer, as its firmware names them to every user."""
    return " ".join(filter(None, (kernel_files.read(f"/sys/class/dmi/id/{n}") for n in ("sys_vendor", "product_name"))))


# ---------------------------------------------------------------- macOS, BSD, Windows


@functools.cache
def sysctl() -> Mapping[str, str]:
    """Return the values of `sysctl` on macOS and BSD by name; empty on other systems, or if it cannot be run."""
    return parsed(_sysctl().value or ())


@functools.cache
def _sysctl() -> Fact:
    """Return the lines that `sysctl` writes, or why there are none."""
    if not re.match(r"darwin|.*bsd|dragonfly", sys.platform):
        return Fact(reason="this system does not name it")
    told = [asked(functools.partial(_sysctl_lines, name), "sysctl") for name in _SYSCTL_NAMES]
    lines = [line for fact in told for line in fact.value or ()]
    return Fact(lines, "sysctl") if lines else Fact(reason=told[0].reason or "sysctl writes nothing")


def _sysctl_lines(name: str) -> list[str]:
    """Return what `sysctl` writes of a name. PATH may lack its folder: a job of cron searches /usr/bin and /bin."""
    program = next((path for path in _SYSCTL_FILES if Path(path).is_file()), "sysctl")
    done = subprocess.run([program, name], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.splitlines()


def parsed(lines: Sequence[str]) -> Mapping[str, str]:
    """Return the values in lines of `sysctl`: "name: value" (macOS, FreeBSD), "name=value" (OpenBSD, NetBSD)."""
    found = (re.match(r"([\w.]+)\s*[:=]\s*(.*)", line) for line in lines)
    return {match[1]: match[2].strip() for match in found if match}


def _from_sysctl() -> str:
    names = sysctl()
    brand = names.get("machdep.cpu.brand_string") or names.get("machdep.cpu_brand") or names.get("hw.model", "")
    # Rosetta calls the CPU "VirtualApple"; the model of the computer (MacBookPro17,1) tells one from another.
    vague = brand.startswith("VirtualApple") or brand == "Apple processor"
    return f"{brand.partition('@')[0].strip()} ({names['hw.model']})" if vague and "hw.model" in names else brand


def _performance_levels() -> list[dict[str, Any]]:
    """Return the kinds of cores of a Mac with its own processor, the fastest first."""
    names = sysctl()
    found = []
    for level in range(int(names.get("hw.nperflevels", "0")) if names.get("hw.nperflevels", "0").isdigit() else 0):
        known = {key: names.get(f"hw.perflevel{level}.{key}", "") for key in ("name", "physicalcpu", "l2cachesize")}
        if known["physicalcpu"].isdigit():
            kind: dict[str, Any] = {"kind": known["name"].lower(), "cores": int(known["physicalcpu"]), "cpus": ""}
            cache = {"last_level_cache": int(known["l2cachesize"])} if known["l2cachesize"].isdigit() else {}
            found.append(kind | cache)
    return found


def sysctl_caches() -> dict[int, int]:
    """Return the total size of the data caches by level, in bytes, as macOS reports them; empty elsewhere."""
    names = {name: int(text) for name, text in sysctl().items() if text.isdigit()}
    totals: dict[int, int] = {}
    for level in range(names.get("hw.nperflevels", 0)):
        of = {key.partition(f"hw.perflevel{level}.")[2]: value for key, value in names.items()}
        cores = of.get("physicalcpu", 0)
        if of.get("l1dcachesize"):
            totals[1] = totals.get(1, 0) + cores * of["l1dcachesize"]
        if of.get("l2cachesize") and of.get("cpusperl2"):
            totals[2] = totals.get(2, 0) + -(-cores // of["cpusperl2"]) * of["l2cachesize"]
    if not totals:  # an Intel Mac: L1 and L2 of each core, L3 of each package
        counts = {"l1d": names.get("hw.physicalcpu", 0), "l2": names.get("hw.physicalcpu", 0)}
        for level, cache, count in ((1, "l1d", counts["l1d"]), (2, "l2", counts["l2"]), (3, "l3", 1)):
            if size := names.get(f"hw.{cache}cachesize"):
                totals[level] = size * count * (names.get("hw.packages", 1) if cache == "l3" else 1)
    return {level: size for level, size in totals.items() if size}


def registry(key: str, name: str) -> str:
    """Return a value of HKEY_LOCAL_MACHINE on Windows; "" elsewhere, or if there is none."""
    try:
        import winreg  # noqa: PLC0415 - Windows only
    except ModuleNotFoundError:
        return ""
    api: Any = winreg  # other systems' type stubs know none of its names
    try:
        with api.OpenKey(api.HKEY_LOCAL_MACHINE, key) as opened:
            return str(api.QueryValueEx(opened, name)[0]).strip()
    except OSError:
        return ""


def _from_registry() -> str:
    return registry(r"HARDWARE\DESCRIPTION\System\CentralProcessor\0", "ProcessorNameString")
