"""Single layers in JAX: right in each implementation, the formulas of the array code, and the programs they promise."""

import numpy as np
import pytest

from bench_core.records import Preset, Target
from benchmarks import bench_layers
from benchmarks.nn.attention import attention
from benchmarks.nn.attention import softmax as array_softmax
from benchmarks.nn.functions import embedding, scatter_add
from benchmarks.nn.normalisation import layernorm
from benchmarks.nn.recurrent import lstm
from tests.support import kernels

jax = pytest.importorskip("jax")
from benchmarks.jax_kernels import layers  # noqa: E402
from benchmarks.jax_kernels.programs import Program  # noqa: E402

TARGET = Target("jax", "jax", "cpu")
LAYERS = {
    each.name: each
    for each in (
        bench_layers.Attention(),
        bench_layers.LayerNorm(),
        bench_layers.Softmax(),
        bench_layers.Embedding(),
        bench_layers.EmbeddingGrad(),
        bench_layers.Lstm(),
    )
}
IMPLEMENTATIONS = [(name, form) for name, layer in LAYERS.items() for form in layer.builders(TARGET)]


@pytest.fixture
def on():
    with kernels.backend("jax") as made:
        yield made


def of(layer, shape):
    """Return the work of a layer with these sizes."""
    return layer.work("-".join(map(str, shape)), "float32", **dict(zip(layer.axes, shape, strict=True)))


def drawn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def given(layer, shape):
    """Return what a function of layers.py is called with, as shapes."""
    host = kernels.inputs(layer, of(layer, shape))
    return [jax.ShapeDtypeStruct(host[name].shape, host[name].dtype) for name in layers.INPUTS[layer.name]]


def compiled(function, like):
    program = Program(function, like)
    program.compile()
    return program


# ---------------------------------------------------------------- answers


# `tuned` attention takes seconds to compile for the tiny sizes of smoke: XLA unrolls the loops of tiny products.
SMALL = [each for each in IMPLEMENTATIONS if each != ("attention", "tuned")]


@pytest.mark.parametrize(("name", "implementation"), SMALL)
def test_the_answers_are_right_at_the_sizes_of_smoke(on, name, implementation):
    layer = LAYERS[name]
    assert kernels.error_of(layer, of(layer, layer.sizes[Preset.SMOKE]), on, implementation) < 1e-6


QUICK = [(name, form) for name, form in IMPLEMENTATIONS if form in ("default", *LAYERS[name].quick_forms)]


@pytest.mark.parametrize(("name", "implementation"), QUICK)
def test_quick_measures_default_and_what_is_fastest(name, implementation):
    (work,) = LAYERS[name].works(Preset.QUICK, None)
    assert LAYERS[name].selects(work, implementation)


def test_attention_of_several_blocks_is_right(on):
    """In the other layers, no form depends on the size."""
    layer = LAYERS["attention"]
    assert kernels.error_of(layer, of(layer, (2, 2, 2 * layers.BLOCK, 16)), on, "tuned") < 1e-6


X, WEIGHT, BIAS = drawn(7, 12), drawn(12), drawn(12) + 1
IDS, TABLE, VALUES = np.array([3, 0, 3, 4, 3, 0]), drawn(5, 8), drawn(6, 8)
LSTM = {
    "weight_ih_l0": drawn(20, 3),
    "weight_hh_l0": drawn(20, 5),
    "bias_ih_l0": drawn(20),
    "bias_hh_l0": drawn(20) + 1,
}
SEQUENCES = drawn(2, 6, 3)
HEADS = [drawn(1, 2, 33, 4), drawn(1, 2, 33, 4) - 1, drawn(1, 2, 33, 4) + 1]


def summed_by_id(ids, values):
    total = np.zeros_like(TABLE)
    scatter_add(np, total, ids, values)
    return total


