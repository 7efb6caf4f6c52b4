"""The workloads of the suite `model`: right on every backend, and red when anything in them is wrong."""

import os
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench_core import caches
from bench_core.backends.cupy import CupyBackend
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import Unsupported, WrongAnswer
from bench_core.plan.expansion import expand
from bench_core.records import Case, Machine, Preset, Run, Scope, Status, Target
from bench_core.results.rows import rows_of_case
from bench_core.timing.case import Settings, generator, run_case
from bench_core.timing.recheck import UNCHECKED_TIMING
from bench_core.timing.sampling import Durations
from benchmarks import bench_cnn, bench_gpt, bench_mlp
from benchmarks.nn import batches, generation, workloads
from tests.standin.install import cupy_module
from tests.support import kernels as support
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

torch = pytest.importorskip("torch")

from bench_core.backends.torch import TorchBackend  # noqa: E402
from benchmarks.nn.modules import dcgan, dit, gpt, running  # noqa: E402

MACHINE = Machine(last_level_cache=1 << 25, cores=2)
CPU = TorchBackend("cpu")
NUMPY = NumpyBackend("cpu")
TRAINED = ("mlp_train", "cnn_train", "gpt_train", "gan_train")


@pytest.fixture(params=MODELS)
def workload(request):
    return MODELS[request.param]


@pytest.fixture(autouse=True)
def free_to_compile():
    """A kernel that was prepared forbids to compile anything again, in all of the process."""
    yield
    torch.compiler.set_stance("default")


@pytest.fixture
def eagerly(monkeypatch):
    """torch.compile traces, and compiles nothing: fast."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(running, "require_compiler", lambda device: None)


@pytest.fixture
def compiler():
    try:
        running.require_compiler(torch.device("cpu"))
    except running.Unsupported as error:
        pytest.skip(str(error))


def smoke(name, dtype="float32"):
    """Return a workload and its smallest work in a dtype, whether the preset smoke measures it or not."""
    workload = MODELS[name]
    if isinstance(workload, workloads.ModelWorkload):
        return workload, workload.variant(*workload.presets[Preset.SMOKE], dtype=dtype)
    shape = zip(workload.axes, workload.sizes[Preset.SMOKE], strict=True)
    return workload, workload.work("tiny", dtype, **dict(shape))


def on_cuda(name):
    """Return a workload whose kernels for the CPU are those for CUDA, and its smallest work."""
    workload, work = smoke(name)
    made = copy(workload)
    made.kernels = {"torch": workload.kernels["torch:cuda"]}
    return made, work


def varied(name, dtype="float32", **kind):
    """Return a workload and its smallest work, varied by `kind` (precision, scope)."""
    workload, work = smoke(name, dtype)
    return workload, workload.work(work.size, dtype, **dict(work.params), **kind) if kind else work


def done(name, backend=CPU, implementation="default", dtype="float32", **kind):
    """Build a smoke case and look at its answers twice."""
    return support.looked_at(*varied(name, dtype, **kind), backend, implementation)


def built(name, backend=CPU, implementation="default", dtype="float32"):
    """Return a smoke kernel with its workload, work and what its answers on the same inputs are compared with."""
    workload, work = smoke(name, dtype)
    host, expected = support.sampled(workload, work)
    return support.kernel(workload, work, backend, implementation, host), workload, work, expected


def test_every_workload_is_right_in_both_formats_on_numpy_and_torch(workload):
    for work in (smoke(workload.name, dtype)[1] for dtype in ("float32", "float64")):
        # Adam divides small gradients by their own size: single weights of float64 are held to a share of its step.
        close = {"float32": 1e-5, "float64": 5e-11 if workload.name in {"gpt_train", "gan_train"} else 1e-13}
        for backend in (NUMPY, CPU):
            assert support.error_of(workload, work, backend) < close[work.dtype], f"{backend.name} {work.dtype}"


def test_every_workload_is_right_on_the_stand_in_for_cupy(workload):
    """The same array code, on arrays that refuse NumPy, implicit conversion and whatever CuPy lacks."""
    with cupy_module():
        assert support.error_of(*smoke(workload.name), CupyBackend("cuda:0")) < 1e-5


@pytest.mark.parametrize(
    "name", [*TRAINED, "mlp_infer", "gpt_prefill", "cnn_infer", "gan_generate", "diffusion_sample"]
)
def test_a_batch_that_is_uploaded_at_every_call_is_looked_at_twice_like_one_that_stays(name):
    """What is overwritten is the host's side."""
    workload, work = varied(name, scope=Scope.END_TO_END)
    for backend in (NUMPY, CPU):
        assert all(isinstance(array, np.ndarray) for array in support.kernel(workload, work, backend).inputs.values())
        support.error_of(workload, work, backend)
    with cupy_module():
        support.error_of(workload, work, CupyBackend("cuda:0"))


