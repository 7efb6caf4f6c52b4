"""Convolutions, batch norms, ResNet and DCGAN in JAX: in float64 they are those of the array code."""

from functools import partial

import numpy as np
import pytest

from bench_core.records import Target
from bench_core.timing.recheck import generator
from benchmarks import bench_cnn, bench_gan
from benchmarks.nn import convolution, normalisation
from benchmarks.nn.dcgan import Shape
from benchmarks.nn.resnet import ResNet
from benchmarks.nn.training import is_average, train_step
from benchmarks.nn.weights import wide_weights
from tests.support import kernels

jax = pytest.importorskip("jax")
from jax import lax  # noqa: E402

from benchmarks.jax_kernels import images  # noqa: E402

CLOSE = {"rtol": 1e-11, "atol": 1e-11}
# (kernel, stride, padding): every kind that a ResNet or a DCGAN has
KINDS = [(3, 1, 1), (3, 2, 1), (7, 2, 3), (1, 1, 0), (1, 2, 0), (4, 2, 1), (4, 1, 0)]
# a stem of 7x7 pixels, a pool, a bottleneck and a shortcut
RESNET = (ResNet(blocks=(1,), width=4, pixels=64, classes=5, bottleneck=True), 4)


@pytest.fixture(scope="module")
def on():
    with kernels.backend("jax") as made:
        yield made


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def inside(images_first):
    """Return images (B, C, height, width) as the array code has them: (C, B, height, width)."""
    return images_first.swapaxes(0, 1)


@pytest.mark.parametrize(("kernel", "stride", "padding"), KINDS)
def test_a_convolution_is_that_of_the_array_code(on, kernel, stride, padding):
    x, weight = normal(2, 3, 8, 8), normal(5, 3, kernel, kernel)
    expected, _ = convolution.conv2d(np, inside(x), weight, stride, padding)
    found = images.conv(images.channels_last(x), on.from_host(weight), stride, padding)
    np.testing.assert_allclose(images.channels_first(found), inside(expected), **CLOSE)


TRANSPOSED = [(4, 2, 1), (4, 1, 0), (3, 1, 1), (3, 2, 0)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), TRANSPOSED)
def test_a_transposed_convolution_is_that_of_the_array_code(on, kernel, stride, padding):
    x, weight = normal(2, 3, 5, 5), normal(3, 4, kernel, kernel)
    expected, _ = convolution.conv_transpose2d(np, inside(x), weight, stride, padding)
    found = images.conv_transpose(images.channels_last(x), on.from_host(weight), stride, padding)
    np.testing.assert_allclose(images.channels_first(found), inside(expected), **CLOSE)


@pytest.mark.parametrize(("kernel", "stride", "padding"), TRANSPOSED)
def test_the_derivative_of_a_transposed_convolution_is_that_of_jax(on, kernel, stride, padding):
    """And it spreads no pixels: a CPU takes long for that."""
    x, weight = on.from_host(normal(2, 5, 5, 3)), on.from_host(normal(3, 4, kernel, kernel))
    theirs = partial(images.conv_transpose.fun, stride=stride, padding=padding)
    made, pulled = jax.vjp(lambda x, w: images.conv_transpose(x, w, stride, padding), x, weight)
    grad = on.from_host(normal(*made.shape))
    for found, expected in zip(pulled(grad), jax.vjp(theirs, x, weight)[1](grad), strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)
    derivative = jax.make_jaxpr(lambda grad: pulled(grad)[1])(grad)
    assert {each.params["lhs_dilation"] for each in convolutions(derivative.jaxpr)} == {(1, 1)}


def convolutions(jaxpr):
    """Yield all convolutions of a program."""
    for each in jaxpr.eqns:
        if each.primitive is lax.conv_general_dilated_p:
            yield each
        for inner in each.params.values():
            if hasattr(inner, "jaxpr"):
                yield from convolutions(inner.jaxpr)


def test_a_pool_takes_the_largest_and_no_padding_wins():
    x = -1 - np.abs(normal(2, 3, 7, 7))
    expected, _ = convolution.max_pool(np, inside(x), 3, 2, 1)
    found = images.max_pool(images.channels_last(x), 3, 2, 1)
    np.testing.assert_array_equal(images.channels_first(found), inside(expected))


