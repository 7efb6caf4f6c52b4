"""What JAX alone does: on the CPU as it is here, and on a GPU or a TPU by a stand-in for its devices."""

import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from bench_core.backends import jax as ours
from bench_core.backends.base import Compiles, Futures, Immutable, Selective, overwrite, overwrite_rows
from bench_core.backends.jax import JaxBackend
from bench_core.errors import Unavailable
from bench_core.machine import datasheets
from bench_core.records import Case, Costs, Status
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from bench_core.timing.synchronisation import piece
from bench_core.timing.worker_protocol import WorkerSpec
from bench_core.workload import Kernel, Workload

jax = pytest.importorskip("jax")

SETTINGS = Settings(Durations(budget=0.05, least=0.02, warmup=0.005, warmup_cap=0.01), seed=7, last_level_cache=1 << 20)
N = 1024  # rows of a product that takes far longer than a call


@pytest.fixture(scope="module")
def cpu():
    return JaxBackend("cpu")


# ---------------------------------------------------------------- devices of machines that are not here


def device(platform, kind, number=0, version="", **stats):
    return SimpleNamespace(
        platform=platform,
        device_kind=kind,
        id=number,
        local_hardware_id=number,
        compute_capability="9.0" if platform == "gpu" else "",
        memory_stats=lambda: stats or None,
        client=SimpleNamespace(platform_version=version or platform),
    )


def machine(monkeypatch, *devices, cpus=True):
    """Let jax find these devices beside the CPU."""
    host = [device("cpu", "cpu")] if cpus else []

    def local_devices(backend=None):
        if backend == "cpu" and not host:
            raise RuntimeError("Unknown backend cpu")
        return host if backend == "cpu" or not devices else list(devices)

    monkeypatch.setattr(jax, "local_devices", local_devices)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)


H200 = device("gpu", "NVIDIA H200", 0, "PJRT C API\ncuda 12090", bytes_in_use=3, peak_bytes_in_use=9, bytes_limit=100)


def test_devices_have_the_names_by_which_jax_takes_them(monkeypatch):
    machine(monkeypatch, H200, device("gpu", "NVIDIA H200", 1, "PJRT C API\ncuda 12090"))
    assert JaxBackend.devices() == ["cpu", "cuda:0", "cuda:1"]
    machine(monkeypatch, device("gpu", "AMD Instinct MI300X", 0, "PJRT C API\nrocm 60300"))
    assert JaxBackend.devices() == ["cpu", "rocm:0"]
    machine(monkeypatch, *(device("tpu", "TPU v5 lite", i) for i in range(2)))
    assert JaxBackend.devices() == ["cpu", "tpu:0", "tpu:1"]
    machine(monkeypatch, device("tpu", "TPU v4"), cpus=False)
    assert JaxBackend.devices() == ["tpu:0"]


def test_several_processors_by_flags_are_one_cpu_and_several_gpus_keep_their_numbers(monkeypatch):
    machine(monkeypatch, device("cpu", "cpu", 0), device("cpu", "cpu", 1))
    assert JaxBackend.devices() == ["cpu"]
    monkeypatch.setenv("BENCH_CORE_JAX_CUDA", "0")  # but jax was set up before, by somebody else
    machine(monkeypatch, *(device("gpu", f"GPU number {i}", i, "cuda 12090") for i in range(3)))
    assert JaxBackend.devices() == ["cpu", "cuda:0", "cuda:1", "cuda:2"]
    assert JaxBackend("cuda:0").device_name == "GPU number 0"


def test_no_device_at_all_is_a_reason_in_one_line(monkeypatch):
    def broken(backend=None):
        raise RuntimeError("Unable to initialize backend 'tpu': it is in use\nby process 7")

    monkeypatch.setattr(jax, "local_devices", broken)
    with pytest.raises(Unavailable, match=r"jax finds no device: Unable to initialize backend 'tpu': it is in use$"):
        JaxBackend.devices()


def test_a_device_that_is_not_there_is_named(cpu):
    with pytest.raises(Unavailable, match=r"jax \S+ finds no cuda device 'cuda:7'"):
        JaxBackend("cuda:7")


