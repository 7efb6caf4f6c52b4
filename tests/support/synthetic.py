"""Tables of machines that do not exist, in the real schema, for tests of whatever reads tables.

A machine is a few rates and latencies; a case's seconds follow from the roofline of its device with a
little seeded scatter, and go through `metrics.rows` like any measurement. Nothing here was measured,
and nothing made from it may be shown as a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from bench_core.compare import Reading
from bench_core.records import Cache, Case, Clock, Costs, Fact, Measurement, Run, Series, Status, Work, to_json
from bench_core.results import writer
from bench_core.results.rows import rows_of_case
from bench_core.results.run_files import RunFiles

WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
MATMUL_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192)
LADDER_KIB = (16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
MODELS = {  # name: (size, FLOPs a step, bytes a step, numerator, amount a step)
    "mlp_train": ("784-512-512-10_b128", 2e9, 2e8, "samples", 128.0),
    "cnn_train": ("resnet20_b32", 8e9, 6e8, "samples", 32.0),
    "gpt_train": ("4l-128d-64c_b12", 2e10, 1e9, "tokens", 768.0),
    "gpt_prefill": ("4l-128d-64c_b12", 7e9, 4e8, "tokens", 768.0),
    "gpt_decode": ("4l-128d-64c_b12", 1e8, 5e7, "tokens", 12.0),
    "gan_generate": ("dcgan_b32", 5e9, 5e8, "samples", 32.0),
    "diffusion_sample": ("dit-s_b4", 4e10, 3e9, "samples", 4.0),
}


@dataclass(frozen=True)
class Device:
    """A device by its limits: FLOP/s by dtype, caches as (bytes, B/s), seconds a call costs at least."""

    address: str
    name: str
    peaks: Mapping[str, float]
    caches: Sequence[tuple[float, float]]
    latency: float
    memory: float


@dataclass(frozen=True)
class Machine:
    """An imaginary machine; `absent` maps a backend to the reason it is skipped."""

    label: str
    devices: Sequence[Device]
    absent: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


def cpu(name: str, gflops: float, gbps: float, cores: int) -> Device:
    """Return an imaginary CPU: float32 peak, memory rate, cores."""
    peaks = {"float64": gflops * 5e8, "float32": gflops * 1e9, "bfloat16": gflops * 0.4e9}
    caches = ((cores * 48e3, gbps * 8e9), (cores * 1e6, gbps * 4e9), (cores * 4e6, gbps * 2e9), (math.inf, gbps * 1e9))
    return Device("cpu", name, peaks, caches, 2e-6, 64e9)


def gpu(name: str, tflops: float, tbps: float, index: int = 0, memory: float = 80e9) -> Device:
    """Return an imaginary GPU: bfloat16 peak, memory rate."""
    peaks = {
        "float64": tflops * 0.05e12,
        "float32": tflops * 0.07e12,
        "tf32": tflops * 0.5e12,
        "bfloat16": tflops * 1e12,
    }
    caches = ((50e6, tbps * 2.2e12), (math.inf, tbps * 1e12))
    return Device(f"cuda:{index}", name, peaks, caches, 9e-6, memory)


NO_DEVICE = {"cuda": "no CUDA device on this machine"}
MACHINES = (
    Machine("machine-a", (cpu("Synthetic CPU A, 2 cores", 190, 25, 2),), NO_DEVICE, 1),
    Machine(
        "machine-b", (cpu("Synthetic CPU B, 16 cores", 1500, 80, 16), gpu("Synthetic GPU B", 150, 0.9, 0, 2e9)), {}, 2
    ),
    Machine("machine-c", (cpu("Synthetic CPU C, 64 cores", 5200, 380, 64), gpu("Synthetic GPU C", 780, 3.1)), {}, 3),
    Machine(
        "machine-d",
        (
            cpu("Synthetic CPU D, 32 cores", 2900, 200, 32),
            gpu("Synthetic GPU D", 300, 1.8),
            gpu("Synthetic GPU D", 300, 1.8, 1),
        ),
        {"cupy": "cupy is not installed"},
        4,
    ),
    Machine("machine-e", (cpu("Synthetic CPU E, 8 cores", 700, 60, 8), gpu("Synthetic GPU E", 60, 0.4, 0, 4e9)), {}, 5),
)


def works() -> Iterator[tuple[Work, Costs]]:
    """Yield every imaginary piece of work with its costs."""
    kinds = (("float64", "ieee"), ("float32", "ieee"), ("float32", "tf32"), ("bfloat16", "ieee"))
    for dtype, precision in kinds:
        for n in MATMUL_SIZES:
            sides = {"k": n, "m": n, "n": n}
            work = Work("matmul", "matmul", str(n), dtype, tuple(sides.items()), precision=precision)
            yield work, Costs(2.0 * n**3, least_bytes=3.0 * n * n * WIDTHS[dtype])
    for name, arrays, flops in (("copy", 2, 0), ("triad", 3, 2)):
        for kib in LADDER_KIB:
            elements = kib * 1024 / 4 / arrays
            work = Work("memory", name, f"{kib}KiB", "float32", (("footprint", kib * 1024),), cache=Cache.HOT)
            moved = float(arrays * elements * 4)
            yield work, Costs(flops * elements or None, moved, moved)
    for name, (size, flops, moved, numerator, amount) in MODELS.items():
        for dtype in ("float32", "bfloat16"):
            yield Work("model", name, size, dtype), Costs(flops, moved, moved, {numerator: amount})


def seconds(device: Device, work: Work, costs: Costs) -> float:
    """Return what one call would take: its latency plus the longer of arithmetic and memory."""
    peak = device.peaks.get(work.precision, device.peaks.get(work.dtype, math.nan))
    moved = costs.bytes or costs.least_bytes or 0.0
    rate = next(rate for size, rate in device.caches if moved <= size)
    share = 0.85 if work.suite == "matmul" else 0.35
    return device.latency + max((costs.flops or 0.0) / (peak * share), moved / rate)


def trouble(machine: Machine, device: Device, backend: str, work: Work, costs: Costs) -> tuple[Status, str, str] | None:
    """Return why a case has no value, or None if it has one. Every status occurs somewhere."""
    if backend in machine.absent or device.address.partition(":")[0] in machine.absent:
        return Status.SKIPPED, "not_installed", machine.absent.get(backend, "no device")
    if backend in {"numpy", "cupy"} and work.dtype == "bfloat16":
        return Status.UNSUPPORTED, "dtype_unsupported", f"{backend} has no bfloat16"
    if work.precision == "tf32" and device.address == "cpu":
        return Status.UNSUPPORTED, "precision_unsupported", "TF32 exists on CUDA devices only"
    if (costs.least_bytes or 0.0) * 4 > device.memory and device.address != "cpu":
        return Status.OOM, "oom", "CUDA out of memory: tried to allocate 3.00 GiB, 1.20 GiB free"
    known = {
        ("machine-a", "numpy", "8192"): (Status.TIMEOUT, "budget", "one call takes longer than the budget of 20 s"),
        ("machine-a", "torch", "8192"): (Status.INTERRUPTED, "interrupted", "the run was stopped before its turn"),
        ("machine-e", "torch", "dit-s_b4"): (Status.CRASHED, "signal", "the worker died with signal 11 (SIGSEGV)"),
        ("machine-e", "cupy", "65536KiB"): (Status.INVALID, "implausible", "34.0 TB/s is above what the device can do"),
        ("machine-e", "cupy", "dcgan_b32"): (Status.ERROR, "raised", "RuntimeError: imaginary kernel failed"),
    }
    return known.get((machine.label, backend, work.size))


def measurement(machine: Machine, device: Device, backend: str, work: Work, costs: Costs) -> Measurement:
    """Return what an imaginary run found out about one case, reproducibly."""
    case = Case(work, backend, device.address)
    known = {"backend_version": "0.0-synthetic", "device_name": device.name, "costs": costs, "env_id": machine.label}
    if bad := trouble(machine, device, backend, work, costs):
        return Measurement.missing(case, *bad, **known)
    rng = np.random.default_rng([machine.seed, *work.case_id.encode(), *backend.encode(), *device.address.encode()])
    slower = {"numpy": 1.25, "cupy": 1.05, "torch": 1.0}[backend] * rng.uniform(1.0, 1.1)
    blocks = seconds(device, work, costs) * slower * rng.lognormal(0.0, 0.02, 15)
    series = [Series("time", Clock.WALL, tuple(blocks.tolist()), 4)]
    if device.address != "cpu":
        series.append(Series("time", Clock.DEVICE, tuple((blocks - device.latency * 0.7).tolist()), 4))
    near = work.suite == "memory" and (costs.bytes or 0.0) < 4 * max(
        size for size, _ in device.caches if size < math.inf
    )
    return Measurement(
        case,
        Status.OK,
        flags=("near_cache",) if near else (),
        series=tuple(series),
        values={"first_call": float(blocks[0] * 30)},
        threads=None if device.address != "cpu" else int(device.name.split()[-2]),
        rel_error=1e-7,
        library="SyntheticBLAS 1.0",
        **known,
    )


def run_of(machine: Machine, run_id: str = "") -> Run:
    """Return the imaginary run of a machine."""
    return Run(
        run_id or f"2001-01-0{machine.seed}T00-00-00Z-quick",
        f"2001-01-0{machine.seed}T00:00:00Z",
        machine.label,
        "0" * 40,
        False,
    )


def measurements(machine: Machine) -> list[Measurement]:
    """Return every case of a machine: NumPy and PyTorch on its CPU, CuPy and PyTorch on its GPUs."""
    targets = [
        (d, b) for d in machine.devices for b in (("numpy", "torch") if d.address == "cpu" else ("cupy", "torch"))
    ]
    if len(machine.devices) == 1:  # without a GPU its cases are still planned, and say why they have no value
        absent = Device("cuda", "", {}, ((math.inf, 1.0),), 0.0, math.inf)
        targets += [(absent, "cupy"), (absent, "torch")]
    return [measurement(machine, d, b, work, costs) for d, b in targets for work, costs in works()]


def facts_of(machine: Machine) -> dict[str, Fact]:
    """Return an imaginary environment: some facts alike on all machines, some not, some unknown."""
    host = machine.devices[0]
    facts = {
        "cpu.model": Fact(host.name, "/proc/cpuinfo"),
        "cpu.cores": Fact(int(host.name.split()[-2]), "psutil"),
        "memory.total": Fact(int(host.memory), "psutil"),
        "python.version": Fact("3.11.0", "platform"),
        "cpu.governor": Fact(reason="cpufreq is not there"),
    }
    for device in machine.devices[1:]:
        index = device.address.partition(":")[2]
        facts[f"gpu{index}.name"] = Fact(device.name, "NVML")
        facts[f"gpu{index}.driver"] = Fact(f"5{machine.seed}0.00-synthetic", "NVML")
    return facts


def write(folder: Path, machine: Machine) -> Path:
    """Write an imaginary run as the harness would; returns its folder."""
    path = folder / machine.label / run_of(machine).run_id
    path.mkdir(parents=True)
    done = measurements(machine)
    about = {
        "run": to_json(run_of(machine)),
        "environment": {"host": to_json(facts_of(machine)), "workers": {}},
        "options": {"preset": "quick", "seed": 0},
    }
    writer.write_run(path, [row for m in done for row in rows_of_case(run_of(machine), [m])], done, about)
    return path


def reading(machine: Machine, run_id: str = "") -> Reading:
    """Return an imaginary run as if it had been read from a file with its run.json, without its samples."""
    run = run_of(machine, run_id)
    found = [row for m in measurements(machine) for row in rows_of_case(run, [m])]
    about = {"options": {"preset": "quick", "seed": 0}}
    return Reading.of(
        f"{machine.label}/{run.run_id}/results.csv", found, files=RunFiles(facts=facts_of(machine), about=about)
    )


@cache
def readings(*labels: str) -> tuple[Reading, ...]:
    """Return one imaginary run of each machine with one of these labels; of all five without labels."""
    return tuple(reading(machine) for machine in MACHINES if not labels or machine.label in labels)