def test_a_batch_norm_moves_its_running_averages_as_pytorch_does():
    x = normal(4, 3, 5, 5)
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {f"n.{name}": np.random.default_rng(i).uniform(1, 2, 3) for i, name in enumerate(names)}
    mean, variance = (weights[f"n.{name}"].copy() for name in names[2:])
    expected, _ = normalisation.batchnorm(np, inside(x), weights["n.weight"], weights["n.bias"], mean, variance)
    norms = images.BatchNorms(weights, weights)
    found = norms(images.channels_last(x), "n")
    np.testing.assert_allclose(images.channels_first(found), inside(expected), **CLOSE)
    np.testing.assert_allclose(norms.after["n.running_mean"], mean, **CLOSE)
    np.testing.assert_allclose(norms.after["n.running_var"], variance, **CLOSE)
    found = images.RunningNorms(weights)(images.channels_last(x), "n")
    expected = normalisation.batchnorm_inference(np, inside(x), *weights.values())
    np.testing.assert_allclose(images.channels_first(found), inside(expected), **CLOSE)


def built(on, workload, work):
    host = workload.inputs(work, generator(work.case_id, 1))
    return workload.builders(Target("jax", "jax", "cpu"))["default"](on, work, host), host


def test_five_steps_of_a_resnet_in_float64_are_those_of_numpy(on):
    """Losses, weights and running averages."""
    workload = bench_cnn.CnnTrain()
    work = workload.variant(*RESNET, dtype="float64")
    kernel, host = built(on, workload, work)
    reference = bench_cnn.Sgd(np, wide_weights(host), bench_cnn.RATE)
    take = partial(train_step, np, bench_cnn.network(work), reference, host["x"], host["targets"])
    expected = [take().loss for _ in range(5)]
    steps = [kernel.run() for _ in range(5)]
    np.testing.assert_allclose([step.loss for step in steps], expected, rtol=1e-10)
    assert_state(kernel.outputs(steps[-1]), reference.params)


def assert_state(shown, expected):
    """All weights and running averages are those of the reference."""
    for name, array in expected.items():
        kind = "average" if is_average(name) else "weight"
        np.testing.assert_allclose(shown[f"{kind}.{name}"], array, rtol=1e-7, atol=1e-9, err_msg=name)


def test_three_steps_of_a_gan_in_float64_are_those_of_numpy(on):
    """Both losses, weights and running averages of both networks: one program, which takes over its state's memory."""
    workload = bench_gan.GanTrain()
    work = workload.variant(Shape(latent=4, width=4, pixels=16), 4, dtype="float64")
    kernel, host = built(on, workload, work)
    reference = bench_gan.ArrayTrainer(np, bench_gan.shape(work), wide_weights(host))
    expected = [reference.step(host["noise"], host["images"]).loss for _ in range(3)]
    first = kernel.run()
    losses, compiled = [np.array(first.loss)], on.compilations
    losses += [np.array(kernel.run().loss)]
    assert all(array.is_deleted() for array in jax.tree.leaves(first.state))
    last = kernel.run()
    assert on.compilations == compiled
    np.testing.assert_allclose([*losses, last.loss], expected, rtol=1e-9)
    assert_state(kernel.outputs(last), reference.state())


def test_the_logits_of_inference_are_those_of_numpy(on):
    """XLA counts the FLOPs of our formula, but leaves out products with padding, and adds norms, which we ignore."""
    workload = bench_cnn.CnnInfer()
    work = workload.variant(*RESNET, dtype="float64")
    kernel, host = built(on, workload, work)
    expected = bench_cnn.network(work).infer(np, wide_weights(host), host["x"])
    np.testing.assert_allclose(kernel.run(), expected, rtol=1e-10)
    assert kernel.prepare.__self__.flops == pytest.approx(workload.costs(work).flops, rel=0.15)


def test_generated_images_are_those_of_numpy(on):
    workload = bench_gan.GanGenerate()
    work = workload.variant(Shape(latent=4, width=4, pixels=16), 3, dtype="float64")
    kernel, host = built(on, workload, work)
    np.testing.assert_allclose(kernel.run()[:], workload.reference(work, host).rows, rtol=1e-10)
