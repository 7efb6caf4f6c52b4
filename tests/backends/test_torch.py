"""What torch alone does: on the CPU as it is here, and on a GPU by a stand-in for its calls."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.backends import registry
from bench_core.machine import host
from bench_core.records import Case, Costs, Status
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from bench_core.timing.worker_protocol import WorkerSpec
from bench_core.workload import Kernel, Workload

torch = pytest.importorskip("torch")
from bench_core.backends.torch import TorchBackend  # noqa: E402

SETTINGS = Settings(
    Durations(budget=0.01, least=0.005, warmup=0.005, warmup_cap=0.01), seed=7, last_level_cache=1 << 20
)
WORKSPACE = 32 << 20  # bytes that cuBLAS takes for a handle and a stream on compute capability 9.0
OWN = 1000  # bytes that the work below takes itself


# ---------------------------------------------------------------- the memory that its libraries keep on a GPU


class FakeCuda:
    """torch.cuda as far as memory goes: live bytes, their peak, and workspaces that only one call gives back."""

    def __init__(self):
        self.live = self.peak = 0
        self.workspaces = set()
        self.log = []

    def take(self, amount):
        self.live += amount
        self.peak = max(self.peak, self.live)

    def give(self, amount):
        self.live -= amount

    def multiply(self, stream="default"):
        self.log.append("multiply")
        if stream not in self.workspaces:
            self.workspaces.add(stream)
            self.take(WORKSPACE)

    def clear_workspaces(self):
        self.log.append("clear")
        self.give(WORKSPACE * len(self.workspaces))
        self.workspaces.clear()

    def memory_allocated(self):
        return self.live

    def max_memory_allocated(self):
        return self.peak

    def reset_peak_memory_stats(self):
        self.peak = self.live

    def mem_get_info(self, device):
        return 1 << 40, 1 << 41

    def empty_cache(self): ...

    def synchronize(self): ...


class FakeGpu(TorchBackend):
    """torch on the CPU that believes to be on a GPU where memory is concerned."""

    device_name, device_uuid, has_device_clock, library = "Fake GPU", None, False, "fake"

    def __init__(self, cuda):
        super().__init__("cpu")
        self._kind, self._module = "cuda", cuda

    def set_precision(self, precision): ...


class Product(Workload):
    """Takes `OWN` bytes while it runs, and multiplies on some streams."""

    suite, name = "tests", "product"
    streams: ClassVar = ("default",)

    def works(self, preset, machine):
        return [self.work("1", "float32")]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(1, np.float32)}

    def costs(self, work):
        return Costs(flops=1.0, least_bytes=4.0)

    def build(self, backend, case, host):
        x, cuda = backend.from_host(host["x"]), backend._module

        def run():
            cuda.take(OWN)
            for stream in self.streams:
                cuda.multiply(stream)
            cuda.give(OWN)
            return x * 1

        return Kernel(run, inputs={"x": x})

    def error(self, work, expected, answer):
        return check.relative_error(answer["out"], expected["x"])


class Captured(Product):
    """A product and its capture, which has a stream of its own."""

    streams: ClassVar = ("default", "side")


class Stream(Product):
    """No product at all."""

    streams: ClassVar = ()


@pytest.fixture
def gpu(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", cuda.clear_workspaces, raising=False)
    return FakeGpu(cuda)


def peak(gpu, workload):
    done = run_case(Case(workload.work("1", "float32"), "torch", "cpu"), workload, gpu, SETTINGS)
    assert done.status is Status.OK, done.reason
    return done.values["peak_memory"]


@pytest.mark.parametrize("before", [Product, Captured, Stream])
def test_peak_memory_holds_the_workspace_of_a_case_s_own_products_whatever_ran_before(gpu, before):
    peak(gpu, before())
    assert peak(gpu, Product()) == WORKSPACE + OWN
    assert peak(gpu, Stream()) == OWN


def test_workspaces_taken_before_the_first_case_are_given_back(gpu):
    """With isolation off, other code of the process may have multiplied before the first case."""
    gpu._module.multiply()
    assert peak(gpu, Product()) == WORKSPACE + OWN


def test_no_workspace_is_taken_from_a_kernel_that_may_still_run(gpu):
    """A captured graph replays into the workspace that it was captured with."""
    peak(gpu, Captured())
    first, *_, last = (i for i, what in enumerate(gpu._module.log) if what == "multiply")
    assert gpu._module.log[0] == gpu._module.log[-1] == "clear"
    assert "clear" not in gpu._module.log[first:last]


def test_a_torch_that_cannot_give_workspaces_back_still_measures(gpu, monkeypatch):
    monkeypatch.delattr(torch._C, "_cuda_clearCublasWorkspaces")
    assert peak(gpu, Product()) == WORKSPACE + OWN


# ---------------------------------------------------------------- arrays that are overwritten where they lie

ON = TorchBackend("cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_a_narrow_tensor_is_overwritten_with_what_an_upload_would_have_rounded_to(dtype):
    values = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    target = ON.from_host(np.zeros((64, 32), np.float32), dtype)
    before = target.data_ptr()
    ON.overwrite(target, values)
    assert (target.data_ptr(), target.dtype) == (before, getattr(torch, dtype))
    np.testing.assert_array_equal(ON.to_host(target), ON.to_host(ON.from_host(values, dtype)))
    assert (ON.to_host(target) != values).any()
    ON.overwrite(target, np.asarray(np.nan))
    assert np.isnan(ON.to_host(target)).all()


def test_an_inference_tensor_is_overwritten_outside_of_inference_mode():
    with torch.inference_mode():
        target = torch.ones(3) * 2
    assert target.is_inference()
    with pytest.raises(RuntimeError, match="outside InferenceMode"):
        target.copy_(torch.zeros(3))
    before = target.data_ptr()
    ON.overwrite(target, np.arange(3.0))
    assert target.data_ptr() == before
    assert target.tolist() == [0, 1, 2]
    with torch.inference_mode():
        assert (target * 2).tolist() == [0, 2, 4]


def test_a_parameter_that_requires_a_gradient_is_overwritten_and_is_still_trained():
    weight = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(RuntimeError, match="leaf Variable"):
        weight.copy_(torch.zeros(3))
    before = weight.data_ptr()
    ON.overwrite(weight, np.arange(3.0))
    assert weight.data_ptr() == before
    assert weight.requires_grad
    assert weight.grad_fn is None
    (weight**2).sum().backward()
    assert weight.grad.tolist() == [0, 2, 4]
    ON.overwrite(weight.grad, np.asarray(np.nan))
    assert weight.grad.isnan().all()


def test_a_result_that_autograd_has_made_is_overwritten():
    """The outputs of a step are filled with rubbish before it is looked at again."""
    x = torch.ones(3, requires_grad=True)
    made = x * 2
    ON.overwrite(made, np.asarray(np.nan))
    assert made.isnan().all()
    assert x.tolist() == [1, 1, 1]
    ON.overwrite(made.detach(), np.zeros(3))
    assert made.tolist() == [0, 0, 0]


def test_images_that_lie_pixel_by_pixel_stay_so():
    values = np.arange(2.0 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    target = torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    before, strides = target.data_ptr(), target.stride()
    ON.overwrite(target, values)
    assert (target.data_ptr(), target.stride()) == (before, strides)
    assert target.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(target.numpy(), values)


def test_values_may_lie_otherwise_and_be_changed_afterwards():
    values = np.arange(6.0).reshape(2, 3).T
    target = torch.zeros(3, 2)
    ON.overwrite(target, values)
    values[:] = 0
    assert target.tolist() == [[0, 3], [1, 4], [2, 5]]


# ---------------------------------------------------------------- errors, precision, clock, arrays


def test_torch_on_the_cpu_raises_a_plain_error_when_memory_ends():
    pytest.importorskip("torch")
    backend = registry.load("torch")("cpu")
    with pytest.raises(RuntimeError) as caught:
        backend.torch.empty(1 << 60)
    assert backend.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 9.05 GB)",
    ],
)
def test_torch_takes_each_library_s_message_about_memory_for_out_of_memory(words):
    pytest.importorskip("torch")
    assert registry.load("torch")("cpu").is_out_of_memory(RuntimeError(words))


def test_torch_switches_precision_so_that_old_and_new_flags_can_both_be_read(monkeypatch):
    """Inductor reads either, by version: what raises there would make an error of every compiled TF32 case."""
    torch = pytest.importorskip("torch")
    backend = registry.load("torch")("cpu")
    monkeypatch.setattr(backend, "_kind", "cuda")
    for precision, is_tf32 in (("tf32", True), ("ieee", False)):
        backend.set_precision(precision)
        assert torch.get_float32_matmul_precision() == ("high" if is_tf32 else "highest")
        assert torch.backends.cuda.matmul.allow_tf32 is is_tf32
        assert torch.backends.cudnn.allow_tf32 is is_tf32
        assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if is_tf32 else "ieee")
        assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is is_tf32


def test_a_search_of_cudnn_has_a_process_of_its_own_since_torch_keeps_what_was_found():
    """Or the next case would run the plans of this one, and this one those that another case has predicted."""
    case = Case(Product().work("1", "float32"), "torch", "cpu")
    forms = ("default", "compile", "cudagraph", "compile_cudagraph", "max_autotune", "channels_last")
    assert len({WorkerSpec.of(replace(case, implementation=form)) for form in forms}) == 1
    assert len({WorkerSpec.of(replace(case, implementation=form)) for form in (*forms, "cudnn_benchmark")}) == 2


def test_torch_turns_a_search_of_cudnn_off_when_a_case_is_over():
    torch.backends.cudnn.benchmark = True
    TorchBackend("cpu").free()
    assert not torch.backends.cudnn.benchmark


def test_torch_calibrates_its_spin_by_the_fastest_of_five_after_a_first_launch():
    """The first launch loads the kernel, 9 ms here; the clock is at its height in the fourth reading."""
    pytest.importorskip("torch")
    from bench_core.backends.torch import _cycles_per_second

    class Cuda:
        durations: ClassVar = iter([9.0, 2.0, 1.5, 1.25, 1.0, 1.1])
        last = 0.0

        def _sleep(self, cycles):
            Cuda.last = next(self.durations)

        def synchronize(self): ...

        class Event:
            def __init__(self, enable_timing): ...

            def record(self): ...

            def elapsed_time(self, end):
                return Cuda.last

    assert _cycles_per_second(Cuda()) == 2_000_000 / 1e-3


def test_torch_keeps_the_shape_of_a_scalar():
    pytest.importorskip("torch")
    assert registry.load("torch")("cpu").from_host(np.array(3.0)).shape == ()


def test_torch_makes_bfloat16_of_float32_and_gives_float32_back():
    pytest.importorskip("torch")
    backend = registry.load("torch")("cpu")
    tensor = backend.from_host(np.array([1.0, 1 / 3], np.float32), "bfloat16")
    assert str(tensor.dtype) == "torch.bfloat16"
    assert backend.to_host(tensor).dtype == np.float32


# ---------------------------------------------------------------- the memory of a CPU


def test_only_the_tuned_form_asks_malloc_to_keep_freed_memory(monkeypatch):
    kept = host.KEEP_MEMORY.items()
    assert kept <= TorchBackend.environ(2, "tuned").items()
    assert not host.KEEP_MEMORY.keys() & TorchBackend.environ(2, "default").keys(), "never tuned silently"
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    for name, value in kept:
        monkeypatch.setenv(name, value)
    assert "MALLOC_MMAP_MAX_=0" in TorchBackend("cpu").facts()["malloc"].value
