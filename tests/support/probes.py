"""What probes have found of backends (NumPy on a CPU, PyTorch with two GPUs, no CuPy), and facts that a test plants."""

from bench_core.plan.discovery import Device, Probe
from bench_core.records import Fact

NUMPY = Probe("numpy", "2", (Device("cpu"),))
TORCH = Probe("torch", "2", (Device("cpu"), Device("cuda:0", "GPU A"), Device("cuda:1", "GPU B")))
NO_CUPY = Probe("cupy", reason_code="not_installed", reason="cupy is not installed")
PROBES = {"numpy": NUMPY, "torch": TORCH, "cupy": NO_CUPY}


def facts(**values):
    """Return facts from names with `__` for the dot."""
    return {name.replace("__", "."): Fact(value, "planted") for name, value in values.items()}


def numpy_probe(core="SkylakeX"):
    pools = [{"internal_api": "openblas", "architecture": core}, {"internal_api": "openmp"}]
    return Probe("numpy", "2.4", (Device("cpu", "X", "openblas", facts(threadpools=pools)),))