@pytest.mark.parametrize("name", ["gpt_train", "attention"])
def test_explicit_attention_is_right(name):
    assert support.error_of(*smoke(name), CPU, "explicit") < 1e-5


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", ["cnn_train", "cnn_infer"])
def test_channels_last_is_right(name, scope):
    assert support.error_of(*varied(name, scope=scope), CPU, "channels_last") < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        *("mlp_train", "cnn_infer", "gpt_train", "gpt_prefill", "gpt_decode", "gan_train"),
        *("diffusion_sample", "diffusion_denoise"),
    ],
)
def test_bfloat16_autocast_is_right_and_is_bfloat16(name):
    """The error lies between the bounds: not too large, and too large for float32."""
    support.error_of(*varied(name, precision="autocast_bfloat16"), CPU)


@pytest.mark.parametrize("name", ["mlp_train", "gpt_train", "mlp_infer"])
def test_float16_autocast_scales_the_loss_and_unscales_the_gradients(name):
    support.error_of(*varied(name, precision="autocast_float16"), CPU)


@pytest.mark.parametrize("name", ["gpt_prefill", "gpt_decode"])
def test_models_are_served_with_bfloat16_weights_by_torch_alone(name):
    support.error_of(*smoke(name, "bfloat16"), CPU)
    assert done(name, NUMPY, dtype="bfloat16").status is Status.UNSUPPORTED
    with cupy_module():
        assert done(name, CupyBackend("cuda:0"), dtype="bfloat16").status is Status.UNSUPPORTED
    workload, work = smoke(name)
    narrow = workload.variant(*workload.presets[Preset.SMOKE], dtype="bfloat16")
    assert workload.costs(narrow).least_bytes == workload.costs(work).least_bytes / 2


def test_float32_that_claims_bfloat16_is_invalid(monkeypatch):
    monkeypatch.setattr(running, "autocast_dtype", lambda precision: None)
    result = done("mlp_infer", precision="autocast_bfloat16")
    assert (result.status, result.reason_code) == (Status.INVALID, "wrong_precision")


@pytest.mark.parametrize("name", ["mlp_train", "gpt_train", "gpt_prefill", "gan_train", "diffusion_sample"])
def test_end_to_end_uploads_the_batch_at_every_call(name):
    backend = NumpyBackend("cpu")
    uploads = []
    original = backend.from_host
    backend.from_host = lambda array, dtype=None: uploads.append(1) or original(array, dtype)
    counts = {}
    for scope in Scope:
        kernel = support.kernel(*varied(name, scope=scope), backend)
        before = len(uploads)
        kernel.run()
        counts[scope] = len(uploads) - before
    assert counts[Scope.RESIDENT] == 0
    assert counts[Scope.END_TO_END] in {1, 2}


@pytest.mark.parametrize("name", ["gpt_decode", "mlp_infer", "mlp_train", "cnn_infer", "gan_generate"])
def test_a_compiled_kernel_gives_the_same_and_can_be_prepared(name, compiler):
    assert support.kernel(*smoke(name), CPU, "compile").prepare
    assert support.error_of(*smoke(name), CPU, "compile") < 1e-5


@pytest.mark.parametrize("name", ["mlp_infer", "mlp_train"])
def test_once_it_is_prepared_a_compiled_kernel_compiles_nothing_else(name, compiler):
    """Another shape would be another program, and its time would be that of compiling it, or of an eager call."""
    workload, work = smoke(name)
    larger = support.inputs(workload, workload.variant(bench_mlp.network(work), work["batch"] + 1))
    kernel = support.kernel(workload, work, CPU, "compile")
    kernel.prepare()
    kernel.run()
    for batch in kernel.inputs:
        kernel.inputs[batch] = CPU.from_host(larger[batch])
    with pytest.raises(RuntimeError, match="fail_on_recompile"):
        kernel.run()


def test_before_it_is_prepared_another_shape_is_another_program(eagerly):
    workload, work = smoke("mlp_infer")
    larger = support.inputs(workload, workload.variant(bench_mlp.network(work), work["batch"] + 1))
    kernel = support.kernel(workload, work, CPU, "compile")
    kernel.run()
    kernel.inputs["x"] = CPU.from_host(larger["x"])
    assert len(kernel.run()) == work["batch"] + 1


def test_without_a_compiler_compiled_rows_are_unsupported(monkeypatch):
    monkeypatch.setattr(running.shutil, "which", lambda name: None)
    result = done("mlp_infer", implementation="compile")
    assert (result.status, result.reason_code) == (Status.UNSUPPORTED, "no_compiler")


