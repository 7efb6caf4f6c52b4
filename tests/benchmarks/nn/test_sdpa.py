"""Which of torch's attention kernels run is asked when a kernel is built, and told in its library and flags."""

from types import SimpleNamespace

import pytest

from bench_core.records import Preset
from bench_core.timing.case import generator
from bench_core.workload import Kernel
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import MODELS

torch = pytest.importorskip("torch")
from bench_core.backends.torch import TorchBackend  # noqa: E402
from benchmarks.nn.modules import sdpa  # noqa: E402

CPU = TorchBackend("cpu")
MATH, FLASH, EFFICIENT, CUDNN = range(4)  # torch.nn.attention.SDPBackend
ATTENDING = ("attention", "gpt_train", "gpt_prefill", "gpt_decode", "diffusion_sample")
H100 = SimpleNamespace(device="cuda:0", library="CUDA 13.0 cuDNN 91900")


def built(name, implementation="default", dialect="torch"):
    """Return a kernel of smoke's first work, with its work."""
    workload = MODELS[name]
    work = next(iter(workload.works(Preset.SMOKE, None)))
    host = workload.inputs(work, generator(work.case_id, 0))
    return workload.kernels[dialect][implementation](CPU, work, host), work


def choose(monkeypatch, choice):
    """Plant what torch chooses, and return the list of the questions it gets."""
    asked = []

    def fused_sdp_choice(q, k, v, mask, dropout, causal):
        asked.append((tuple(q.shape), tuple(k.shape), mask is not None, causal, q.requires_grad))
        assert q.shape[:2] == k.shape[:2] == v.shape[:2]
        assert dropout == 0.0
        return choice(k.shape[2]) if callable(choice) else choice

    monkeypatch.setattr(torch, "_fused_sdp_choice", fused_sdp_choice)
    return asked


@pytest.mark.parametrize("name", ATTENDING)
def test_the_library_names_the_kernel_of_attention_that_torch_really_chooses(name):
    kernel, _ = built(name)
    assert kernel.library == f"{CPU.library}, SDPA flash"
    assert kernel.flags == ()


@pytest.mark.parametrize("name", ATTENDING)
def test_the_choice_is_asked_at_the_build_for_the_shapes_of_the_calls(name, monkeypatch):
    """What is asked when a kernel is built is what its calls ask for, and no call asks."""
    asked = choose(monkeypatch, CUDNN)
    kernel, _ = built(name)
    planned = list(asked)
    real, called = torch.nn.functional.scaled_dot_product_attention, []

    def spy(q, k, v, attn_mask=None, *, is_causal=False):
        called.append((tuple(q.shape), tuple(k.shape), attn_mask is not None, is_causal, q.requires_grad))
        return real(q, k, v, attn_mask, is_causal=is_causal)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    kernel.run()
    if name == "gpt_decode":
        called = [call for call in called if call[0][2] == 1]  # the prompt is read by the first call, and not timed
    assert asked == planned
    assert set(called) == set(planned)


@pytest.mark.parametrize(("choice", "name"), [(MATH, "math"), (FLASH, "flash"), (EFFICIENT, "efficient")])
def test_the_library_names_whichever_kernel_is_chosen(choice, name, monkeypatch):
    choose(monkeypatch, choice)
    assert built("gpt_train")[0].library.endswith(f", SDPA {name}")


def test_decoding_names_every_kernel_that_its_lengths_lead_to(monkeypatch):
    asked = choose(monkeypatch, lambda keys: CUDNN if keys > 20 else FLASH)
    kernel, work = built("gpt_decode")
    assert kernel.library.endswith("SDPA flash + cuDNN")
    first, last = work["prompt"] + 1, work["prompt"] + work["new"] - 1
    assert [keys[2] for _, keys, *_ in asked] == list(range(first, last + 1))


def test_a_captured_step_is_asked_for_with_its_mask_and_all_of_the_cache(monkeypatch):
    asked = choose(monkeypatch, EFFICIENT)
    kernel, work = built("gpt_decode", "cudagraph", "torch:cuda")
    assert kernel.library.endswith("SDPA efficient")
    assert [(keys[2], masked) for _, keys, masked, *_ in asked] == [(work["prompt"] + work["new"], True)]


@pytest.mark.parametrize("name", ["attention", "gpt_train"])
def test_explicit_attention_names_no_sdpa_kernel(name):
    assert "SDPA" not in built(name, "explicit")[0].library


def test_a_device_that_cannot_choose_names_no_sdpa_kernel(monkeypatch):
    def cannot(*arguments):
        raise NotImplementedError("Could not run 'aten::_fused_sdp_choice' with arguments from the 'MPS' backend")

    monkeypatch.setattr(torch, "_fused_sdp_choice", cannot)
    assert built("attention")[0].library == ""


def work_in(dtype="float32", precision="ieee"):
    return SimpleNamespace(dtype=dtype, precision=precision)


@pytest.mark.parametrize(
    ("capability", "work", "name", "alone", "flags"),
    [
        ((9, 0), work_in(), "efficient", True, ("3xtf32",)),
        ((8, 0), work_in(), "efficient", False, ("partly_3xtf32",)),
        ((7, 5), work_in(), "efficient", True, ()),
        ((9, 0), work_in(), "math", True, ()),
        ((9, 0), work_in(precision="tf32"), "efficient", False, ()),
        ((9, 0), work_in("bfloat16"), "efficient", True, ()),
        ((9, 0), work_in(precision="autocast_bfloat16"), "efficient", False, ()),
    ],
)
def test_float32_on_tensor_cores_is_three_products_of_tf32(capability, work, name, alone, flags, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    kernel = sdpa.told(Kernel(lambda: None, flags=("before",)), H100, work, [name], alone=alone)
    assert kernel.flags == ("before", *flags)
    assert kernel.library == f"CUDA 13.0 cuDNN 91900, SDPA {name}"


def test_rocm_and_the_cpu_get_no_3xtf32_flag(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 4))
    assert (
        sdpa.told(Kernel(lambda: None), SimpleNamespace(device="cpu", library="x"), work_in(), ["efficient"]).flags
        == ()
    )
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert sdpa.told(Kernel(lambda: None), H100, work_in(), ["efficient"]).flags == ()


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_alone_is_flagged_3xtf32_and_a_model_partly_3xtf32(name, monkeypatch):
    choose(monkeypatch, EFFICIENT)
    monkeypatch.setattr(sdpa, "_splits", lambda backend, work, names: True)
    assert built(name)[0].flags == (("3xtf32",) if name == "attention" else ("partly_3xtf32",))
