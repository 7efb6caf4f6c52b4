"""Forgets what bench_core has read of the machine, for a test that changes what it reads."""

from bench_core.machine import allotment, host, processor, rapl


def forget() -> None:
    """Clear every cache of the modules that read the kernel and the system."""
    for module in (allotment, host, processor, rapl):
        for name in vars(module):
            getattr(getattr(module, name), "cache_clear", lambda: None)()
