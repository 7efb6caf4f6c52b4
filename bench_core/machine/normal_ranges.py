"""Normal performance of devices: ranges from measured values, by exact device name, each value with its source.

Nearly all values were published by others. If nobody has published the size that this suite measures, a value measured
with this suite is added (`_OWN`), or one scaled from another device; the source says so.

The range of a matrix product is 0.8 x the lowest published value to 1.1 x the highest. Published values are the best of
many shapes, while this suite measures one; and boards of one model differ by 5 % and more (stas00/ml-engineering,
compute/accelerator/README.md, "Not all accelerators are created equal"). The range of a copy is 0.8 x the lowest
published value to the datasheet's bandwidth. If no bfloat16 or float16 product, or no copy, is published for a device,
its range is the share of the datasheet that other devices reach; other formats have no range then. Transfers are
compared with the link that the card supports, not with the link that it currently has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from bench_core.machine import datasheets
from bench_core.machine.pcie import Link

LEAST, MOST = 0.8, 1.1  # of the published values
# Shares of the datasheet that the values below reach: bfloat16 products 0.51 (MI300X) to 0.87 (A100), except GeForce
# boards, which clock higher than stated; copies 0.67 (A100 80GB) to 0.91 (RTX 4090).
_OF_PEAK = (0.5, 0.95)
_OF_BANDWIDTH = (0.6, 0.95)
_HALF = frozenset({"bfloat16", "float16"})
# Shares of a PCIe link that pinned copies of large arrays reach: 0.76 (RTX 4090) to 0.88 (H200).
_OF_LINK = (0.75, 0.95)
_LINK_SOURCE = (
    "0.75 to 0.95 of the link: A100 25.9 of 31.5 GB/s (microsoft/superbench-results v0.4.0), H100 51 and H200 55 of 63 "
    "GB/s (Azure/AI-benchmarking-guide), RTX 4090 24 to 27 of 31.5 GB/s (NVIDIA/nvbandwidth#15)"
)

# Boards that are delivered with ECC off: published values are without ECC, which takes a part of GDDR's bandwidth.
ECC_OFF_AS_DELIVERED = frozenset({"NVIDIA GeForce RTX 4090"})

_MAMF = "stas00/ml-engineering, compute/accelerator/README.md, maximum achievable matmul FLOPS"
_SUPERBENCH = "microsoft/superbench-results, v0.4.0/Azure-NDmv4-A100/baseline.json, mean of 729 nodes"
_SUPERBENCH_40 = "microsoft/superbench-results, v0.4.0/Azure-NDv4-A100/baseline.json, mean of 1939 nodes"
_AZURE = "Azure/AI-benchmarking-guide, Azure_Results/ND_{}_results.md"
_AZURE_A100, _AZURE_H100, _AZURE_H200 = (_AZURE.format(name) for name in ("A100_v4", "H100_v5", "H200_v5"))
_TORCH = "zzc0721/torch-performance-test-data, database.md, best of five sizes with PyTorch"
_SIZED = "zzc0721/torch-performance-test-data#{}, the size that is measured here"  # 4096, of bfloat16 8192
_STREAM = "te42kyfo/gpu-benches, README.md, gpu-stream, scale"
_OWN = "this suite on one H100 80GB HBM3, tests/gpu/README.md"
_AMD = "AMD Instinct documentation, system acceptance, MI300X, acceptance criteria"


@dataclass(frozen=True, slots=True)
class Range:
    """A normal range, from `low` to `high` in base units, and its source."""

    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class _Published:
    """Measured values with their sources. products: FLOP/s by format (a dtype or "tf32"); copies: B/s, read + write."""

    products: Mapping[str, Sequence[tuple[float, str]]]
    copies: Sequence[tuple[float, str]]


def _published(
    copies: Mapping[str, float] | None = None, **products: Mapping[str, float] | tuple[float, str]
) -> _Published:
    """Return the record of a device. copies: GB/s by source; products: TFLOP/s by source, or one (TFLOP/s, source)."""
    listed = {
        name: ((p[0] * 1e12, p[1]),) if isinstance(p, tuple) else tuple((v * 1e12, s) for s, v in p.items())
        for name, p in products.items()
    }
    return _Published(MappingProxyType(listed), tuple((v * 1e9, s) for s, v in (copies or {}).items()))


# From the makers' datasheets (datasheets.py names them): all boards have 16 lanes.
_GENERATION = MappingProxyType(
    {
        **dict.fromkeys(("Tesla T4", "Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"), 3),
        **dict.fromkeys(
            (
                "NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe",
                "NVIDIA L40S", "NVIDIA L4", "NVIDIA A10", "NVIDIA A30",
                "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090",
            ),
            4,
        ),
        **dict.fromkeys(
            (
                "NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL", "NVIDIA H100 PCIe", "NVIDIA H200", "NVIDIA H200 NVL",
                "NVIDIA B200", "AMD Instinct MI300X",
            ),
            5,
        ),
    }
)  # fmt: skip

PUBLISHED: Mapping[str, _Published] = MappingProxyType(
    {
        "NVIDIA A100-SXM4-80GB": _published(
            {_SUPERBENCH: 1371.0, _AZURE_A100: 1610},
            bfloat16={_MAMF: 271.2, _SUPERBENCH: 261.2, _TORCH: 264.5},
            float16={_SUPERBENCH: 275.4, _AZURE_A100: 253.7, _TORCH: 258.7},
            tf32=(127.4, _SUPERBENCH),
            float32={_SUPERBENCH: 18.36, _TORCH: 19.18},
            float64=(18.95, _SUPERBENCH),
            int8=(466.6, _SUPERBENCH),
        ),
        "NVIDIA A100-SXM4-40GB": _published(
            {_SUPERBENCH_40: 1155.6},
            bfloat16=(265.9, _SUPERBENCH_40),
            float16=(280.4, _SUPERBENCH_40),
            tf32=(128.2, _SUPERBENCH_40),
            float32=(18.35, _SUPERBENCH_40),
            float64=(18.95, _SUPERBENCH_40),
            int8=(473.1, _SUPERBENCH_40),
        ),
        "NVIDIA A100 80GB PCIe": _published(bfloat16=(252.9, _MAMF)),
        "NVIDIA A100-PCIE-40GB": _published(
            bfloat16={_TORCH: 234.1, _SIZED.format(108): 215.3},
            float16=(241.5, _TORCH),
            tf32=(108.3, _TORCH),
            float32={_TORCH: 17.56, _SIZED.format(108): 15.52},
        ),
        "NVIDIA H100 80GB HBM3": _published(
            {_AZURE_H100: 2900},
            bfloat16={_MAMF: 794.5, _TORCH: 783.7},
            float16=(758.1, _TORCH),
            tf32=(402.2, _TORCH),
            float32=(51.88, _TORCH),
            # Products of size 4096 are slower than those of the best shape. Azure's value and ours are of that size;
            # ours is what PyTorch's own call reaches (`_scaled_mm`, fast accumulation).
            float8_e4m3fn={_AZURE_H100: 1216.9, _OWN: 924, f"{_MAMF} (H200, which computes alike)": 1453.4},
        ),
        "NVIDIA H100 PCIe": _published(
            {_STREAM: 1704},
            bfloat16=(495.9, _TORCH), float16=(458.0, _TORCH), tf32=(240.4, _TORCH), float32=(36.95, _TORCH),
        ),
        "NVIDIA H200": _published(
            {_AZURE_H200: 4010},
            bfloat16={f"{_MAMF} (H100; H200 is the same)": 794.5, _TORCH: 790.3},
            float16=(759.4, _TORCH),
            float32=(51.34, _TORCH),
            float8_e4m3fn={_AZURE_H200: 1249.1, _MAMF: 1453.4},
        ),
        "NVIDIA B200": _published(
            bfloat16={_MAMF: 1745.0, _TORCH: 1696.0},
            float16=(1627.6, _TORCH),
            float32=(66.24, _TORCH),
            # The second value is an estimate for size 4096: the best shape's value x the ratio of both on H100.
            float8_e4m3fn={_MAMF: 3432.5, f"that x 1216.9 / 1453.4, as in {_AZURE_H100}": 3432.5 * 1216.9 / 1453.4},
        ),
        "NVIDIA L40S": _published(bfloat16=(269.2, _TORCH), float16=(264.0, _TORCH), float32=(46.88, _TORCH)),
        "NVIDIA L4": _published(
            bfloat16={_TORCH: 70.89, _SIZED.format(120): 59.40},
            float16={_TORCH: 68.83, _SIZED.format(120): 53.02},
            tf32={_TORCH: 31.88, _SIZED.format(120): 24.00},
            float32={_TORCH: 15.38, _SIZED.format(120): 12.53},
        ),
        "NVIDIA GeForce RTX 4090": _published(
            {"tinygrad/open-gpu-kernel-modules#6, p2pBandwidthLatencyTest": 918.3},
            bfloat16={f"{_TORCH}, least": 162.4, f"{_TORCH}, greatest": 173.3},
            float16={f"{_TORCH}, least": 162.4, f"{_TORCH}, greatest": 171.1},
            tf32=(85.65, _TORCH),
            float32={f"{_TORCH}, least": 46.48, f"{_TORCH}, greatest": 55.01},
        ),
        "NVIDIA GeForce RTX 3090": _published(
            bfloat16=(76.68, _TORCH), float16=(75.88, _TORCH), float32=(24.84, _TORCH)
        ),
        "AMD Instinct MI300X": _published(
            {f"{_AMD}, BabelStream Copy": 4177.3}, bfloat16=(668.4, _MAMF), float32=(94.1, f"{_AMD}, rocBLAS")
        ),
    }
)  # fmt: skip


def products(device_name: str, dtype: str, precision: str) -> Range | None:
    """Return the normal FLOP/s of large matrix products on a device; None if nothing is known."""
    dtype, precision = datasheets.computed_in(dtype, precision)
    of = PUBLISHED.get(device_name)
    values = of.products.get("tf32" if precision == "tf32" else dtype, ()) if of else ()
    if values:
        return _around(values)
    peak = datasheets.peak_flops(device_name, dtype, precision) if dtype in _HALF else None
    return _share(peak, _OF_PEAK, device_name)


def copies(device_name: str) -> Range | None:
    """Return the normal B/s of large copies within a device, reads plus writes; None if nothing is known."""
    of, peak = PUBLISHED.get(device_name), datasheets.peak_bandwidth(device_name)
    if of and of.copies:
        found = _around(of.copies)
        return found if peak is None else replace(found, high=peak)
    return _share(peak, _OF_BANDWIDTH, device_name)


def link(device_name: str) -> Link | None:
    """Return the PCIe link of a device according to its datasheet; None for an unknown device."""
    generation = _GENERATION.get(device_name)
    return None if generation is None else Link(generation, 16)


def transfers(over: Link) -> Range | None:
    """Return the normal B/s of large pinned copies over a link; None for an unknown generation."""
    if over.rate is None:
        return None
    low, high = _OF_LINK
    return Range(low * over.rate, high * over.rate, f"{over}; {_LINK_SOURCE}")


def _around(values: Sequence[tuple[float, str]]) -> Range:
    found = [value for value, _ in values]
    return Range(LEAST * min(found), MOST * max(found), "; ".join(source for _, source in values))


def _share(peak: float | None, share: tuple[float, float], device_name: str) -> Range | None:
    if peak is None:
        return None
    low, high = share
    source = f"{low:g} to {high:g} of the datasheet: {datasheets.SHEETS[device_name].source}"
    return Range(low * peak, high * peak, source)