EQUAL = {
    "attention": (layers.causal_attention, HEADS, lambda: attention(np, *HEADS, causal=True)[0]),
    "blocks": (layers.attention_by_blocks, HEADS, lambda: attention(np, *HEADS, causal=True)[0]),
    "layernorm": (layers.layernorm, [X, WEIGHT, BIAS], lambda: layernorm(np, X, WEIGHT, BIAS)[0]),
    "softmax": (layers.softmax, [1e3 * X], lambda: array_softmax(np, 1e3 * X)[0]),
    "embedding": (layers.embedding, [IDS, TABLE], lambda: embedding(np, IDS, TABLE)[0]),
    "embedding_grad": (
        layers.embedding_grad,
        [IDS, VALUES, np.zeros((5, 0))],
        lambda: summed_by_id(IDS, VALUES),
    ),
    "lstm": (layers.FUNCTIONS["lstm"], [SEQUENCES, *LSTM.values()], lambda: lstm(np, SEQUENCES, LSTM)),
    "steps": (layers.OTHERS["lstm", "eager"], [SEQUENCES, *LSTM.values()], lambda: lstm(np, SEQUENCES, LSTM)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_in_float64_a_function_returns_what_the_array_code_does(on, name, monkeypatch):
    monkeypatch.setattr(layers, "BLOCK", 16)  # of 33 queries, the last block has one
    function, arrays, expected = EQUAL[name]
    arrays = [on.from_host(array) for array in arrays]
    call = function if name == "steps" else Program(function, arrays)
    result = on.to_host(call(*arrays))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected(), rtol=1e-10, atol=1e-14)


def test_the_gradient_of_an_embedding_is_that_of_jax(on):
    ids, table, values = (on.from_host(array) for array in (IDS, TABLE, VALUES))
    by_jax = jax.grad(lambda t: (layers.embedding(ids, t) * values).sum())(table)
    ours = layers.embedding_grad(ids, values, on.from_host(np.zeros((5, 0))))
    np.testing.assert_array_equal(on.to_host(ours), on.to_host(by_jax))


# ---------------------------------------------------------------- programs


def test_xla_counts_the_flops_of_attention_that_our_formula_gives():
    layer, shape = LAYERS["attention"], (1, 2, 64, 128)
    counted = Program(layers.causal_attention, given(layer, shape)).flops
    assert counted == pytest.approx(layer.costs(of(layer, shape)).flops, rel=0.03)  # and scale, mask and softmax


def test_a_block_of_queries_meets_the_keys_that_it_may_see():
    """XLA counts the body of the loop over sequences once."""
    layer, shape = LAYERS["attention"], (3, 1, 2 * layers.BLOCK, 128)
    counted = 3 * Program(layers.attention_by_blocks, given(layer, shape)).flops
    seen = (1 + 2) / 4
    assert counted == pytest.approx(seen * layer.costs(of(layer, shape)).flops, rel=0.03)


def test_an_lstm_is_one_loop_and_the_product_of_all_inputs_is_before_it():
    """XLA counts the body of the loop once: a step."""
    layer, (batch, steps, width) = LAYERS["lstm"], (8, 12, 128)
    program = compiled(layers.FUNCTIONS["lstm"], given(layer, (batch, steps, width)))
    counted = 8 * width**2 * batch * (steps + 1)
    assert program.flops == pytest.approx(counted, rel=0.03)  # and biases and gates
    assert 2 * counted * steps / (steps + 1) == layer.costs(of(layer, (batch, steps, width))).flops
    text = program._compiled.as_text()
    assert text.count(" while(") == 1
    assert text.count(" dot(") == 2


@pytest.mark.parametrize(("name", "implementation"), [each for each in IMPLEMENTATIONS if each[1] == "eager"])
def test_eager_calls_one_operation_at_a_time(on, name, implementation):
    """A function of `jax.nn` may be jitted as a whole. Each operation on shapes that are new is a program."""
    layer = LAYERS[name]
    kernel = kernels.kernel(layer, of(layer, NEW[name]), on, implementation)
    before = on.compilations
    kernel.run()
    assert on.compilations - before >= LEAST[name]


# Shapes that no other test has, and the number of operations that are known to be of different kinds or shapes.
NEW = {"attention": (1, 3, 11, 17), "layernorm": (13, 19), "softmax": (13, 23), "lstm": (3, 2, 29)}
LEAST = {"attention": 8, "layernorm": 8, "softmax": 5, "lstm": 8}


@pytest.mark.parametrize(("name", "implementation"), [each for each in IMPLEMENTATIONS if each[1] == "tuned"])
def test_tuned_writes_into_the_memory_of_the_result_before(on, name, implementation):
    """What is new at each call has to be got from the system, page by page."""
    layer = LAYERS[name]
    shape = (2, 1, layers.BLOCK, 16) if name == "attention" else layer.sizes[Preset.SMOKE]
    kernel = kernels.kernel(layer, of(layer, shape), on, implementation)
    assert len({kernel.run().unsafe_buffer_pointer() for _ in range(3)}) == 1
    results = [kernel.run() for _ in range(3)]
    assert [result.is_deleted() for result in results] == [True, True, False]


def test_a_result_of_default_stays(on):
    """As that of any call of JAX: the next one must not write over it."""
    layer = LAYERS["softmax"]
    kernel = kernels.kernel(layer, of(layer, layer.sizes[Preset.SMOKE]), on)
    assert len({result.unsafe_buffer_pointer() for result in [kernel.run() for _ in range(3)]}) == 3


def test_an_accelerator_has_no_tuned_form():
    for layer in LAYERS.values():
        assert "tuned" not in layer.builders(Target("jax", "jax", "cuda:0"))
