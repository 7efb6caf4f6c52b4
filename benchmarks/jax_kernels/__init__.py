"""The kernels in JAX, as its users write them: pure functions, jax.grad, jit; in one file per family.

    programs.py    a function that is compiled ahead: no timed call compiles
    products.py    matrix products
    streams.py     memory bandwidth
    transfers.py   between the memories of host and device
    latency.py     the cost of a call
    layers.py      attention, norms, softmax, embedding, LSTM, each by itself
    training.py    a training step and its state, donated from step to step; SGD, AdamW
    images.py      convolutions and batch norms
    mlp.py  gpt.py  resnet.py  dcgan.py  dit.py    the networks

`default` is jitted; `scan` is a loop of programs (tokens, denoising steps) in one program; `eager` calls one operation
at a time; `tuned` is a faster form for a CPU (layers.py). Weights, batches, costs and checks are those of the workloads
(bench_mlp.py and the others), which do not know of JAX: the tables here are added to them from outside
(bench_core/backends/kernels.py). This file is read by processes without JAX; the others import it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from bench_core.workload import Backend, Builder, HostArrays, Kernel, Work


def _build(place: str, implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    module, _, name = place.partition(".")
    build: Any = getattr(import_module(f".{module}", __package__), name)
    kernel: Kernel = build(implementation, backend, work, host)
    return kernel


def _kernels(place: str, *implementations: str) -> dict[str, Builder]:
    """Return a builder per implementation, `default` first: the function at "module.name" of this package."""
    return {name: partial(_build, place, name) for name in ("default", *implementations)}


_PRODUCTS = (
    "matmul",
    "matmul_data",
    "matmul_skinny",
    "matmul_batched",
    "matmul_layout",
    "matmul_off_tile",
    "matmul_transformer",
)
_STREAMS = ("copy", "scale", "add", "triad", "dot", "sum", "fill", "gather", "scatter")

# On every device.
KERNELS = {
    **{("matmul", name): _kernels("products.product") for name in _PRODUCTS},
    **{("memory", name): _kernels("streams.stream") for name in _STREAMS},
    ("transfer", "h2d"): _kernels("transfers.host_to_device"),
    ("transfer", "d2h"): _kernels("transfers.device_to_host"),
    ("transfer", "h2d_d2h"): _kernels("transfers.both_ways"),
    ("transfer", "d2d"): _kernels("transfers.on_device"),
    ("latency", "empty_call"): _kernels("latency.empty_call"),
    ("latency", "launch"): _kernels("latency.addition", "eager"),
    ("latency", "launch_synchronize"): _kernels("latency.addition", "eager"),
    ("model", "attention"): _kernels("layers.layer", "eager"),
    ("model", "layernorm"): _kernels("layers.layer", "eager"),
    ("model", "softmax"): _kernels("layers.layer", "eager"),
    ("model", "embedding"): _kernels("layers.layer"),
    ("model", "embedding_grad"): _kernels("layers.layer"),
    ("model", "lstm"): _kernels("layers.layer", "eager"),
    ("model", "mlp_train"): _kernels("mlp.train", "eager"),
    ("model", "mlp_infer"): _kernels("mlp.infer", "eager"),
    ("model", "cnn_train"): _kernels("resnet.train"),
    ("model", "cnn_infer"): _kernels("resnet.infer"),
    ("model", "gan_train"): _kernels("dcgan.train"),
    ("model", "gan_generate"): _kernels("dcgan.generate"),
    ("model", "gpt_train"): _kernels("gpt.train"),
    ("model", "gpt_prefill"): _kernels("gpt.prefill"),
    ("model", "gpt_decode"): _kernels("gpt.decode", "scan"),
    ("model", "diffusion_denoise"): _kernels("dit.steps"),
    ("model", "diffusion_sample"): _kernels("dit.steps", "scan"),
}
# On a CPU alone.
_TUNED = ("attention", "layernorm", "softmax", "embedding", "embedding_grad")
ON_CPU = {("model", name): {"tuned": partial(_build, "layers.layer", "tuned")} for name in _TUNED}