def test_triton_needs_a_c_compiler_and_a_gpu_that_is_not_too_old(monkeypatch):
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda name: name == "triton")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    cuda = torch.device("cuda")
    monkeypatch.setattr(running.shutil, "which", lambda name: name == "gcc")
    running.require_compiler(cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    with pytest.raises(running.Unsupported, match=r"7\.0"):
        running.require_compiler(cuda)
    monkeypatch.setattr(running.shutil, "which", lambda name: name == "g++")
    with pytest.raises(running.Unsupported, match="C compiler"):
        running.require_compiler(cuda)


def test_the_ninth_program_of_one_class_is_compiled_like_the_first(eagerly):
    """torch keeps eight programs for one piece of code and runs any other eagerly."""
    workload, work = smoke("mlp_infer")
    programs = []
    for batch in range(2, 11):
        some = workload.variant(bench_mlp.network(work), batch)
        kernel = support.kernel(workload, some, CPU, "compile")
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        kernel.prepare()
        programs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
    assert programs == [1] * 9


def test_code_that_cannot_be_compiled_whole_is_an_error(eagerly):
    broken = running.compiled(lambda x: torch._dynamo.graph_break() or x + 1, torch.device("cpu"), "compile")
    with pytest.raises(torch._dynamo.exc.Unsupported):
        broken(torch.ones(2))


@pytest.mark.parametrize(
    "name",
    [
        "mlp_train",
        "cnn_train",
        "cnn_infer",
        "gpt_train",
        "gpt_prefill",
        "gpt_decode",
        "gan_train",
        "gan_generate",
        "diffusion_sample",
        "attention",
        "softmax",
        "embedding_grad",
    ],
)
def test_every_compiled_kernel_is_whole_programs(name, eagerly):
    """Once it is prepared, another program would be an error; both looks are later."""
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert support.error_of(*smoke(name), CPU, "compile") < 1e-5
    # Of diffusion there are two: the noise was not made in inference mode, what the later steps begin with was. A GAN's
    # discriminator is one program for its own step, and one for the generator's; the generator is the third.
    programs = {"diffusion_sample": 2, "gan_train": 3}.get(name, 1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == programs


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        (name, implementation)
        for name, workload in MODELS.items()
        for implementation in ("max_autotune", "compile_cudagraph")
        if implementation in workload.kernels.get("torch:cuda", {})
    ],
)
def test_the_forms_for_cuda_ask_torch_for_whole_programs_in_their_mode(name, implementation, monkeypatch):
    """Inductor's own graphs are left out of max-autotune: a row of it shows what its kernels alone gain."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    on_cuda(name)[0].build(CPU, Case(smoke(name)[1], "torch", "cpu", implementation), support.inputs(*smoke(name)))
    mode = {"max_autotune": "max-autotune-no-cudagraphs", "compile_cudagraph": "default"}[implementation]
    functions = 2 if name == "gan_train" else 1
    assert asked == [{"mode": mode, "dynamic": False, "fullgraph": True}] * functions


def test_every_network_has_every_form_of_cuda_and_layers_of_one_kernel_have_those_that_fit():
    for name, workload in MODELS.items():
        forms = set(workload.kernels.get("torch:cuda", workload.kernels["torch"]))
        if isinstance(workload, workloads.ModelWorkload):
            assert set(workloads.TORCH_CUDA) <= forms
        elif name not in {"attention", "lstm"}:  # one call of a library, which torch.compile leaves as it is
            assert forms == {"default", "compile", "max_autotune"}


# --- cuDNN's search -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn_train", "cnn_infer", "gan_train", "gan_generate"])
def test_cudnn_searches_while_its_own_case_runs_and_for_no_other_case_of_the_process(name, monkeypatch):
    (made, work), seen = on_cuda(name), []
    conv = torch.conv_transpose2d if name == "gan_generate" else torch.conv2d
    called = "conv_transpose2d" if name == "gan_generate" else "conv2d"

    def noted(*args, **kwargs):
        seen.append(torch.backends.cudnn.benchmark)
        return conv(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, called, noted)
    assert support.error_of(made, work, CPU, "cudnn_benchmark") < 1e-5
    assert set(seen) == {True}
    assert not torch.backends.cudnn.benchmark, "the case is over"
    seen.clear()
    assert support.error_of(made, work, CPU) < 1e-5
    assert set(seen) == {False}


def test_the_search_is_over_though_its_case_failed(monkeypatch):
    made, work = on_cuda("cnn_infer")
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *args: 1 / 0)
    assert support.looked_at(made, work, CPU, "cudnn_benchmark").status is Status.ERROR
    assert not torch.backends.cudnn.benchmark


def test_a_search_is_timed_apart_from_the_first_call():
    made, work = on_cuda("cnn_infer")
    assert support.kernel(made, work, CPU, "cudnn_benchmark").prepare
    assert support.kernel(made, work, CPU).prepare is None


def test_every_compilation_begins_with_empty_caches(monkeypatch):
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "a")
    monkeypatch.setenv("TRITON_CACHE_DIR", "a")
    folders = []
    for _ in range(2):
        running.compiled(lambda x: x, torch.device("cpu"), "compile")
        folders += [os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"]]
    assert len({"a", *folders}) == 5
    assert not any(list(Path(folder).rglob("*")) for folder in folders)


def test_the_large_images_of_resnet50_are_for_torch_alone():
    network, batch = bench_cnn.PRESETS[Preset.FULL]
    workload = MODELS["cnn_train"]
    work = workload.variant(network, batch)
    with pytest.raises(running.Unsupported, match="224 pixel"):
        support.kernel(workload, work, NUMPY, host={})


# --- wrong on purpose -----------------------------------------------------------------------------------


def patch_causal(monkeypatch):
    original = gpt.Attention.__init__
    patched = lambda self, width, heads, *, causal, explicit=False: original(self, width, heads, causal=False)  # noqa: E731
    monkeypatch.setattr(gpt.Attention, "__init__", patched)


def patch_gelu(monkeypatch):
    gelu = gpt.functional.gelu
    monkeypatch.setattr(gpt.functional, "gelu", lambda x, approximate: gelu(x))


def patch_position(monkeypatch):
    original = gpt.GptModule.extend
    late = lambda self, memory, ids, start: original(self, memory, ids, start + (ids.shape[1] == 1))  # noqa: E731
    monkeypatch.setattr(gpt.GptModule, "extend", late)


def patch_rate(monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, weight_decay=0.5))


def patch_no_step(monkeypatch):
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)


def patch_norm(monkeypatch):
    """Scale and shift alone."""
    affine = lambda self, x: x * self.weight[:, None, None] + self.bias[:, None, None]  # noqa: E731
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", affine)


def patch_ghost_norm(monkeypatch):
    """Normalise each half of the batch by itself."""
    original = torch.nn.BatchNorm2d.forward
    halves = lambda self, x: torch.cat([original(self, half) for half in x.chunk(2)])  # noqa: E731
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", halves)


def patch_averages(monkeypatch):
    """Leave the running averages where they are."""
    forgetful = lambda self, x: torch.nn.functional.batch_norm(  # noqa: E731
        x, None, None, self.weight, self.bias, training=True
    )
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", forgetful)


def patch_read(monkeypatch):
    """Go back to the first token, and never read another prompt than the first."""
    original, read = generation.Text.read, []
    once = lambda self: self.begin_again() if self in read else read.append(self) or original(self)  # noqa: E731
    monkeypatch.setattr(generation.Text, "read", once)


def patch_tanh(monkeypatch):
    monkeypatch.setattr(dcgan.torch, "tanh", lambda x: x)


def patch_judge(monkeypatch):
    """Let the discriminator learn from its own fakes only."""
    original = dcgan.GanTrainer._loss
    monkeypatch.setattr(dcgan.GanTrainer, "_loss", lambda self, images, target: original(self, images, target * 0.9))


def patch_gates(monkeypatch):
    """Add all that a block computes to the stream."""
    original = dit.Modulation.forward

    def open_gates(self, conditioning):
        parts = original(self, conditioning)
        return tuple(torch.ones_like(part) if i % 3 == 2 else part for i, part in enumerate(parts))

    monkeypatch.setattr(dit.Modulation, "forward", open_gates)


def patch_sigma(monkeypatch):
    """Predict the noise alone."""
    original = dit.DitModule.unpatchify

    def without_sigma(self, patches):
        noise, sigma = original(self, patches).chunk(2, dim=1)
        return torch.cat([noise, 0 * sigma], dim=1)

    monkeypatch.setattr(dit.DitModule, "unpatchify", without_sigma)


def patch_labels(monkeypatch):
    """Ask for the null class, as guidance does for every second image."""
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda self, ids: self.weight[-1].expand(len(ids), -1))


WRONG = {
    "a language model that sees the future": ("gpt_train", patch_causal),
    "a prompt read without a mask": ("gpt_prefill", None),
    "another GELU": ("gpt_train", patch_gelu),
    "a key written one place too late": ("gpt_decode", patch_position),
    "another weight decay": ("gpt_train", patch_rate),
    "weights that stand still": ("mlp_train", patch_no_step),
    "no batch normalisation": ("cnn_train", patch_norm),
    "batches normalised half by half": ("cnn_train", patch_ghost_norm),
    "running averages that stand still": ("cnn_train", patch_averages),
    "a GAN's running averages that stand still": ("gan_train", patch_averages),
    "a prompt that is read once for all": ("gpt_decode", patch_read),
    "images without tanh": ("gan_generate", patch_tanh),
    "a softened label": ("gan_train", patch_judge),
    "blocks without gates": ("diffusion_sample", patch_gates),
    "a network without sigma": ("diffusion_sample", patch_sigma),
    "one denoising step without sigma": ("diffusion_denoise", patch_sigma),
    "images of no class": ("diffusion_denoise", patch_labels),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_kernel_turns_red(wrong, monkeypatch):
    name, patch = WRONG[wrong]
    if patch is None:
        original = gpt.functional.scaled_dot_product_attention
        unmasked = lambda q, k, v, **options: original(q, k, v)  # noqa: E731
        monkeypatch.setattr(gpt.functional, "scaled_dot_product_attention", unmasked)
    else:
        patch(monkeypatch)
    assert done(name).status is Status.INVALID


def test_a_wrong_token_turns_red_even_with_right_logits():
    kernel, workload, work, expected = built("gpt_decode")
    answer = support.answer(kernel, CPU)
    workload.verify(work, expected, answer)
    answer["tokens"][0, -1] = (answer["tokens"][0, -1] + 1) % work["vocabulary"]
    with pytest.raises(WrongAnswer, match="generated token"):
        workload.verify(work, expected, answer)


def test_a_wrong_first_token_turns_red_even_with_right_logits():
    kernel, workload, work, expected = built("gpt_decode")
    answer = support.answer(kernel.probes["time_to_first_token"], CPU)
    assert answer["first"].shape == (work["batch"], 1)
    workload.verify(work, expected, answer)
    answer["first"][-1] = (answer["first"][-1] + 1) % work["vocabulary"]
    with pytest.raises(WrongAnswer, match="generated token"):
        workload.verify(work, expected, answer)


def test_logits_that_belong_to_other_tokens_turn_red():
    kernel, workload, work, expected = built("gpt_decode")
    answer = support.answer(kernel, CPU)
    with pytest.raises(WrongAnswer):
        workload.verify(work, expected, answer | {"logits": answer["logits"][::-1]})


def test_from_few_prompts_come_few_texts(monkeypatch):
    """Rounding may part two texts of one prompt where two tokens are about as likely, and that is rare."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    workload, work = smoke("gpt_decode")
    work = workload.variant(bench_gpt.network(work), 16)
    host, expected = support.sampled(workload, work)
    assert len(np.unique(host["x"], axis=0)) == 2
    answer = support.answer(support.kernel(workload, work, NUMPY, host=host), NUMPY)
    workload.verify(work, expected, answer)
    assert len(np.unique(answer["tokens"], axis=0)) == 2
    answer["tokens"][:, -1] = np.arange(16)
    with pytest.raises(WrongAnswer, match="2 prompts led to 16 texts"):
        workload.verify(work, expected, answer)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("backend", [NUMPY, CPU], ids=lambda backend: backend.name)
