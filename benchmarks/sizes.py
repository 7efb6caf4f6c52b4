"""Binary units of bytes, and how sizes are written in labels."""

from __future__ import annotations

KIB, MIB = 1 << 10, 1 << 20


def size_label(size: int) -> str:
    """Return a number of bytes in whole MiB from 1 MiB on, else in KiB: "256MiB", "4KiB"."""
    return f"{size // MIB}MiB" if size >= MIB else f"{size // KIB}KiB"
