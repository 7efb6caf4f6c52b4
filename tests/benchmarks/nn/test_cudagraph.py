"""CUDA graphs without a GPU: a stand-in notes every operator of a capture and runs them again on the same memory."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from bench_core.errors import WrongAnswer
from bench_core.records import Preset, Scope
from bench_core.timing.case import generator
from benchmarks import bench_mlp
from benchmarks.nn import training
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

torch = pytest.importorskip("torch")
from benchmarks.nn.modules import running  # noqa: E402
from benchmarks.nn.modules import training as module_training  # noqa: E402
from tests.support import cuda_graphs  # noqa: E402
from tests.support.cuda_graphs import CPU, captures_on_a_cpu  # noqa: E402, F401 - a fixture

CAPTURED = (
    *("mlp_train", "mlp_infer", "cnn_train", "cnn_infer", "gpt_train", "gpt_prefill", "gpt_decode"),
    *("gan_train", "gan_generate", "diffusion_sample"),
)


def captured(name, **kind):
    """Return a smoke kernel captured as a graph, with its workload, work and inputs."""
    workload = MODELS[name]
    work = workload.variant(*workload.presets[Preset.SMOKE], **kind)
    host = workload.inputs(work, generator(work.case_id, 0))
    build = workload.kernels["torch:cuda"]["cudagraph"]
    return build(CPU, work, host), workload, work, host


def verified(kernel, workload, work, host):
    answer = kernel.answer() if kernel.answer else {"out": kernel.run()}
    return workload.verify(work, host, {name: CPU.to_host(array) for name, array in answer.items()})


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_kernel_is_right_before_and_after_it_ran(name):
    """Capturing moves weights and replays share memory; the answer must know nothing of either."""
    made = captured(name)
    made[0].prepare()
    assert verified(*made) < 1e-5
    for _ in range(3):
        made[0].run()
    assert verified(*made) < 1e-5


@pytest.mark.parametrize("name", ["mlp_train", "mlp_infer", "gan_train"])
def test_a_batch_that_is_uploaded_every_time_is_copied_into_the_graph(name):
    made = captured(name, scope=Scope.END_TO_END)
    made[0].prepare()
    assert verified(*made) < 1e-5


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train"])
def test_a_scaled_loss_can_be_captured(name):
    """The stand-in refuses what a real capture refuses: a number copied to the host."""
    made = captured(name, precision="autocast_float16")
    made[0].prepare()
    assert verified(*made) < 1e-2


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_kernels_have_no_peak_memory_since_the_allocator_cannot_see_a_graphs(name):
    assert captured(name)[0].hides_memory
    workload = MODELS[name]
    work = workload.variant(*workload.presets[Preset.SMOKE])
    host = workload.inputs(work, generator(work.case_id, 0))
    assert not workload.kernels["torch"]["default"](CPU, work, host).hides_memory


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train", "gan_train"])
def test_a_check_on_fewer_samples_has_a_graph_of_its_own(name, monkeypatch):
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)
    made = captured(name)
    made[0].prepare()
    assert verified(*made) < 1e-5
    made[0].run()
    assert verified(*made) < 1e-5


def test_a_check_graph_that_was_not_rehearsed_fails_by_moved_weights(monkeypatch):
    """Without a rehearsal the test above would fail: its check begins where a step has led already."""
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)
    monkeypatch.setattr(bench_mlp, "RATE", 1.0)

    def forgetful(step, eager, *args):
        kernel = training.training_kernel(step, *args)
        return replace(kernel, prepare=kernel.run)

    monkeypatch.setattr(module_training, "prepared_kernel", forgetful)
    made = captured("mlp_train")
    made[0].prepare()
    with pytest.raises(WrongAnswer):
        verified(*made)


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train", "gan_train"])
def test_a_graph_of_the_whole_batch_that_is_wrong_turns_red(name, monkeypatch):
    """The check cuts the batch to few samples; what is timed is another graph."""
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)

    class WrongWhole(running.Graphed):
        def __call__(self, *args):
            shown = super().__call__(*args)
            whole = len(args[0]) == made[2]["batch"]
            return training.Step(shown.loss, shown.logits * (1.1 if whole else 1.0), shown.gradients)

    monkeypatch.setattr(module_training, "Graphed", WrongWhole)
    made = captured(name)
    made[0].prepare()
    with pytest.raises(WrongAnswer):
        verified(*made)


def test_a_replay_computes_from_its_new_input():
    doubled = running.Graphed(lambda x: x * 2)
    first = doubled(torch.tensor([1.0]))
    assert first.tolist() == [2.0]
    second = doubled(torch.tensor([5.0]))
    assert second.tolist() == [10.0]
    assert first is second


def test_graphs_are_for_cuda_alone():
    for workload in (MODELS[name] for name in CAPTURED):
        assert "cudagraph" not in workload.kernels["torch"]
        assert "cudagraph" in workload.kernels["torch:cuda"]


# ---------------------------------------------------------------- what a capture refuses


@pytest.mark.parametrize("name", ["gpt_train", "cnn_train", "gan_train"])
def test_a_capture_needs_an_optimiser_that_is_capturable(name, monkeypatch):
    """Its step count would stay on the host, the same at every replay."""
    stubborn = {kind: getattr(torch.optim, kind) for kind in ("Adam", "AdamW")}
    for kind, original in stubborn.items():
        forgetful = lambda *args, original=original, capturable=False, **kwargs: original(*args, **kwargs)  # noqa: E731
        monkeypatch.setattr(torch.optim, kind, forgetful)
    made = captured(name)
    if name == "cnn_train":  # SGD counts no steps
        made[0].prepare()
        assert verified(*made) < 1e-5
        return
    with pytest.raises(RuntimeError, match="capturable is False"):
        made[0].prepare()


def test_a_capture_needs_a_warm_up(monkeypatch):
    monkeypatch.setattr(running, "_WARM_UPS", 0)
    with pytest.raises(RuntimeError, match="for the first time"):
        captured("mlp_train")[0].prepare()


def test_a_warm_up_in_the_current_stream_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    with pytest.raises(RuntimeError, match="for the first time"):
        captured("mlp_train")[0].prepare()


def test_a_side_stream_that_waits_for_nothing_races(monkeypatch):
    monkeypatch.setattr(cuda_graphs.Stream, "wait_stream", lambda self, stream: None)
    with pytest.raises(RuntimeError, match="a race"):
        captured("mlp_infer")[0].prepare()


def test_a_number_copied_to_the_host_cannot_be_captured():
    asking = running.Graphed(lambda x: x * float(x.sum()))
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        asking(torch.ones(2))


# ---------------------------------------------------------------- whose memory it is


def capture(cuda, function, *args):
    """Return the graph of a function and its result, warmed up as it has to be."""
    stream, graph = cuda.Stream(), cuda.CUDAGraph()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        function(*(arg.clone() for arg in args))
    with cuda.graph(graph, stream=stream):
        result = function(*args)
    return graph, result


def test_a_capture_computes_nothing(cuda):
    x = torch.ones(2)
    graph, y = capture(cuda, lambda x: x.add_(1) * 2, x)
    assert x.tolist() == [1, 1]
    assert y.isnan().all(), "the pool holds rubbish until the first replay"
    graph.replay()
    assert x.tolist() == [2, 2]
    assert y.tolist() == [4, 4]


def test_a_result_that_is_kept_is_overwritten_by_the_next_replay(cuda):
    x = torch.ones(2)
    graph, y = capture(cuda, lambda x: x * 2, x)
    graph.replay()
    kept, copied = y, y * 1
    x.fill_(5)
    graph.replay()
    assert kept.tolist() == [10, 10]
    assert copied.tolist() == [2, 2]


def test_what_is_freed_during_a_capture_is_the_pools_again(cuda):
    x = torch.ones(1000)
    graph, y = capture(cuda, lambda x: (x + 1).mul_(3).sum(), x)
    held = [reference for reference in graph.captured.pool if not reference.expired()]
    assert len(held) == 1 < len(graph.captured.pool)
    graph.replay()
    assert y == 6000
    assert [reference for reference in graph.captured.pool if not reference.expired()] == held


def test_an_input_that_is_freed_after_the_capture_is_found(cuda):
    graph, y = capture(cuda, lambda x: x * 2, torch.ones(2))
    with pytest.raises(RuntimeError, match="freed after its capture"):
        graph.replay()
    assert y.isnan().all()


def test_a_graph_that_does_not_keep_its_arguments_is_found(monkeypatch):
    original = running.Graphed._capture

    def forgetful(self, args):
        graph, kept, result = original(self, args)
        return graph, kept[:0], result

    call = running.Graphed(lambda x: x * 2, fixed=True)
    assert call(torch.ones(2)).tolist() == [2, 2]
    assert call(torch.ones(2)).tolist() == [2, 2], "its argument was kept"
    monkeypatch.setattr(running.Graphed, "_capture", forgetful)
    call = running.Graphed(lambda x: x * 2, fixed=True)
    call(torch.ones(2))
    with pytest.raises(RuntimeError, match="freed after its capture"):
        call(torch.ones(2))


def test_a_graph_that_was_never_captured_cannot_be_replayed(cuda):
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        cuda.CUDAGraph().replay()
