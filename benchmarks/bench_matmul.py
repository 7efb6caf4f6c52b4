"""Matrix products: the arithmetic throughput of a device, by format, shape and layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.caches import flagged
from bench_core.workload import (
    Backend,
    Case,
    Ceiling,
    Claim,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Limit,
    Machine,
    Preset,
    Traffic,
    Traits,
    Unsupported,
    Work,
    Workload,
    WrongAnswer,
)

from . import products
from .sizes import itemsize

Format = tuple[str, str]  # dtype and precision

FP64, FP32, TF32 = ("float64", "ieee"), ("float32", "ieee"), ("float32", "tf32")
BF16, FP16 = ("bfloat16", "ieee"), ("float16", "ieee")
BF16_PRODUCTS = ("float32", "bfloat16_products")  # what a TPU does with float32 unless it is told otherwise
E4M3, E5M2, INT8 = ("float8_e4m3fn", "ieee"), ("float8_e5m2", "ieee"), ("int8", "ieee")
FORMATS = (FP64, FP32, TF32, BF16, FP16, E4M3, E5M2, INT8)
EIGHT_BITS = frozenset({"float8_e4m3fn", "float8_e5m2", "int8"})  # tensor cores require B to be stored as its transpose
SHAPE_FORMATS = (FP32, TF32, BF16)  # in which the families of shapes are measured

SQUARES: dict[Preset, dict[Format, tuple[int, ...]]] = {
    Preset.SMOKE: {FP64: (96, 128), FP32: (96, 128), **dict.fromkeys(FORMATS[2:], (128,))},
    Preset.QUICK: {
        FP64: (2048,),
        FP32: (512, 2048),
        TF32: (2048, 4096),
        BF16: (2048, 4096),
        E4M3: (4096,),
        INT8: (2048,),
    },
    Preset.STANDARD: dict.fromkeys(FORMATS, (512, 1024, 2048, 4096))
    | {BF16: (512, 1024, 2048, 4096, 8192), BF16_PRODUCTS: (4096,)},
    Preset.FULL: dict.fromkeys((*FORMATS, BF16_PRODUCTS), (256, 512, 1024, 2048, 4096, 8192, 16384)),
}
QUICK_ON_CPU = (FP64, FP32)  # formats of quick on a CPU: in narrower ones a call can take seconds, or be unsupported
DATA_SIZE = 4096
HEADLINE = {FP64: 4096, FP32: 4096, TF32: 4096, BF16: 8192, E4M3: 4096}

# (m, n, k) of the linear layers of two Transformers: GPT-2 124M with 2048 tokens, Llama 2 7B with 4096 tokens.
LAYERS = {
    "gpt2-qkv": (2048, 2304, 768),
    "gpt2-projection": (2048, 768, 768),
    "gpt2-up": (2048, 3072, 768),
    "gpt2-down": (2048, 768, 3072),
    "gpt2-logits": (2048, 50257, 768),
    "llama7b-qkv": (4096, 12288, 4096),
    "llama7b-projection": (4096, 4096, 4096),
    "llama7b-up": (4096, 11008, 4096),
    "llama7b-down": (4096, 4096, 11008),
    "llama7b-logits": (4096, 32000, 4096),
}


class Product(Workload):
    """Base class: the product of two matrices, or of two batches of matrices."""

    suite = "matmul"
    traits = Traits(order=0, measures=Limit.COMPUTE, traffic=Traffic.MEMORY)
    kernels: ClassVar[Kernels] = {
        "array": {"default": products.array_product},
        # "tuned" runs the same code, with OpenBLAS set up by environment variables (bench_core/backends/numpy.py).
        "numpy": {"default": products.array_product, "tuned": products.array_product},
        "cupy": {"default": products.cupy_product},
        "torch": {"default": products.torch_product},
        "torch:cpu": {"default": products.torch_product, "tuned": products.torch_onednn_product},
        "torch:cuda": {
            "default": products.torch_product,
            "fast_accumulation": partial(products.torch_product, fast=True),
        },
    }

    def product(self, label: str, kind: Format, m: int, n: int, k: int, **params: Any) -> Work:
        """Return the work C (m, n) = A (m, k) B (k, n) in a format. params: batch, layout, data."""
        dtype, precision = kind
        layout = "nt" if dtype in EIGHT_BITS else "nn"
        axes = {"m": m, "n": n, "k": k, "batch": 0, "layout": layout, "data": "normal"} | params
        return self.work(label, dtype, precision=precision, **axes)

    def selects(self, work: Work, implementation: str) -> bool:
        if implementation == "fast_accumulation":
            return work.dtype.startswith("float8")
        # "tuned" concerns BLAS in NumPy and oneDNN in torch; `Batched` has its own.
        return implementation == "default" or work.dtype in {"float32", "float64"}

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return products.operands(work, rng)

    def costs(self, work: Work) -> Costs:
        """Return 2 M N K FLOPs per product. `least_bytes`: A, B and C move once."""
        return products.costs(work)

    def tolerance(self, work: Work) -> check.Tolerance:
        """Return the bounds of the format; 0 for small integers and zeros, whose products are exact.

        For float32 and k > 4096 the bound grows with sqrt(k): a sequential sum of k terms has an error of about
        sqrt(k / 6) units of 2^-24, which is close to the format's bound at k = 4096.
        """
        if work["data"] in {"integers", "zeros"}:
            return check.Tolerance(0.0)
        bounds = super().tolerance(work)
        if (work.dtype, work.precision) == FP32 and work["k"] > 4096:
            return check.Tolerance(bounds.high * (work["k"] / 4096) ** 0.5)
        return bounds

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        """Return the operands; for data "zeros", small integers, since a product of zeros detects no errors."""
        if work["data"] != "zeros":
            return host
        integers = products.operands(replace(work, params={**dict(work.params), "data": "integers"}), rng)
        return {**host, **integers}

    def reference(self, work: Work, host: HostArrays) -> list[products.Reference]:
        return products.references(work, host)

    def error(self, work: Work, expected: list[products.Reference], answer: HostArrays) -> float:
        return products.error(work, expected, answer["out"], self.tolerance(work).high)

    def verify(self, work: Work, expected: list[products.Reference], answer: HostArrays) -> float:
        """Return the relative error; raise Unsupported if a narrower arithmetic was allowed but not used.

        Such a setting only permits it. cuBLAS computes in float32 for a single row and for shapes without a
        tensor-core kernel. The answer is then correct, but the time is not one of that arithmetic.
        """
        try:
            return super().verify(work, expected, answer)
        except WrongAnswer as error:
            if error.code == "wrong_precision" and work.precision != "ieee":
                raise Unsupported("computed_finer", f"the library computed this in float32: {error}") from None
            raise


class Square(Product):
    """C = A B for square matrices: the highest throughput of each format."""

    name = "matmul"
    traits = replace(Product.traits, claims=(Claim.ARITHMETIC,))
    ceiling = Ceiling.ARITHMETIC

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:
        wide = (preset, machine.device_type) == (Preset.QUICK, "cpu")
        for kind, sizes in SQUARES[preset].items():
            for n in sizes if kind in QUICK_ON_CPU or not wide else ():
                yield self.product(str(n), kind, n, n, n)

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - in every implementation
        return HEADLINE.get((work.dtype, work.precision)) == work["m"]

    def threads(self, work: Work, preset: Preset) -> Sequence[int | None]:
        # One thread shows the scaling with cores. Large sizes would take minutes on it.
        alone = preset is Preset.STANDARD and work["m"] == 2048 and (work.dtype, work.precision) in {FP64, FP32, BF16}
        return (1, None) if alone or (preset is Preset.FULL and work["m"] <= 2048) else (None,)


class Data(Product):
    """The same product with different data: with fewer bit flips, chips draw less power and run at higher clocks."""

    name = "matmul_data"
    traits = replace(Product.traits, measures=None)  # on zeros a chip is faster than on the data of other work
    version = 2  # version 1 had larger integers, whose products bfloat16 cannot hold exactly

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        n = {Preset.SMOKE: 128}.get(preset, DATA_SIZE)
        kinds = {Preset.SMOKE: (FP32,), Preset.QUICK: (), Preset.STANDARD: (FP32, BF16)}.get(
            preset, (FP32, TF32, BF16, E4M3, INT8)
        )
        for kind in kinds:
            for data in products.DATA:
                yield self.product(f"{n}-{data}", kind, n, n, n, data=data)


class Skinny(Product):
    """Few rows times a large weight matrix, stored (out, in): the product of a model that decodes token by token.

    It is limited by the bandwidth of memory, or of the cache that holds the weights; then the row is flagged.
    """

    name = "matmul_skinny"
    version = 2  # version 1 stored the weights (in, out)
    kernels: ClassVar[Kernels] = {
        **Product.kernels,
        "torch:cpu": {**Product.kernels["torch:cpu"], "packed": products.torch_packed_product},
    }

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        if preset is Preset.SMOKE:
            yield self.product("1x128x128", FP32, 1, 128, 128, layout="nt")
        sizes = {Preset.STANDARD: (4096,), Preset.FULL: (4096, 8192)}.get(preset, ())
        kinds = (*SHAPE_FORMATS, FP16) if preset is Preset.FULL else (FP32, BF16)
        for kind in kinds:
            for n in sizes:
                for m in (1, 8, 32, 128):
                    yield self.product(f"{m}x{n}x{n}", kind, m, n, n, layout="nt")

    def selects(self, work: Work, implementation: str) -> bool:
        """Whether to measure: "packed" in bfloat16, else as other products."""
        return work.dtype == "bfloat16" if implementation == "packed" else super().selects(work, implementation)

    def costs(self, work: Work) -> Costs:
        """Return 2 M N K FLOPs. `bytes` and `least_bytes`: A, B and C move once."""
        costs = super().costs(work)
        return replace(costs, bytes=costs.least_bytes)

    def footprint(self, work: Work) -> float:
        """Return the bytes of A, B and C, and of B once more in bfloat16, for "packed"."""
        packed = work["k"] * work["n"] * itemsize(work.dtype) if work.dtype == "bfloat16" else 0
        return (self.costs(work).least_bytes or 0.0) + packed

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel, flagged if the matrices fit in a cache."""
        return flagged(super().build(backend, case, host), backend, self.costs(case.work).least_bytes)


