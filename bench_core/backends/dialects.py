"""The operations of each dialect: what a backend that speaks it must offer as `xp`, because kernels call it.

tests/project/test_dialect.py records what the kernels call and demands that it is declared here. What a dialect demands
of arrays is in CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_ARRAY = """
    abs add add.at add.reduce arange broadcast_to concatenate copyto dot empty empty_like exp full inf log log1p matmul
    maximum multiply pad sqrt stack take take_along_axis tanh tile triu where zeros zeros_like
"""
_JAX = """
    add arange asarray bfloat16 broadcast_to concatenate copy dot exp float32 float64 full_like inf isfinite matmul
    promote_types split sqrt stack sum take_along_axis tanh tile tri where zeros zeros_like
"""

FUNCTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"array": tuple(_ARRAY.split()), "jax": tuple(_JAX.split())}
)


def has(module: Any, name: str) -> bool:
    """Return whether a module has a function, or one has another as its attribute: "add.at"."""
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True
