"""The proof of a training step: honest ones pass by far, and are refused once any part is not as it should be."""

from functools import cache, partial

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import WrongAnswer
from bench_core.records import Preset, Status
from bench_core.timing.case import generator
from benchmarks import bench_cnn, bench_gan, bench_gpt
from benchmarks.nn import batches, training
from benchmarks.nn.optimisers import AdamW
from benchmarks.nn.training import DECAY, LENGTHS, Repeated, largest_error
from tests.support import kernels as support
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

CPU = NumpyBackend("cpu")
TRAINED = ("mlp_train", "cnn_train", "gpt_train", "gan_train")
NORMED = ("cnn_train", "gan_train")  # by batch, so that they keep running averages
SEEDS = range(3)
HALVES = {
    "the first half": lambda array: array[: len(array) // 2],
    "the second half": lambda array: array[len(array) // 2 :],
    "every other sample": lambda array: array[::2],
    "every other sample but the first": lambda array: array[1::2],
}


class Proof:
    """A trained network of smoke: what an honest kernel answers, what is expected, and whether an answer passes."""

    def __init__(self, name, seed, dtype="float32", least_batch=1):
        self.workload = MODELS[name]
        network, batch = self.workload.presets[Preset.SMOKE]
        self.work = self.workload.variant(network, max(batch, least_batch), dtype=dtype)
        host = self.workload.inputs(self.work, generator(self.work.case_id, seed))
        self.host = self.workload.sample(self.work, host, generator(self.work.case_id, seed, 1))
        self.expected = self.workload.reference(self.work, self.host)
        self.honest = self.answer(self.host)
        self.tensors = [name.removeprefix("gradient.") for name in self.honest if name.startswith("gradient.")]

    def answer(self, host):
        """Return what two steps on these inputs give."""
        return support.answer(support.kernel(self.workload, self.work, CPU, host=host), CPU)

    def error(self, **changed):
        """Return the error of the honest answer, but for some outputs by their names; raises WrongAnswer."""
        assert set(changed) <= set(self.honest)
        return self.workload.verify(self.work, self.expected, self.honest | changed)


honest = cache(Proof)  # nothing here changes one


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TRAINED)
def test_an_honest_step_passes_by_far(name, dtype, seed):
    proof = honest(name, seed, dtype)
    assert proof.error() < proof.workload.tolerance(proof.work).high / 5


@pytest.mark.parametrize("name", TRAINED)
def test_all_that_a_step_leaves_is_looked_at(name):
    """Loss, logits, a gradient and a weight for each tensor that is trained, and the running averages."""
    proof = honest(name, 0)
    first = [output for output in proof.honest if not output.startswith("last.")]
    kinds = [output.partition(".")[0] for output in first]
    assert set(proof.honest) == {*first, *(f"last.{output}" for output in first)}, "after both steps"
    weights = [name for name in proof.host if name.startswith("weights.")]
    averages = [name for name in weights if ".running_" in name]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "loss": 1,
        "logits": 1,
        "gradient": len(weights) - len(averages),
        "weight": len(weights) - len(averages),
        **({"average": len(averages)} if averages else {}),
    }
    assert bool(averages) == (name in NORMED)


@pytest.mark.parametrize("name", TRAINED)
def test_no_tensor_of_these_networks_is_left_out_of_the_lengths(name, seed):
    """None of their gradients vanishes, so that what follows holds for each."""
    proof = honest(name, seed)
    assert list(training._moved(proof.expected)) == proof.tensors
    assert len(proof.tensors) >= 4


@pytest.mark.parametrize("factor", [0.92, 1.08])
@pytest.mark.parametrize("name", TRAINED)
def test_a_gradient_that_is_too_short_or_too_long_is_refused_whichever_tensor_it_is_of(name, factor, seed):
    proof = honest(name, seed)
    for tensor in proof.tensors:
        gradient = f"gradient.{tensor}"
        with pytest.raises(WrongAnswer):
            proof.error(**{gradient: proof.honest[gradient] * np.float32(factor)})


@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_that_are_all_too_short_or_too_long_by_little_are_refused(name, factor, seed):
    proof = honest(name, seed)
    gradients = [f"gradient.{tensor}" for tensor in proof.tensors]
    with pytest.raises(WrongAnswer):
        proof.error(**{gradient: proof.honest[gradient] * np.float32(factor) for gradient in gradients})


