"""Blocks cover an axis once, on all threads, and BLAS has its threads back afterwards, even after an error."""

import numpy as np
import pytest
import threadpoolctl

from benchmarks.nn.tuned import blocks

pytestmark = pytest.mark.skipif(not blocks._blas(), reason="no BLAS library whose threads can be limited")


def blas_threads():
    """Return the numbers of threads of NumPy's BLAS; SciPy's own, loaded later, computes nothing here."""
    return {library.num_threads for library in blocks._blas()}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("BLAS was built for one thread")
        yield


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 101])
def test_blocks_cover_an_axis_once_and_in_order(monkeypatch, threads, length):
    monkeypatch.setattr(blocks, "BLOCK", 80)
    parts = blocks.in_blocks(threads, lambda part: np.arange(length)[part], length, itemsize=8)
    assert [len(part) for part in parts[:-1]] == [10] * (len(parts) - 1)
    assert np.array_equal(np.concatenate([np.zeros(0, int), *parts]), np.arange(length))


def test_an_entry_larger_than_a_block_is_a_block():
    assert blocks.in_blocks(2, lambda part: part, 3, itemsize=2 * blocks.BLOCK) == [slice(i, i + 1) for i in range(3)]


def test_blas_has_one_thread_within_blocks_and_all_of_them_afterwards():
    assert blocks.on_threads(2, [blas_threads] * 4) == [{1}] * 4
    assert blas_threads() == {2}


def test_a_single_task_keeps_the_threads_of_blas():
    assert blocks.on_threads(2, [blas_threads]) == [{2}]


def test_blas_has_its_threads_back_after_an_error():
    with pytest.raises(ZeroDivisionError):
        blocks.on_threads(2, [lambda: 1 / 0, blas_threads])
    assert blas_threads() == {2}
