"""Comparisons of machines that do not exist: with all that can be said, of many sides, and with hostile texts."""

from dataclasses import replace

from bench_core.compare import CompareOptions, compare
from bench_core.records import Fact, Status
from tests.support.tables import absent, processes, reading, work

FIVE = (1.00e-3, 1.01e-3, 0.99e-3, 1.02e-3, 0.98e-3)


def times(factor, runs=5):
    return [factor * t for t in FIVE[:runs]]


def machine(name, speed, *, gpu=True, runs=5, facts=()):
    """An imaginary machine with two backends on its CPU and one on its GPU."""
    done = []
    for size, seconds in (("512", 1.0), ("1024", 8.0)):
        of = work(size)
        done += processes(times(seconds / speed, runs), of, threads=int(4 * speed))
        done += processes(times(0.5 * seconds / speed, runs), of, backend="torch", threads=int(4 * speed))
        if gpu:
            done += processes(times(0.02 * seconds / speed, runs), of, backend="torch", device="cuda:0")
        else:
            done.append(absent(of, "torch", "cuda", Status.SKIPPED, "no CUDA device on this machine"))
    table = reading(done, name)
    return replace(table, files=replace(table.files, facts={key: Fact(value) for key, value in facts}))


def two():
    """Two machines with everything that can be said: ratios, missing, incomparable, breaches, differences."""
    a = machine("box-a", 1.0, facts=[("cpu", "CPU A"), ("driver", "550.1"), ("python", "3.11.9")])
    b = machine("box-b", 2.0, gpu=False, facts=[("cpu", "CPU B"), ("python", "3.11.9")])
    precisions = {"box-a": "ieee", "box-b": "tf32"}
    odd = [reading(processes(times(1), work("64", precision=p)), m, run_id=f"odd-{m}") for m, p in precisions.items()]
    return compare([a, b, *odd], CompareOptions(fail_on=("missing",)))


def five():
    """Five machines, the last with one run."""
    names = ["box-a", "box-b", "box-c", "box-d", "box-e"]
    return compare([machine(n, 1.0 + i / 2, runs=1 if n == "box-e" else 5) for i, n in enumerate(names)])


def hostile(text):
    """A comparison in which a text from elsewhere stands wherever one can."""
    a, b = reading(processes(FIVE), "a"), reading(processes(FIVE), "b")
    bad = {"library": text, "backend_version": text, "device_name": text, "machine": text or "b", "reason": text}
    changed = tuple(replace(row, **bad) for row in b.rows)
    lost = tuple(replace(row, **bad, status="oom", size=text or "x", case_id="c") for row in b.rows)
    other = replace(b, rows=(*changed, *lost), origins=(("run-b", text),), notes=(text,), path=text)
    other = replace(other, files=replace(other.files, facts={text: Fact(text)}))
    return compare([replace(a, files=replace(a.files, facts={text: Fact("x")})), other])