@pytest.mark.parametrize("share", [0.0, 0.9, 1.1, 2.0])
@pytest.mark.parametrize("name", TRAINED)
def test_weights_that_stand_still_or_move_too_far_are_refused_whichever_tensor_they_are_of(name, share, seed):
    """share: of the way that they should have gone."""
    proof = honest(name, seed)
    for tensor in proof.tensors:
        before, after = proof.host[f"weights.{tensor}"], proof.honest[f"weight.{tensor}"]
        moved = (before + share * (after - before)).astype(np.float32)
        with pytest.raises(WrongAnswer, match="the step"):
            proof.error(**{f"weight.{tensor}": moved})


@pytest.mark.parametrize("name", NORMED)
def test_a_running_average_that_is_not_moved_rightly_is_refused(name, seed):
    proof = honest(name, seed)
    averages = [name for name in proof.honest if name.startswith("average.")]
    for average in averages:
        before, after = proof.host[average.replace("average.", "weights.", 1)], proof.honest[average]
        for share in (0.0, 0.5, 1.01):  # not moved, moved in one step of two, a little too far
            with pytest.raises(WrongAnswer):
                proof.error(**{average: (before + share * (after - before)).astype(np.float32)})


@pytest.mark.parametrize("name", NORMED)
def test_the_variance_that_is_kept_is_the_unbiased_one_of_the_whole_batch(name, monkeypatch):
    """That of the few samples which it holds twice is larger: a reference that forgets how often is another's."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    proof = honest(name, 0, least_batch=8)
    assert proof.work["batch"] == 2 * proof.workload.samples(proof.work)
    proof.error()
    trainer = bench_gan.ArrayTrainer
    monkeypatch.setattr(bench_cnn, "Repeated", lambda network, copies: Repeated(network, 1))
    monkeypatch.setattr(bench_gan, "ArrayTrainer", lambda xp, shape, params, copies: trainer(xp, shape, params))
    forgetful = proof.workload.reference(proof.work, proof.host)
    with pytest.raises(WrongAnswer):
        proof.workload.verify(proof.work, forgetful, proof.honest)
    kept = {f"average.{n}": array for n, array in forgetful.after.items() if n.endswith("running_var")}
    with pytest.raises(WrongAnswer):
        proof.error(**kept)


@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_that_is_missing_or_wrong_is_refused(name):
    """The GAN has two: each counts."""
    proof = honest(name, 0)
    loss = proof.honest["loss"]
    without = {output: array for output, array in proof.honest.items() if output != "loss"}
    with pytest.raises(WrongAnswer, match="missing"):
        proof.workload.verify(proof.work, proof.expected, without)
    for which in range(loss.size):
        with pytest.raises(WrongAnswer):
            proof.error(loss=loss * np.where(np.arange(loss.size) == which, 1.01, 1).reshape(loss.shape))
    if loss.ndim:
        assert loss.shape == (2,)
        for one in (loss[:1], loss[1:], loss.sum(keepdims=True)):
            with pytest.raises(WrongAnswer):
                proof.error(loss=one)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("draw", range(2))
def test_a_step_on_half_of_a_batch_of_few_samples_is_refused(name, half, draw, monkeypatch):
    """By its loss, gradients, weights or averages alone: its logits are those of a step on the whole."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    proof = honest(name, draw, least_batch=8)
    assert proof.workload.samples(proof.work) < proof.work["batch"]
    proof.error()
    cut = {name: HALVES[half](proof.host[name]) for name in proof.workload.per_sample}
    lazy = proof.answer({**proof.host, **cut})
    with pytest.raises(WrongAnswer):
        proof.workload.verify(proof.work, proof.expected, lazy | {"logits": proof.honest["logits"]})


@pytest.mark.parametrize("name", TRAINED)
def test_in_float64_one_weight_that_is_off_by_a_millionth_of_a_step_is_refused(name, seed):
    """Whichever it is: also one whose gradient nearly vanishes."""
    proof = honest(name, seed, "float64")
    for tensor in proof.tensors:
        weight = proof.honest[f"weight.{tensor}"]
        step = np.abs(weight - proof.host[f"weights.{tensor}"]).max()
        for at in (0, weight.size // 2, weight.size - 1, int(np.abs(proof.honest[f"gradient.{tensor}"]).argmin())):
            off = weight.copy()
            off.flat[at] += 1e-6 * step
            with pytest.raises(WrongAnswer):
                proof.error(**{f"weight.{tensor}": off})


# ---------------------------------------------------------------- weight decay


@pytest.mark.parametrize("decay", [0.0, 0.005, 0.02])
def test_another_weight_decay_is_refused(decay, seed, monkeypatch):
    """A step of 3e-4 takes off 3e-6 of a weight: hidden in the rounding of each, not in that of all."""
    proof = honest("gpt_train", seed)
    monkeypatch.setattr(bench_gpt, "AdamW", partial(AdamW, decay=decay))
    with pytest.raises(WrongAnswer, match="weights decayed by"):
        proof.workload.verify(proof.work, proof.expected, proof.answer(proof.host))


@pytest.mark.parametrize("precision", ["ieee", "autocast_bfloat16"])
def test_weights_that_do_not_decay_are_refused_in_bfloat16_as_well(precision, monkeypatch):
    torch = pytest.importorskip("torch")
    workload = MODELS["gpt_train"]
    work = workload.variant(*workload.presets[Preset.SMOKE], precision=precision)
    with support.backend("torch") as on:
        support.error_of(workload, work, on)
        monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, weight_decay=0))
        done = support.looked_at(workload, work, on)
    assert done.status is Status.INVALID
    assert "weights decayed by" in done.reason


