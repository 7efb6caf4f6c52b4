"""The backend of torch's scaled_dot_product_attention (SDPA): backends differ in speed, arithmetic and first call.

torch chooses a backend for every call, by device, dtype, shapes and mask. This module queries the choice once, when a
kernel is built. The query computes no attention and is not part of any timing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from bench_core.workload import PARTLY_SPLIT, SPLIT, Backend, Kernel, Work

from .gpt import split_heads
from .running import autocast_dtype

_NAMES = {
    int(SDPBackend.MATH): "math",
    int(SDPBackend.FLASH_ATTENTION): "flash",
    int(SDPBackend.EFFICIENT_ATTENTION): "efficient",
    int(SDPBackend.CUDNN_ATTENTION): "cuDNN",
}
_TENSOR_CORES = (8, 0)  # lowest compute capability at which the memory-efficient kernels use TF32 tensor cores


def chosen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, *, causal: bool = False
) -> str:
    """Return the name of the backend that torch chooses for these tensors: a value of _NAMES, or "" if unknown.

    `_fused_sdp_choice` is private. `scaled_dot_product_attention` itself calls it, in all versions from 2.5 to 2.13.
    """
    try:
        return _NAMES.get(int(torch._fused_sdp_choice(q, k, v, mask, 0.0, causal)), "")
    except (AttributeError, RuntimeError):  # another torch, or a device (mps) without such a choice
        return ""


def chosen_for_itself(backend: Backend, work: Work, network: Any, tokens: int, *, causal: bool, grad: bool) -> str:
    """Return the name of the backend for self-attention over `tokens` tokens in a block of `network`."""
    q, k, v = projected(backend, work, network, tokens, grad=grad)
    return chosen(q, k, v, causal=causal)


def projected(
    backend: Backend, work: Work, network: Any, tokens: int, *, grad: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return uninitialised queries, keys and values (B, H, T, D) with the memory layout of those in a block."""
    dtype = autocast_dtype(work.precision) or getattr(torch, work.dtype)
    shape = (work["batch"], tokens, 3 * network.width)
    qkv = torch.empty(shape, dtype=dtype, device=backend.device, requires_grad=grad)
    return split_heads(qkv, network.heads)


def told(kernel: Kernel, backend: Backend, work: Work, names: Iterable[str], *, alone: bool = False) -> Kernel:
    """Return the kernel with the names of its attention backends in `library`.

    It gets a flag if attention computes float32 products as several of TF32. alone: whether attention is all that the
    work computes, which selects the flag.
    """
    known = list(dict.fromkeys(name for name in names if name))
    if not known:
        return kernel
    library = f"{kernel.library or backend.library}, SDPA {' + '.join(known)}"
    flags = (SPLIT if alone else PARTLY_SPLIT,) if _splits(backend, work, known) else ()
    return replace(kernel, library=library, flags=(*kernel.flags, *flags))


def _splits(backend: Backend, work: Work, names: Iterable[str]) -> bool:
    """Whether each float32 product is computed as three TF32 products, whatever precision was set.

    The memory-efficient kernels do so from compute capability 8.0 on (PyTorch, mem_eff_attention/gemm_kernel_utils.h:
    OpMultiplyAddFastF32). ROCm has other kernels. Work in "tf32" permits it, so it is not reported there.
    """
    device = torch.device(backend.device)
    if device.type != "cuda" or torch.version.hip or (work.dtype, work.precision) != ("float32", "ieee"):
        return False
    return "efficient" in names and torch.cuda.get_device_capability(device) >= _TENSOR_CORES
