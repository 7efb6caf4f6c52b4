"""The latency of memory: a walk that visits everything once, and is checked by where it ends."""

from dataclasses import replace

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import WrongAnswer
from bench_core.records import Preset
from benchmarks.bench_latency import LOADS, Chase
from tests.support import kernels as support

CPU = NumpyBackend("cpu")


@pytest.fixture
def chase():
    work = next(Chase().works(Preset.SMOKE, None))
    host = support.inputs(Chase(), work)
    return work, host, support.kernel(Chase(), work, CPU, host=host)


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
    assert Chase().verify(work, Chase().reference(work, host), support.answer(kernel, CPU)) == 0.0
    assert support.before_and_after(kernel, Chase(), work, CPU, host=host) == 0.0


def test_each_walk_goes_on_where_the_last_one_stopped(chase):
    """Else a footprint of more than LOADS links would never be walked to its end."""
    work, host, kernel = chase
    kernel.run()
    at = 0
    for _ in range(2 * LOADS):
        at = int(host["links"][at])
    assert kernel.run() == at
    kernel.restart()
    assert kernel.run() == Chase().reference(work, host)


def test_a_walk_along_links_that_are_no_longer_there_is_a_wrong_answer(chase):
    work, host, kernel = chase
    other = support.kernel(Chase(), work, CPU, host=host)
    stale = replace(kernel, inputs=other.inputs)  # what is overwritten is not what is walked
    with pytest.raises(WrongAnswer, match="wrong in the second"):
        support.before_and_after(stale, Chase(), work, CPU, host=host)


def test_a_walk_that_is_one_step_short_is_a_wrong_answer(chase):
    work, host, _ = chase
    at = 0
    for _ in range(LOADS - 1):
        at = int(host["links"][at])
    with pytest.raises(WrongAnswer):
        Chase().verify(work, Chase().reference(work, host), {"out": np.asarray(at)})
