"""NumPy's forms of the operations on images give what the plain forms give, on any shape and any number of threads."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import threadpoolctl

from bench_core.backends.numpy import NumpyBackend
from bench_core.records import Preset, Target
from benchmarks.bench_cnn import CnnInfer, CnnTrain
from benchmarks.bench_gan import GanGenerate, GanTrain
from benchmarks.nn import activations, convolution, normalisation
from benchmarks.nn.names import scoped
from benchmarks.nn.resnet import ResNet
from benchmarks.nn.training import TOLERANCES
from benchmarks.nn.tuned import Tuned, array_module, blocks, rows
from benchmarks.nn.tuned.numpy_images import FORMS
from tests.support import kernels
from tests.support.nn import close, one_thread  # noqa: F401 - a fixture

WORKLOADS = {workload.name: workload for workload in (CnnTrain(), CnnInfer(), GanTrain(), GanGenerate())}
CHANNELS = (1, 3, 16, 17, 70)
# Kernel, stride, padding, batch. The images have 9 x 7 pixels: a kernel of 7 without padding has one column of places.
MOVES = list(product((1, 3, 4, 7), (1, 2), (0, 1, 2, 3), (1, 5)))


@pytest.fixture
def rng():
    return np.random.Generator(np.random.PCG64(11))


@pytest.fixture(params=[1, 2, 3], ids="{} threads".format)
def tuned(request, monkeypatch):
    """NumPy with the forms, which give even the smallest work to all threads."""
    monkeypatch.setattr(rows, "WAKE", 0)
    return Tuned(np, FORMS, request.param)


def agree(ours, plain):
    """Whether two results, or two tuples of them, are the same to 1e-11."""
    pairs = zip(ours, plain, strict=True) if isinstance(plain, tuple) else [(ours, plain)]
    return all(close(mine, theirs, 1e-11) for mine, theirs in pairs)


@cache
def convolutions(channels):
    """Return cases with their inputs, and what the plain form makes of them, which all numbers of threads share."""
    rng, made = np.random.Generator(np.random.PCG64(11)), []
    for kernel, stride, padding, batch in MOVES:
        x, weight = rng.standard_normal((channels, batch, 9, 7)), rng.standard_normal((4, channels, kernel, kernel))
        plain, plain_cache = convolution.conv2d(np, x, weight, stride, padding)
        grad = rng.standard_normal(plain.shape)
        grads = convolution.conv2d_backward(np, grad, plain_cache)
        made.append(((kernel, stride, padding, batch), (x, weight, grad), (plain, grads)))
    return made


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_convolution_and_its_gradients_are_those_of_the_plain_form(channels, tuned):
    for case, (x, weight, grad), (plain, grads) in convolutions(channels):
        out, cache = convolution.conv2d(tuned, x, weight, *case[1:3])
        assert agree(out, plain), case
        assert agree(convolution.conv2d_backward(tuned, grad, cache), grads), case


@cache
def transposed_convolutions(channels):
    """Return the same of transposed convolutions."""
    rng, made = np.random.Generator(np.random.PCG64(11)), []
    for kernel, stride, padding, batch in MOVES:
        x, weight = rng.standard_normal((4, batch, 5, 6)), rng.standard_normal((4, channels, kernel, kernel))
        if 4 * stride + kernel <= 2 * padding:
            continue  # no pixel would be left
        plain, plain_cache = convolution.conv_transpose2d(np, x, weight, stride, padding)
        grad = rng.standard_normal(plain.shape)
        grads = convolution.conv_transpose2d_backward(np, grad, plain_cache)
        made.append(((kernel, stride, padding, batch), (x, weight, grad), (plain, grads)))
    return made


@pytest.mark.parametrize("channels", CHANNELS)
def test_a_transposed_convolution_and_its_gradients_are_those_of_the_plain_form(channels, tuned):
    """`channels` are the outputs: they decide whether patches are copied."""
    for case, (x, weight, grad), (plain, grads) in transposed_convolutions(channels):
        out, cache = convolution.conv_transpose2d(tuned, x, weight, *case[1:3])
        assert agree(out, plain), case
        assert agree(convolution.conv_transpose2d_backward(tuned, grad, cache), grads), case
        assert agree(convolution.conv_transpose2d_weight_backward(tuned, grad, cache), grads[1]), case


def test_a_kernel_as_large_as_the_image_runs_in_the_plain_form_both_ways(tuned, rng):
    x, weight = rng.standard_normal((3, 2, 4, 4)), rng.standard_normal((5, 3, 4, 4))
    out, cache = convolution.conv2d(tuned, x, weight)
    plain, plain_cache = convolution.conv2d(np, x, weight)
    assert agree(out, plain)
    grads = convolution.conv2d_backward(tuned, out, cache)
    assert agree(grads, convolution.conv2d_backward(np, out, plain_cache))
    back, cache = convolution.conv_transpose2d(tuned, out, weight)
    plain, plain_cache = convolution.conv_transpose2d(np, out, weight)
    assert agree(back, plain)
    for backward in (convolution.conv_transpose2d_backward, convolution.conv_transpose2d_weight_backward):
        assert agree(backward(tuned, x, cache), backward(np, x, plain_cache))


@pytest.mark.parametrize("copies", [1, 4])
def test_batch_normalisation_its_averages_and_gradients_are_those_of_the_plain_form(copies, tuned, rng, monkeypatch):
    """Also where a block is one row, so that the moments of many blocks are combined."""
    monkeypatch.setattr(blocks, "BLOCK", 1)
    x, grad = rng.standard_normal((2, 5, 3, 6, 4))
    x = x * 3 + rng.standard_normal((5, 1, 6, 1))  # rows have different means
    weight, bias, mean = rng.standard_normal((3, 5))
    results = []
    for xp in (tuned, np):
        averages = mean.copy(), np.ones(5)
        out, cache = normalisation.batchnorm(xp, x, weight, bias, *averages, copies)
        grads = normalisation.batchnorm_backward(xp, grad, cache)
        inferred = normalisation.batchnorm_inference(xp, x, weight, bias, *averages)
        results.append((out, *averages, *grads, inferred))
    assert agree(*results)


def test_the_variance_of_values_far_from_zero_keeps_its_digits(rng):
    """In float32, the mean of squares less the square of the mean would lose 6 of 7 digits here."""
    x = (rng.standard_normal((3, 4, 32, 32)) + 1000).astype(np.float32)
    variance = np.zeros(3, np.float32)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    normalisation.batchnorm(Tuned(np, FORMS, 1), x, ones, zeros, zeros.copy(), variance)
    expected = x.astype(np.float64).var(axis=(1, 2, 3), ddof=1)
    assert np.abs(variance / normalisation.MOMENTUM / expected - 1).max() < 1e-4


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_activations_and_their_gradients_are_those_of_the_plain_form(name, tuned, rng):
    forward, backward = getattr(activations, name), getattr(activations, f"{name}_backward")
    for shape in ((3, 4, 5, 6), (7, 3)):
        x, grad = rng.standard_normal((2, *shape))
        x[0] = 0  # where the gradient is that of the negative side
        out, cache = forward(tuned, x)
        plain, plain_cache = forward(np, x)
        assert np.array_equal(out, plain)
        assert agree(backward(tuned, grad, cache), backward(np, grad, plain_cache))


def test_float32_stays_float32(tuned, rng):
    x, weight = rng.standard_normal((3, 2, 6, 6), np.float32), rng.standard_normal((20, 3, 3, 3), np.float32)
    wide = rng.standard_normal((8, 20, 3, 3), np.float32)
    scale, shift, mean, variance = rng.random((4, 20), np.float32)
    out, first = convolution.conv2d(tuned, x, weight, 1, 1)
    out, normed = normalisation.batchnorm(tuned, out, scale, shift, mean, variance)
    out, active = activations.leaky_relu(tuned, out)
    out, last = convolution.conv2d(tuned, out, wide, 2, 1)
    grad, dwide = convolution.conv2d_backward(tuned, out, last)
    grad, *grads = normalisation.batchnorm_backward(tuned, activations.leaky_relu_backward(tuned, grad, active), normed)
    results = out, dwide, grad, *grads, *convolution.conv2d_backward(tuned, grad, first), mean, variance
    assert {array.dtype for array in results} == {np.dtype(np.float32)}


def test_the_order_in_memory_goes_through_a_network_without_copies(rng):
    """Each form returns rows, which the next one takes as they are."""
    xp = Tuned(np, FORMS, 1)
    out, _ = convolution.conv2d(xp, rng.standard_normal((3, 2, 8, 8)), rng.standard_normal((16, 3, 3, 3)), 1, 1)
    ones, zeros = np.ones((2, 16)), np.zeros((2, 16))
    normed, cache = normalisation.batchnorm(xp, out, ones[0], zeros[0], zeros[1], ones[1])
    active, signs = activations.relu(xp, normed)
    summed = active + normed  # as in a residual block
    grads = (
        normalisation.batchnorm_backward(xp, summed, cache)[0],
        activations.relu_backward(xp, summed, signs),
        normalisation.batchnorm_inference(xp, out, ones[0], zeros[0], zeros[1], ones[1]),
    )
    for array in (out, normed, active, summed, *grads):
        assert np.shares_memory(rows.by_rows(array), array)


def test_results_of_one_step_outlive_the_next_one_and_nothing_is_remembered(rng):
    """All gradients of a network: the second call, with other numbers in the same arrays, is a call of its own."""
    network = ResNet(blocks=(1, 1), width=16, pixels=8, classes=3)
    params = network.initial(rng, "float64")
    x, grad = rng.standard_normal((4, 3, 8, 8)), rng.standard_normal((4, 3))
    shown = []
    for _ in range(2):
        for xp in (Tuned(np, FORMS, 2), np):
            own = {name: array.copy() if ".running_" in name else array for name, array in params.items()}
            logits, cache = network.forward(xp, own, x)
            grads = network.backward(xp, grad, cache)
            averages = {name: array for name, array in own.items() if ".running_" in name}
            shown.append({"logits": logits} | grads | averages)
        for array in (x, grad, *params.values()):  # in place, as a check overwrites the inputs of a kernel
            array[...] = rng.random(array.shape) + 0.5
    for ours, plain in (shown[:2], shown[2:]):
        assert set(ours) == set(plain)
        for name in plain:
            assert close(ours[name], plain[name], 1e-9), name
    assert not close(shown[0]["logits"], shown[2]["logits"], 1e-3)


def test_a_form_writes_to_none_of_its_arguments(tuned, rng):
    network = ResNet(blocks=(1, 1), width=16, pixels=8, classes=3)
    params, x = network.initial(rng, "float64"), rng.standard_normal((4, 3, 8, 8))
    for array in (x, *(array for name, array in params.items() if ".running_" not in name)):
        array.flags.writeable = False
    logits, cache = network.forward(tuned, params, x)
    logits.flags.writeable = False
    assert set(network.backward(tuned, logits, cache)) == {name for name in params if ".running_" not in name}
    assert network.infer(tuned, params, x).shape == (4, 3)
    assert scoped(params, "stem")  # still there


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_tuned_form_of_a_workload_is_right_in_float32_and_float64(name, dtype, monkeypatch):
    monkeypatch.setattr(rows, "WAKE", 0)
    workload, backend = WORKLOADS[name], NumpyBackend("cpu")
    backend.set_threads(2)
    work = workload.variant(*workload.presets[Preset.SMOKE], dtype=dtype)
    assert kernels.error_of(workload, work, backend, "tuned") < TOLERANCES[dtype, "ieee"].high


@pytest.mark.parametrize("name", WORKLOADS)
def test_quick_and_standard_measure_the_tuned_form_of_their_own_network(name):
    """In quick it is PyTorch's alone."""
    workload = WORKLOADS[name]
    array, torch = Target("numpy", "array", "cpu"), Target("torch", "torch", "cpu")
    for preset, targets in ((Preset.QUICK, [torch]), (Preset.STANDARD, [array, torch])):
        own = workload.variant(*workload.presets[preset])
        assert [target for target in (array, torch) if "tuned" in workload.implementations(target, preset)] == targets
        assert workload.selects(own, "tuned")
        assert not workload.selects(workload.variant(workload.presets[preset][0], 3), "tuned")


def test_a_tuned_kernel_names_the_threads_that_share_its_rows():
    backend = NumpyBackend("cpu")

    def library(name, implementation, threads):
        workload = WORKLOADS[name]
        backend.set_threads(threads)
        work = workload.variant(*workload.presets[Preset.SMOKE])
        return kernels.kernel(workload, work, backend, implementation).library

    assert library("cnn_train", "tuned", 2) == f"{backend.library}, 2 threads over blocks"
    assert library("cnn_train", "tuned", 1) == ""
    assert library("cnn_train", "default", 2) == ""
    assert library("gan_train", "tuned", 2) == f"{backend.library}, 2 threads inside BLAS"


@pytest.mark.parametrize("shared", [True, False])
def test_blas_has_its_threads_back_after_every_form(shared, rng, monkeypatch):
    monkeypatch.setattr(rows, "WAKE", 0)
    backend = NumpyBackend("cpu")
    backend.set_threads(2)
    xp = array_module(backend, "tuned", shared=shared)
    assert xp.threads == (2 if shared else 1)
    convolution.conv2d(xp, rng.standard_normal((16, 2, 8, 8)), rng.standard_normal((16, 16, 3, 3)), 1, 1)
    counts = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    assert counts == {2}