def test_a_process_opens_the_device_that_it_measures_and_no_other():
    """Each open GPU takes memory, and of a TPU there is one process at a time."""
    assert JaxBackend.environ_for("cpu") == {"JAX_PLATFORMS": "cpu"}
    assert JaxBackend.environ_for("cuda:1") == {"JAX_PLATFORMS": "cuda,cpu", "BENCH_CORE_JAX_CUDA": "1"}
    assert JaxBackend.environ_for("tpu:0") == {"JAX_PLATFORMS": "tpu,cpu"}
    work = Product(None).work("1", "float32")
    spec = WorkerSpec.of(Case(work, "jax", "cuda:1", "default", None))
    assert ("JAX_PLATFORMS", "cuda,cpu") in spec.environ
    assert ("XLA_PYTHON_CLIENT_PREALLOCATE", "false") in spec.environ


def test_the_one_gpu_that_a_process_may_open_keeps_its_number(monkeypatch):
    monkeypatch.setenv("BENCH_CORE_JAX_CUDA", "1")
    machine(monkeypatch, H200)  # the only one that is visible is the first for JAX
    assert JaxBackend.devices() == ["cpu", "cuda:1"]


def test_on_an_accelerator_memory_is_that_of_the_allocator_and_an_old_peak_is_not_told(monkeypatch):
    stats = {"bytes_in_use": 3, "peak_bytes_in_use": 9, "bytes_limit": 100}
    machine(monkeypatch, device("gpu", "NVIDIA H200", 0, "cuda 12090", **stats))
    backend = JaxBackend("cuda:0")
    backend._device.memory_stats = lambda: stats
    assert (backend.memory().free, backend.memory().used, backend.memory().peak) == (97, 3, 9)
    backend.reset_peak_memory()
    assert backend.memory().peak is None  # of an earlier case
    stats["peak_bytes_in_use"] = 12
    assert backend.memory().peak == 12


def test_memory_that_a_device_does_not_tell_is_unknown(monkeypatch):
    machine(monkeypatch, device("tpu", "TPU v4"))
    memory = JaxBackend("tpu:0").memory()
    assert (memory.free, memory.used, memory.peak) == (None, None, None)


def test_facts_of_a_gpu_name_it_as_other_libraries_do(monkeypatch):
    machine(monkeypatch, H200)
    backend = JaxBackend("cuda:0")
    facts = {name: fact.value for name, fact in backend.facts().items()}
    assert facts["gpu.name"] == backend.device_name == "NVIDIA H200"
    assert facts["jax.platform_version"] == "PJRT C API cuda 12090"
    assert facts["gpu.memory"] == 100
    assert backend.library.endswith(" cuda 12090")
    assert datasheets.peak_flops(backend.device_name, "bfloat16")


@pytest.mark.parametrize(
    ("where", "dtype", "precision", "why"),
    [
        ("cuda:0", "float32", "tf32", None),
        ("cuda:0", "float32", "bfloat16_products", "on TPUs only"),
        ("tpu:0", "float32", "bfloat16_products", None),
        ("tpu:0", "float32", "tf32", "no TF32"),
        ("cpu", "float32", "tf32", "no TF32"),
        ("cpu", "float32", "fast_accumulation", "jax has no fast_accumulation"),
        ("cpu", "float3", "ieee", "has no float3"),
        ("cpu", "float8_e5m2", "ieee", None),
    ],
)
def test_what_a_device_cannot_compute_is_said(monkeypatch, where, dtype, precision, why):
    machine(monkeypatch, *{"cuda:0": [H200], "tpu:0": [device("tpu", "TPU v5 lite")]}.get(where, []))
    found = JaxBackend(where).why_unsupported(dtype, precision)
    assert found is None if why is None else why in found


# ---------------------------------------------------------------- the CPU


@pytest.mark.parametrize("precision", ["ieee", "autocast_bfloat16", "autocast_float16"])
def test_what_a_kernel_leaves_in_float32_is_computed_in_float32(cpu, precision):
    """On a GPU, JAX would compute it in TF32 otherwise."""
    cpu.set_precision("tf32")
    cpu.set_precision(precision)
    assert cpu.jax.config.jax_default_matmul_precision == "highest"


def test_its_parts_beyond_the_protocol_are_those_that_it_needs(cpu):
    assert all(isinstance(cpu, part) for part in (Futures, Immutable, Compiles, Selective))


def test_a_missing_library_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(Unavailable, match="jax"):
        JaxBackend.devices()


