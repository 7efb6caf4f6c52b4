"""Every function of benchmarks/nn gives what torch gives, and its backward what autograd and differences give."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.nn import activations, attention, convolution, functions, normalisation, recurrent
from tests.support.nn import array_module, close, difference, download, one_thread, upload  # noqa: F401 - fixtures

torch = pytest.importorskip("torch")
F = torch.nn.functional
IDS = [[0, 3, 3], [1, 0, 3]]


def simple(forward, backward, *extra, **options):
    """Bind a pair whose backward returns one gradient or a tuple of them, in the order of the arguments."""

    def run(xp, arrays):
        out, cache = forward(xp, *arrays.values(), *extra, **options)

        def back(grad):
            grads = backward(xp, grad, cache)
            grads = grads if isinstance(grads, tuple) else (grads,)
            return dict(zip(arrays, grads, strict=True))

        return out, back

    return run


def with_params(forward, backward, *extra, **options):
    """Bind a pair that takes x and a dict of parameters."""

    def run(xp, arrays):
        params = {name: array for name, array in arrays.items() if name != "x"}
        out, cache = forward(xp, arrays["x"], params, *extra, **options)

        def back(grad):
            dx, grads = backward(xp, grad, cache)
            return {"x": dx} | grads

        return out, back

    return run


def loss(forward, backward, *extra):
    """Bind a loss: its backward takes no gradient."""

    def run(xp, arrays):
        out, cache = forward(xp, *arrays.values(), *(xp.asarray(e) if isinstance(e, list) else e for e in extra))
        return out, lambda grad: {name: grad * backward(xp, cache) for name in arrays}

    return run


def embedded(xp, arrays):
    out, (ids,) = functions.embedding(xp, xp.asarray(IDS), arrays["weight"])

    def back(grad):
        total = xp.zeros_like(arrays["weight"])
        functions.scatter_add(xp, total, ids, grad)
        return {"weight": total}

    return out, back


def batchnorm(xp, arrays):
    out, cache = normalisation.batchnorm(xp, *arrays.values(), xp.zeros(3), xp.ones(3))
    return out, lambda grad: dict(zip(arrays, normalisation.batchnorm_backward(xp, grad, cache), strict=True))


def torch_attention(arrays):
    x, qw, qb, ow, ob = arrays.values()
    q, k, v = F.linear(x, qw, qb).reshape(2, 5, 3, 2, 3).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(mixed.transpose(1, 2).flatten(2), ow, ob)


def flip(images):
    """Between (C, B, height, width), as our images are, and torch's (B, C, height, width)."""
    return images.swapaxes(0, 1)


def torch_lstm(arrays):
    module = torch.nn.LSTM(3, 4, batch_first=True).double()
    params = {name: value for name, value in arrays.items() if name != "x"}
    return torch.func.functional_call(module, params, (arrays["x"],))[0]


