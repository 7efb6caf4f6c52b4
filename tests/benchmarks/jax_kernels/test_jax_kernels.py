"""The kernels in JAX: right in float64 beside NumPy, one pass where they say so, and nothing folded into a program."""

from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import chain, pairwise

import numpy as np
import pytest

from bench_core.errors import Unsupported
from bench_core.records import Machine, Preset, Status, Target
from bench_core.timing.recheck import generator
from benchmarks import bench_gpt, bench_matmul, bench_memory, bench_mlp, jax_kernels
from benchmarks.nn.training import train_step
from benchmarks.nn.weights import wide_weights
from tests.support import kernels
from tests.support.planned import WORKLOADS

jax = pytest.importorskip("jax")
from jax.extend.core import ClosedJaxpr  # noqa: E402

from benchmarks.jax_kernels import gpt, mlp, products, streams  # noqa: E402
from benchmarks.jax_kernels.programs import Program  # noqa: E402

TRAINED = {
    "mlp": (bench_mlp.MlpTrain(), lambda work, params: bench_mlp.Sgd(np, params, bench_mlp.RATE)),
    "gpt": (bench_gpt.GptTrain(), lambda work, params: bench_gpt.AdamW(np, params, bench_gpt.RATE)),
}


def smoke(workload, dtype="float32"):
    return workload.variant(*workload.presets[Preset.SMOKE], dtype=dtype)


def test_every_kernel_is_of_a_workload_that_exists_and_can_be_imported():
    named = {(each.suite, each.name): each for each in WORKLOADS}
    assert set(jax_kernels.KERNELS) <= named.keys()
    for key in jax_kernels.KERNELS:
        assert "default" in named[key].builders(Target("jax", "jax", "cpu"))
    places = {builder.args[0] for builders in jax_kernels.KERNELS.values() for builder in builders.values()}
    for place in places:
        module, _, name = place.partition(".")
        assert callable(getattr(import_module(f"benchmarks.jax_kernels.{module}"), name)), place


def constants(closed):
    """Yield the arrays that a traced function has closed over, or one inside of it."""
    yield from closed.consts
    for each in closed.eqns:
        for inner in jax.tree.leaves(each.params, is_leaf=lambda param: isinstance(param, ClosedJaxpr)):
            if isinstance(inner, ClosedJaxpr):
                yield from constants(inner)


def traced(program):
    return jax.make_jaxpr(program.function)(*program.like)


def folded(closed):
    """Return the size of the largest array that XLA would see as a constant."""
    return max((np.size(array) for array in constants(closed)), default=0)


@pytest.fixture(scope="module")
def forms(on):
    """Return a function that returns, of a workload, its implementations and the programs that each makes, traced."""

    @cache
    def of(key):
        workload = next(each for each in WORKLOADS if (each.suite, each.name) == key)
        sizes = (workload.works(preset, Machine(1 << 20, 2)) for preset in (Preset.SMOKE, Preset.QUICK))
        work = next(chain.from_iterable(sizes))
        host, made = workload.inputs(work, generator(work.case_id, 1)), {}
        for implementation, build in workload.builders(Target("jax", "jax", "cpu")).items():
            with kernels.noted_programs() as programs, suppress(Unsupported):
                build(on, work, host)
                made[implementation] = [(program.donated, traced(program)) for program in programs]
        return made

    return of


@pytest.mark.parametrize("key", jax_kernels.KERNELS, ids="-".join)
def test_no_weight_and_no_input_is_folded_into_a_program(forms, key):
    """XLA would compute with a constant when it compiles, and the second look cannot write to weights."""
    for implementation, programs in forms(key).items():
        no_program = key[0] == "transfer" or key[1] == "empty_call" or implementation == "eager"
        assert programs or no_program
        assert max((folded(closed) for _, closed in programs), default=0) <= 1, implementation


@pytest.mark.parametrize("key", jax_kernels.KERNELS, ids="-".join)
def test_every_implementation_is_one_of_its_own(forms, key):
    """A builder that does not know a name would build another form: its row would be that of `default` again."""
    signs = [str([(donated, str(closed)) for donated, closed in programs]) for programs in forms(key).values()]
    assert len(set(signs)) == len(signs)