def test_as_many_threads_compute_as_the_environment_says():
    """Of XLA, which makes them when it is loaded."""
    code = "from bench_core.backends.jax import JaxBackend; import os; b = JaxBackend('cpu'); "
    code += "b.xp.ones(3).block_until_ready(); "
    code += "names = [open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task')]; "
    code += "print(b.threads, sum('XLAEigen' in name or 'XLATfrtCpu' in name for name in names))"
    counts = []
    for threads in (1, 3):
        environ = {**os.environ, **JaxBackend.environ(threads, "default"), **JaxBackend.environ_for("cpu")}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        counts.append([int(word) for word in done.stdout.split()])
    assert [said for said, _ in counts] == [1, 3]
    if sys.platform == "linux":
        assert counts[1][1] > counts[0][1]


def test_what_is_not_a_pytree_of_arrays_cannot_be_awaited_and_is_refused(cpu):
    """JAX passes over what it does not know in silence: the timer would stop before the work is done."""

    @dataclass
    class Hidden:
        array: object

    for fine in (None, 3.0, np.ones(2), jax.numpy.ones(2), {"a": (jax.numpy.ones(2), [None])}):
        cpu.wait_for(fine)
    with pytest.raises(TypeError, match="Hidden"):
        cpu.wait_for(Hidden(jax.numpy.ones(2)))


def test_a_copy_to_the_host_outlives_the_array_that_it_was_made_of(cpu):
    array = cpu.from_host(np.ones(1 << 12))
    kept = cpu.to_host(array)
    array.delete()
    assert kept.sum() == 1 << 12


