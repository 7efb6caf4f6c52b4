"""Binary units of bytes, and the notation of sizes in labels."""

from __future__ import annotations

KIB, MIB = 1 << 10, 1 << 20


def size_label(size: int) -> str:
    """Return a number of bytes as whole MiB if it is at least 1 MiB, else as KiB: "256MiB", "4KiB"."""
    return f"{size // MIB}MiB" if size >= MIB else f"{size // KIB}KiB"