def test_a_check_of_few_samples_runs_the_whole_batch(name, backend, monkeypatch):
    """They are written over the batch, each many times: what is checked is no smaller than what is timed."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    workload = MODELS[name]
    network, batch = workload.presets[Preset.SMOKE]
    work = workload.variant(network, max(batch, 8))
    assert workload.samples(work) < work["batch"]
    kernel = support.kernel(workload, work, backend)
    seen = []

    def run():
        shown = kernel.run()
        seen.append(len(shown.logits))
        return shown

    support.before_and_after(replace(kernel, run=run), workload, work, backend)
    assert set(seen) == {work["batch"]}
    host, expected = support.sampled(workload, work)
    assert len(np.unique(host[workload.per_sample[0]], axis=0)) == workload.samples(work)
    answer = support.answer(support.kernel(workload, work, backend, host=host), backend)
    workload.verify(work, expected, answer)
    for wrong in ("logits", "loss"):
        with pytest.raises(WrongAnswer):
            workload.verify(work, expected, answer | {wrong: answer[wrong] * 1.1})


@pytest.mark.parametrize("implementation", ["default", "channels_last", "compile"])
def test_batch_normalisation_of_a_batch_of_few_images_is_that_of_the_images(implementation, monkeypatch, eagerly):
    """But for the unbiased variance, which knows how many there are."""
    monkeypatch.setattr(batches, "CHECK_FLOPS", 0)
    workload, work = smoke("cnn_train")
    assert workload.samples(work) < work["batch"]
    assert support.error_of(workload, work, CPU, implementation) < 1e-5
    patch_ghost_norm(monkeypatch)
    assert support.looked_at(workload, work, CPU, implementation).status is Status.INVALID


@pytest.mark.parametrize("name", TRAINED)
def test_any_gradient_that_is_zero_turns_red(name):
    """However small its share of all gradients is: a bias, a norm's weight."""
    kernel, workload, work, expected = built(name, NUMPY)
    answer = support.answer(kernel, NUMPY)
    workload.verify(work, expected, answer)
    for gradient in (other for other in answer if other.startswith("gradient.")):
        with pytest.raises(WrongAnswer):
            workload.verify(work, expected, answer | {gradient: np.zeros_like(answer[gradient])})


