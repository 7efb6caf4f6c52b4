"""Fleets of imaginary nodes: a few runs of each, as readings or as folders, for tests of whatever compares nodes.

Every node takes the same, but for a little that differs from run to run and is the same each time; `slow` makes some of
them take longer. Nothing here was measured, and nothing made from it may be shown as a result.
"""

from __future__ import annotations

from dataclasses import replace

from bench_core.records import Fact, Work
from bench_core.results.run_files import RunFiles
from tests.support.tables import measured, reading, work, write

COPY = Work("memory", "copy", "1GiB", "float32")
DECODE = Work("model", "gpt_decode", "124M", "float32")
WORKS = (  # work, backend, device, seconds
    (work("1024"), "numpy", "cpu", 0.02),
    (work("2048"), "numpy", "cpu", 0.15),
    (COPY, "numpy", "cpu", 0.05),
    (DECODE, "torch", "cuda:0", 0.004),
)
HOST = {
    "cpu.model": "Imaginary CPU 9000",
    "cpu.cores": 16,
    "memory.total": 128e9,
    "package.bench-core": "1.0",
    "system.kernel": "6.1",
}
GPU = {"gpu.name": "Imaginary GPU", "gpu.driver": "580.95", "gpu.ecc": True, "gpu.temperature": 40}


def node(number):
    return f"node-{number:02}"


def wobble(number, run, place):
    """Return a factor near 1 that depends on node, run and work alone."""
    return 1 + 0.004 * ((7 * number + 3 * run + 5 * place) % 11 - 5) / 5


def seconds(number, run, slow):
    """Return what each work takes on a node in a run. slow: factors by node, for all works or by suite."""
    for place, (of, backend, device, usual) in enumerate(WORKS):
        factor = slow.get(number, 1.0)
        factor = factor.get(of.suite, 1.0) if isinstance(factor, dict) else factor
        yield of, backend, device, usual * factor * wobble(number, run, place)


def measurements(number, run, slow, flags=()):
    done = []
    for of, backend, device, usual in seconds(number, run, slow):
        blocks = [usual * block for block in (0.99, 0.995, 1.0, 1.0, 1.01, 1.03)]
        known = {"env_id": f"e_{backend}", "threads": 16 if device == "cpu" else None}
        done.append(replace(measured(blocks, of, backend, device, **known), flags=tuple(flags)))
    return done


def about_of(name, run, host, gpu, **known):
    """Return the run.json of a run, which began `run` hours after midnight."""

    def plain(facts):
        return {fact: {"value": value, "source": "test"} for fact, value in facts.items() if value is not None}

    workers = {"e_torch": plain(GPU | gpu), "e_numpy": {}}
    return {
        "run": {"run_id": run_id(name, run), "started_at": started_at(run), "machine": name},
        "options": {"preset": "quick", "seed": 0},
        "time": {"total_s": 600.0},
        "environment": {"host": plain(HOST | host), "workers": workers},
        **known,
    }


def run_id(name, run):
    return f"{name}-run-{run}"


def started_at(run):
    return f"2001-01-01T{run:02}:00:00+00:00"


def reading_of(number, run, *, slow=(), host=None, gpu=None, flags=(), name="", about=None):
    """Return the reading of one run of a node. host, gpu: facts that differ from the usual ones; None for unknown."""
    name = name or node(number)
    told = about_of(name, run, host or {}, gpu or {}, **(about or {}))
    table = reading(
        measurements(number, run, dict(slow), flags), name, run_id=run_id(name, run), started_at=started_at(run)
    )
    facts = {
        owner: {fact: Fact(each["value"], each["source"]) for fact, each in facts.items()}
        for owner, facts in {"": told["environment"]["host"], **told["environment"]["workers"]}.items()
    }
    workers = {owner: known for owner, known in facts.items() if owner}
    return replace(table, files=RunFiles(table.files.samples, facts[""], workers, told))


def fleet(nodes=6, runs=3, *, slow=(), host=None, gpu=None, flags=None):
    """Return the readings of a fleet. slow, host, gpu, flags: by number of the node, counted from 1."""
    return [
        reading_of(
            number,
            run,
            slow=slow,
            host=(host or {}).get(number),
            gpu=(gpu or {}).get(number),
            flags=(flags or {}).get(number, ()),
        )
        for number in range(1, nodes + 1)
        for run in range(runs)
    ]


def write_fleet(folder, nodes=6, runs=3, *, slow=(), host=None, gpu=None):
    """Write the runs of a fleet as `bench-core fleet run` does, without its private folder; returns the folder."""
    for number in range(1, nodes + 1):
        name = node(number)
        for run in range(runs):
            told = about_of(name, run, (host or {}).get(number, {}), (gpu or {}).get(number, {}))
            done = measurements(number, run, dict(slow))
            write(folder, done, name, told, run_id=run_id(name, run), started_at=started_at(run))
    return folder