def test_an_array_that_is_closed_over_is_found(on):
    weights = on.from_host(np.ones(5))
    inner = jax.jit(lambda x: x + weights)
    assert folded(traced(Program(lambda x: 2 * inner(x), [weights]))) == 5
    assert folded(traced(Program(lambda x, w: x + w, [weights, weights]))) == 0


@pytest.mark.parametrize("name", ["prefill", "decode"])
def test_a_kv_cache_is_written_where_it_lay(on, name, monkeypatch):
    workload = {"prefill": bench_gpt.GptPrefill, "decode": bench_gpt.GptDecode}[name]()
    caches, empty = [], gpt.empty_cache
    monkeypatch.setattr(gpt, "empty_cache", lambda *given: caches.append(empty(*given)) or caches[-1])
    work = smoke(workload)
    host = workload.inputs(work, generator(work.case_id, 1))
    kernel = workload.builders(Target("jax", "jax", "cpu"))["default"](on, work, host)
    kernel.run()
    assert all(array.is_deleted() for array in jax.tree.leaves(caches[0]))


def test_two_programs_of_one_function_are_compiled_each(on):
    """JAX would return the program that it has, in no time: that is no compile_time."""
    array = on.from_host(np.ones(5))
    counts = [on.compilations]
    for _ in range(2):
        program = Program(streams.INTO["scale"], [array, array])
        program.compile()
        program.compile()
        counts.append(on.compilations)
    assert [after - before for before, after in pairwise(counts)] == [1, 1]


@pytest.mark.parametrize("name", TRAINED)
def test_ten_losses_in_float64_are_those_of_numpy(on, name):
    workload, optimiser = TRAINED[name]
    work = smoke(workload, "float64")
    host = workload.inputs(work, generator(work.case_id, 1))
    kernel = workload.builders(Target("jax", "jax", "cpu"))["default"](on, work, host)
    network = bench_mlp.network(work) if name == "mlp" else bench_gpt.network(work)
    reference = optimiser(work, wide_weights(host))
    expected = [train_step(np, network, reference, host["x"], host["targets"]).loss for _ in range(10)]
    losses = [float(kernel.run().loss) for _ in range(10)]
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert losses[-1] < losses[0]


def test_the_tokens_of_a_generation_are_those_of_numpy(on):
    workload = bench_gpt.GptDecode()
    work = smoke(workload)
    host = workload.inputs(work, generator(work.case_id, 1))
    shown = []
    for name in ("jax", "numpy"):
        with kernels.backend(name) as each:
            target = Target(name, "jax" if name == "jax" else "array", "cpu")
            kernel = workload.builders(target)["default"](each, work, host)
            outputs = kernel.outputs(kernel.run())
            shown.append(np.asarray(each.to_host(outputs["tokens"])))
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize("implementation", ["default", "eager"])
def test_a_step_changes_no_weight_that_the_next_restart_needs(on, implementation):
    workload = bench_mlp.MlpTrain()
    work = smoke(workload)
    host = workload.inputs(work, generator(work.case_id, 1))
    kernel = workload.builders(Target("jax", "jax", "cpu"))[implementation](on, work, host)
    first = float(kernel.run().loss)
    assert float(kernel.run().loss) != first
    kernel.restart()
    assert float(kernel.run().loss) == first


def test_a_step_writes_the_next_weights_into_the_memory_of_the_last_ones(on):
    workload = bench_mlp.MlpTrain()
    work = smoke(workload)
    host = workload.inputs(work, generator(work.case_id, 1))
    kernel = workload.builders(Target("jax", "jax", "cpu"))["default"](on, work, host)
    before = kernel.run().state.params
    kernel.run()
    assert all(array.is_deleted() for array in before.values())


