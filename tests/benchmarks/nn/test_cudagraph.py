"""CUDA graphs without a GPU: a stand-in notes every operator of a capture and runs them again on the same memory."""

from contextlib import nullcontext
from copy import copy
from dataclasses import replace

import pytest

from bench_core.errors import WrongAnswer
from bench_core.records import Preset, Scope
from benchmarks.nn import batches, training
from tests.support import kernels as support
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

torch = pytest.importorskip("torch")
from benchmarks.nn.modules import running  # noqa: E402
from benchmarks.nn.modules import training as module_training  # noqa: E402
from tests.support import cuda_graphs  # noqa: E402
from tests.support.cuda_graphs import CPU, captures_on_a_cpu  # noqa: E402, F401 - a fixture

TRAINED = ("mlp_train", "cnn_train", "gpt_train", "gan_train")
UPLOADED = ("mlp_infer", "cnn_infer", "gpt_prefill", "gan_generate", "diffusion_sample")  # and run, with no training
CAPTURED = (*TRAINED, *UPLOADED, "gpt_decode")
BOTH = ("cudagraph", "compile_cudagraph")


def smoke(name, **kind):
    """Return a workload and its smallest work, varied by `kind`."""
    workload = MODELS[name]
    return workload, workload.variant(*workload.presets[Preset.SMOKE], **kind)


def captured(name, implementation="cudagraph", **kind):
    """Return a smoke kernel that is captured as a graph, with its workload and work."""
    workload, work = smoke(name, **kind)
    return support.kernel(on_a_cpu(workload), work, CPU, implementation), workload, work


def captured_for_few(name):
    """Return the same of a batch that is large enough to be filled with few samples, each many times."""
    workload = MODELS[name]
    network, batch = workload.presets[Preset.SMOKE]
    work = workload.variant(network, max(batch, 8))
    assert workload.samples(work) < work["batch"]
    return support.kernel(on_a_cpu(workload), work, CPU, "cudagraph"), workload, work


def on_a_cpu(workload):
    """Return a workload whose kernels for CUDA are those for the CPU."""
    made = copy(workload)
    made.kernels = {"torch": workload.kernels["torch:cuda"]}
    return made


def looked_at(kernel, workload, work):
    """Return the error of a kernel that is prepared, looked at, run some times, and looked at again."""
    return support.before_and_after(kernel, workload, work, CPU, runs=3)


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_kernel_is_right_before_and_after_it_ran(name):
    """Capturing moves weights and replays share memory; the answer must know nothing of either."""
    assert looked_at(*captured(name)) < 1e-5


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize("name", CAPTURED)
def test_a_case_of_a_captured_kernel_is_ok(name, implementation):
    """All the way of a run but its timing; nothing else is compiled or captured once it is prepared."""
    workload, work = smoke(name)
    assert support.error_of(on_a_cpu(workload), work, CPU, implementation) < 1e-5


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize("name", [*TRAINED, *UPLOADED])
def test_a_batch_that_is_uploaded_every_time_is_copied_into_the_graph(name, implementation):
    assert looked_at(*captured(name, implementation, scope=Scope.END_TO_END)) < 1e-4


@pytest.mark.parametrize("implementation", BOTH)
@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train"])
def test_a_scaled_loss_can_be_captured(name, implementation):
    """The stand-in refuses what a real capture refuses: a number copied to the host."""
    assert looked_at(*captured(name, implementation, precision="autocast_float16")) < 1e-2


@pytest.mark.parametrize("name", [*TRAINED, *UPLOADED])
def test_a_graph_that_reads_an_address_where_no_new_batch_comes_is_found(name, monkeypatch):
    """It was captured on a batch of its own: right for the numbers that were there, whatever is given to it."""

    class Stale(running.Graphed):
        def _capture(self, args):
            return super()._capture(tuple(arg.clone() for arg in args))

    for module in (running, module_training):
        monkeypatch.setattr(module, "Graphed", Stale)
    with pytest.raises(WrongAnswer, match="right in the first check, wrong in the second"):
        looked_at(*captured(name))


@pytest.mark.parametrize("name", [*TRAINED, *UPLOADED])
def test_a_graph_that_takes_uploaded_batches_for_one_that_stays_is_found(name, monkeypatch):
    """It reads the first one's memory for ever."""

    class Fixed(running.Graphed):
        def __init__(self, function, *, fixed=False):
            super().__init__(function, fixed=True)

    for module in (running, module_training):
        monkeypatch.setattr(module, "Graphed", Fixed)
    with pytest.raises(WrongAnswer, match="right in the first check, wrong in the second"):
        looked_at(*captured(name, scope=Scope.END_TO_END))


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_kernels_have_no_peak_memory_since_the_allocator_cannot_see_a_graphs(name):
    assert all(captured(name, implementation)[0].hides_memory for implementation in BOTH)
    assert not support.kernel(*smoke(name), CPU).hides_memory