def test_other_values_lie_in_the_memory_of_the_array_that_they_replace(cpu, monkeypatch):
    """Though XLA may compute in no memory but the device's."""
    kind_of_array = type(jax.numpy.ones(1))
    at = kind_of_array.at

    def at_in(array):
        assert array.sharding.memory_kind == "device", f"computes in {array.sharding.memory_kind}"
        return at.fget(array)

    monkeypatch.setattr(kind_of_array, "at", property(at_in))
    numbers = np.arange(12, dtype=np.float32).reshape(6, 2)
    for kind in ("device", "pinned_host", "unpinned_host"):
        array = jax.device_put(cpu.from_host(numbers), jax.sharding.SingleDeviceSharding(cpu._device, memory_kind=kind))
        rows = np.isin(numbers // 2, [1, 4])
        made = {
            "values": (overwrite(cpu, array, 1 + numbers), 1 + numbers),
            "a number": (overwrite(cpu, array, np.asarray(7)), np.full((6, 2), 7)),
            "rows": (overwrite_rows(cpu, array, [1, 4], 1 + numbers[[1, 4]]), numbers + rows),
            "a number in rows": (overwrite_rows(cpu, array, [1, 4], np.asarray(0)), np.where(rows, 0, numbers)),
            "nothing": (array, numbers),
        }
        for what, (other, expected) in made.items():
            assert other.sharding == array.sharding, (what, kind)
            np.testing.assert_array_equal(cpu.to_host(other), expected, f"{what}, {kind}")


# ---------------------------------------------------------------- a case


class Product(Workload):
    """The product of a matrix with itself, by a kernel of the test."""

    suite, name = "mine", "product"

    def __init__(self, kernel):
        self.kernels = {"jax": {"default": lambda backend, work, host: kernel(backend, host)}}

    def works(self, preset, machine):
        return [self.work(str(N), "float32")]

    def inputs(self, work, rng):
        return {"a": rng.standard_normal((N, N), np.float32)}

    def costs(self, work):
        return Costs(2.0 * N**3)

    def reference(self, work, host):
        rows = host["a"][:4].astype(np.float64)
        return rows @ host["a"]

    def error(self, work, expected, answer):
        return float(np.linalg.norm(answer["out"][:4] - expected) / np.linalg.norm(expected))


def squared(backend, host):
    inputs = {"a": backend.from_host(host["a"])}
    square = jax.jit(lambda a: a @ a)
    return Kernel(lambda: square(inputs["a"]), inputs=inputs)


def lazy(backend, host):
    """Returns before its work is done, and nothing by which that can be awaited."""
    kernel, made = squared(backend, host), []

    def run():
        made[:] = [kernel.run()]

    return Kernel(run, inputs=kernel.inputs, outputs=lambda _: {"out": made[0]})


def folding(backend, host):
    """Closes over its input, which XLA takes for a constant: new numbers do not reach it."""
    inputs = {"a": backend.from_host(host["a"])}
    a = inputs["a"]
    square = jax.jit(lambda: a @ a)
    return Kernel(square, inputs=inputs)


def deferred(backend, host):
    """Returns something small at once, and does its work when it is asked for the answer."""
    inputs, held = {"a": backend.from_host(host["a"])}, []
    square = jax.jit(lambda a: a @ a)

    def run():
        held[:] = [inputs["a"]]
        return jax.numpy.zeros(3)

    return Kernel(run, inputs=inputs, outputs=lambda loss: {"loss": loss, "out": square(held[0])})


def now_and_then(period):
    """Works if its input is another object than before, else in one call of `period`; never for 0."""

    def make(backend, host):
        kernel, known, calls = squared(backend, host), [None, None], []

        def run():
            calls.append(1)
            if known[0] is not kernel.inputs["a"] or (period and len(calls) % period == 1):
                known[:] = [kernel.inputs["a"], kernel.run()]
            return known[1]

        return Kernel(run, inputs=kernel.inputs)

    return make


def compiling(backend, host):
    """Compiles another program at every call."""
    inputs, calls = {"a": backend.from_host(host["a"])}, []

    def run():
        calls.append(1)
        return jax.jit(lambda a: a @ a + 0 * len(calls))(inputs["a"])

    return Kernel(run, inputs=inputs)


def measured(kernel, cpu):
    workload = Product(kernel)
    (work,) = workload.works(None, None)
    done = run_case(Case(work, "jax", "cpu", "default", None), workload, cpu, SETTINGS)
    return done, done.traceback or done.reason


def test_a_case_is_measured_and_no_timed_call_compiles(cpu):
    done, said = measured(squared, cpu)
    assert done.status is Status.OK, said
    assert "compiled_while_timed" not in done.flags


def test_a_kernel_that_nobody_can_wait_for_is_found_on_the_real_library(cpu):
    """In one of five tries at least: on a busy machine XLA may be done by the time that the call returns."""
    found = {}
    for _ in range(5):
        done, said = measured(lazy, cpu)
        found[done.reason_code] = said
        if done.reason_code:
            break
    assert (done.status, done.reason_code) == (Status.INVALID, "not_synchronised"), found


def test_a_kernel_that_xla_has_folded_its_input_into_is_found(cpu):
    done, said = measured(folding, cpu)
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_second_look"), said


@pytest.mark.parametrize("period", [0, 2, 3, 4])
def test_a_kernel_that_knows_its_input_again_is_found_though_its_answers_cannot_be_overwritten(cpu, period):
    done, said = measured(now_and_then(period), cpu)
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_second_look"), said


def test_work_that_is_done_when_the_answer_is_asked_for_is_found(cpu):
    done, said = measured(deferred, cpu)
    assert (done.status, done.reason_code) == (Status.INVALID, "not_synchronised"), said


@pytest.mark.parametrize("code", ["jax.config.update('jax_enable_x64', True)", "pass"])
def test_programs_are_counted_whatever_a_script_has_set_before(code):
    code = f"import jax; {code}; from bench_core.backends.jax import JaxBackend; b = JaxBackend('cpu'); "
    code += "jax.jit(lambda x: x + 1)(2.0); print(b.compilations > 0, b.from_host(__import__('numpy').ones(1)).dtype)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "float64"]


def test_a_call_that_compiles_while_it_is_timed_is_flagged(cpu):
    done, said = measured(compiling, cpu)
    assert done.status is Status.OK, said
    assert "compiled_while_timed" in done.flags


def test_a_piece_is_cut_out_of_any_array_in_one_step(cpu):
    """Each step would be compiled for each shape, and a model has many."""
    counts = []
    for shape in ((1, 3, 5, 7, 11), (13,)):
        array = cpu.from_host(np.ones(shape))
        before = cpu.compilations
        assert piece({"out": array}).shape == (1,)
        counts.append(cpu.compilations - before)
    assert counts[0] <= counts[1] + 1  # the other axes are dropped


def test_every_program_that_is_compiled_is_counted_once(cpu):
    before = cpu.compilations
    program = jax.jit(lambda x: x * 3 + 1).lower(jax.numpy.ones(7)).compile()
    between = cpu.compilations
    program(jax.numpy.ones(7))
    assert between > before
    assert cpu.compilations == between


def test_the_module_is_found_without_the_library():
    assert ours.JaxBackend.devices_expected == ("cpu", "cuda")
