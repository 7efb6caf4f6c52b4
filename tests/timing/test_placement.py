"""The placement of a kernel's arrays: what the kernel states, and what the kernel of the system counts."""

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.machine import pages
from bench_core.records import Case, Run
from bench_core.results.rows import rows_of_case
from bench_core.timing.case import Settings, run_case
from bench_core.timing.placement import LEAST, placement, spans
from bench_core.timing.sampling import Durations
from bench_core.workload import Kernel
from tests.support.workloads import Double

LARGE = np.zeros(LEAST // 8)


def place(kernel, result=None, device="cpu"):
    return placement(kernel, result, device)


def test_inputs_and_outputs_are_asked_for_and_small_arrays_are_not(monkeypatch):
    asked = []
    monkeypatch.setattr(pages, "huge_page_share", lambda spans: asked.extend(spans) or 0.98765)
    out = np.zeros(LEAST // 4)
    kernel = Kernel(lambda: out, inputs={"x": LARGE, "few": np.zeros(8)}, first_touch=2)
    assert place(kernel, out) == "first_touch=2;huge_pages=0.99"
    addresses = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in (LARGE, out)]
    assert asked == addresses


def test_what_is_unknown_is_left_out(monkeypatch):
    monkeypatch.setattr(pages, "huge_page_share", lambda spans: None)
    assert place(Kernel(lambda: None, inputs={"x": LARGE})) == ""
    assert place(Kernel(lambda: None, inputs={"x": LARGE}, first_touch=1)) == "first_touch=1"
    monkeypatch.setattr(pages, "huge_page_share", lambda spans: 0.0)
    assert place(Kernel(lambda: None, inputs={"x": LARGE})) == "huge_pages=0.00"


def test_a_gpu_has_none():
    assert place(Kernel(lambda: None, inputs={"x": LARGE}, first_touch=1), device="cuda:0") == ""


def test_outputs_that_need_more_calls_are_not_asked_for(monkeypatch):
    monkeypatch.setattr(pages, "huge_page_share", lambda spans: None)
    assert (
        place(Kernel(lambda: None, outputs=lambda _: pytest.fail("named"), calls=2, first_touch=1)) == "first_touch=1"
    )


def test_an_array_of_torch_has_an_address_too():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(LEAST, dtype=torch.bfloat16)
    assert list(spans([tensor, None, "text"])) == [(tensor.data_ptr(), tensor.data_ptr() + 2 * LEAST)]


def test_arrays_whose_elements_do_not_lie_in_order_are_left_out():
    """Their addresses would cover other memory, or memory that does not exist."""
    torch = pytest.importorskip("torch")
    tensor = torch.zeros((2, LEAST))
    views = [LARGE[::-1], LARGE[::2], np.broadcast_to(LARGE[:1], LARGE.shape), tensor.T, tensor[:, ::2]]
    assert [list(spans([view])) for view in views] == [[]] * len(views)


def test_an_array_of_another_kind_loses_no_case():
    class Odd:
        nbytes = LEAST

        @property
        def __array_interface__(self):
            raise RuntimeError("not on the host")

    torch = pytest.importorskip("torch")
    sparse = torch.eye(3).to_sparse()
    address = LARGE.__array_interface__["data"][0]
    assert list(spans([Odd(), sparse, LARGE])) == [(address, address + LARGE.nbytes)]


def test_the_placement_of_a_case_is_in_every_row_of_it(monkeypatch):
    monkeypatch.setattr(pages, "huge_page_share", lambda spans: 0.25)
    work = Double().work("1024", "float64")
    plan = Durations(budget=0.02, least=0.005, warmup=0.005, warmup_cap=0.02)
    done = run_case(Case(work, "numpy", "cpu"), Double(), NumpyBackend("cpu"), Settings(plan, 7, 1 << 20))
    assert done.placement == "huge_pages=0.25"
    rows = list(rows_of_case(Run("run", "2001-01-01T00:00:00+00:00", "a"), [done]))
    assert len(rows) > 1
    assert {row.placement for row in rows} == {"huge_pages=0.25"}