class Batched(Product):
    """Many small products in one call; two shapes are those of attention (scores, and weighted values)."""

    name = "matmul_batched"
    kernels: ClassVar[Kernels] = {
        "array": {"default": products.array_product},
        "cupy": {"default": products.cupy_product, "tuned": products.cupy_batched_product},
        "torch": {"default": products.torch_product},
    }

    def selects(self, work: Work, implementation: str) -> bool:
        """Whether to measure: cuBLAS's own call only in formats that `cupy.matmul`, which makes it too, has not."""
        return implementation == "default" or (work.dtype, work.precision) not in {FP32, FP64}

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        if preset is Preset.SMOKE:
            yield self.product("4x32x32x32", FP32, 32, 32, 32, batch=4)
        shapes = {
            Preset.STANDARD: ((64, 256, 256, 256), (96, 1024, 1024, 64)),
            Preset.FULL: ((1024, 64, 64, 64), (64, 256, 256, 256), (96, 1024, 1024, 64), (96, 1024, 64, 1024)),
        }.get(preset, ())
        for kind in SHAPE_FORMATS:
            for batch, m, n, k in shapes:
                yield self.product(f"{batch}x{m}x{n}x{k}", kind, m, n, k, batch=batch)


class Layouts(Product):
    """The four combinations of memory layouts of A and B."""

    name = "matmul_layout"

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        n = 64 if preset is Preset.SMOKE else 2048
        kinds = {Preset.SMOKE: (FP32,), Preset.QUICK: (), Preset.STANDARD: (FP32, BF16)}.get(
            preset, (FP64, *SHAPE_FORMATS, FP16)
        )
        for kind in kinds:
            for layout in ("nn", "nt", "tn", "tt"):
                yield self.product(f"{n}-{layout}", kind, n, n, n, layout=layout)


