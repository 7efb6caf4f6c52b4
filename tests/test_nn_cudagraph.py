"""CUDA graphs without a GPU: a stand-in records every operator of a capture and runs them again on the same memory."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench_core.errors import WrongAnswer
from bench_core.model import Preset, Scope
from bench_core.perform import generator
from benchmarks import bench_cnn, bench_diffusion, bench_gan, bench_gpt, bench_mlp
from benchmarks.nn import training
from tests.nn_support import one_thread  # noqa: F401 - a fixture

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from bench_core.backends.torch import TorchBackend  # noqa: E402
from benchmarks.nn.modules import running  # noqa: E402
from benchmarks.nn.modules import training as module_training  # noqa: E402

CPU = TorchBackend("cpu")
WORKLOADS = {
    workload.name: workload
    for workload in (
        bench_mlp.MlpTrain(),
        bench_mlp.MlpInfer(),
        bench_cnn.CnnTrain(),
        bench_cnn.CnnInfer(),
        bench_gpt.GptTrain(),
        bench_gpt.GptPrefill(),
        bench_gpt.GptDecode(),
        bench_gan.GanTrain(),
        bench_gan.GanGenerate(),
        bench_diffusion.DiffusionSample(),
    )
}


class Recorder(TorchDispatchMode):
    """Runs operators and remembers them with the very tensors they used."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(function), "a capture must not ask the device for a number"
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result


class FakeGraph:
    """What torch.cuda.CUDAGraph is to its user: replay() computes again, from and into the captured memory."""

    def __init__(self):
        self.recorder = Recorder()

    @torch.inference_mode()
    def replay(self):
        for function, args, kwargs, result in self.recorder.calls:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """torch.cuda as far as a capture needs it."""
    stream = SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def graph(captured, stream):
        with captured.recorder:
            yield

    monkeypatch.setattr(running.torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(running.torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(running.torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(running.torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(running.torch.cuda, "graph", graph)


def captured(name, **kind):
    """Return a smoke kernel captured as a graph, with its workload, work and inputs."""
    workload = WORKLOADS[name]
    work = workload.variant(*workload.presets[Preset.SMOKE], **kind)
    host = workload.inputs(work, generator(work.case_id, 0))
    build = workload.kernels["torch:cuda"]["cudagraph"]
    return build(CPU, work, host), workload, work, host


def verified(kernel, workload, work, host):
    answer = kernel.answer() if kernel.answer else {"out": kernel.run()}
    return workload.verify(work, host, {name: CPU.to_host(array) for name, array in answer.items()})


@pytest.fixture
def no_capturable(monkeypatch):
    """On a CPU the fused optimisers are capturable as they are, and refuse to be told so."""
    for name in ("Adam", "AdamW"):
        original = getattr(torch.optim, name)
        options = lambda *args, original=original, capturable=False, **kwargs: original(*args, **kwargs)  # noqa: E731
        monkeypatch.setattr(torch.optim, name, options)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_captured_kernel_is_right_before_and_after_it_ran(name, no_capturable):
    """Capturing moves weights and replays share memory; the answer must know nothing of either."""
    made = captured(name)
    made[0].prepare()
    assert verified(*made) < 1e-5
    for _ in range(3):
        made[0].run()
    assert verified(*made) < 1e-5


@pytest.mark.parametrize("name", ["mlp_train", "mlp_infer", "gan_train"])
def test_a_batch_that_is_uploaded_every_time_is_copied_into_the_graph(name, no_capturable):
    made = captured(name, scope=Scope.END_TO_END)
    made[0].prepare()
    assert verified(*made) < 1e-5


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train"])
def test_a_scaled_loss_can_be_captured(name, no_capturable):
    """The Recorder refuses what a real capture refuses: a number copied to the host."""
    made = captured(name, precision="autocast_float16")
    made[0].prepare()
    assert verified(*made) < 1e-2


@pytest.mark.parametrize("name", WORKLOADS)
def test_captured_kernels_have_no_peak_memory_since_the_allocator_cannot_see_a_graphs(name, no_capturable):
    assert captured(name)[0].hides_memory
    workload = WORKLOADS[name]
    work = workload.variant(*workload.presets[Preset.SMOKE])
    host = workload.inputs(work, generator(work.case_id, 0))
    assert not workload.kernels["torch"]["default"](CPU, work, host).hides_memory


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train", "gan_train"])
def test_a_check_on_fewer_samples_has_a_graph_of_its_own(name, monkeypatch, no_capturable):
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)
    made = captured(name)
    made[0].prepare()
    assert verified(*made) < 1e-5
    made[0].run()
    assert verified(*made) < 1e-5


def test_without_a_rehearsal_that_graph_would_be_checked_from_moved_weights(monkeypatch):
    """The companion: what the test above proves can fail."""
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
def test_a_graph_of_the_whole_batch_that_is_wrong_turns_red(name, monkeypatch, no_capturable):
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


def test_a_replay_computes_and_does_not_remember():
    doubled = running.Graphed(lambda x: x * 2)
    first = doubled(torch.tensor([1.0]))
    assert first.tolist() == [2.0]
    second = doubled(torch.tensor([5.0]))
    assert second.tolist() == [10.0]
    assert first is second


def test_graphs_are_for_cuda_alone():
    for workload in WORKLOADS.values():
        assert "cudagraph" not in workload.kernels["torch"]
        assert "cudagraph" in workload.kernels["torch:cuda"]
