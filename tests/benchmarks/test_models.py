"""The workloads of the suite `model`: right on every backend, and red when anything in them is wrong."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench_core.backends.cupy import CupyBackend
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import WrongAnswer
from bench_core.plan.expansion import expand
from bench_core.records import Case, Machine, Preset, Run, Scope, Status, Target
from bench_core.results.rows import rows_of_case
from bench_core.timing.case import Settings, generator, run_case
from bench_core.timing.sampling import Durations
from benchmarks import bench_cnn, bench_gpt, bench_mlp, caches
from benchmarks.nn import training, workloads
from tests.standin.install import cupy_module
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

torch = pytest.importorskip("torch")

from bench_core.backends.torch import TorchBackend  # noqa: E402
from benchmarks.nn.modules import dcgan, dit, gpt, running  # noqa: E402

MACHINE = Machine(last_level_cache=1 << 25, cores=2)
CHECK = Settings(Durations(), seed=0, last_level_cache=1 << 25, check_only=True)
CPU = TorchBackend("cpu")


@pytest.fixture(params=MODELS)
def workload(request):
    return MODELS[request.param]


def smoke(name, dtype="float32"):
    """Return a workload and its smallest work in a dtype, whether the preset smoke measures it or not."""
    workload = MODELS[name]
    if isinstance(workload, workloads.ModelWorkload):
        return workload, workload.variant(*workload.presets[Preset.SMOKE], dtype=dtype)
    shape = zip(workload.axes, workload.sizes[Preset.SMOKE], strict=True)
    return workload, workload.work("tiny", dtype, **dict(shape))


def done(name, backend=CPU, implementation="default", dtype="float32", **kind):
    """Build and check a smoke case, varied by `kind` (precision, scope)."""
    workload, work = smoke(name, dtype)
    if kind:
        params = dict(work.params)
        work = workload.work(work.size, dtype, **params, **kind)
    return run_case(Case(work, backend.name, backend.device, implementation), workload, backend, CHECK)


def built(name, backend=CPU, implementation="default", dtype="float32"):
    """Return a smoke kernel with its workload, work and inputs."""
    workload, work = smoke(name, dtype)
    host = workload.inputs(work, generator(work.case_id, 0))
    return workload.build(backend, Case(work, backend.name, backend.device, implementation), host), workload, work, host


def test_every_workload_is_right_in_both_formats_on_numpy_and_torch(workload):
    for work in (smoke(workload.name, dtype)[1] for dtype in ("float32", "float64")):
        for backend in (NumpyBackend("cpu"), CPU):
            result = run_case(Case(work, backend.name, "cpu"), workload, backend, CHECK)
            assert result.status is Status.OK, f"{backend.name} {work.dtype}: {result.reason}"
            assert result.rel_error < {"float32": 1e-5, "float64": 1e-13}[work.dtype]


def test_every_workload_is_right_on_the_stand_in_for_cupy(workload):
    """The same array code, on arrays that refuse NumPy, implicit conversion and whatever CuPy lacks."""
    _, work = smoke(workload.name)
    with cupy_module():
        result = run_case(Case(work, "cupy", "cuda:0"), workload, CupyBackend("cuda:0"), CHECK)
    assert result.status is Status.OK, result.reason


@pytest.mark.parametrize("name", ["gpt_train", "attention"])
def test_explicit_attention_is_right(name):
    assert done(name, implementation="explicit").status is Status.OK


@pytest.mark.parametrize("name", ["cnn_train", "cnn_infer"])
def test_channels_last_is_right(name):
    assert done(name, implementation="channels_last").status is Status.OK


@pytest.mark.parametrize(
    "name",
    [
        *("mlp_train", "cnn_infer", "gpt_train", "gpt_prefill", "gpt_decode", "gan_train"),
        *("diffusion_sample", "diffusion_denoise"),
    ],
)
def test_bfloat16_autocast_is_right_and_is_bfloat16(name):
    """The error lies between the bounds: not too large, and too large for float32."""
    result = done(name, precision="autocast_bfloat16")
    assert result.status is Status.OK, result.reason


@pytest.mark.parametrize("name", ["mlp_train", "gpt_train", "mlp_infer"])
def test_float16_autocast_scales_the_loss_and_unscales_the_gradients(name):
    result = done(name, precision="autocast_float16")
    assert result.status is Status.OK, result.reason


@pytest.mark.parametrize("name", ["gpt_prefill", "gpt_decode"])
def test_models_are_served_with_bfloat16_weights_by_torch_alone(name):
    assert done(name, dtype="bfloat16").status is Status.OK
    assert done(name, NumpyBackend("cpu"), dtype="bfloat16").status is Status.UNSUPPORTED
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
def test_end_to_end_uploads_the_batch_at_every_call(name, monkeypatch):
    backend = NumpyBackend("cpu")
    uploads = []
    original = backend.from_host
    backend.from_host = lambda array, dtype=None: uploads.append(1) or original(array, dtype)
    counts = {}
    for scope in Scope:
        workload, work = smoke(name)
        work = workload.work(work.size, "float32", **dict(work.params), scope=scope)
        kernel = workload.build(backend, Case(work, "numpy", "cpu"), workload.inputs(work, generator(work.case_id, 0)))
        before = len(uploads)
        kernel.run()
        counts[scope] = len(uploads) - before
    assert counts[Scope.RESIDENT] == 0
    assert counts[Scope.END_TO_END] in {1, 2}


@pytest.mark.parametrize("name", ["gpt_decode", "mlp_infer"])
def test_a_compiled_kernel_gives_the_same_and_can_be_prepared(name):
    try:
        running.require_compiler(torch.device("cpu"))
    except running.Unsupported as error:
        pytest.skip(str(error))
    kernel, workload, work, host = built(name, implementation="compile")
    kernel.prepare()
    answer = kernel.answer() if kernel.answer else {"out": kernel.run()}
    assert workload.verify(work, host, {name: CPU.to_host(array) for name, array in answer.items()}) < 1e-5


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


def test_the_ninth_program_of_one_class_is_compiled_like_the_first(monkeypatch):
    """torch keeps eight programs for one piece of code and runs any other eagerly."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", partial(original, backend="eager"))  # traced, not compiled: fast
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    workload, work = smoke("mlp_infer")
    programs = []
    for batch in range(2, 11):
        some = workload.variant(bench_mlp.network(work), batch)
        host = workload.inputs(some, generator(some.case_id, 0))
        kernel = workload.build(CPU, Case(some, "torch", "cpu", "compile"), host)
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        kernel.prepare()
        programs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
    assert programs == [1] * 9