class OffTile(Product):
    """Sizes one larger than a multiple of every tile size: the cost of padding and of incomplete tiles."""

    name = "matmul_off_tile"

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        sizes = {
            Preset.SMOKE: (65,),
            Preset.QUICK: (),
            Preset.STANDARD: (1025, 4097),
            Preset.FULL: (513, 1025, 2049, 4097, 8193),
        }[preset]
        for kind in (FP32, BF16) if preset is Preset.STANDARD else (FP64, *SHAPE_FORMATS):
            for n in sizes:
                yield self.product(str(n), kind, n, n, n)


class Layers(Product):
    """The linear layers of two Transformers, GPT-2 124M and Llama 2 7B."""

    name = "matmul_transformer"

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:  # noqa: ARG002 - same sizes on every machine
        if preset is Preset.SMOKE:
            yield self.product("64x96x32", FP32, 64, 96, 32, layout="nt")
        small = [name for name in LAYERS if name.startswith("gpt2")]
        layers: Iterable[str] = {Preset.STANDARD: small, Preset.FULL: LAYERS}.get(preset, ())
        for kind in (FP32, BF16) if preset is Preset.STANDARD else SHAPE_FORMATS:
            for name in layers:
                m, n, k = LAYERS[name]
                yield self.product(name, kind, m, n, k, layout="nt")  # weights are stored (out, in)


@pytest.mark.workload(Square())
def test_matmul(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Data())
def test_matmul_data(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Skinny())
def test_matmul_skinny(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Batched())
def test_matmul_batched(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Layouts())
def test_matmul_layout(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(OffTile())
def test_matmul_off_tile(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Layers())
def test_matmul_transformer(measure: Callable[[], Any]) -> None:
    measure()
