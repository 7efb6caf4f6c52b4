"""Training across ranks: the works, the reference, and what two real ranks answer."""

from functools import partial

import numpy as np
import pytest

from bench_core.errors import WrongAnswer
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Status, Target
from bench_core.results.metrics import METRICS
from bench_core.timing.case import generator
from benchmarks import bench_gpt
from benchmarks.bench_scaling import IMPLEMENTATIONS, counts
from benchmarks.nn import batches
from benchmarks.nn.optimisers import AdamW, Sgd
from benchmarks.nn.parts import InParts
from benchmarks.nn.training import train_step
from benchmarks.nn.weights import wide_weights
from tests.support import two_ranks
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.two_ranks import FAULTS, WORKLOADS, inputs_of, work_of

NAMES = tuple(WORKLOADS)
OPTIMISERS = {"gpt_train_parallel": partial(AdamW, rate=bench_gpt.RATE), "cnn_train_parallel": partial(Sgd, rate=1e-3)}


@pytest.fixture(params=NAMES)
def workload(request):
    return WORKLOADS[request.param]


def machine(ranks, kind="cuda"):
    return Machine(last_level_cache=50 << 20, cores=16, device_type=kind, ranks=ranks)


def works(workload, preset, ranks, kind="cuda"):
    return list(workload.works(preset, machine(ranks, kind)))


# ---------------------------------------------------------------- works


@pytest.mark.parametrize("preset", [Preset.SMOKE, Preset.QUICK, Preset.STANDARD, Preset.FULL])
@pytest.mark.parametrize("ranks", [2, 3, 6, 8])
def test_works_belong_together_in_all_but_their_ranks_and_begin_with_one(workload, preset, ranks):
    found = {}
    for work in works(workload, preset, ranks):
        rest = tuple((name, value) for name, value in work.params if name != "ranks")
        found.setdefault((work.size, work.dtype, work.precision, rest), []).append(work.ranks)
        assert work.ranks * workload.batch_per_rank(work) == workload.costs(work).amounts["samples"]
    assert len(found) == {Preset.SMOKE: 1, Preset.FULL: 4}.get(preset, 2)
    for (*_, rest), measured in found.items():
        kept = counts(ranks, preset)
        if dict(rest)["scaling"] == "strong":
            kept = [count for count in kept if dict(rest)["batch"] % count == 0]
        assert measured == kept
        assert measured[0] == 1


def test_all_ranks_are_measured_and_the_powers_of_two_below():
    assert [counts(ranks, Preset.QUICK) for ranks in (2, 3, 6, 8)] == [[1, 2], [1, 2, 3], [1, 2, 4, 6], [1, 2, 4, 8]]
    assert counts(8, Preset.SMOKE) == [1, 8]


def test_the_headline_is_a_part_of_standard(workload):
    target = [Target("torch", "torch", "cuda:x8")]
    cases = list(expand(workload, Preset.HEADLINE, target, lambda _: machine(8)))
    assert {(case.implementation, case.work.ranks, case.work["scaling"]) for case in cases} == {
        ("ddp", ranks, scaling) for ranks in (1, 8) for scaling in ("weak", "strong")
    }


def test_single_devices_have_no_cases(workload):
    assert not list(expand(workload, Preset.QUICK, [Target("torch", "torch", "cuda:0")], lambda _: machine(1)))


def test_flops_are_of_the_whole_batch_and_memory_is_of_one_rank(workload):
    network, batch = workload.model.presets[Preset.QUICK]
    one, four = (workload.variant(network, batch, "weak", ranks) for ranks in (1, 4))
    assert (
        workload.costs(four).flops
        == 4 * workload.costs(one).flops
        == 4 * workload.model.costs(workload.model.variant(network, batch)).flops
    )
    assert workload.footprint(four) == workload.footprint(one)
    whole, part = (workload.variant(network, 8, "strong", ranks) for ranks in (1, 4))
    assert workload.costs(whole) == workload.costs(part)
    assert workload.footprint(part) < workload.footprint(whole)


def test_the_time_without_an_exchange_is_a_metric():
    assert METRICS["time_without_exchange"].unit == "s"


# ---------------------------------------------------------------- the reference


def test_the_ranks_share_the_batch_and_all_have_the_weights(workload):
    work = work_of(workload, "float32")
    host = inputs_of(workload, work)
    each = [workload.on_rank(work, host, rank) for rank in range(2)]
    for name in ("x", "targets"):
        np.testing.assert_array_equal(np.concatenate([own[name] for own in each]), host[name])
    for own in each:
        assert all(own[name] is host[name] for name in host if name.startswith("weights."))


