"""Calls that would take a CPU minutes are not begun, and all others are."""

import numpy as np
import pytest

from bench_core.errors import TooSlow
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Target
from benchmarks import bench_mlp, limits
from benchmarks.nn.workloads import ModelWorkload, autocast_format
from tests.support import kernels as support
from tests.support.planned import MODELS

MLP = bench_mlp.MlpTrain()


def work(**kind):
    return MLP.variant(*MLP.presets[Preset.SMOKE], **kind)


def rates(monkeypatch, narrow, float32):
    asked = []

    def product_rate(backend, dtype):
        asked.append(dtype)
        return float32 if dtype == "float32" else narrow

    monkeypatch.setattr(limits, "product_rate", product_rate)
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
    asked = rates(monkeypatch, MLP.costs(narrow).flops / (limits.LONGEST_CALL_S + 1), 1e15)
    with support.backend("torch") as on, pytest.raises(TooSlow, match=f"in {autocast_format(precision)} .* 4 s"):
        support.kernel(MLP, narrow, on)
    assert asked == [autocast_format(precision), "float32"]


@pytest.mark.parametrize(("seconds", "float32"), [(-1, 1e15), (+100, 1.0)])
def test_a_model_that_is_short_or_not_slower_than_in_float32_is_built(monkeypatch, seconds, float32):
    narrow = work(precision="autocast_bfloat16")
    rates(monkeypatch, MLP.costs(narrow).flops / (limits.LONGEST_CALL_S + seconds), float32)
    with support.backend("torch") as on:
        assert support.kernel(MLP, narrow, on).run


@pytest.mark.parametrize(
    "seconds",
    [
        [1.0, 1e-4, 2e-4, 2e-4, 2e-4],  # AMX: the first run generates its kernel
        [1.0, 0.5, 0.5, 0.5, 1e-4],  # all others are disturbed
    ],
)
def test_a_format_is_as_fast_as_its_fastest_product(monkeypatch, seconds):
    clock = iter([reading for took in seconds for reading in (0.0, took)])
    monkeypatch.setattr(limits, "perf_counter", lambda: next(clock))
    with support.backend("numpy") as on:
        assert limits.product_rate(on, "float32") == pytest.approx(2 * 256**3 / 1e-4)


NETWORKS = [name for name, workload in MODELS.items() if isinstance(workload, ModelWorkload)]


@pytest.mark.parametrize("name", NETWORKS)
def test_standard_plans_narrow_models_on_a_cpu_and_builds_them_where_narrow_products_are_fast(name, monkeypatch):
    """As with AMX or AVX512_BF16: a product in bfloat16 takes half of its time in float32."""
    workload = MODELS[name]
    target = Target("torch", "torch", "cpu")
    planned = [case.work for case in expand(workload, Preset.STANDARD, [target], lambda _: Machine(1 << 25, 2))]
    kinds = {(work.dtype, work.precision) for work in planned}
    autocast = {("float32", precision) for precision in workload.precisions if precision != "tf32"}
    assert autocast | {(dtype, "ieee") for dtype in workload.formats} <= kinds
    asked = rates(monkeypatch, 2.0, 1.0)  # FLOP/s: any call would take hours
    with support.backend("torch") as on:
        for dtype, precision in kinds - {("float32", "ieee")}:
            if on.why_unsupported(dtype, precision) is None:
                small = workload.variant(*workload.presets[Preset.SMOKE], dtype, precision=precision)
                assert support.kernel(workload, small, on).run
    assert "bfloat16" in asked


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_in_a_format_of_every_cpu_is_not_judged(monkeypatch, dtype):
    asked = rates(monkeypatch, 1e-9, 1e-9)
    with support.backend("torch") as on:
        assert support.kernel(MLP, work(dtype=dtype), on).run
    assert not asked


@pytest.mark.parametrize(
    ("precision", "name"),
    [("autocast_bfloat16", "bfloat16"), ("autocast_float16", "float16"), ("ieee", ""), ("tf32", "")],
)
def test_autocast_names_its_format(precision, name):
    assert autocast_format(precision) == name