@pytest.mark.parametrize("kind", ["gradient", "weight"])
def test_an_output_that_is_missing_turns_red(kind):
    kernel, workload, work, expected = built("mlp_train")
    answer = support.answer(kernel, CPU)
    del answer[f"{kind}.layers.0.weight"]
    with pytest.raises(WrongAnswer, match="missing"):
        workload.verify(work, expected, answer)


# --- what is timed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_the_answer_after_hundreds_of_steps_is_still_the_first_one(name):
    """Weights stay finite and normal, and the check begins where it began before."""
    kernel, *_ = built(name, NUMPY)
    first = support.answer(kernel, NUMPY)
    with np.errstate(all="raise", under="ignore"):
        for _ in range(300):
            step = kernel.run()
    assert np.isfinite(step.loss).all()
    gradients = np.concatenate([np.abs(gradient).ravel() for gradient in step.gradients.values()])
    assert (gradients[gradients > 0] < np.finfo(np.float32).tiny).mean() < 0.01, "denormal gradients slow a CPU down"
    again = support.answer(kernel, NUMPY)
    assert set(again) == set(first)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_all_that_is_timed_of_every_workload_is_looked_at(workload):
    """Every probe too: none is without inputs of its own."""
    for backend in (NUMPY, CPU):
        kernel = support.kernel(*smoke(workload.name), backend)
        for timed in (kernel, *kernel.probes.values()):
            assert timed.inputs
            assert timed.inputs is kernel.inputs
            assert timed.answer is None
        host = support.inputs(*smoke(workload.name))
        drawn = {name for name in host if not name.startswith("weights.")}
        assert set(kernel.inputs) - set(host) == set()
        assert drawn & set(kernel.inputs)
        assert UNCHECKED_TIMING not in done(workload.name, backend).flags