@pytest.mark.parametrize("name", TRAINED)
def test_a_check_of_few_samples_replays_the_graph_that_is_timed(name, monkeypatch):
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    graphs = []
    original = running.Graphed._capture
    monkeypatch.setattr(running.Graphed, "_capture", lambda self, args: graphs.append(args) or original(self, args))
    kernel, workload, work = captured_for_few(name)
    looked_at(kernel, workload, work)
    ((batch, *_),) = graphs
    assert len(batch) == work["batch"]


@pytest.mark.parametrize("name", TRAINED)
def test_a_captured_step_without_a_way_back_fails_by_moved_weights(name):
    """Its capture and its first calls have moved them."""
    kernel, workload, work = captured(name)
    with pytest.raises(WrongAnswer):
        looked_at(replace(kernel, restart=None), workload, work)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("fault", ["logits", "loss", "half"])
def test_a_graph_of_the_whole_batch_that_is_wrong_turns_red(name, fault, monkeypatch):
    """Though the reference knows few samples. A graph of half of the batch is quick, and has another mean."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)

    class Wrong(running.Graphed):
        def __call__(self, *args):
            if fault == "half":
                shown = super().__call__(*(arg[: len(arg) // 2] for arg in args))
                return training.Step(shown.loss, torch.cat([shown.logits] * 2), shown.gradients)
            shown = super().__call__(*args)
            return replace(shown, **{fault: getattr(shown, fault) * 1.1})

    monkeypatch.setattr(module_training, "Graphed", Wrong)
    with pytest.raises(WrongAnswer):
        looked_at(*captured_for_few(name))


def test_a_replay_computes_from_its_new_input():
    doubled = running.Graphed(lambda x: x * 2)
    first = doubled(torch.tensor([1.0]))
    assert first.tolist() == [2.0]
    second = doubled(torch.tensor([5.0]))
    assert second.tolist() == [10.0]
    assert first is second


def test_graphs_are_for_cuda_alone():
    for workload in (MODELS[name] for name in CAPTURED):
        assert not set(BOTH) & set(workload.kernels["torch"])
        assert set(BOTH) <= set(workload.kernels["torch:cuda"])


# ---------------------------------------------------------------- compiled, then captured


@pytest.mark.parametrize("name", CAPTURED)
def test_all_is_compiled_on_the_side_stream_before_the_capture_and_nothing_after(name, cuda):
    """Forward and backward pass: the capture finds both compiled."""
    kernel, *_ = captured(name, "compile_cudagraph")
    assert cuda.log == [], "what is timed as compile_time is done in `prepare`"
    kernel.prepare()
    stream, *compiled, capture = cuda.log[: cuda.log.index("replay")]
    assert (stream, capture) == ("side stream", "capture")
    # The discriminator is one program for its own step and one for the generator's; diffusion is compiled once for the
    # noise, and once for what its steps begin with later, which are inference tensors.
    forward = {"gan_train": 3, "diffusion_sample": 2}.get(name, 1)
    assert compiled.count("compile forward") == forward
    assert compiled.count("compile backward") == (forward if name in TRAINED else 0)
    assert len(compiled) == compiled.count("compile forward") + compiled.count("compile backward")
    before = len(cuda.log)
    kernel.run()
    assert set(cuda.log[before:]) == {"replay"}


@pytest.mark.parametrize("name", ["mlp_infer", "gpt_decode", "diffusion_sample"])
def test_nothing_can_be_compiled_during_a_capture(name, monkeypatch):
    monkeypatch.setattr(running, "_WARM_UPS", 0)
    with pytest.raises(RuntimeError, match="compile forward: operation not permitted when stream is capturing"):
        captured(name, "compile_cudagraph")[0].prepare()


def test_a_warm_up_without_a_backward_pass_leaves_it_to_be_compiled_during_the_capture():
    weight = torch.ones(2, requires_grad=True)
    double = torch.compile(lambda x: (weight * x).sum())
    calls, grad = [], torch.ones(())

    def step(x):
        loss = double(x)
        calls.append(loss)
        if len(calls) > running._WARM_UPS:
            loss.backward(grad)
        return loss

    with pytest.raises(RuntimeError, match="compile backward: operation not permitted when stream is capturing"):
        running.Graphed(step)(torch.ones(2))


def test_once_it_is_prepared_a_captured_program_is_not_compiled_again():
    kernel, *_ = captured("mlp_infer", "compile_cudagraph")
    kernel.prepare()
    kernel.inputs["x"] = torch.cat([kernel.inputs["x"]] * 2)
    with pytest.raises(RuntimeError, match="fail_on_recompile"):
        kernel.run()


@pytest.mark.parametrize("implementation", ["default", "compile", "max_autotune", "cudnn_benchmark"])
def test_what_is_not_captured_replays_nothing(implementation, cuda):
    kernel, *_ = captured("cnn_train", implementation)
    kernel.run()
    assert not {"capture", "replay"} & set(cuda.log)


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
        assert looked_at(*made) < 1e-5
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
