"""What the stand-in for CuPy pretends, asked of the GPU: a failure here is a lie of tests/standin/site/cupy."""

import numpy as np
import pytest

from benchmarks import bench_transfer
from tests.gpu import claims
from tests.standin.cupy_cases import COMPUTATIONS, HOST, MISTAKES

pytestmark = pytest.mark.gpu
CUPY = pytest.mark.parametrize("library", ["cupy"])
BOTH_WAYS = pytest.mark.parametrize(
    "workload", [bench_transfer.HostToDevice(), bench_transfer.DeviceToHost()], ids=["h2d", "d2h"]
)


def known_to_cupy(cases):
    """Return all cases but those of what CuPy has and the stand-in does not."""
    return [case for case in cases if not case.id.startswith("not offered")]


@pytest.fixture
def xp(backend):
    return backend.xp


@BOTH_WAYS
def test_a_pinned_copy_is_only_queued(backend, workload):
    assert claims.pinned_is_queued(backend, workload)


@BOTH_WAYS
def test_a_pageable_copy_is_waited_for(backend, workload):
    assert claims.pageable_is_waited_for(backend, workload)


@CUPY
def test_an_array_is_staged_and_copied_while_the_host_goes_on(xp):
    assert claims.array_returns_early(xp)


@CUPY
def test_the_layout_of_a_host_array_is_kept(xp):
    assert claims.keeps_order(xp)


@CUPY
def test_streams_are_separate_but_for_events(backend):
    assert claims.streams_are_separate(backend.xp, backend._device_clock._spin)


@CUPY
def test_types_of_an_elementwise_kernel_are_deduced(xp):
    assert claims.deduces_types(xp)


@CUPY
def test_the_null_stream_is_not_captured(xp):
    assert claims.refuses_capture_of_the_null_stream(xp)


def test_launches_take_microseconds_and_about_1024_are_queued(backend, add, held):
    for figure in claims.launching(backend, add):
        held(figure)


@pytest.mark.parametrize("mistake", known_to_cupy(MISTAKES))
@CUPY
def test_cupy_refuses_what_the_stand_in_refuses(xp, mistake):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
        mistake(xp, xp.asarray(HOST))


@pytest.mark.parametrize("compute", known_to_cupy(COMPUTATIONS))
@CUPY
def test_cupy_computes_what_the_stand_in_computes(xp, compute):
    got, expected = compute(xp, xp.asarray(HOST)), np.asarray(compute(np, HOST))
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(xp.asnumpy(got), expected, rtol=2e-3 if got.dtype == np.float16 else 1e-5)