def test_code_that_cannot_be_compiled_whole_is_an_error(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    broken = running.compiled(lambda x: torch._dynamo.graph_break() or x + 1, torch.device("cpu"))
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
        "gan_generate",
        "diffusion_sample",
        "attention",
        "softmax",
        "embedding_grad",
    ],
)
def test_every_compiled_kernel_is_one_whole_program(name, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    result = done(name, implementation="compile")
    assert result.status is Status.OK, result.reason


def test_every_compilation_begins_with_empty_caches(monkeypatch):
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "a")
    monkeypatch.setenv("TRITON_CACHE_DIR", "a")
    folders = []
    for _ in range(2):
        running.compiled(lambda x: x, torch.device("cpu"))
        folders += [os.environ["TORCHINDUCTOR_CACHE_DIR"], os.environ["TRITON_CACHE_DIR"]]
    assert len({"a", *folders}) == 5
    assert not any(list(Path(folder).rglob("*")) for folder in folders)


def test_the_large_images_of_resnet50_are_for_torch_alone():
    network, batch = bench_cnn.PRESETS[Preset.FULL]
    workload = MODELS["cnn_train"]
    work = workload.variant(network, batch)
    with pytest.raises(running.Unsupported, match="224 pixel"):
        workload.build(NumpyBackend("cpu"), Case(work, "numpy", "cpu"), {})


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
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", lambda self, x: x)


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
    assert done(name).status in {Status.INVALID, Status.ERROR}


def test_a_wrong_token_turns_red_even_with_right_logits():
    kernel, workload, work, host = built("gpt_decode")
    answer = {name: CPU.to_host(array) for name, array in kernel.answer().items()}
    workload.verify(work, host, answer)
    answer["tokens"][0, -1] = (answer["tokens"][0, -1] + 1) % work["vocabulary"]
    with pytest.raises(Exception, match="generated token"):
        workload.verify(work, host, answer)


@pytest.mark.parametrize("name", ["mlp_train", "gpt_train"])
def test_the_first_step_on_the_whole_batch_is_checked_and_taken_once(name, monkeypatch):
    """The check cuts the batch; the first call of `run` is kept for it, and no step is added."""
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)
    kernel, workload, work, host = built(name, NumpyBackend("cpu"))
    kernel.run()
    kernel.run()  # the weights have moved
    answer = {name: np.array(array) for name, array in kernel.answer().items()}
    assert len(answer["whole.logits"]) == len(answer["logits"]) < work["batch"]
    assert workload.verify(work, host, answer) < 1e-5
    answer["whole.logits"] = answer["whole.logits"] * 1.1
    with pytest.raises(WrongAnswer):
        workload.verify(work, host, answer)


@pytest.mark.parametrize("implementation", ["default", "compile"])
def test_batch_normalisation_is_checked_on_the_whole_batch_against_the_eager_module(implementation, monkeypatch):
    monkeypatch.setattr(training, "CHECK_FLOPS", 0)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(running, "require_compiler", lambda device: None)
    kernel, workload, work, host = built("cnn_train", implementation=implementation)
    kernel.run()
    answer = {name: CPU.to_host(array) for name, array in kernel.answer().items()}
    assert workload.verify(work, host, answer) < 1e-5
    whole = {name for name in answer if name.startswith("whole.")}
    assert whole == (set() if implementation == "default" else {"whole.logits", "whole.eager"})


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gan_train", "gpt_train"])
def test_any_gradient_that_is_zero_turns_red(name):
    """However small its share of all gradients is: a bias, a norm's weight."""
    kernel, workload, work, host = built(name, NumpyBackend("cpu"))
    answer = {name: np.array(array) for name, array in kernel.answer().items()}
    workload.verify(work, host, answer)
    for gradient in (other for other in answer if other.startswith("gradient.")):
        with pytest.raises(WrongAnswer):
            workload.verify(work, host, answer | {gradient: np.zeros_like(answer[gradient])})