LSTM = {"x": (2, 5, 3), "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
ATTENTION = {"x": (2, 5, 6), "qkv.weight": (18, 6), "qkv.bias": (18,), "out.weight": (6, 6), "out.bias": (6,)}
NORM = {"weight": (3,), "bias": (3,)}

# name: shapes, ours, torch's
PAIRS = {
    "linear": (
        {"x": (2, 3, 4), "weight": (5, 4), "bias": (5,)},
        simple(functions.linear, functions.linear_backward),
        lambda a: F.linear(*a.values()),
    ),
    "cross_entropy": (
        {"logits": (2, 3, 5)},
        loss(functions.cross_entropy, functions.cross_entropy_backward, IDS),
        lambda a: F.cross_entropy(a["logits"].flatten(0, 1), torch.tensor(IDS).flatten()),
    ),
    "embedding": ({"weight": (6, 4)}, embedded, lambda a: F.embedding(torch.tensor(IDS), a["weight"])),
    "relu": ({"x": (4, 5)}, simple(activations.relu, activations.relu_backward), lambda a: F.relu(a["x"])),
    "leaky_relu": (
        {"x": (4, 5)},
        simple(activations.leaky_relu, activations.leaky_relu_backward),
        lambda a: F.leaky_relu(a["x"], 0.2),
    ),
    "tanh": ({"x": (4, 5)}, simple(activations.tanh, activations.tanh_backward), lambda a: torch.tanh(a["x"])),
    "gelu": (
        {"x": (4, 5)},
        simple(activations.gelu, activations.gelu_backward),
        lambda a: F.gelu(a["x"], approximate="tanh"),
    ),
    "binary_cross_entropy": (
        {"logits": (4, 1)},
        loss(activations.binary_cross_entropy, activations.binary_cross_entropy_backward, 1.0),
        lambda a: F.binary_cross_entropy_with_logits(a["logits"], torch.ones(4, 1).double()),
    ),
    "softmax": ({"x": (3, 5)}, simple(attention.softmax, attention.softmax_backward), lambda a: a["x"].softmax(-1)),
    "layernorm": (
        {"x": (2, 4, 3), **NORM},
        simple(normalisation.layernorm, normalisation.layernorm_backward),
        lambda a: F.layer_norm(a["x"], (3,), a["weight"], a["bias"]),
    ),
    "batchnorm": (
        {"x": (3, 2, 4, 4), **NORM},
        batchnorm,
        lambda a: flip(F.batch_norm(flip(a["x"]), None, None, a["weight"], a["bias"], training=True)),
    ),
    "self_attention": (
        ATTENTION,
        with_params(attention.self_attention, attention.self_attention_backward, 2, causal=True),
        torch_attention,
    ),
    "conv2d": (
        {"x": (3, 2, 7, 6), "weight": (4, 3, 3, 3)},
        simple(convolution.conv2d, convolution.conv2d_backward, 2, 1),
        lambda a: flip(F.conv2d(flip(a["x"]), a["weight"], stride=2, padding=1)),
    ),
    "conv2d_1x1": (
        {"x": (3, 2, 6, 6), "weight": (4, 3, 1, 1)},
        simple(convolution.conv2d, convolution.conv2d_backward, 2, 0),
        lambda a: flip(F.conv2d(flip(a["x"]), a["weight"], stride=2)),
    ),
    "conv_transpose2d": (
        {"x": (3, 2, 4, 5), "weight": (3, 2, 4, 4)},
        simple(convolution.conv_transpose2d, convolution.conv_transpose2d_backward, 2, 1),
        lambda a: flip(F.conv_transpose2d(flip(a["x"]), a["weight"], stride=2, padding=1)),
    ),
    "max_pool": (
        {"x": (2, 3, 7, 7)},
        simple(convolution.max_pool, convolution.max_pool_backward, 3, 2, 1),
        lambda a: F.max_pool2d(a["x"], 3, 2, 1),
    ),
}


# Without a backward pass. name: shapes, ours, torch's
FORWARDS = {
    "sigmoid": (
        {"x": (4, 5)},
        lambda xp, arrays: activations.sigmoid(xp, arrays["x"]),
        lambda a: torch.sigmoid(a["x"]),
    ),
    "lstm": (
        LSTM,
        lambda xp, arrays: recurrent.lstm(xp, arrays["x"], arrays),
        torch_lstm,
    ),
}


@pytest.fixture
def rng():
    return np.random.Generator(np.random.PCG64(7))


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


def test_forward_and_every_gradient_agree_with_autograd(pair, xp, rng):
    """In float64, to 1e-10 of the largest entry, on NumPy and on the CuPy stand-in."""
    shapes, ours, theirs = pair
    host = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in host.items()}
    expected = theirs(leaves)
    grad = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(grad))
    out, back = ours(xp, upload(xp, host))
    assert close(download(xp, out), expected.detach().numpy())
    grads = back(xp.asarray(grad))
    assert set(grads) == set(host)
    for name, leaf in leaves.items():
        assert close(download(xp, grads[name]), leaf.grad.numpy()), name


@pytest.mark.parametrize("name", FORWARDS)
def test_a_function_without_a_backward_pass_agrees_with_torch(name, xp, rng):
    """In float64, to 1e-10 of the largest entry; and float32 in means float32 out."""
    shapes, ours, theirs = FORWARDS[name]
    host = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    with torch.no_grad():
        expected = theirs({name: torch.tensor(array) for name, array in host.items()}).numpy()
    assert close(download(xp, ours(xp, upload(xp, host))), expected)
    narrow = upload(xp, {name: array.astype(np.float32) for name, array in host.items()})
    assert ours(xp, narrow).dtype == np.float32


def test_every_gradient_agrees_with_central_differences(pair, rng):
    """The slope along a random direction in each argument, to 1e-6: this needs no other library."""
    shapes, ours, _ = pair
    host = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    out, back = ours(np, host)
    grad = rng.standard_normal(out.shape)
    grads = back(grad)

    def value(arrays):
        return (ours(np, arrays)[0] * grad).sum()

    for name, array in host.items():
        direction = rng.standard_normal(array.shape)
        assert close(difference(value, host, name, direction), (grads[name] * direction).sum(), 1e-6), name


