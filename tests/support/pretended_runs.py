"""Runs that take no time: a launcher that writes a run's folder instead of measuring."""

import random
from pathlib import Path

from bench_core.records import Measurement, Run, Status, to_json
from bench_core.run import journal
from bench_core.run.session import read_cases
from tests.support.tables import absent, measured, work, write


def pretend(seconds, *, machine="box", fail=(), stop=None, memory=None, gpu=None):
    """Return a launcher that writes a run of one case, `seconds` by side, and one case that is unsupported.

    memory, gpu: functions that return the memory in bytes (None: unknown) and the GPU of a turn's computer. With a GPU,
    the case is measured on it. A round of --precision has only its cases.
    """
    taken = []

    def run_one(turn, output, arguments):
        taken.append(turn)
        output.mkdir(parents=True)
        (output / "log.txt").write_text("collected 2 items\nERROR: no module named benchmarks\n")
        if stop == len(taken):
            raise KeyboardInterrupt
        if turn.replicate in fail:
            return 4
        noise = random.Random(len(taken)).gauss(0, 0.01)
        t = seconds[turn.side.name] * (1 + noise)
        status = Status.OOM if turn.replicate == 1 else Status.OK
        flaky = measured([t] * 3, work("32"))
        flaky = flaky if status is Status.OK else Measurement.missing(flaky.case, status, "code", "out of memory")
        where = {"device": "cuda:0", "device_name": gpu(turn)} if gpu else {}
        first = measured([t * 0.99, t, t * 1.01], **where)
        done = [first, flaky, absent(work("16"), status=Status.UNSUPPORTED)]
        for path in (a.partition("=")[2] for a in arguments if a.startswith("--bench-cases=")):
            done = [m for m in done if m.case in read_cases(Path(path))]
        label = machine if isinstance(machine, str) else machine(turn)
        of = Run(f"r{len(taken)}", f"2001-01-01T00:00:{len(taken):02}+00:00", label)
        workers = {f"e{turn.replicate}": {}}
        host = {"cpu.model": {"value": "X"}, "memory.total": {"value": memory and memory(turn)}}
        about = {
            "run": to_json(of),
            "planned": len(done),
            "time": {"total_s": 2.0, "parts_s": {"timed": 1.0, "other": 1.0}, "cases_s": {"case": {"timed": 1.0}}},
            "statuses": {},
            "options": {"preset": "quick"},
            "environment": {"host": host, "workers": workers},
        }
        folder = write(output, done, label, about=about, run_id=of.run_id)
        kept = journal.Journal(folder, journal.Head(of, tuple(m.case for m in done)))
        for m in done:
            kept.append(m)
        kept.close()
        return 0

    run_one.taken = taken
    return run_one
