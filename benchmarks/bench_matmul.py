"""Matrix multiply: how much arithmetic a device does when data is no obstacle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.backends.base import Backend
from bench_core.model import Costs, Preset, Work
from bench_core.workload import Host, Kernel, Kernels, Machine, Workload

REFERENCE_FLOPS = 2 * 512**3  # up to here the whole product is computed again in float64


def array_default(backend: Backend, work: Work, host: Host) -> Kernel:
    """`matmul` of NumPy and CuPy: BLAS gemm, cuBLAS gemmEx."""
    xp = backend.xp
    a, b = (backend.from_host(host[name], work.dtype) for name in "ab")
    c = xp.empty((work["m"], work["n"]), dtype=a.dtype)

    def run() -> Any:
        return xp.matmul(a, b, out=c)

    def answer() -> Mapping[str, Any]:
        c.fill(np.nan)  # an element that is not written stays wrong
        return {"out": run()}

    return Kernel(run, answer)


def torch_default(backend: Backend, work: Work, host: Host) -> Kernel:
    """`torch.matmul`: MKL or oneDNN on the CPU, cuBLAS(Lt) on CUDA."""
    torch = backend.xp
    backend.set_precision(work.precision)
    a, b = (backend.from_host(host[name], work.dtype) for name in "ab")
    c = torch.empty((work["m"], work["n"]), dtype=a.dtype, device=a.device)

    def run() -> Any:
        return torch.matmul(a, b, out=c)

    def answer() -> Mapping[str, Any]:
        c.fill_(np.nan)
        return {"out": run()}

    return Kernel(run, answer)


class Square(Workload):
    """C = A B for square matrices of normal random numbers."""

    suite = "matmul"
    name = "matmul"
    kernels: ClassVar[Kernels] = {
        "array": {"default": array_default, "tuned": array_default},
        "torch": {"default": torch_default},
    }

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - the same sizes everywhere
        sizes = {Preset.SMOKE: (96, 128), Preset.QUICK: (512, 1024, 2048)}.get(preset, (512, 1024, 2048, 4096))
        for dtype in ("float32", "float64"):
            for n in sizes:
                yield self.work(str(n), dtype, m=n, n=n, k=n)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        dtype = np.float64 if work.dtype == "float64" else np.float32
        m, n, k = work["m"], work["n"], work["k"]
        return {"a": rng.standard_normal((m, k), dtype), "b": rng.standard_normal((k, n), dtype)}

    def costs(self, work: Work) -> Costs:
        """2 M N K FLOPs; at least, each of the three matrices moves once."""
        m, n, k = work["m"], work["n"], work["k"]
        itemsize = np.dtype(work.dtype).itemsize
        return Costs(flops=2.0 * m * n * k, least_bytes=float((m * k + k * n + m * n) * itemsize))

    def error(self, work: Work, host: Host, answer: Host) -> float:
        out = answer["out"]
        check.require_dtype("out", out, work.dtype)
        if 2 * work["m"] * work["n"] * work["k"] > REFERENCE_FLOPS:
            return check.product_error(host["a"], host["b"], out)
        return check.relative_error(out, host["a"].astype(np.float64) @ host["b"].astype(np.float64))


@pytest.mark.workload(Square())
def test_square(measure: Callable[[], None]) -> None:
    measure()
