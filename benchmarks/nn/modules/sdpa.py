"""Which kernels torch's scaled_dot_product_attention runs: they differ in speed, arithmetic and first call.

torch chooses among its backends for every call, by device, dtype, shapes and mask. What it will choose is asked once,
when a kernel is built; nothing is computed for it, and nothing of it is inside a timing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from bench_core.results import roofline
from bench_core.workload import Backend, Kernel, Work
from benchmarks.nn.modules.gpt import split_heads
from benchmarks.nn.modules.running import autocast_dtype

_NAMES = {
    int(SDPBackend.MATH): "math",
    int(SDPBackend.FLASH_ATTENTION): "flash",
    int(SDPBackend.EFFICIENT_ATTENTION): "efficient",
    int(SDPBackend.CUDNN_ATTENTION): "cuDNN",
}
_TENSOR_CORES = (8, 0)  # compute capability from which the memory-efficient kernels compute float32 on them


def chosen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, *, causal: bool = False
) -> str:
    """Return the backend that torch chooses for an attention, by its name in `torch.nn.attention`; "" if it won't say.

    `_fused_sdp_choice` is private, but what `scaled_dot_product_attention` itself asks, from torch 2.5 to 2.13 alike.
    """
    try:
        return _NAMES.get(int(torch._fused_sdp_choice(q, k, v, mask, 0.0, causal)), "")
    except (AttributeError, RuntimeError):  # another torch, or a device (mps) without such a choice
        return ""


def chosen_for_itself(backend: Backend, work: Work, network: Any, tokens: int, *, causal: bool, grad: bool) -> str:
    """Return the backend for the attention of `tokens` tokens among themselves, in a block of `network`."""
    q, k, v = projected(backend, work, network, tokens, grad=grad)
    return chosen(q, k, v, causal=causal)


def projected(
    backend: Backend, work: Work, network: Any, tokens: int, *, grad: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values (B, H, T, D) that lie in memory as a block's are, with nothing in them."""
    dtype = autocast_dtype(work.precision) or getattr(torch, work.dtype)
    shape = (work["batch"], tokens, 3 * network.width)
    qkv = torch.empty(shape, dtype=dtype, device=backend.device, requires_grad=grad)
    return split_heads(qkv, network.heads)


def told(kernel: Kernel, backend: Backend, work: Work, names: Iterable[str], *, alone: bool = False) -> Kernel:
    """Return a kernel that says which backends its attention runs on, and in what arithmetic if not in the work's own.

    alone: whether all products of the work are attention's.
    """
    known = list(dict.fromkeys(name for name in names if name))
    if not known:
        return kernel
    library = f"{kernel.library or backend.library}, SDPA {' + '.join(known)}"
    flags = (roofline.SPLIT if alone else roofline.PARTLY_SPLIT,) if _splits(backend, work, known) else ()
    return replace(kernel, library=library, flags=(*kernel.flags, *flags))


def _splits(backend: Backend, work: Work, names: Iterable[str]) -> bool:
    """Whether float32 products are made of three of TF32 each, whatever precision was set.

    From compute capability 8.0 on the memory-efficient kernels do so (PyTorch, mem_eff_attention/gemm_kernel_utils.h:
    OpMultiplyAddFastF32); on ROCm they are others. In "tf32" work that is no more than what was asked for.
    """
    device = torch.device(backend.device)
    if device.type != "cuda" or torch.version.hip or (work.dtype, work.precision) != ("float32", "ieee"):
        return False
    return "efficient" in names and torch.cuda.get_device_capability(device) >= _TENSOR_CORES