def test_batchnorm_moves_the_running_averages_as_torch_does(xp, rng):
    x, mean, variance = rng.standard_normal((3, 4, 5, 5)), rng.standard_normal(3), rng.random(3)
    weight, bias = rng.standard_normal(3), rng.standard_normal(3)
    theirs = [torch.tensor(a) for a in (flip(x), mean, variance, weight, bias)]
    F.batch_norm(*theirs, training=True)
    ours = [xp.asarray(a) for a in (x, weight, bias, mean, variance)]
    normalisation.batchnorm(xp, *ours)
    assert close(download(xp, ours[3]), theirs[1].numpy())
    assert close(download(xp, ours[4]), theirs[2].numpy())
    assert close(download(xp, normalisation.batchnorm_inference(xp, *ours)), flip(F.batch_norm(*theirs)).numpy())


@pytest.mark.parametrize("copies", [1, 2, 16])
def test_batchnorm_of_samples_is_that_of_a_batch_which_holds_each_of_them_many_times(copies, xp, rng):
    """Results, running averages and gradients as torch's BatchNorm2d has them on the batch written out, shuffled."""
    x, grad = rng.standard_normal((2, 3, 4, 5, 5))  # 3 channels of 4 samples
    weight, bias, mean = rng.standard_normal((3, 3))
    order = rng.permutation(np.repeat(np.arange(4), copies))
    theirs = torch.nn.BatchNorm2d(3).double()
    theirs.load_state_dict(
        {"weight": torch.tensor(weight), "bias": torch.tensor(bias), "running_mean": torch.tensor(mean)}
        | {"running_var": torch.ones(3).double(), "num_batches_tracked": torch.tensor(0)}
    )
    written_out = torch.tensor(flip(x)[order], requires_grad=True)
    out = theirs(written_out)
    out.backward(torch.tensor(flip(grad)[order]) / copies)  # of a mean over the batch

    ours = [xp.asarray(array) for array in (x, weight, bias, mean, np.ones(3))]
    given, cache = normalisation.batchnorm(xp, *ours, copies)
    assert close(flip(download(xp, given))[order], out.detach().numpy())
    assert close(download(xp, ours[3]), theirs.running_mean.numpy())
    assert close(download(xp, ours[4]), theirs.running_var.numpy())
    dx, dweight, dbias = normalisation.batchnorm_backward(xp, xp.asarray(grad), cache)
    assert close(flip(download(xp, dx))[order] / copies, written_out.grad.numpy())
    assert close(download(xp, dweight), theirs.weight.grad.numpy())
    assert close(download(xp, dbias), theirs.bias.grad.numpy())


def test_no_function_overflows_where_a_naive_one_would():
    huge = np.array([[1000.0, -1000.0]])
    with np.errstate(over="raise"):
        assert np.isfinite(functions.cross_entropy(np, huge, np.array([1]))[0])
        assert np.isfinite(activations.binary_cross_entropy(np, huge, 1.0)[0])
        assert activations.sigmoid(np, huge).tolist() == [[1.0, 0.0]]
        assert attention.softmax(np, huge)[0].tolist() == [[1.0, 0.0]]


def test_float32_in_means_float32_all_the_way(pair, rng):
    """No function widens by accident: a stray float64 would halve the speed and go unnoticed."""
    shapes, ours, _ = pair
    host = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if ours is batchnorm:
        pytest.skip("its running averages are made in float64 here")
    out, back = ours(np, host)
    assert out.dtype == np.float32
    assert {grad.dtype for grad in back(np.ones(out.shape, np.float32)).values()} == {np.dtype(np.float32)}


def test_cupy_adds_rows_as_they_are_and_numpy_one_number_at_a_time():
    """An index for every number would double the traffic of a GPU; NumPy adds rows slowly."""
    sizes = []
    other = SimpleNamespace(add=SimpleNamespace(at=lambda total, ids, values: sizes.append((total.ndim, ids.size))))
    functions.scatter_add(other, np.zeros((6, 4)), np.array(IDS), np.ones((2, 3, 4)))
    assert sizes == [(2, 6)]
    total = np.zeros((6, 4))
    functions.scatter_add(np, total, np.array(IDS), np.ones((2, 3, 4)))
    assert total[:, 0].tolist() == [2, 1, 0, 3, 0, 0]
