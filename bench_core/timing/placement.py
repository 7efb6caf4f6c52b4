"""Where the arrays of a kernel on a CPU lie: the column `placement` of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from bench_core.machine import pages
from bench_core.workload import Kernel

LEAST = 1 << 20  # bytes of an array whose pages count: smaller ones share their pages with other data


def placement(kernel: Kernel, result: Any, device: str) -> str:
    """Return facts of a kernel's inputs and outputs, `name=value` joined by `;`, "" if none is known or on a GPU.

    result: what the kernel's last call returned. device: its address ("cpu").

    first_touch: how many threads wrote the arrays first, if the kernel says so. A page lies in the memory next to the
        core that wrote it first, on machines with several such memories (NUMA nodes).
    huge_pages: the share of the arrays' bytes in huge pages, on Linux.
    """
    if device != "cpu":
        return ""
    facts = {"first_touch": kernel.first_touch} if kernel.first_touch else {}
    outputs = kernel.outputs(result) if kernel.calls == 1 else {}  # else the answer comes only after more calls
    arrays = [*kernel.inputs.values(), *outputs.values()]
    share = pages.huge_page_share(list(spans(arrays)))
    texts = [f"{name}={value}" for name, value in facts.items()]
    return ";".join(texts if share is None else [*texts, f"huge_pages={share:.2f}"])


def spans(arrays: Iterable[Any]) -> Iterable[pages.Span]:
    """Yield the first address of each array of at least LEAST bytes, and the address after its last byte.

    Arrays of NumPy and of PyTorch whose elements lie in order; all others are left out.
    """
    for array in arrays:
        with suppress(Exception):  # an array of another kind: a fact of a row is never worth its time
            if (size := int(array.nbytes)) >= LEAST and (start := _start(array)) is not None:
                yield start, start + size


def _start(array: Any) -> int | None:
    """Return the address of the first element if all others follow in order, else None."""
    if hasattr(array, "data_ptr"):
        return int(array.data_ptr()) if array.is_contiguous() else None
    interface = array.__array_interface__
    return int(interface["data"][0]) if interface.get("strides") is None else None