@pytest.mark.parametrize("name", streams.INTO)
def test_a_stream_writes_into_the_array_of_the_call_before(on, name):
    """A new array would have to be got from the system, page by page, at every call."""
    workload = next(each for each in WORKLOADS if (each.suite, each.name) == ("memory", name))
    work = next(iter(workload.works(Preset.SMOKE, None)))
    host = workload.inputs(work, generator(work.case_id, 1))
    kernel = workload.builders(Target("jax", "jax", "cpu"))["default"](on, work, host)
    places = {kernel.run().unsafe_buffer_pointer() for _ in range(3)}
    assert len(places) == 1


@pytest.mark.parametrize("name", ["add", "triad", "scale"])
def test_a_stream_is_one_loop_that_moves_the_bytes_that_are_counted(on, name):
    n = 1 << 12
    arrays = [jax.numpy.ones(n, "float32")] * (2 if name == "scale" else 3)
    program = Program(streams.INTO[name], arrays, donated=[0])
    program.compile()
    moved = program._compiled.cost_analysis()["bytes accessed"]
    assert moved == pytest.approx(4 * n * len(arrays), abs=16)
    assert program.flops == pytest.approx(n * bench_memory.OPERATIONS[name].flops, rel=0.01)


@pytest.mark.parametrize(("layout", "shapes"), [("nn", [(2, 3), (3, 5)]), ("tt", [(3, 2), (5, 3)])])
def test_operands_are_stored_in_their_layout_and_shown_in_the_shapes_of_the_workload(on, layout, shapes):
    work = bench_matmul.Square().product("x", bench_matmul.FP32, 2, 5, 3, layout=layout)
    rng = np.random.default_rng(1)
    host = {"a": rng.standard_normal((2, 3), np.float32), "b": rng.standard_normal((3, 5), np.float32)}
    operands = products.Operands(on, work, host)
    assert [array.shape for array in operands.stored.values()] == shapes
    np.testing.assert_array_equal(on.to_host(operands["a"]), host["a"])
    operands["a"] = on.from_host(2 * host["a"])
    np.testing.assert_array_equal(on.to_host(operands["a"]), 2 * host["a"])
    np.testing.assert_allclose(
        on.to_host(products._multiply(layout, "float32", *operands.stored.values())), 2 * host["a"] @ host["b"], 1e-5
    )


def test_xla_counts_the_flops_that_our_formulas_give(on):
    """Where it counts truly: the body of a loop it counts once."""
    square = bench_matmul.Square()
    work = square.product("64", bench_matmul.FP32, 64, 64, 64)
    host = square.inputs(work, generator(work.case_id, 1))
    arrays = [on.from_host(host[name]) for name in "ab"]
    assert Program(lambda a, b: a @ b, arrays).flops == square.costs(work).flops
    workload = bench_mlp.MlpInfer()
    work = smoke(workload)
    host = workload.inputs(work, generator(work.case_id, 1))
    params = {name.removeprefix("weights."): on.from_host(a) for name, a in host.items() if name.startswith("weights")}
    counted = Program(lambda p, x: mlp.forward(2, None, p, x), [params, on.from_host(host["x"])]).flops
    assert counted == pytest.approx(workload.costs(work).flops, rel=0.03)  # and biases and ReLU, which we ignore


def test_a_program_is_compiled_once_and_refuses_other_shapes(on):
    three = on.from_host(np.zeros(3))
    program = Program(lambda x: x + 1, [three])
    program.compile()
    before = on.compilations
    assert [on.to_host(program(three)).sum() for _ in range(3)] == [3.0] * 3
    with pytest.raises(TypeError):
        program(np.ones(4))
    assert on.compilations == before


def test_an_accelerator_has_no_launch_without_a_wait(on):
    launch = next(each for each in WORKLOADS if each.name == "launch_synchronize")
    (work,) = launch.works(Preset.SMOKE, None)
    assert kernels.looked_at(launch, work, on).status is Status.UNSUPPORTED
    on.device = "cuda:0"
    assert kernels.looked_at(launch, work, on).status is Status.OK
    queued = next(each for each in WORKLOADS if each.name == "launch")
    done = kernels.looked_at(queued, work, on)
    assert (done.status, done.reason) == (
        Status.UNSUPPORTED,
        "every result of jax is awaited: see launch_synchronize",
    )