def directly(workload, work, host, steps):
    """Return what one process computes with the batch in parts: of each step loss, logits, gradients and weights.

    Each part has a network and an optimiser of its own; only gradients are averaged. Batch norms keep what they saw.
    """
    net, optimiser = workload.network(work), OPTIMISERS[workload.name]
    per_rank = workload.batch_per_rank(work)
    parts = [slice(rank * per_rank, (rank + 1) * per_rank) for rank in range(work.ranks)]
    own = [optimiser(np, wide_weights(host)) for _ in parts]
    x = host["x"] if host["x"].dtype.kind == "i" else host["x"].astype(np.float64)
    found = []
    for _ in range(steps):
        made, updates = [], []
        for part, each in zip(parts, own, strict=True):
            move, each.update = each.update, updates.append
            made.append(train_step(np, net, each, x[part], host["targets"][part]))
            each.update = move
        mean = {name: sum(grads[name] for grads in updates) / len(parts) for name in updates[0]}
        for each in own:
            each.update(mean)
        loss = np.mean([step.loss for step in made])
        held = {name: array.copy() for name, array in own[0].params.items()}
        found.append((loss, [step.logits for step in made], mean, held))
    return found


def few(workload, monkeypatch, ranks, batch_per_rank):
    """Return a work whose check holds as few samples as possible, its inputs, and how they are divided."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    network, _ = workload.model.presets[Preset.SMOKE]
    work = workload.variant(network, batch_per_rank, "weak", ranks)
    host = workload.sample(work, inputs_of(workload, work), generator(work.case_id, 0, 1))
    return work, host, workload.parts(work)


@pytest.mark.parametrize(("ranks", "batch_per_rank"), [(1, 8), (3, 6), (8, 1)])
def test_the_reference_of_few_samples_is_that_of_the_whole_batch_in_parts(workload, monkeypatch, ranks, batch_per_rank):
    work, host, parts = few(workload, monkeypatch, ranks, batch_per_rank)
    rows = {array.tobytes() for array in host["x"]}
    assert len(rows) == parts.samples * parts.different
    assert parts.different == {1: 1, 3: 3, 8: 2}[ranks]
    found = directly(workload, work, host, 2)
    for rank in range(ranks):
        expected = workload.reference(work, workload.on_rank(work, host, rank)).together
        for one, (loss, logits, gradients, held) in zip((expected, expected.last), found, strict=True):
            np.testing.assert_allclose(one.loss, loss, rtol=1e-10)
            np.testing.assert_allclose(one.logits, logits[rank][: parts.samples], rtol=1e-7, atol=1e-9)
            for name, gradient in gradients.items():
                np.testing.assert_allclose(one.gradients[name], gradient, rtol=1e-6, atol=1e-9)
            for name, array in held.items():
                np.testing.assert_allclose(one.after[name], array, rtol=1e-6, atol=2e-7)


def test_parts_see_the_whole_batch_where_nothing_is_normalised_by_it():
    """So that the language model in parts is the language model."""
    workload = WORKLOADS["gpt_train_parallel"]
    work = work_of(workload, "float64")
    host = inputs_of(workload, work)
    given = [AdamW(np, wide_weights(host), bench_gpt.RATE) for _ in range(2)]
    net = workload.network(work)
    whole, parts = (
        train_step(np, n, o, host["x"], host["targets"]) for n, o in zip((net, InParts(net, 2)), given, strict=True)
    )
    np.testing.assert_allclose(whole.loss, parts.loss, rtol=1e-13)
    for name, gradient in whole.gradients.items():
        np.testing.assert_allclose(parts.gradients[name], gradient, atol=1e-14)


def answered(reached, before=""):
    """Return the answer of a kernel that has computed a reference."""
    held = {f"{'average' if '.running_' in name else 'weight'}.{name}": array for name, array in reached.after.items()}
    gradients = {f"gradient.{name}": array for name, array in reached.gradients.items()}
    first = {"loss": reached.loss, "logits": reached.logits, **gradients, **held}
    answer = {f"{before}{name}": array for name, array in first.items()}
    return answer | (answered(reached.last, f"last.{before}") if reached.last else {})


@pytest.mark.parametrize(("ranks", "batch_per_rank"), [(2, 8), (3, 6), (6, 4)])
def test_a_rank_that_keeps_its_own_gradients_is_refused(workload, monkeypatch, ranks, batch_per_rank):
    """Whichever rank looks, though the losses are averaged."""
    work, host, _ = few(workload, monkeypatch, ranks, batch_per_rank)
    for rank in range(ranks):
        expected = workload.reference(work, workload.on_rank(work, host, rank))
        honest, alone = answered(expected.together), answered(expected.alone)
        assert workload.verify(work, expected, honest) < 1e-12
        with pytest.raises(WrongAnswer):
            workload.verify(work, expected, alone | {name: honest[name] for name in ("loss", "last.loss")})
        with pytest.raises(WrongAnswer):
            workload.verify(work, expected, honest | {"loss": alone["loss"]})


@pytest.mark.parametrize("missing", ["gradient.", "weight."])
def test_the_step_without_an_exchange_is_checked_like_any(workload, missing):
    work = work_of(workload, "float32")
    host = inputs_of(workload, work)
    expected = workload.reference(work, workload.on_rank(work, host, 1))
    right, together = answered(expected.alone, "alone."), answered(expected.together, "alone.")
    assert workload.verify(work, expected, right) < 1e-12
    with pytest.raises(WrongAnswer):
        workload.verify(work, expected, together)
    name = next(name for name in right if name.startswith(f"alone.{missing}"))
    with pytest.raises(WrongAnswer):
        workload.verify(work, expected, right | {name: together[name]})


def test_the_first_output_takes_no_exchange():
    """The harness reads it to see whether all work is done, and must not wait for anything else."""
    torch = pytest.importorskip("torch")
    from benchmarks.nn.modules.parallel import Gathered

    own = {"loss": torch.zeros(()), "logits": torch.ones(2), "average.a": torch.zeros(2), "weight.b": torch.zeros(3)}
    shown = Gathered(own, None)  # torch.distributed is not initialised: any exchange would raise
    assert next(iter(shown.values())) is own["logits"]
    assert sorted(shown) == sorted(own)
    assert shown["weight.b"] is own["weight.b"], "poison must reach it"
    with pytest.raises(ValueError, match="initialized"):
        shown["loss"]


# ---------------------------------------------------------------- two real ranks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    pytest.importorskip("torch")
    return two_ranks.asked(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_are_checked_twice_and_right(found, name, implementation):
    assert found[name, implementation, "checked"] == (Status.OK, "")


@pytest.mark.parametrize(("implementation", "fault"), [(how, fault) for how in FAULTS for fault in FAULTS[how]])
@pytest.mark.parametrize("name", NAMES)
def test_a_collective_of_two_ranks_that_does_nothing_is_refused(found, name, implementation, fault):
    """One at a time, and through what DDP and FSDP call themselves: the others stay honest."""
    status, reason, calls = found[name, implementation, fault]
    assert calls > 0, "nobody has called what was planted"
    assert status == Status.INVALID
    assert reason


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_two_ranks_are_those_of_one_process_on_the_whole_batch(found, name, implementation):
    """To 1e-5 of the norm of each tensor; measured are 6e-7 at most.

    The batch norms of the CNN see the part of their rank alone, in the reference as well.
    """
    workload = WORKLOADS[name]
    work = work_of(workload, "float32")
    [(loss, _, gradients, _)] = directly(workload, work, inputs_of(workload, work), 1)
    answer = found[name, implementation, "float32"]
    assert answer["loss"] == pytest.approx(loss, rel=1e-5)
    for tensor, gradient in gradients.items():
        norm = np.linalg.norm(gradient)
        assert norm > 0, tensor
        assert np.linalg.norm(answer[f"gradient.{tensor}"] - gradient) < 1e-5 * norm, tensor


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_losses_of_two_ranks_over_ten_steps_are_those_of_one_process(found, name, implementation):
    workload = WORKLOADS[name]
    work = work_of(workload, "float64")
    losses = [loss for loss, *_ in directly(workload, work, inputs_of(workload, work), two_ranks.STEPS)]
    np.testing.assert_allclose(found[name, implementation, "losses"], losses, rtol=1e-10)
    assert abs(losses[-1] - losses[0]) > 1e-6 * losses[0], "they train"


def test_replicas_that_are_not_exchanged_in_the_timed_steps_are_refused(found):
    """The steps that are checked are exchanged: the weights of the ranks tell."""
    status, code, _ = found["lazy"]
    assert (status, code) == (Status.INVALID, "ranks_differ")


def test_a_slow_rank_is_named_though_all_wait_for_it_in_the_exchange(found):
    status, _, flags = found["slow"]
    assert status == Status.OK
    assert "slow_rank_1" in flags


def test_both_ranks_report_the_same_losses(found):
    assert found["ranks agree"]
