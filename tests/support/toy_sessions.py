"""Sessions of pytest in this process over a toy suite, whose measurements are scripted: no worker, no clock."""

import shutil
from typing import NamedTuple

from bench_core.records import Clock, Measurement, Part, Series, Status
from bench_core.run import session as sessions
from bench_core.timing.workers import Workers
from tests.support.probes import PROBES

TOY = """
import pytest
from bench_core.noise.cases import Add

class Toy(Add):
    def works(self, preset, machine):
        return [self.work(size, "float32", n=1000) for size in "abc"]

@pytest.mark.workload(Toy())
def test_toy(measure):
    measure()
"""
TOY_FUNCTION = """
import numpy as np

def test_twice(measure):
    done = measure(np.square, np.ones(8), backends="numpy")
    assert done.series[0].seconds == (3.0,) * 5, "only the try that counts is judged by the test"
"""
MEASURE = ("--benchmark-only", "--bench-preset=smoke", "--bench-backends=numpy,torch:cpu", "--bench-machine=m")


class Try(NamedTuple):
    """A measurement: the seconds of a call, what the blocks that count have lost, and the status."""

    seconds: float
    lost: float = 0.0
    status: Status = Status.OK


class Scripted:
    """What takes the place of `Workers.dispatch`.

    tries: by size and backend, the tries of a case; others are calm. log: size and backend of each, and whether it
    waits. kept: a copy of the results, made when the first second try began.
    """

    def __init__(self, tries, results):
        self.tries, self.log, self.kept = {case: list(several) for case, several in tries.items()}, [], None
        self._results = results

    def __call__(self, case, source, settings, timeout, on_phase):
        at = case.work.size, case.backend
        if settings.wait and not self.kept:
            self.kept = shutil.copytree(self._results, self._results.with_name("kept"))
        self.log.append((*at, settings.wait > 0))
        done = self.tries[at].pop(0) if at in self.tries else Try(1.0)
        if done.status is not Status.OK:
            return Measurement.missing(case, done.status, "scripted", "scripted")
        flags = ("never_quiet", "steal") if done.lost else ()
        series = Series("time", Clock.WALL, (done.seconds,) * 5, flags=flags, disturbance=done.lost)
        return Measurement(case, Status.OK, series=(series,), spent={Part.TIMED: 0.01})


def toy_session(pytester, monkeypatch, tries, *options, suite=TOY, plugins=()):
    """Run a toy suite, and return what pytest said and the script."""
    scripted = Scripted(tries, pytester.path / "results")
    monkeypatch.setattr(Workers, "dispatch", lambda *arguments: scripted(*arguments[1:]))
    monkeypatch.setattr(sessions, "probe_all", lambda entries, kept=None: PROBES)
    pytester.makepyfile(bench_toy=suite)
    ours = ("-p", "no:cacheprovider", "-p", "no:xdist", "bench_toy.py", *MEASURE, *options)
    return pytester.runpytest_inprocess(*ours, plugins=plugins), scripted
