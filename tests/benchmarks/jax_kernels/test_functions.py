"""The dtype policy of the JAX kernels: products in the narrow format; weights, gradients and all else in float32."""

import weakref
from functools import partial

import numpy as np
import pytest

from bench_core.records import Preset, Status
from tests.support import kernels
from tests.support.planned import WORKLOADS

jax = pytest.importorskip("jax")
from benchmarks.jax_kernels import dcgan, functions, gpt, images, mlp, resnet, training  # noqa: E402

jnp = jax.numpy


@pytest.fixture(scope="module")
def on():
    with kernels.backend("jax") as made:
        yield made


def varied(name, precision):
    workload = next(each for each in WORKLOADS if each.name == name)
    return workload, workload.variant(*workload.presets[Preset.SMOKE], precision=precision)


MODELS = [
    ("mlp_infer", "autocast_bfloat16"),
    ("mlp_train", "autocast_float16"),
    ("cnn_infer", "autocast_float16"),
    ("cnn_train", "autocast_bfloat16"),
    ("gan_generate", "autocast_bfloat16"),
]


@pytest.mark.parametrize(("name", "precision"), MODELS)
def test_a_narrow_row_is_right_and_is_narrow(on, name, precision):
    """The bound has two sides: float32 is not within it."""
    workload, work = varied(name, precision)
    error = kernels.error_of(workload, work, on)
    assert workload.tolerance(work).low < error < workload.tolerance(work).high


@pytest.mark.parametrize(("name", "module"), [("mlp_train", mlp), ("cnn_infer", resnet), ("gan_generate", dcgan)])
def test_a_row_that_is_not_narrow_is_refused(on, name, module, monkeypatch):
    monkeypatch.setattr(module, "product_format", lambda work: None)
    done = kernels.looked_at(*varied(name, "autocast_bfloat16"), on)
    assert done.status is Status.INVALID
    assert "below" in done.reason


def test_weights_and_gradients_stay_in_float32(on):
    workload, work = varied("mlp_train", "autocast_bfloat16")
    kernel = kernels.kernel(workload, work, on)
    step = kernel.run()
    assert {str(array.dtype) for array in jax.tree.leaves((step.gradients, step.state, step.loss))} == {"float32"}
    assert step.logits.dtype == jnp.bfloat16


def test_the_sums_along_a_transformer_stay_in_float32(on):
    """As autocast leaves them: each block adds to a stream in float32."""
    workload, work = varied("gpt_train", "autocast_bfloat16")
    host = kernels.inputs(workload, work)
    weights = {name.removeprefix("weights."): jnp.asarray(a) for name, a in host.items() if name.startswith("weights")}
    streams, block = [], gpt.block

    def noted(x, *given):
        streams.append(x.dtype)
        return block(x, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt, "block", noted)
        jax.eval_shape(partial(gpt.forward, gpt.network(work), "bfloat16"), weights, jnp.asarray(host["x"]))
    assert set(streams) == {jnp.dtype("float32")}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_attention_is_that_of_its_formula(on, dtype):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 3, 6, 8)), dtype) for _ in range(3))
    mask = np.tri(6, dtype=bool)
    wide = [np.asarray(each, np.float64) for each in (q, k, v)]
    scores = wide[0] @ wide[1].swapaxes(-1, -2) / np.sqrt(8)
    for seen in (mask, None):
        shares = np.exp(scores if seen is None else np.where(seen, scores, -np.inf))
        shares /= shares.sum(axis=-1, keepdims=True)
        found = functions.attention(q, k, v, seen)
        assert found.dtype == jnp.dtype(dtype)
        bound = {"float16": 3e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-13}[dtype]
        np.testing.assert_allclose(np.asarray(found, np.float64), shares @ wide[2], rtol=0, atol=bound)


def primitives(jaxpr):
    """Yield (name, dtypes of its arrays) of every operation of a traced function, and of those inside of it."""
    for each in jaxpr.eqns:
        yield each.primitive.name, {str(value.aval.dtype) for value in each.invars}
        for inner in each.params.values():
            if hasattr(inner, "jaxpr"):
                yield from primitives(inner.jaxpr)


def normed(x):
    weights = dict.fromkeys((f"n.{name}" for name in ("weight", "bias", "running_mean", "running_var")), jnp.ones(8))
    return images.BatchNorms(weights, weights)(x.reshape(2, 3, 4, 8), "n"), images.RunningNorms(weights)(x, "n")


WIDE = {
    "attention": lambda x: functions.attention(x, x, x),
    "layernorm": lambda x: functions.layernorm(x, x[0], x[0]),
    "batch norms": normed,
    "binary cross-entropy": lambda x: dcgan.binary_cross_entropy(x, 1.0),
    "cross-entropy": lambda x: training.cross_entropy(x, jnp.zeros(24, int)),
}


@pytest.mark.parametrize("name", WIDE)
def test_sums_exponentials_and_roots_of_narrow_arrays_are_computed_in_float32(name):
    """No bound of an error would notice: the roundings of the products are larger."""
    traced = jax.make_jaxpr(WIDE[name])(jnp.ones((24, 8), jnp.bfloat16))
    sensitive = ("reduce_sum", "exp", "log", "log1p", "rsqrt", "sqrt", "div")
    found = [(each, dtypes) for each, dtypes in primitives(traced.jaxpr) if each in sensitive]
    assert found
    assert [each for each in found if "bfloat16" in each[1]] == []


@pytest.mark.parametrize(("precision", "scale"), [("autocast_float16", training.SCALE), ("autocast_bfloat16", None)])
def test_the_loss_of_float16_alone_is_scaled(on, precision, scale):
    workload, work = varied("cnn_train", precision)
    with kernels.noted_programs() as made:
        kernels.kernel(workload, work, on)
    assert made[-1].function.args[2] == scale


def test_a_restart_frees_the_state_before_it_makes_the_next():
    """A GPU that just holds a training would not hold two."""
    alive = []

    def start():
        assert [reference() for reference in alive if reference() is not None] == []
        weight = jnp.ones(3)
        alive.append(weakref.ref(weight))
        return training.State({"w": weight})

    trainer = training.Trainer(lambda state: training.Step(None, None, {}, state), start)
    trainer.step()
    trainer.reset()
    assert len(alive) == 2


def tiny_step(scale, factor):
    """Return the step of one weight w = 1 with loss about factor * w, whose gradient is a float16 on its way back."""

    def forward(params, averages, x):
        return (params["w"].astype(jnp.float16) * x.astype(jnp.float16)).astype(jnp.float32), averages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "cross_entropy", lambda logits, targets: factor * logits.sum())
        state = training.started(training.Sgd(1.0), {"w": jnp.ones(1, jnp.float32)})
        return training.train_step(forward, training.Sgd(1.0), scale, state, jnp.ones(1), jnp.zeros(1))


def test_a_loss_scale_keeps_gradients_that_float16_cannot_hold():
    small = 1e-8  # float16 ends at 6e-8
    assert float(tiny_step(None, small).gradients["w"][0]) == 0
    assert float(tiny_step(training.SCALE, small).gradients["w"][0]) == pytest.approx(small, rel=0.01)


def test_a_step_whose_gradients_overflow_changes_nothing():
    step = tiny_step(training.SCALE, 100.0)  # 102400 is beyond float16
    assert not np.isfinite(step.gradients["w"]).any()
    np.testing.assert_array_equal(step.state.params["w"], 1.0)
    np.testing.assert_allclose(tiny_step(training.SCALE, 10.0).state.params["w"], -9.0, rtol=1e-3)
