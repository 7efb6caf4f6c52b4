"""Readings of many runs of imaginary machines, with changes that are known, for tests of what a report says of them.

From run 20 on, products of 4096 by NumPy on `desk` take 25 % longer; from run 12 on, PyTorch decodes 17 % faster on its
CPU. From run 28 on, another driver makes everything on its GPU 7 % faster. Nothing happens to the other series. Nothing
here was measured, and nothing made from it may be shown as a result.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from bench_core.records import Fact, Work
from tests.support.tables import measured, reading, work

DECODE = Work("model", "gpt_decode", "124M", "float32")
CASES = (  # work, backend, device, seconds at first
    (work("512"), "numpy", "cpu", 0.00031),
    (work("512"), "torch", "cpu", 0.00029),
    (work("512"), "torch", "cuda:0", 0.000021),
    (work("4096"), "numpy", "cpu", 0.140),
    (work("4096"), "torch", "cpu", 0.125),
    (work("4096"), "torch", "cuda:0", 0.0031),
    (DECODE, "torch", "cpu", 0.060),
    (DECODE, "torch", "cuda:0", 0.0044),
)
SLOWER, FASTER, DRIVER = 20, 12, 28  # the first run of each change


def commit(run):
    """Return the commit of a run, and of the next two."""
    return f"{run // 3:02x}" * 20


def factor(of, backend, device, run):
    """Return by what a case takes longer than at first."""
    if (of.size, backend) == ("4096", "numpy") and run >= SLOWER:
        return 1.25
    if (of, device) == (DECODE, "cpu") and run >= FASTER:
        return 0.83
    return 0.93 if device == "cuda:0" and run >= DRIVER else 1.0


def run_of(run, machine="desk", noise=0.01, cases=CASES, **texts):
    """Return the reading of one run. texts: other values of columns of all rows."""
    rng = np.random.default_rng([run, *machine.encode()])
    driver = "590.48" if run >= DRIVER else "580.95"
    done, facts = [], {}
    for of, backend, device, seconds in cases:
        median = seconds * factor(of, backend, device, run) * (1 + noise * rng.standard_normal())
        env_id = f"{backend}-{driver}" if device == "cuda:0" else backend
        facts[env_id] = {"gpu.driver": Fact(driver, "planted")} if device == "cuda:0" else {"x": Fact("y", "planted")}
        done.append(
            measured([median * (1 + noise * (k - 4) / 4) for k in range(9)], of, backend, device, env_id=env_id)
        )
    started_at = datetime.fromisoformat("2001-01-01T06:00:00+00:00") + timedelta(days=4 * run)
    known = {"run_id": f"r{run:03}-{machine}", "started_at": started_at.isoformat()}
    read = reading(done, machine, facts={"cpu.model": Fact("Imaginary CPU", "planted")}, **known)
    rows = [replace(row, **{"git_commit": commit(run), **texts}) for row in read.rows]
    files = replace(read.files, worker_facts=facts)
    return type(read).of(read.path, rows, files=files)


def runs(count, **known):
    """Return the readings of the first runs of a machine."""
    return [run_of(run, **known) for run in range(count)]