def static_kernel(work, host):
    """Return the kernel of steps that a compiler or a capture could take, on a CPU as they are."""
    from benchmarks.nn.modules.generation import StaticGeneration

    weights = {name: CPU.from_host(array) for name, array in host.items() if name.startswith("weights.")}
    weights = {name.removeprefix("weights."): tensor for name, tensor in weights.items()}
    loop = StaticGeneration(work, bench_gpt.network(work), weights, CPU.from_host(host["x"]), "eager")
    return generation.generation_kernel(loop)


@pytest.mark.parametrize("implementation", ["default", "static"])
def test_the_probe_of_one_token_goes_through_all_positions_and_starts_again(implementation):
    workload, work = smoke("gpt_decode")
    host = support.inputs(workload, work)
    kernel = static_kernel(work, host) if implementation == "static" else support.kernel(workload, work, CPU, host=host)
    steps = work["new"] - 1
    tokens = [kernel.probes["inter_token_latency"].run() for _ in range(2 * steps)]
    generated = support.answer(kernel, CPU)["tokens"]
    for i, token in enumerate(tokens):
        assert np.array_equal(token[:, 0], generated[:, 1 + i % steps])
    assert np.array_equal(kernel.run()[:, 0], generated[:, -1])
    assert support.before_and_after(kernel, workload, work, CPU) < 1e-5


def lazily(kernel, metric, run):
    """Return a kernel one of whose probes, or itself ("time"), runs something else."""
    if metric == "time":
        return replace(kernel, run=run)
    return replace(kernel, probes={**kernel.probes, metric: replace(kernel.probes[metric], run=run)})


def from_memory(run, calls):
    """Return what makes so many calls and then gives back what they returned, in turn."""
    known = []

    def recall():
        known.append(run() if len(known) < calls else known[len(known) % calls])
        return known[-1]

    return recall


@pytest.mark.parametrize("backend", [NUMPY, CPU], ids=lambda backend: backend.name)
@pytest.mark.parametrize("metric", ["time", "time_to_first_token", "inter_token_latency"])
def test_each_thing_that_is_timed_of_a_generation_is_found_if_it_knows_its_answers_by_heart(metric, backend):
    kernel, workload, work, _ = built("gpt_decode", backend)
    assert support.before_and_after(kernel, workload, work, backend) < 1e-5
    kernel, *_ = built("gpt_decode", backend)
    each = {"time": kernel, **kernel.probes}[metric]
    lazy = lazily(kernel, metric, from_memory(each.run, each.calls))
    with pytest.raises(WrongAnswer):
        support.before_and_after(lazy, workload, work, backend)


def test_training_moves_at_least_what_the_forward_pass_and_the_optimiser_touch():
    """Forward: a read. SGD: a read and a write, and of the gradient a write and a read. Adam: both averages too."""
    numbers = {"mlp_train": 64 * 128 + 128 + 128 * 10 + 10}
    for name, times in (("mlp_train", 5), ("cnn_train", 5), ("gpt_train", 9), ("gan_train", 9)):
        workload, work = smoke(name)
        host = workload.inputs(work, generator(work.case_id, 0))
        weights = {key: array for key, array in host.items() if key.startswith("weights.") and "running" not in key}
        trained = sum(array.size for array in weights.values())
        assert trained == numbers.get(name, trained)
        assert workload.costs(work).least_bytes == times * 4 * trained


