"""Half a year of runs of two imaginary machines, with changes that are known, for tests of whatever reads a history.

- From March on, PyTorch 2.13 makes the tokens of the CPU of `desk` 20 % faster.
- From April on, another driver makes everything on its GPU 8 % faster.
- In June, products by NumPy on `laptop` take 25 % longer, and PyTorch's training on the CPU of `desk` has no memory.
- `laptop` was throttled in February and May, and its intervals are wider.

Nothing here was measured, and nothing made from it may be shown as a result.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench_core.records import Costs, Work
from tests.support.tables import absent, measured, write

MONTHS = range(1, 7)
BLOCKS = (0.985, 0.99, 0.995, 1.0, 1.0, 1.005, 1.01, 1.02, 1.03)  # of a run, around its median
PRODUCT = Work("matmul", "matmul", "4096", "float32", (("k", 4096), ("m", 4096), ("n", 4096)))
DECODE = Work("model", "gpt_decode", "124M", "float32")
TRAIN = Work("model", "gpt_train", "124M", "float32")
COSTS = {
    PRODUCT: Costs(flops=2.0 * 4096**3),
    DECODE: Costs(flops=2.5e8, amounts={"tokens": 1.0}),
    TRAIN: Costs(flops=7.5e11, amounts={"tokens": 1024.0}),
}
DESK = (  # work, backend, device, seconds in January, joules of a call
    (PRODUCT, "numpy", "cpu", 0.140, None),
    (PRODUCT, "torch", "cpu", 0.125, None),
    (PRODUCT, "torch", "cuda:0", 0.0031, 1.05),
    (DECODE, "torch", "cpu", 0.060, None),
    (DECODE, "torch", "cuda:0", 0.0044, 0.62),
    (TRAIN, "torch", "cpu", 2.10, None),
    (TRAIN, "torch", "cuda:0", 0.031, 9.3),
)
LAPTOP = (
    (PRODUCT, "numpy", "cpu", 0.510, None),
    (PRODUCT, "torch", "cpu", 0.480, None),
    (DECODE, "torch", "cpu", 0.190, None),
)
NAMES = {"cuda:0": "Imaginary GPU", "cpu": "Imaginary CPU"}


def torch_of(month):
    return "2.13.0" if month >= 3 else "2.12.1"


def driver_of(month):
    return "590.48" if month >= 4 else "580.95"


def change(machine, work, backend, device, month):
    """Return by what factor a case takes longer than in January."""
    factor = 1.0
    if machine == "desk" and device == "cpu" and work == DECODE and month >= 3:
        factor /= 1.2
    if device == "cuda:0" and month >= 4:
        factor /= 1.08
    if machine == "laptop" and backend == "numpy" and month == 6:
        factor *= 1.25
    return factor


def measurements(machine, month):
    """Return what the run of a machine in a month found."""
    done = []
    for place, (work, backend, device, seconds, joules) in enumerate(DESK if machine == "desk" else LAPTOP):
        version = torch_of(month) if backend == "torch" else "2.4.6"
        known = {"env_id": env_id(machine, backend, device, month), "backend_version": version}
        if (machine, work, device, month) == ("desk", TRAIN, "cpu", 6):
            done.append(replace(absent(work, backend, device), **known))
            continue
        wobble = 1 + 0.002 * ((7 * month + 3 * place) % 5 - 2)
        median = seconds * change(machine, work, backend, device, month) * wobble
        spread = 3 + month / 10 + place / 100 if machine == "laptop" else 1
        flags = ("throttled",) if machine == "laptop" and month in {2, 5} else ()
        done.append(
            replace(
                measured(
                    [median * (1 + spread * (block - 1)) for block in BLOCKS],
                    work,
                    backend,
                    device,
                    threads=None if device == "cuda:0" else 8,
                    device_name=NAMES[device],
                    **known,
                ),
                costs=COSTS[work],
                flags=flags,
                values={} if joules is None else {"energy": joules * wobble},
            )
        )
    return done


def env_id(machine, backend, device, month):
    return f"e_{machine}_{backend}_{device[:4]}_{torch_of(month)}_{driver_of(month)}".replace(".", "")


def about(machine, month):
    """Return what run.json says besides."""

    def fact(value):
        return {"value": value, "source": "planted"}

    host = {"cpu.model": fact("Imaginary CPU"), "memory.total": fact(64 << 30), "cpu.caches": fact({"L2": 1 << 20})}
    workers = {}
    for _, backend, device, *_ in DESK if machine == "desk" else LAPTOP:
        facts = {"torch": fact(torch_of(month))} if backend == "torch" else {"numpy": fact("2.4.6")}
        if device == "cuda:0":
            facts["gpu.driver"] = fact(driver_of(month))
        workers[env_id(machine, backend, device, month)] = facts
    return {"environment": {"host": host, "workers": workers}, "options": {"preset": "standard"}}


def write_run_of(folder, machine, month) -> Path:
    """Write the run of a machine in a month; returns its folder."""
    known = {"run_id": f"2001{month:02}01T060000Z-{month:04x}", "started_at": f"2001-{month:02}-01T06:00:00+00:00"}
    return write(folder, measurements(machine, month), machine, about(machine, month), **known)


def write_history(folder, months=MONTHS) -> list[Path]:
    """Write all runs; returns their folders."""
    return [write_run_of(folder, machine, month) for machine in ("desk", "laptop") for month in months]
