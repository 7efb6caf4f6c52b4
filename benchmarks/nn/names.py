"""Prefixes in the names of parameters: "blocks.0.norm1.weight" is "norm1.weight" in the scope "blocks.0"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def scoped(arrays: Mapping[str, Any], scope: str) -> dict[str, Any]:
    """Return the arrays whose names begin with `scope.`, without that prefix: {"a.b": 1} in scope "a" is {"b": 1}."""
    prefix = f"{scope}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def named(scope: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays with the prefix `scope.` in their names: the inverse of `scoped`."""
    return {f"{scope}.{name}": array for name, array in arrays.items()}