def test_decode_rates_leave_the_prompt_out():
    """Tokens are those after the first; the time per output token divides by the steps of the loop."""
    workload, work = smoke("gpt_decode")
    costs = workload.costs(work)
    assert costs.amounts == {"tokens": 4.0 * 15, "steps": 15.0}
    network = bench_gpt.network(work)
    assert costs.bytes == sum(network.extend_bytes(4, start, 4) for start in range(16, 31))
    assert costs.flops == sum(4 * network.extend_flops(1, start) for start in range(16, 31))


@pytest.mark.parametrize("implementation", ["default", "compile"])
def test_only_the_eager_form_is_probed_for_the_time_to_the_first_token(implementation, monkeypatch):
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    kernel, *_ = built("gpt_decode", implementation=implementation)
    probes = {"default": {"time_to_first_token", "inter_token_latency"}, "compile": {"inter_token_latency"}}
    assert set(kernel.probes) == probes[implementation]


QUICK_LOOK = Settings(
    Durations(budget=0.02, least=0.01, warmup=0.01, warmup_cap=0.02), seed=0, last_level_cache=1 << 25
)


def test_a_generation_becomes_rows_of_its_own_metrics():
    """Time per output token is the loop's time over its steps; first token and single steps are series of their own."""
    workload, work = smoke("gpt_decode")
    measured = run_case(Case(work, "numpy", "cpu"), workload, NUMPY, QUICK_LOOK)
    rows = {row.metric: row for row in rows_of_case(Run("run-a", "2001-01-01T00:00:00+00:00", "a"), [measured])}
    assert rows["time_per_output_token"].value == pytest.approx(rows["time"].value / 15)
    assert rows["token_rate"].value == pytest.approx(4 * 15 / rows["time"].value)
    assert {"time_to_first_token", "inter_token_latency", "bandwidth"} <= set(rows)
    assert rows["inter_token_latency"].p90 >= rows["inter_token_latency"].value


def test_compiling_is_timed_apart_from_the_first_call(compiler):
    workload, work = smoke("softmax")
    values = run_case(Case(work, "torch", "cpu", "compile"), workload, CPU, QUICK_LOOK).values
    assert values["compile_time"] > values["first_call"] > 0


def test_what_a_cache_holds_is_flagged_so_that_no_bandwidth_is_claimed_of_memory(monkeypatch):
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {1: 1e3, 2: 1e6})
    assert built("gpt_decode", NUMPY)[0].flags == ("fits_l2",)
    assert built("layernorm", NUMPY)[0].flags == ("fits_l2",)
    assert built("mlp_train", NUMPY)[0].flags == ()
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {1: 1e3, 2: 3e5})
    assert built("gpt_decode", NUMPY)[0].flags == ("near_cache",)
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {2: 1e4})
    assert built("gpt_decode", NUMPY)[0].flags == ()


# --- the plan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_expands_to_cases_of_their_own_with_costs(workload, preset):
    targets = [Target("numpy", "array", "cpu"), Target("torch", "torch", "cpu"), Target("torch", "torch", "cuda:0")]
    cases = list(expand(workload, preset, targets, lambda _: MACHINE))
    assert len(set(cases)) == len(cases)
    for case in cases:
        costs = workload.costs(case.work)
        assert (costs.flops or costs.bytes) > 0
        assert workload.footprint(case.work) > 0
        assert workload.tolerance(case.work).high < 0.1
        assert case.implementation != "cudagraph" or case.device_type == "cuda"


def test_only_standard_and_full_cross_implementations_precisions_and_batches():
    targets = [Target("torch", "torch", "cuda:0")]
    counts = {preset: len(list(expand(MODELS["gpt_train"], preset, targets, lambda _: MACHINE))) for preset in Preset}
    assert counts[Preset.SMOKE] == 2
    assert counts[Preset.QUICK] == 1
    left_out = {name for name, workload in MODELS.items() if not list(workload.works(Preset.SMOKE, MACHINE))}
    assert left_out == {"cnn_infer", "gan_generate", "diffusion_denoise", "softmax", "embedding"}
    cases = list(expand(MODELS["gpt_train"], Preset.STANDARD, targets, lambda _: MACHINE))
    cpu = expand(MODELS["gpt_train"], Preset.STANDARD, [Target("torch", "torch", "cpu")], lambda _: MACHINE)
    assert {case.implementation for case in cpu} == {"default", "explicit", "tuned"}
    own = {case.implementation for case in cases if case.work["batch"] == 64 and case.work.precision == "ieee"}
    assert own == {"default", "explicit", "compile", "cudagraph", "compile_cudagraph"}
    assert {case.work["batch"] for case in cases} == {1, 16, 64}
    full = expand(MODELS["gpt_train"], Preset.FULL, targets, lambda _: MACHINE)
    assert {case.work["batch"] for case in full} == {1, 4, 16, 64, 256}
    assert {case.work.precision for case in cases} == {"ieee", "tf32", "autocast_bfloat16", "autocast_float16"}
    assert {case.work.scope for case in cases} == set(Scope)


