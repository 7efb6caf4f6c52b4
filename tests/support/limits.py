"""Measurements of the limits of a machine, and the facts of a GPU with nothing amiss, for tests of what judges them."""

from bench_core.records import Case, Ceiling, Clock, Costs, Measurement, Series, Status, Work

CEILINGS = {
    "square": Ceiling.ARITHMETIC,
    "duplicate": Ceiling.MEMORY,
    "up": Ceiling.HOST_TO_DEVICE,
    "down": Ceiling.DEVICE_TO_HOST,
    "call": Ceiling.LAUNCH,
}
H100 = "NVIDIA H100 80GB HBM3"
FACTS = {
    "gpu.power_limit": 700.0, "gpu.power_limit_default": 700.0, "gpu.sm_clock_max": 1.98e9, "gpu.ecc": True,
    "gpu.mig": False, "gpu.other_processes": 0, "gpu.throttle_reasons": [],
    "gpu.pcie_generation": 5, "gpu.pcie_generation_max": 5, "gpu.pcie_width": 16, "gpu.pcie_width_max": 16,
}  # fmt: skip


def limit(workload, rate=None, device=H100, dtype="float32", precision="ieee", address="cuda:0", **known):
    """Return a measurement of one limit; rate in base units, seconds for a launch, None for nothing measured."""
    work = Work("any", workload, known.pop("size", "1"), dtype, precision=precision)
    case = Case(work, known.pop("backend", "torch"), address, known.pop("implementation", "default"))
    costs = {"square": Costs(flops=1e12), "call": Costs()}.get(workload, Costs(bytes=1e9))
    known = {"device_name": device, "env_id": "e", "costs": costs} | known
    if rate is None:
        return Measurement(case, **known)
    each = rate if workload == "call" else (costs.flops or costs.bytes) / rate
    clock = known.pop("clock", Clock.WALL)
    return Measurement(case, Status.OK, series=(Series("time", clock, (each,) * 5),), **known)
