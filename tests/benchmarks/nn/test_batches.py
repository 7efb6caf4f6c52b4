"""Batches that a check fills with few samples: how many it affords, in which order, and what half of one would give."""

from itertools import pairwise

import numpy as np
import pytest

from bench_core import check
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import WrongAnswer
from bench_core.records import Preset, Scope, Work
from benchmarks.nn import batches
from benchmarks.nn.batches import ORDER, Samples, affordable, batch_of, distinct, order_of, repeated
from tests.support.planned import MODELS

# Every batch that a preset trains on, and few samples of it: those that divide it.
BATCHES = (4, 6, 8, 12, 16, 32, 64, 128, 256, 512, 2048)
CUTS = [(batch, samples) for batch in BATCHES for samples in (2, 3, 4, 8) if batch % samples == 0 and samples < batch]
CUTS.remove((4, 2))  # that nobody asks for, as the last test of `affordable` says
HALVES = {
    "the first half": lambda array: array[: len(array) // 2],
    "the second half": lambda array: array[len(array) // 2 :],
    "every other sample": lambda array: array[::2],
    "every other sample but the first": lambda array: array[1::2],
}


@pytest.fixture(params=range(3))
def rng(request):
    return np.random.Generator(np.random.PCG64(request.param))


def inputs(batch, rng, width=5):
    """Return a batch whose samples all differ, its targets, and an array that has no row for a sample."""
    drawn = {"x": rng.standard_normal((batch, width)), "targets": rng.integers(10, size=batch)}
    return {**drawn, "weights.w": rng.standard_normal((width, 3))}


# ---------------------------------------------------------------- how many


@pytest.mark.parametrize(
    ("batch", "paid", "fewest", "samples"),
    [
        (64, 1000, 2, 64),  # all
        (64, 64, 2, 64),
        (64, 63.9, 2, 32),
        (64, 5, 2, 4),  # the largest divisor that is paid for
        (64, 0.1, 2, 2),  # no fewer
        (64, 0.1, 4, 4),
        (12, 5, 2, 4),
        (12, 5, 5, 6),  # or the next larger divisor
        (7, 3, 2, 7),  # a prime has no other
        (1, 0.1, 2, 1),
        (2, 0.1, 4, 2),  # a batch that is smaller than `fewest`
        (64, 0.1, 1, 1),
    ],
)
def test_a_check_tells_apart_as_many_samples_as_are_paid_for(batch, paid, fewest, samples, monkeypatch):
    monkeypatch.setattr(batches, "CHECK_FLOPS", 1e6)
    assert affordable(batch, 1e6 / paid, fewest) == samples


@pytest.mark.parametrize("fewest", [1, 2, 4])
def test_the_samples_always_divide_the_batch_and_more_money_never_buys_fewer(fewest):
    for batch in range(1, 65):
        bought = [affordable(batch, batches.CHECK_FLOPS / paid, fewest) for paid in (0.1, 1, 2, 3, 4, 7, 8, 50, 64)]
        assert all(batch % samples == 0 for samples in bought)
        assert all(samples >= min(fewest, batch) for samples in bought)
        assert all(less <= more for less, more in pairwise(bought))
        assert bought[-1] == batch


def test_two_samples_twice_each_are_never_asked_for():
    """Whatever their order, the first half or every other sample holds each once, and its mean is that of the whole."""
    for order in ([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]):  # and their mirror images
        assert any(np.bincount(half(np.array(order))).tolist() == [1, 1] for half in HALVES.values())
    assert affordable(4, 1e30) == 4
    assert affordable(4, 1e30, fewest=1) == 1


# ---------------------------------------------------------------- in which order


@pytest.mark.parametrize(("batch", "samples"), CUTS)
def test_every_sample_stands_in_the_batch_equally_often(batch, samples, rng):
    host = inputs(batch, rng)
    few = repeated(host, ("x", "targets"), samples, rng)
    assert np.bincount(few[ORDER], minlength=samples).tolist() == [batch // samples] * samples
    assert np.array_equal(few["x"], host["x"][few[ORDER]])
    assert np.array_equal(few["targets"], host["targets"][few[ORDER]])
    assert few["weights.w"] is host["weights.w"]
    assert {name: (array.shape, array.dtype) for name, array in few.items() if name != ORDER} == {
        name: (array.shape, array.dtype) for name, array in host.items()
    }


@pytest.mark.parametrize(("batch", "samples"), CUTS)
def test_half_of_a_batch_never_has_the_mean_of_the_whole(batch, samples, rng):
    """In no half are all samples equally often, so that a kernel that skips one has another mean."""
    few = repeated(inputs(batch, rng), ("x", "targets"), samples, rng)
    whole = few["x"].mean(axis=0)
    for name, half in HALVES.items():
        assert len(set(np.bincount(half(few[ORDER]), minlength=samples))) > 1, name
        assert np.linalg.norm(half(few["x"]).mean(axis=0) - whole) > 1e-3 * np.linalg.norm(whole), name


@pytest.mark.parametrize(("batch", "samples"), CUTS)
def test_the_mean_and_the_variance_of_the_whole_are_those_of_the_samples(batch, samples, rng):
    few = repeated(inputs(batch, rng), ("x", "targets"), samples, rng)
    once = distinct(few, "x")
    assert np.allclose(few["x"].mean(axis=0), once.mean(axis=0))
    assert np.allclose(few["x"].var(axis=0), once.var(axis=0))


def test_an_order_is_another_one_for_other_random_numbers():
    """A kernel cannot know which places of the batch are alike."""
    host = inputs(64, np.random.default_rng(0))
    orders = [repeated(host, ("x",), 4, np.random.default_rng(seed))[ORDER] for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    again = repeated(host, ("x",), 4, np.random.default_rng(0))[ORDER]
    assert np.array_equal(orders[0], again)


def test_a_batch_that_is_affordable_is_left_as_it_is(rng):
    host = inputs(8, rng)
    assert repeated(host, ("x", "targets"), 8, rng) is host
    assert np.array_equal(order_of(host, "x"), np.arange(8))
    assert np.array_equal(distinct(host, "x"), host["x"])


def test_the_distinct_samples_come_in_the_order_of_their_numbers(rng):
    """Row k of a reference is that of sample k, wherever the batch has it first."""
    host = inputs(64, rng)
    few = repeated(host, ("x", "targets"), 8, rng)
    assert few[ORDER][:8].tolist() != list(range(8))
    assert np.array_equal(order_of(few, "x"), few[ORDER])
    for name in ("x", "targets"):
        assert np.array_equal(distinct(few, name), host[name][:8])
        assert np.array_equal(distinct(few, name)[order_of(few, name)], few[name])


@pytest.mark.parametrize("name", [name for name, workload in MODELS.items() if hasattr(workload, "per_sample")])
def test_each_model_has_batches_whose_every_array_is_cut(name, monkeypatch):
    """An array of samples that stayed as it was would pair them with others' targets."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    workload = MODELS[name]
    network, batch = workload.presets[Preset.SMOKE]
    work = workload.variant(network, max(8, batch))
    host = workload.inputs(work, np.random.default_rng(0))
    few = workload.sample(work, host, np.random.default_rng(1))
    assert workload.samples(work) < work["batch"]
    assert len(few[ORDER]) == work["batch"]
    for key, array in host.items():
        if key.startswith("weights."):
            assert few[key] is array
        else:
            assert len(np.unique(few[key], axis=0)) <= workload.samples(work)


# ---------------------------------------------------------------- what is compared


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 4)], ids=str)
def test_the_error_of_samples_is_that_of_the_batch_written_out(dtype, shape, rng):
    order = rng.integers(4, size=32)
    rows = rng.standard_normal((4, *shape))
    out = (rows[order] * (1 + 0.01 * rng.standard_normal((32, *shape)))).astype(dtype)
    expected = check.relative_error(out, rows[order])
    assert expected > 1e-3
    assert Samples(rows, order).error(out) == pytest.approx(expected, rel=1e-12)
    assert Samples(rows, order).error(rows[order]) == 0.0


def test_two_samples_that_are_swapped_are_an_error():
    rows, order = np.eye(3), np.array([0, 1, 2, 0])
    assert Samples(rows, order).error(rows[order[[1, 0, 2, 3]]]) == pytest.approx(1.0)


def test_of_samples_that_are_zero_the_error_is_absolute():
    zeros = Samples(np.zeros((2, 3)), np.array([0, 1, 1]))
    assert zeros.error(np.zeros((3, 3))) == 0.0
    assert zeros.error(np.full((3, 3), 2.0)) == check.relative_error(np.full((3, 3), 2.0), np.zeros((3, 3))) == 6.0


@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (4, 5, 1), (5,)], ids=str)
def test_an_answer_of_another_shape_is_wrong_even_where_it_would_broadcast(shape):
    with pytest.raises(WrongAnswer):
        Samples(np.zeros((2, 5)), np.array([0, 1, 1, 0])).error(np.zeros(shape))


# ---------------------------------------------------------------- where it lies


@pytest.mark.parametrize("scope", Scope)
def test_a_step_reads_its_batch_where_the_check_writes(scope, rng):
    """On the device, or (end_to_end) on the host, in a copy: the host's own inputs stay what they are."""
    on, host = NumpyBackend("cpu"), inputs(4, rng)
    before = host["x"].copy()
    batch = batch_of(on, Work("tests", "w", "4", "float64", scope=scope), host)
    assert list(batch.arrays) == ["x", "targets"]
    on.overwrite(batch.arrays["x"], np.full((4, 5), 7.0))
    x, targets = batch()
    assert (x == 7).all()
    assert np.array_equal(targets, host["targets"])
    assert np.array_equal(host["x"], before)
    assert (x is batch.arrays["x"]) == (scope is Scope.RESIDENT)