@pytest.mark.parametrize(("share", "passes"), [(0.8 * DECAY, True), (1.2 * DECAY, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_as_much_decay_may_be_missing_or_too_much_as_is_said(share, passes, sign):
    proof = honest("gpt_train", 0)
    lacking = {
        f"weight.{tensor}": proof.expected.after[tensor]
        + sign * share * proof.expected.decay * proof.expected.before[tensor]
        for tensor in proof.tensors
    }
    if passes:
        proof.error(**lacking)
    else:
        with pytest.raises(WrongAnswer, match="weights decayed by"):
            proof.error(**lacking)


# ---------------------------------------------------------------- the bounds themselves


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("arithmetic", "relu"), LENGTHS)
def test_a_length_is_held_to_its_bounds(arithmetic, relu, sign):
    """That of one tensor's gradient or step to `one`, that of all together to `all`."""
    proof, bounds = honest("mlp_train", 0), LENGTHS[arithmetic, relu]
    precision = "ieee" if arithmetic == "ieee" else "autocast_bfloat16"
    before, after, gradients = (getattr(proof.expected, name) for name in ("before", "after", "gradients"))

    def refusals(tensors, by):
        """Yield why gradients, then why steps, are refused if those of some tensors are off by a share; None if not."""
        factors = {name: 1 + sign * by * (name in tensors) for name in gradients}
        short = {f"gradient.{name}": factor * gradients[name] for name, factor in factors.items()}
        moved = {f"weight.{name}": before[name] + f * (after[name] - before[name]) for name, f in factors.items()}
        for changed in (short, moved):
            given = {f"gradient.{name}": array for name, array in gradients.items()}
            given |= {f"weight.{name}": array for name, array in after.items()}
            try:
                training._require_lengths(given | changed, proof.expected, precision, relu=relu)
            except WrongAnswer as error:
                yield error.code
            else:
                yield None

    smallest = min(gradients, key=lambda name: np.linalg.norm(gradients[name]))
    assert list(refusals([smallest], 1.1 * bounds.one)) == ["wrong_training"] * 2
    assert list(refusals(list(gradients), 1.1 * bounds.all)) == ["wrong_training"] * 2
    assert list(refusals(list(gradients), 0.9 * bounds.all)) == [None] * 2


def test_a_tensor_whose_gradient_nearly_vanishes_is_measured_against_the_largest():
    """It is rounding: it may have any length, but not any size."""
    proof = honest("mlp_train", 0)
    tiny = next(iter(proof.tensors))
    expected = training.Trained(
        proof.expected.loss,
        proof.expected.logits,
        {**proof.expected.gradients, tiny: proof.expected.gradients[tiny] * 1e-9},
        proof.expected.before,
        proof.expected.after,
    )
    answer = proof.honest | {f"gradient.{name}": array for name, array in expected.gradients.items()}
    assert largest_error(answer, expected, "ieee") < 1e-5
    flipped = answer | {f"gradient.{tiny}": -answer[f"gradient.{tiny}"]}
    assert largest_error(flipped, expected, "ieee") < 1e-5
    full = answer | {f"gradient.{tiny}": proof.expected.gradients[tiny]}
    assert largest_error(full, expected, "ieee") > 0.1


@pytest.mark.parametrize("relu", [False, True])
def test_a_tensor_of_another_shape_is_a_wrong_answer(relu):
    proof = honest("mlp_train", 0)
    name = f"gradient.{proof.tensors[0]}"
    with pytest.raises(WrongAnswer):
        largest_error(proof.honest | {name: proof.honest[name].T}, proof.expected, "ieee", relu=relu)
    with pytest.raises(WrongAnswer):
        largest_error(proof.honest | {name: proof.honest[name][:1]}, proof.expected, "ieee", relu=relu)
