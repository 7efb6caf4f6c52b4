"""The latency of memory: a walk that visits everything once, and is checked by where it ends."""

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import WrongAnswer
from bench_core.records import Case, Preset
from bench_core.timing.case import generator
from benchmarks.bench_latency import LOADS, Chase


@pytest.fixture
def chase():
    work = next(Chase().works(Preset.SMOKE, None))
    host = Chase().inputs(work, generator(work.case_id, 0))
    return work, host, Chase().build(NumpyBackend("cpu"), Case(work, "numpy", "cpu"), host)


def test_the_links_are_one_cycle_through_all_elements(chase):
    """A shorter cycle would fit a nearer cache than the footprint says."""
    work, host, _ = chase
    seen, at = set(), 0
    while at not in seen:
        seen.add(at)
        at = int(host["links"][at])
    assert len(seen) == work["links"]
    assert at == 0


def test_the_walk_ends_where_it_must_however_often_it_was_walked(chase):
    work, host, kernel = chase
    for _ in range(3):
        kernel.run()
    assert Chase().verify(work, host, {"out": kernel.answer()["out"]}) == 0.0


def test_a_walk_that_is_one_step_short_is_a_wrong_answer(chase):
    work, host, _ = chase
    at = 0
    for _ in range(LOADS - 1):
        at = int(host["links"][at])
    with pytest.raises(WrongAnswer):
        Chase().verify(work, host, {"out": np.asarray(at)})