def test_a_gradient_that_is_missing_turns_red():
    kernel, workload, work, host = built("mlp_train")
    answer = {name: CPU.to_host(array) for name, array in kernel.answer().items()}
    del answer["gradient.layers.0.weight"]
    with pytest.raises(Exception, match="missing"):
        workload.verify(work, host, answer)


# --- what is timed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp_train", "cnn_train", "gpt_train", "gan_train"])
def test_the_answer_after_hundreds_of_steps_is_still_the_first_one(name):
    """Weights stay finite and normal, and the check begins where it began before."""
    kernel, *_ = built(name, NumpyBackend("cpu"))
    first = {name: np.array(array) for name, array in kernel.answer().items()}
    with np.errstate(all="raise", under="ignore"):
        for _ in range(300):
            step = kernel.run()
    assert np.isfinite(step.loss).all()
    gradients = np.concatenate([np.abs(gradient).ravel() for gradient in step.gradients.values()])
    assert (gradients[gradients > 0] < np.finfo(np.float32).tiny).mean() < 0.01, "denormal gradients slow a CPU down"
    again = kernel.answer()
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("implementation", ["default", "static"])
def test_the_probe_of_one_token_goes_through_all_positions_and_starts_again(implementation):
    workload, work = smoke("gpt_decode")
    if implementation == "default":
        kernel, *_ = built("gpt_decode")
    else:
        from benchmarks.nn.generation import generation_kernel
        from benchmarks.nn.modules.generation import StaticGeneration

        host = workload.inputs(work, generator(work.case_id, 0))
        weights = {k.removeprefix("weights."): CPU.from_host(v) for k, v in host.items() if k.startswith("weights.")}
        loop = StaticGeneration(work, bench_gpt.network(work), weights, CPU.from_host(host["x"]), "eager")
        kernel = generation_kernel(loop, 2)
    steps = work["new"] - 1
    tokens = [kernel.probes["inter_token_latency"]() for _ in range(2 * steps)]
    generated = kernel.answer()["tokens"]
    for i, token in enumerate(tokens):
        assert torch.equal(token[:, 0], generated[:, 1 + i % steps])
    assert torch.equal(kernel.run()[:, 0], generated[:, -1])


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
    measured = run_case(Case(work, "numpy", "cpu"), workload, NumpyBackend("cpu"), QUICK_LOOK)
    rows = {row.metric: row for row in rows_of_case(Run("run-a", "2001-01-01T00:00:00+00:00", "a"), [measured])}
    assert rows["time_per_output_token"].value == pytest.approx(rows["time"].value / 15)
    assert rows["token_rate"].value == pytest.approx(4 * 15 / rows["time"].value)
    assert {"time_to_first_token", "inter_token_latency", "bandwidth"} <= set(rows)
    assert rows["inter_token_latency"].p90 >= rows["inter_token_latency"].value


def test_compiling_is_timed_apart_from_the_first_call():
    try:
        running.require_compiler(torch.device("cpu"))
    except running.Unsupported as error:
        pytest.skip(str(error))
    workload, work = smoke("softmax")
    values = run_case(Case(work, "torch", "cpu", "compile"), workload, CPU, QUICK_LOOK).values
    assert values["compile_time"] > values["first_call"] > 0


def test_what_a_cache_holds_is_flagged_so_that_no_bandwidth_is_claimed_of_memory(monkeypatch):
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {1: 1e3, 2: 1e6})
    assert built("gpt_decode", NumpyBackend("cpu"))[0].flags == ("fits_l2",)
    assert built("layernorm", NumpyBackend("cpu"))[0].flags == ("fits_l2",)
    assert built("mlp_train", NumpyBackend("cpu"))[0].flags == ()
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {1: 1e3, 2: 3e5})
    assert built("gpt_decode", NumpyBackend("cpu"))[0].flags == ("near_cache",)
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {2: 1e4})
    assert built("gpt_decode", NumpyBackend("cpu"))[0].flags == ()


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
    assert {case.implementation for case in cpu} == {"default", "explicit"}
    own = {case.implementation for case in cases if case.work["batch"] == 64 and case.work.precision == "ieee"}
    assert own == {"default", "explicit", "compile", "cudagraph"}
    assert {case.work["batch"] for case in cases} == {1, 16, 64}
    full = expand(MODELS["gpt_train"], Preset.FULL, targets, lambda _: MACHINE)
    assert {case.work["batch"] for case in full} == {1, 4, 16, 64, 256}
    assert {case.work.precision for case in cases} == {"ieee", "tf32", "autocast_bfloat16", "autocast_float16"}
    assert {case.work.scope for case in cases} == set(Scope)
