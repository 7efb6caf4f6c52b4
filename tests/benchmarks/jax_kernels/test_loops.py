"""Loops in JAX, step by step and as one program (`scan`): a generation of text, and the DiT from noise to an image."""

import re

import numpy as np
import pytest

from bench_core.records import Preset, Status
from benchmarks import bench_diffusion, bench_gpt
from tests.support import kernels

pytest.importorskip("jax")
from benchmarks.jax_kernels import dit

DECODE, SAMPLE, DENOISE = bench_gpt.GptDecode(), bench_diffusion.DiffusionSample(), bench_diffusion.DiffusionDenoise()
# Networks of one block, which take XLA less time than those of smoke.
GPT = bench_gpt.Gpt(layers=1, heads=2, width=32, context=32, vocabulary=64), 4
DIT = bench_diffusion.Dit(layers=1, heads=2, width=64, patch=4, pixels=8, classes=10), 4
LOOPS = {"decode": (DECODE, GPT), "sample": (SAMPLE, DIT)}


class Built:
    """A kernel of a loop in float64, its answer, and its program: that of a step, or that of the whole loop."""

    def __init__(self, name, backend, implementation="default"):
        workload, size = LOOPS[name]
        work = workload.variant(*size, dtype="float64")
        with kernels.backend(backend) as on, kernels.noted_programs() as programs:
            self.kernel = kernels.kernel(workload, work, on, implementation)
            self.answer = kernels.answer(self.kernel, on)
        self.program = programs[-1] if programs else None

    @property
    def text(self):
        return self.program._compiled.as_text()


@pytest.fixture(scope="module")
def built():
    return {(name, form): Built(name, "jax", form) for name in LOOPS for form in ("default", "scan")}


@pytest.mark.parametrize("form", ["default", "scan"])
@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_in_float64_gives_what_numpy_gives(built, name, form):
    """The same tokens, and logits, latents and sigma to rounding: so both forms give the same."""
    expected, answer = Built(name, "numpy").answer, built[name, form].answer
    assert answer.keys() == expected.keys()
    for part, array in answer.items():
        bound = 0 if part == "tokens" else 1e-10 * np.abs(expected[part]).max()
        np.testing.assert_allclose(array, expected[part], rtol=0, atol=bound)


@pytest.mark.parametrize("name", LOOPS)
def test_one_program_is_a_loop_over_the_step_and_is_not_unrolled(built, name):
    """XLA counts the body of a loop once."""
    step, loop = built[name, "default"], built[name, "scan"]
    assert (" while(" in step.text, " while(" in loop.text) == (False, True)
    assert loop.program.flops == pytest.approx(step.program.flops, rel=0.01)


@pytest.mark.parametrize("form", ["default", "scan"])
def test_a_kv_cache_is_copied_neither_in_a_step_nor_in_the_loop(built, form):
    made = built["decode", form]
    keys = made.program.like[1][0][0]
    shape = rf"f64\[{','.join(map(str, keys.shape))}\]"
    assert re.search(shape, made.text)
    assert re.findall(rf"= {shape}\S* copy\(.*", made.text) == []


def test_a_prompt_in_float64_is_read_as_numpy_reads_it():
    """In the second block, a token that had seen a later one would be another."""
    answers = []
    for name in ("jax", "numpy"):
        with kernels.backend(name) as on:
            prefill = bench_gpt.GptPrefill()
            net = bench_gpt.Gpt(layers=2, heads=2, width=32, context=32, vocabulary=64)
            work = prefill.variant(net, 2, dtype="float64")
            answers.append(kernels.answer(kernels.kernel(prefill, work, on), on)["out"])
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-10 * np.abs(answers[1]).max())


def test_the_whole_loop_has_no_metrics_of_a_step(built):
    assert set(built["decode", "default"].kernel.probes) == {"time_to_first_token", "inter_token_latency"}
    assert built["decode", "scan"].kernel.probes == {}


def test_weights_in_bfloat16_generate_in_one_program(on):
    """The bound has two sides: float32 would be refused."""
    kernels.error_of(DECODE, DECODE.variant(*GPT, dtype="bfloat16"), on, "scan")


def test_the_latents_are_donated_from_step_to_step_and_the_noise_is_kept(built, monkeypatch):
    copied, copy = [], dit.jnp.copy
    monkeypatch.setattr(dit.jnp, "copy", lambda array: copied.append(copy(array)) or copied[-1])
    run = built["sample", "default"].kernel.run
    first, second = (np.asarray(run()[0]) for _ in range(2))
    assert [array.is_deleted() for array in copied] == [True, True]
    np.testing.assert_array_equal(first, second)


def test_a_single_step_donates_nothing(on, programs):
    kernels.kernel(DENOISE, DENOISE.variant(*DIT), on)
    assert programs[-1].donated == ()


def test_xla_counts_the_flops_of_a_step_that_our_formula_gives(on, programs):
    """And those of norms, activations and the softmax, which we ignore."""
    work = DENOISE.variant(*bench_diffusion.PRESETS[Preset.QUICK])
    kernels.kernel(DENOISE, work, on)
    assert 1 <= programs[-1].flops / DENOISE.costs(work).flops < 1.04


@pytest.mark.parametrize("form", ["default", "scan"])
def test_products_in_bfloat16_are_within_both_bounds(on, form):
    kernels.error_of(SAMPLE, SAMPLE.variant(*DIT, precision="autocast_bfloat16"), on, form)


def test_products_in_float32_are_refused_where_bfloat16_was_asked_for(on, monkeypatch):
    monkeypatch.setattr(dit, "product_format", lambda _: None)
    done = kernels.looked_at(DENOISE, DENOISE.variant(*DIT, precision="autocast_bfloat16"), on)
    assert done.status is not Status.OK
    assert "a finer precision ran" in done.reason
