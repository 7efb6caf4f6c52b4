"""Peak arithmetic and memory bandwidth of devices, as the makers' datasheets state them.

The key is the exact name that the driver reports (NVML and torch report the same name). It distinguishes SXM, PCIe and
NVL boards. A device that is not in the table has no peak; a slice of a GPU (MIG) has another name. All figures are
dense: where a maker prints them with 2:4 sparsity, the table has `/ 2`. float64 is the rate of the matrix units where a
chip has them, because matrix products use them. float16, bfloat16 and float8 accumulate in float32, as libraries do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bench_core.records import SPLIT

_TERA = 1e12


@dataclass(frozen=True, slots=True)
class Sheet:
    """The figures of one datasheet: its source, memory bandwidth in TB/s, and TFLOP/s by format (int8: TOP/s).

    A format is a dtype or "tf32". A format that the source does not print is left out.
    """

    source: str
    bandwidth: float
    flops: Mapping[str, float] = field(default_factory=dict)


def _sheet(source: str, bandwidth: float, float8: float | None = None, **flops: float) -> Sheet:
    both = {} if float8 is None else {"float8_e4m3fn": float8, "float8_e5m2": float8}
    return Sheet(source, bandwidth, MappingProxyType(flops | both))


_A100 = "NVIDIA A100 Tensor Core GPU datasheet, nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
_A100_40 = "NVIDIA A100 Tensor Core GPU Architecture whitepaper v1.0, table 4, and A100 40GB PCIe product brief"
_H100 = "NVIDIA H100 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/h100/"
_H100_PCIE = "NVIDIA H100 Tensor Core GPU datasheet of 2022 (SXM and PCIe), repeated in the Hopper whitepaper v1.04"
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/h200/"
_B200 = "NVIDIA Blackwell datasheet, HGX B200, individual GPU, https://www.nvidia.com/en-us/data-center/hgx/"
_L40S = "NVIDIA L40S datasheet, https://www.nvidia.com/en-us/data-center/l40s/"
_L4 = "NVIDIA L4 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/l4/"
_A10 = "NVIDIA A10 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/products/a10-gpu/"
_A30 = "NVIDIA A30 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/products/a30-gpu/"
_T4 = "NVIDIA T4 Tensor Core GPU datasheet, t4-tensor-core-datasheet-951643.pdf"
_V100 = "NVIDIA V100 Tensor Core GPU datasheet, volta-v100-datasheet-update-us-1165301-r5.pdf"
_ADA = "NVIDIA Ada GPU Architecture whitepaper v2.01, appendix A"
_AMPERE = "NVIDIA Ampere GA102 GPU Architecture whitepaper v2.0, appendix A"
_MI300X = "AMD Instinct MI300X Accelerator data sheet, amd-instinct-mi300x-data-sheet.pdf"
_TPU = "cloud.google.com/tpu/docs, system architecture of TPU {}, and jax-ml/jax, pallas/mosaic/tpu_info.py"

_HOPPER_SXM = {
    "float64": 67,
    "float32": 67,
    "tf32": 989 / 2,
    "bfloat16": 1979 / 2,
    "float16": 1979 / 2,
    "float8": 3958 / 2,
    "int8": 3958 / 2,
}
_HOPPER_NVL = {
    "float64": 60,
    "float32": 60,
    "tf32": 835 / 2,
    "bfloat16": 1671 / 2,
    "float16": 1671 / 2,
    "float8": 3341 / 2,
    "int8": 3341 / 2,
}
_AMPERE_A100 = {"float64": 19.5, "float32": 19.5, "tf32": 156, "bfloat16": 312, "float16": 312, "int8": 624}
_VOLTA_SXM2 = {"float64": 7.8, "float32": 15.7, "float16": 125}
# Of a device as JAX counts them, under each name that JAX has for it. On a TPU7x there are two devices a chip, on the
# others one. No source prints a rate of float32: its products are several passes in bfloat16.
_TPU_V5E = _sheet(_TPU.format("v5e"), 0.819, bfloat16=197, int8=394)
_TPU_V5P = _sheet(_TPU.format("v5p"), 2.765, bfloat16=459, int8=918)
_TPU_V6E = _sheet(_TPU.format("v6e"), 1.64, bfloat16=918, int8=1836)

SHEETS: Mapping[str, Sheet] = MappingProxyType(
    {
        "NVIDIA A100-SXM4-40GB": _sheet(_A100_40, 1.555, **_AMPERE_A100),
        "NVIDIA A100-PCIE-40GB": _sheet(_A100_40, 1.555, **_AMPERE_A100),
        "NVIDIA A100-SXM4-80GB": _sheet(_A100, 2.039, **_AMPERE_A100),
        "NVIDIA A100 80GB PCIe": _sheet(_A100, 1.935, **_AMPERE_A100),
        "NVIDIA H100 80GB HBM3": _sheet(_H100, 3.35, **_HOPPER_SXM),
        "NVIDIA H100 NVL": _sheet(_H100, 3.9, **_HOPPER_NVL),
        "NVIDIA H100 PCIe": _sheet(
            _H100_PCIE, 2.0, float64=51, float32=51, tf32=756 / 2, bfloat16=1513 / 2, float16=1513 / 2,
            float8=3026 / 2, int8=3026 / 2,
        ),
        "NVIDIA H200": _sheet(_H200, 4.8, **_HOPPER_SXM),
        "NVIDIA H200 NVL": _sheet(_H200, 4.8, **_HOPPER_NVL),
        "NVIDIA B200": _sheet(
            _B200, 7.7, float64=37, float32=75, tf32=2200 / 2, bfloat16=4500 / 2, float16=4500 / 2,
            float8=9000 / 2, int8=9000 / 2,
        ),
        "NVIDIA L40S": _sheet(
            _L40S, 0.864, float32=91.6, tf32=183, bfloat16=362.05, float16=362.05, float8=733, int8=733
        ),
        "NVIDIA L4": _sheet(
            _L4, 0.3, float32=30.3, tf32=120 / 2, bfloat16=242 / 2, float16=242 / 2, float8=485 / 2, int8=485 / 2
        ),
        "NVIDIA A10": _sheet(_A10, 0.6, float32=31.2, tf32=62.5, bfloat16=125, float16=125, int8=250),
        "NVIDIA A30": _sheet(_A30, 0.933, float64=10.3, float32=10.3, tf32=82, bfloat16=165, float16=165, int8=330),
        "Tesla T4": _sheet(_T4, 0.32, float32=8.1, float16=65, int8=130),
        "Tesla V100-SXM2-16GB": _sheet(_V100, 0.9, **_VOLTA_SXM2),
        "Tesla V100-SXM2-32GB": _sheet(_V100, 0.9, **_VOLTA_SXM2),
        "NVIDIA GeForce RTX 4090": _sheet(
            _ADA, 1.008, float32=82.6, tf32=82.6, bfloat16=165.2, float16=165.2, float8=330.3, int8=660.6
        ),
        "NVIDIA GeForce RTX 3090": _sheet(_AMPERE, 0.936, float32=35.6, tf32=35.6, bfloat16=71, float16=71, int8=284),
        "AMD Instinct MI300X": _sheet(
            _MI300X, 5.3, float64=163.4, float32=163.4, tf32=653.7, bfloat16=1307.4, float16=1307.4,
            float8=2614.9, int8=2614.9,
        ),
        "TPU v4": _sheet(_TPU.format("v4"), 1.23, bfloat16=275),
        "TPU v5 lite": _TPU_V5E,
        "TPU v5e": _TPU_V5E,
        "TPU v5": _TPU_V5P,
        "TPU v5p": _TPU_V5P,
        "TPU v6 lite": _TPU_V6E,
        "TPU v6e": _TPU_V6E,
        "TPU7x": _sheet(_TPU.format("7x"), 7.38 / 2, bfloat16=2307 / 2, float8=4614 / 2),
    }
)  # fmt: skip


def computed_in(dtype: str, precision: str) -> tuple[str, str]:
    """Return the dtype and precision in which products are computed; "autocast_bfloat16" gives ("bfloat16", "ieee").

    So does "bfloat16_products", float32 products of operands that are rounded to bfloat16, as on a TPU by default.
    """
    narrow = precision.removeprefix("autocast_").removesuffix("_products")
    return (dtype, precision) if narrow == precision else (narrow, "ieee")


def peak_flops(device_name: str, dtype: str, precision: str = "ieee") -> float | None:
    """Return the dense peak of a device in a format, in FLOP/s; None if the device or the format is not in the table.

    Under `SPLIT` it is a third of the TF32 peak, or the peak of the format itself if that is higher.
    """
    sheet = SHEETS.get(device_name)
    dtype, precision = computed_in(dtype, precision)
    own = sheet.flops.get("tf32" if precision == "tf32" else dtype) if sheet else None
    third = sheet.flops.get("tf32", 0.0) / 3 if sheet and precision == SPLIT else 0.0
    peak = max(own or 0.0, third)
    return peak * _TERA or None


def peak_bandwidth(device_name: str) -> float | None:
    """Return the memory bandwidth of a device, in B/s; None if it is not in the table."""
    sheet = SHEETS.get(device_name)
    return None if sheet is None else sheet.bandwidth * _TERA
