"""Single layers of models: attention, layer normalisation, softmax, embeddings, an LSTM.

Each call is one forward pass; `embedding_grad` is the backward pass of an embedding, a scatter-add. Sizes: B batch,
H heads, T tokens, D head width, C channels, V rows of a table.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
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
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Machine,
    Preset,
    Target,
    Traits,
    Work,
    Workload,
)

from .nn.attention import attention, softmax
from .nn.batches import Batch, Samples, affordable, distinct, order_of, repeated
from .nn.functions import embedding, scatter_add
from .nn.initial import normal
from .nn.names import scoped
from .nn.normalisation import layernorm
from .nn.recurrent import lstm
from .nn.training import TOLERANCES
from .nn.tuned import array_module
from .nn.workloads import (
    TORCH,
    array_kernels,
    by_implementation,
    fitting,
    keeping_memory,
    torch_cpu_kernels,
)
from .sizes import itemsize

Shape = tuple[int, ...]


def array_builders(function: Callable[..., Any], *tuned: str) -> Kernels:
    """Return the kernels that call function(xp, arrays) on the uploaded inputs. tuned: as in `array_kernels`."""

    def build(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG001 - a builder
        xp = array_module(backend, implementation)
        arrays = {name: backend.from_host(array) for name, array in host.items()}
        return Kernel(lambda: function(xp, arrays), inputs=arrays)

    return array_kernels(build, *tuned)


def torch_builder(function: Callable[..., Any]) -> Callable[..., Kernel]:
    """Return a function that builds the kernel of an implementation: function(torch, arrays) in inference mode."""

    def build(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
        from .nn.modules.running import COMPILED, compiled, inference, prepared

        arrays = {name: backend.from_host(array) for name, array in host.items()}
        device = next(iter(arrays.values())).device
        call = inference(compiled(partial(function, backend.xp), device, implementation), device, work.precision)

        def run() -> Any:
            return call(arrays)

        return Kernel(run, inputs=arrays, prepare=prepared(run) if implementation in COMPILED else None)

    return build


def torch_builders(function: Callable[..., Any]) -> Kernels:
    """Return the kernels of a layer that does little arithmetic: "default" and "compile", and what a device adds."""
    build = torch_builder(function)
    return {
        "torch": by_implementation(build, *TORCH),
        "torch:cpu": torch_cpu_kernels(build),
        "torch:cuda": by_implementation(build, *TORCH, "max_autotune"),
    }


class Layer(Workload):
    """Base class: one call of a layer in float32.

    sizes: the shape by preset. axes: one letter per number of the shape. in_smoke: whether the preset smoke measures
    the layer. standard and full measure the implementations that `fitting` leaves; the other presets the default, and
    quick those in `quick_forms` as well.
    """

    suite = "model"
    traits = Traits(order=4)
    axes: ClassVar[str]
    sizes: ClassVar[dict[Preset, Shape]]
    in_smoke: ClassVar[bool] = True
    quick_forms: ClassVar[tuple[str, ...]] = ()

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - same sizes on every machine
        if preset is Preset.SMOKE and not self.in_smoke:
            return
        shape = self.sizes[preset]
        size = "-".join(f"{axis}{number}" for axis, number in zip(self.axes, shape, strict=True))
        yield self.work(size, "float32", **dict(zip(self.axes, shape, strict=True)))

    def implementations(self, target: Target, preset: Preset) -> Sequence[str]:
        return fitting(super().implementations(target, preset), preset)

    def selects(self, work: Work, implementation: str) -> bool:
        """Whether to measure: the default always, `quick_forms` at quick's size, all at those of standard and full."""
        large = [self.sizes[preset] for preset in (Preset.STANDARD, Preset.FULL)]
        quick = implementation in self.quick_forms and self.shape(work) == self.sizes[Preset.QUICK]
        return implementation == "default" or quick or self.shape(work) in large

    @abstractmethod
    def footprint(self, work: Work) -> float:
        """Return the bytes of inputs, result and intermediate results."""

    def shape(self, work: Work) -> Shape:
        """Return the shape of a work: the values of its axes."""
        return tuple(work[axis] for axis in self.axes)

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel; that of a memory-bound layer is flagged if its arrays fit in a cache."""
        costs = self.costs(case.work)
        return flagged(super().build(backend, case, host), backend, costs.least_bytes if costs.bytes else None)

    def tolerance(self, work: Work) -> check.Tolerance:
        return TOLERANCES[work.dtype, work.precision]

    def error(self, work: Work, expected: Any, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        """Return ||a - r|| / ||r|| over all elements, for answer a and reference r."""
        return check.relative_error(answer["out"], expected)


def _array_attention(xp: Any, arrays: dict[str, Any]) -> Any:
    return attention(xp, arrays["q"], arrays["k"], arrays["v"], causal=True)[0]


def _torch_attention(torch: Any, arrays: dict[str, Any]) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(*arrays.values(), is_causal=True)


def _sdpa(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    from .nn.modules import sdpa

    kernel = torch_builder(_torch_attention)(implementation, backend, work, host)
    one = backend.xp.empty(host["q"].shape, dtype=getattr(backend.xp, work.dtype), device=backend.device)
    return sdpa.told(kernel, backend, work, [sdpa.chosen(one, one, one, causal=True)], alone=True)


def _explicit_attention(torch: Any, arrays: dict[str, Any]) -> Any:  # noqa: ARG001 - same signature as the others
    from .nn.modules.gpt import explicit_attention

    return explicit_attention(*arrays.values(), causal=True)


class Attention(Layer):
    """Causal attention: softmax(q k^T / sqrt(D)) v for given queries, keys and values (B, H, T, D)."""

    name = "attention"
    quick_forms = ("tuned",)
    axes = "bhtd"
    sizes: ClassVar[dict[Preset, Shape]] = {
        Preset.SMOKE: (2, 2, 32, 16),
        Preset.QUICK: (4, 8, 256, 64),
        Preset.STANDARD: (8, 12, 1024, 64),
        Preset.FULL: (16, 16, 2048, 128),
    }
    kernels: ClassVar[Kernels] = {
        **array_builders(_array_attention, "numpy", "cupy"),
        "torch": {
            "default": partial(_sdpa, "default"),
            "compile": partial(_sdpa, "compile"),
            "explicit": partial(torch_builder(_explicit_attention), "explicit"),
        },
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {name: normal(rng, self.shape(work), work.dtype) for name in "qkv"}

    def costs(self, work: Work) -> Costs:
        """Return 4 B H T^2 D FLOPs for full attention; `causal_flops` is the fraction (T + 1) / (2 T) of that.

        `least_bytes`: q, k and v are read and the result is written once.
        """
        batch, heads, time, depth = self.shape(work)
        full = 4.0 * batch * heads * time**2 * depth
        amounts = {"tokens": float(batch * time), "causal_flops": full * (time + 1) / (2 * time)}
        return Costs(full, least_bytes=4.0 * batch * heads * time * depth * itemsize(work.dtype), amounts=amounts)

    def footprint(self, work: Work) -> float:
        """Return the bytes of queries, keys, values and result, and of two copies of the scores, for "explicit"."""
        batch, heads, time, depth = self.shape(work)
        return float(batch * heads * time * (4 * depth + 2 * time) * itemsize(work.dtype))

    def samples(self, work: Work) -> int:
        batch, heads, time, depth = self.shape(work)
        return affordable(batch, 8 * heads * time**2 * depth)

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        return repeated(host, "qkv", self.samples(work), rng)

    def reference(self, work: Work, host: HostArrays) -> Samples:  # noqa: ARG002 - not needed
        q, k, v = (distinct(host, name).astype(np.float64) for name in "qkv")
        return Samples(attention(np, q, k, v, causal=True)[0], order_of(host, "q"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        return expected.error(answer["out"])


def _array_layernorm(xp: Any, arrays: dict[str, Any]) -> Any:
    return layernorm(xp, arrays["x"], arrays["weight"], arrays["bias"])[0]


def _torch_layernorm(torch: Any, arrays: dict[str, Any]) -> Any:
    x, weight, bias = arrays["x"], arrays["weight"], arrays["bias"]
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias)


class Rows(Layer):
    """Base class of layers that process each row of a large matrix (T, C): memory-bound, with little arithmetic."""

    axes = "tc"
    sizes: ClassVar[dict[Preset, Shape]] = {
        Preset.SMOKE: (64, 64),
        Preset.QUICK: (4096, 768),
        Preset.STANDARD: (16384, 1024),
        Preset.FULL: (65536, 4096),
    }

    def costs(self, work: Work) -> Costs:
        """Return the bytes of reading and writing the matrix once; no FLOPs are counted."""
        rows, width = self.shape(work)
        moved = 2.0 * rows * width * itemsize(work.dtype)
        return Costs(bytes=moved, least_bytes=moved, amounts={"tokens": float(rows)})

    def footprint(self, work: Work) -> float:
        """Return the bytes of the matrix, of its result, and of two intermediate ones."""
        rows, width = self.shape(work)
        return 4.0 * rows * width * itemsize(work.dtype)


class LayerNorm(Rows):
    """Layer normalisation of every row."""

    name = "layernorm"
    quick_forms = ("tuned",)
    kernels: ClassVar[Kernels] = {
        **array_builders(_array_layernorm, "numpy", "cupy"),
        **torch_builders(_torch_layernorm),
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        _, width = self.shape(work)
        affine = {name: normal(rng, (width,), work.dtype) for name in ("weight", "bias")}
        return {"x": normal(rng, self.shape(work), work.dtype), **affine}

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - not needed
        normed: np.ndarray = _array_layernorm(np, {name: array.astype(np.float64) for name, array in host.items()})
        return normed


class Softmax(Rows):
    """Softmax of every row."""

    name = "softmax"
    quick_forms = ("tuned",)
    in_smoke = False
    kernels: ClassVar[Kernels] = {
        **array_builders(lambda xp, arrays: softmax(xp, arrays["x"])[0], "numpy", "cupy"),
        **torch_builders(lambda torch, arrays: torch.softmax(arrays["x"], dim=-1)),
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"x": normal(rng, self.shape(work), work.dtype)}

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - not needed
        shares: np.ndarray = softmax(np, host["x"].astype(np.float64))[0]
        return shares


class Table(Layer):
    """Base class of operations on T rows of a table (V, C), selected by random ids."""

    axes = "vtc"
    sizes: ClassVar[dict[Preset, Shape]] = {
        Preset.SMOKE: (32, 64, 16),
        Preset.QUICK: (10_000, 8192, 256),
        Preset.STANDARD: (50_304, 16_384, 768),
        Preset.FULL: (128_256, 65_536, 2048),
    }


class Embedding(Table):
    """Embedding: gather rows of a table."""

    name = "embedding"
    in_smoke = False
    kernels: ClassVar[Kernels] = {
        **array_builders(lambda xp, arrays: embedding(xp, arrays["ids"], arrays["table"])[0], "numpy"),
        **torch_builders(lambda torch, arrays: torch.nn.functional.embedding(arrays["ids"], arrays["table"])),
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        rows, tokens, width = self.shape(work)
        return {"table": normal(rng, (rows, width), work.dtype), "ids": rng.integers(rows, size=tokens)}

    def footprint(self, work: Work) -> float:
        """Return the bytes of table, ids and result."""
        rows, tokens, width = self.shape(work)
        return float((rows + tokens) * width * itemsize(work.dtype) + 8 * tokens)

    def costs(self, work: Work) -> Costs:
        """Return the bytes of reading and writing one row per id, and of reading the id (8 bytes)."""
        _, tokens, width = self.shape(work)
        moved = 2.0 * tokens * width * itemsize(work.dtype) + 8 * tokens
        return Costs(bytes=moved, least_bytes=moved, amounts={"tokens": float(tokens)})

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - not needed
        """Return the rows in their own dtype: copying does not round."""
        return host["table"][host["ids"]]


def _array_scatter(xp: Any, arrays: dict[str, Any]) -> Any:
    total = xp.zeros((int(arrays["rows"].shape[0]), arrays["values"].shape[1]), dtype=arrays["values"].dtype)
    scatter_add(xp, total, arrays["ids"], arrays["values"])
    return total


def _torch_scatter(torch: Any, arrays: dict[str, Any]) -> Any:
    rows, width = arrays["rows"].shape[0], arrays["values"].shape[1]
    total = torch.zeros((rows, width), dtype=arrays["values"].dtype, device=arrays["values"].device)
    return total.index_add_(0, arrays["ids"], arrays["values"])


class EmbeddingGrad(Table):
    """The gradient of an embedding, a scatter-add: start with a table of zeros, add a row at each id; ids repeat."""

    name = "embedding_grad"
    quick_forms = ("tuned",)
    kernels: ClassVar[Kernels] = {
        **array_builders(_array_scatter, "numpy"),
        **torch_builders(_torch_scatter),
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        rows, tokens, width = self.shape(work)
        values = normal(rng, (tokens, width), work.dtype)
        # `rows` (V, 0) holds no data: it only carries the number of rows.
        return {"values": values, "ids": rng.integers(rows, size=tokens), "rows": np.zeros((rows, 0), work.dtype)}

    def footprint(self, work: Work) -> float:
        """Return the bytes of table, values and ids, and of an index of 8 bytes per value, which NumPy uses."""
        rows, tokens, width = self.shape(work)
        return float((rows + tokens) * width * itemsize(work.dtype) + 8 * tokens * (width + 2))

    def costs(self, work: Work) -> Costs:
        """Return the bytes of writing the table (V C), of reading values and adding them (3 T C), and of reading ids.

        Adding reads a value, reads the row and writes it. `least_bytes`: the rows stay in a cache, so only values are
        read (T C).
        """
        rows, tokens, width = self.shape(work)
        moved = (rows + 3.0 * tokens) * width * itemsize(work.dtype) + 8 * tokens
        least = (rows + 1.0 * tokens) * width * itemsize(work.dtype) + 8 * tokens
        return Costs(bytes=moved, least_bytes=least, amounts={"tokens": float(tokens)})

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - not needed
        wide = {name: host[name].astype(np.float64) for name in ("values", "rows")}
        total: np.ndarray = _array_scatter(np, {**wide, "ids": host["ids"]})
        return total


def _array_lstm(xp: Any, arrays: dict[str, Any]) -> Any:
    return lstm(xp, arrays["x"], scoped(arrays, "weights"))


def _torch_lstm(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    from .nn.modules.running import infer_kernel

    weights = {name: backend.from_host(array) for name, array in scoped(host, "weights").items()}
    x = backend.from_host(host["x"])
    module = backend.xp.nn.LSTM(x.shape[2], weights["weight_hh_l0"].shape[1], batch_first=True)
    kernel = infer_kernel(backend, work, module, weights, Batch({"x": x}, lambda: (x,)), implementation)
    return replace(kernel, outputs=lambda made: {"out": made[0]})


class Lstm(Layer):
    """One LSTM layer over B sequences of T steps, which must be computed one after another."""

    name = "lstm"
    axes = "btc"
    sizes: ClassVar[dict[Preset, Shape]] = {
        Preset.SMOKE: (4, 8, 16),
        Preset.QUICK: (32, 32, 256),
        Preset.STANDARD: (64, 128, 512),
        Preset.FULL: (128, 256, 1024),
    }
    kernels: ClassVar[Kernels] = {
        **array_builders(_array_lstm, "cupy"),
        "torch": {"default": partial(_torch_lstm, "default")},
        "torch:cpu": {"default": partial(_torch_lstm, "default"), "tuned": keeping_memory(_torch_lstm)},
    }

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        batch, time, width = self.shape(work)
        shapes: dict[str, Shape] = {"weight_ih_l0": (4 * width, width), "weight_hh_l0": (4 * width, width)}
        shapes |= {"bias_ih_l0": (4 * width,), "bias_hh_l0": (4 * width,)}
        drawn = {f"weights.{name}": normal(rng, shape, work.dtype, width**-0.5) for name, shape in shapes.items()}
        return {"x": normal(rng, (batch, time, width), work.dtype), **drawn}

    def costs(self, work: Work) -> Costs:
        """Return 16 C^2 FLOPs per step: 2 C * 4 C for the input, and the same for the state. Ignored: the gates.

        `least_bytes`: both weight matrices and the inputs are read once, the hidden states written once.
        """
        batch, time, width = self.shape(work)
        least = float((8 * width**2 + 2 * batch * time * width) * itemsize(work.dtype))
        return Costs(16.0 * batch * time * width**2, least_bytes=least, amounts={"tokens": float(batch * time)})

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights, inputs, states (2 copies of each), gates of all steps, and 16 C for one step."""
        batch, time, width = self.shape(work)
        return float((16 * width**2 + batch * (8 * time + 16) * width) * itemsize(work.dtype))

    def samples(self, work: Work) -> int:
        batch, time, width = self.shape(work)
        return affordable(batch, 16 * time * width**2)

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        return repeated(host, ("x",), self.samples(work), rng)

    def reference(self, work: Work, host: HostArrays) -> Samples:  # noqa: ARG002 - not needed
        weights = {name: array.astype(np.float64) for name, array in host.items() if name != "x"}
        hidden = _array_lstm(np, {**weights, "x": distinct(host, "x").astype(np.float64)})
        return Samples(hidden, order_of(host, "x"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        return expected.error(answer["out"])


@pytest.mark.workload(Attention())
def test_attention(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(LayerNorm())
def test_layernorm(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(Softmax())
def test_softmax(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(Embedding())
def test_embedding(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(EmbeddingGrad())
def test_embedding_grad(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(Lstm())
def test_lstm(measure: Callable[[], None]) -> None:
    measure()