@pytest.mark.parametrize("preset", [Preset.STANDARD, Preset.FULL])
@pytest.mark.parametrize(
    ("name", "narrow"),
    [("gpt_decode", ("bfloat16", "ieee")), ("diffusion_sample", ("float32", "autocast_bfloat16"))],
)
def test_a_loop_in_one_program_is_measured_at_the_networks_own_size_in_every_format(preset, name, narrow):
    cases = expand(MODELS[name], preset, [Target("jax", "jax", "cpu")], lambda _: MACHINE)
    found = [case.work for case in cases if case.implementation == "scan"]
    assert {(work.dtype, work.precision) for work in found} == {("float32", "ieee"), ("float32", "tf32"), narrow}
    assert {work["batch"] for work in found} == {MODELS[name].presets[preset][1]}
    assert {work.scope for work in found} == {Scope.RESIDENT}


def test_pytorchs_tuned_form_on_a_cpu_makes_the_calls_of_the_default(monkeypatch):
    """Only the environment of its process differs, and only glibc knows the variables in it."""
    tuned = workloads.keeping_memory(lambda *given: given)
    monkeypatch.setattr(workloads.platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert tuned("backend", "work", "host") == ("default", "backend", "work", "host")
    monkeypatch.setattr(workloads.platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(Unsupported, match="only glibc"):
        tuned("backend", "work", "host")


def test_standard_measures_pytorchs_tuned_form_on_a_cpu_where_it_gains():
    target = Target("torch", "torch", "cpu")
    cases = [
        case for workload in MODELS.values() for case in expand(workload, Preset.STANDARD, [target], lambda _: MACHINE)
    ]
    tuned = {case.work.workload for case in cases if case.implementation == "tuned"}
    assert set(MODELS) - tuned == {"attention", "mlp_infer"}


@pytest.mark.parametrize("preset", list(Preset))
def test_a_cpu_compiles_all_networks_in_full_and_those_that_gain_in_standard(preset):
    target = Target("torch", "torch", "cpu")
    compiled = {
        workload.name
        for workload in MODELS.values()
        if isinstance(workload, workloads.ModelWorkload)
        for case in expand(workload, preset, [target], lambda _: MACHINE)
        if case.implementation == "compile"
    }
    networks = {name for name, workload in MODELS.items() if isinstance(workload, workloads.ModelWorkload)}
    gain = {"cnn_train", "cnn_infer", "gan_train", "gan_generate"}
    assert compiled == {Preset.FULL: networks, Preset.STANDARD: gain}.get(preset, set())


FORMS = {"compile_cudagraph", "max_autotune", "cudnn_benchmark"}


@pytest.mark.parametrize("preset", list(Preset))
def test_what_is_slow_to_prepare_is_in_standard_and_full_and_autotuning_in_full_alone(workload, preset):
    """On CUDA alone; at the network's own batch size, on resident data, in every format but float64."""
    targets = [Target("torch", "torch", "cuda:0"), Target("torch", "torch", "cpu"), Target("torch", "torch", "xpu:0")]
    found = [case for case in expand(workload, preset, targets, lambda _: MACHINE) if case.implementation in FORMS]
    offered = FORMS & set(workload.kernels.get("torch:cuda", {}))
    of_preset = {Preset.FULL: FORMS, Preset.STANDARD: FORMS - {"max_autotune"}}.get(preset, set())
    assert {case.implementation for case in found} == offered & of_preset
    assert {case.device for case in found} <= {"cuda:0"}
    for case in found:
        assert case.work.scope is Scope.RESIDENT
        assert case.work.dtype != "float64"
        if isinstance(workload, workloads.ModelWorkload):
            assert case.work["batch"] == workload.presets[preset][1]
    if "compile_cudagraph" in offered & of_preset:
        formats = {(case.work.dtype, case.work.precision) for case in found}
        assert {("float32", "ieee"), ("float32", "tf32")} < formats, "narrower arithmetic has other kernels"


def test_only_convolutional_networks_search_for_their_convolutions():
    searching = {
        name for name, workload in MODELS.items() if "cudnn_benchmark" in workload.kernels.get("torch:cuda", {})
    }
    assert searching == {"cnn_train", "cnn_infer", "gan_train", "gan_generate"}
