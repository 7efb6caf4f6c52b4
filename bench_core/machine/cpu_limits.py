"""Upper bounds of what the CPU of this machine can do: arithmetic by format, and bytes of caches and main memory.

    FLOP/s = cores x clock x operations per cycle        B/s = cores x clock x bytes per cycle

A rate above them is not a measurement. They are not what a CPU reaches. Where the model of a core is not known, the
figures are those of the widest core that was sold with its instruction set, and where the clock is not known, it is
FASTEST_CLOCK. So the bounds of most machines are several times the best rate, and no honest kernel comes near them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from bench_core.machine import allotment, datasheets, host, processor, smbios
from bench_core.records import Fact
from bench_core.units import show

FASTEST_CLOCK = 6.5e9  # Hz; no CPU was sold with a higher boost clock than 6.2 GHz (Intel Core i9-14900KS)

# Float32 operations per cycle and core of x86 vectors, by flag, the widest first. AVX-512, AVX2: two pipes multiply and
# add (2 operations per element), and two more pipes add (AMD, Software Optimization Guide for the Zen 5
# Microarchitecture, publication 58455, section 2.11; Zen 2 to 4 and Intel's Lion Cove have as many pipes of 256 bits,
# other cores of Intel have fewer that add). Before AVX2 a core had one pipe that multiplied and one that added, or two
# pipes of 128 bits that did both.
_X86 = {
    "avx512f": ("AVX-512", 2 * 16 * 2 + 2 * 16),
    "avx2": ("AVX2", 2 * 8 * 2 + 2 * 8),
    "sse2": ("AVX", 2 * 8),
}
# Bytes that the same cores load and store per cycle. AVX-512: two loads and one store of 64 bytes (Zen 5, Golden
# Cove). AVX2: three loads and two stores of 32 bytes (Golden Cove, Lion Cove). Before: two loads and one store of 16
# bytes, but `rep movsb` loads and stores up to 64. Source: Intel 64 and IA-32 Architectures Optimization Reference
# Manual (248966).
_X86_BYTES = {"avx512f": 3 * 64, "avx2": 5 * 32, "sse2": 2 * 64}
# AMX multiplies 16 rows of 64 bytes by 16 columns of 64 bytes in 16 cycles: 16 x 16 x 32 multiply-adds of 16-bit
# numbers (1024 operations per cycle), twice that of 8-bit ones (same manual, chapter on AMX). The kernel lists the
# first AMX formats only (bfloat16 and int8), so a CPU with AMX counts as one that has them all.
_AMX = {"tf32": 512, "half": 1024, "float8": 2048, "int8": 2048}

# Pipes of an Arm core that multiply and add vectors: six of 16 bytes (Arm, Cortex-X925 Core Software Optimization
# Guide; Neoverse V2 and Apple's cores have four). With SVE of 32 bytes or more up to four of its length (Neoverse V1
# and Fujitsu A64FX have two).
_NEON_PIPES, _NEON_BYTES, _SVE_PIPES = 6, 16, 4
_ARM_TRANSFERS = 6  # vectors per cycle that an Arm core loads (4) and stores (2), Cortex-X925
# Operations of Arm's narrow formats, relative to those of float32 on the same registers, by flag of Linux. FMLA of 16
# bits does twice as many, BFMMLA 4 times, SMMLA 8 times; dot products of 8 bits 4 times; float32's own and float64's
# matrix products twice as many (Arm Architecture Reference Manual for A-profile, DDI 0487, C7 and C8).
_ARM: Mapping[str, Mapping[str, float]] = {
    "half": {"fphp": 2, "asimdhp": 2, "bf16": 4, "svebf16": 4},
    "int8": {"asimd": 4, "i8mm": 8, "svei8mm": 8},
    "float8": {"f8fma": 8, "f8dp4": 8, "f8dp2": 8, "f8mm8": 8, "f8mm4": 8},
    "float32": {"asimd": 1, "svef32mm": 2},
    "float64": {"asimd": 0.5, "svef64mm": 1},
}

# Formats of `Capacity.operations` that can compute a dtype: its own or wider ones. A product of float32 may also be the
# sum of three products of 16-bit numbers, as accurate as float32 (Intel oneMKL, FLOAT_TO_BF16X3).
_HALF = ("half", "float32")
_COMPUTED_IN = {
    "float64": ("float64",),
    "float32": ("float32", "split"),
    "float16": _HALF,
    "bfloat16": _HALF,
    "float8_e4m3fn": ("float8", *_HALF),
    "float8_e5m2": ("float8", *_HALF),
    "int8": ("int8",),
    "uint8": ("int8",),
}


Operations = Mapping[str, tuple[float, str]]  # format: count per cycle and core, name of the instructions


@dataclass(frozen=True, slots=True)
class Bound:
    """A rate that cannot be exceeded, in FLOP/s or B/s, and how it was computed."""

    rate: float
    why: str


@dataclass(frozen=True, slots=True)
class CpuLimits:
    """The limits of this CPU.

    cores: those that one process may use, whatever its quota. frequency: in Hz, None if unknown. operations: per cycle
    and core, by format (a dtype, "half", "tf32" or "split"), each with the name of its instructions; empty if nothing
    is known of them. bytes_per_cycle: that one core loads and stores; None if unknown. memory_bandwidth: of all
    channels, in B/s; None if unknown. caches: the bytes that all caches hold together. unknown: why `operations` is
    empty.
    """

    cores: int = 0
    frequency: float | None = None
    operations: Operations = field(default_factory=dict)
    bytes_per_cycle: float | None = None
    memory_bandwidth: float | None = None
    caches: int | None = None
    unknown: str = ""

    def peak_flops(self, dtype: str, precision: str = "ieee", threads: int | None = None) -> Bound | None:
        """Return the bound of arithmetic in a format, in FLOP/s; None for an unknown format or CPU.

        threads: the number that was set; None for all cores. Integer operations count as FLOPs.
        """
        dtype, precision = datasheets.computed_in(dtype, precision)
        formats = [*_COMPUTED_IN.get(dtype, ())]
        if dtype == "float32" and precision != "ieee":
            formats += ["tf32", "half"]
        known = [self.operations[name] for name in formats if name in self.operations]
        if not known:
            return None
        per_cycle, instructions = max(known)
        clocked, why = self._clocked(threads)
        return Bound(clocked * per_cycle, f"{why} x {per_cycle:.0f} operations per cycle with {instructions}")

    def peak_transfer(self, threads: int | None = None) -> Bound | None:
        """Return the bound of loads and stores, from whichever cache, in B/s; None for an unknown CPU."""
        if self.bytes_per_cycle is None:
            return None
        clocked, why = self._clocked(threads)
        loaded = f"{self.bytes_per_cycle:.0f} bytes loaded and stored per cycle"
        return Bound(clocked * self.bytes_per_cycle, f"{why} x {loaded}")

    def peak_memory(self, working_set: float) -> Bound | None:
        """Return the bound of bytes through main memory, in B/s; None if unknown.

        working_set: the bytes of all arrays of a call. As many of them as fit into the caches may still be there from
        the call before, and the others cannot; if all fit, main memory sets no bound.
        """
        if self.memory_bandwidth is None or self.caches is None or working_set <= self.caches:
            return None
        why = f"memory of {show(self.memory_bandwidth, 'B/s')} and caches of {show(self.caches, 'B')}"
        return Bound(self.memory_bandwidth / (1 - self.caches / working_set), why)

    def _clocked(self, threads: int | None) -> tuple[float, str]:
        """Return the cycles per second of all cores that compute, and how they were counted."""
        cores = min(threads or self.cores, self.cores)
        frequency = self.frequency or FASTEST_CLOCK
        clock = f"{frequency / 1e9:.4g} GHz" + ("" if self.frequency else ", the bound for an unknown clock,")
        return cores * frequency, f"{cores} core{'s' * (cores != 1)} x {clock}"


def fact(limits: CpuLimits) -> Fact:
    """Return the bounds of float32 and of bytes for people, or why there are none."""
    flops, transfer = limits.peak_flops("float32"), limits.peak_transfer()
    if flops is None or transfer is None:
        return Fact(reason=f"no limit: {limits.unknown}")
    bounds = ((flops, "FLOP/s"), (transfer, "B/s"))
    return Fact("; ".join(f"{show(bound.rate, unit)} = {bound.why}" for bound, unit in bounds), "cpu_limits.py")


def read() -> CpuLimits:
    """Return the limits of the computer that this process runs on."""
    flags, caches = processor.flags(), host.cache_sizes()
    # A virtual machine may show two cores as two threads of one core; only x86 CPUs show that they are virtual.
    may_be_virtual = "hypervisor" in flags or "sse2" not in flags
    return limits_of(
        flags,
        cores=len(allotment.cpus()) if may_be_virtual else allotment.allowed_cores(),
        frequency=host.highest_frequency().value,
        vector_length=host.vector_length(),
        memory_bandwidth=smbios.memory_bandwidth().value,
        caches=sum(caches.values()) if caches else None,
    )


def limits_of(flags: Set[str], *, vector_length: int | None = None, **known: Any) -> CpuLimits:
    """Return the limits of a CPU with these feature flags.

    vector_length: of SVE, in bytes; None if unknown. known: other fields of CpuLimits.
    """
    operations, bytes_per_cycle, unknown = _operations(flags, vector_length)
    return CpuLimits(operations=operations, bytes_per_cycle=bytes_per_cycle, unknown=unknown, **known)


def _operations(flags: Set[str], vector_length: int | None) -> tuple[Operations, float | None, str]:
    """Return the operations per cycle by format, the bytes per cycle, and why they are unknown ("" if known).

    vector_length: of SVE, in bytes.
    """
    if not flags:
        return {}, None, "the system does not list the instructions of its CPU"
    if "sme" in flags:
        return {}, None, "the CPU has SME, whose speed depends on the model"
    if "sse2" in flags:
        return *_x86(flags), ""
    if "asimd" in flags:
        return *_arm(flags, vector_length), ""
    return {}, None, "neither an x86 nor a 64-bit Arm CPU"


def _x86(flags: Set[str]) -> tuple[Operations, float]:
    widest = next(flag for flag in _X86 if flag in flags)
    name, single = _X86[widest]
    pairs = 2 if {"avx512_bf16", "avx512_fp16"} & flags else 1  # without them, 16-bit numbers are computed in float32
    # Dot products of four 8-bit numbers (VNNI); without it VPMADDUBSW does as many, into narrower sums.
    vectors = {"float64": single / 2, "float32": single, "half": pairs * single, "int8": 4 * single}
    operations = {key: (float(count), name) for key, count in vectors.items()}
    if any(flag.startswith("amx_") for flag in flags):
        operations |= {key: (float(count), "AMX") for key, count in _AMX.items()}
    return _with_split(operations), float(_X86_BYTES[widest])


def _arm(flags: Set[str], vector_length: int | None) -> tuple[Operations, float]:
    vector, name, pipes = _NEON_BYTES, "NEON", _NEON_BYTES * _NEON_PIPES
    if "sve" in flags:
        vector = vector_length or 64
        name, pipes = f"SVE of {8 * vector} bits", max(pipes, _SVE_PIPES * vector if vector > _NEON_BYTES else 0)
    single = pipes / 4 * 2  # elements of 4 bytes, each multiplied and added
    operations = {
        key: (single * max(factors[flag] for flag in factors.keys() & flags), name)
        for key, factors in _ARM.items()
        if factors.keys() & flags
    }
    return _with_split(operations), float(max(vector, _NEON_BYTES) * _ARM_TRANSFERS)


def _with_split(operations: Operations) -> Operations:
    """Return the operations with those of float32 products that are sums of three narrow ones."""
    if "half" not in operations:
        return operations
    count, name = operations["half"]
    return {**operations, "split": (count / 3, f"{name}, three 16-bit products each")}
