"""Calls that would take a CPU minutes are not begun, and all others are."""

import numpy as np
import pytest

from bench_core.errors import TooSlow
from bench_core.model import Preset
from benchmarks import bench_mlp, limits
from benchmarks.nn.workloads import autocast_format
from tests import kernel_support as support

MLP = bench_mlp.MlpTrain()


def work(**kind):
    return MLP.variant(*MLP.presets[Preset.SMOKE], **kind)


def rate(monkeypatch, flops_per_second):
    asked = []
    monkeypatch.setattr(limits, "product_rate", lambda backend, dtype: asked.append(dtype) or flops_per_second)
    return asked


def test_the_limit_itself_passes_and_the_reason_names_call_and_seconds():
    limits.require_short(limits.LONGEST_CALL_S, "this call")
    with pytest.raises(TooSlow, match="this call would take about 61 s on this CPU") as raised:
        limits.require_short(61.2, "this call")
    assert (raised.value.status, raised.value.code) == ("skipped", "too_slow")


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_rate_is_that_of_a_product_and_finite(name):
    with support.backend(name) as on:
        assert 0 < limits.product_rate(on, "float32") < np.inf


@pytest.mark.parametrize("precision", ["autocast_bfloat16", "autocast_float16"])
def test_a_model_in_a_narrow_format_is_judged_by_a_product_in_that_format(monkeypatch, precision):
    narrow = work(precision=precision)
    asked = rate(monkeypatch, MLP.costs(narrow).flops / (limits.LONGEST_CALL_S + 1))
    with support.backend("torch") as on, pytest.raises(TooSlow, match=f"in {autocast_format(precision)} .* 4 s"):
        support.kernel(MLP, narrow, on)
    assert asked == [autocast_format(precision)]


def test_a_model_that_is_fast_enough_is_built(monkeypatch):
    narrow = work(precision="autocast_bfloat16")
    rate(monkeypatch, MLP.costs(narrow).flops / (limits.LONGEST_CALL_S - 1))
    with support.backend("torch") as on:
        assert support.kernel(MLP, narrow, on).run


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_in_a_format_of_every_cpu_is_not_judged(monkeypatch, dtype):
    asked = rate(monkeypatch, 1e-9)
    with support.backend("torch") as on:
        assert support.kernel(MLP, work(dtype=dtype), on).run
    assert not asked


@pytest.mark.parametrize(
    ("precision", "name"),
    [("autocast_bfloat16", "bfloat16"), ("autocast_float16", "float16"), ("ieee", ""), ("tf32", "")],
)
def test_autocast_names_its_format(precision, name):
    assert autocast_format(precision) == name
