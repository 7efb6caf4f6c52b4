"""Every tuned form gives what the plain form gives, forward and backward, and no network's answer changes by it."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from benchmarks.nn import attention
from benchmarks.nn.tuned import Tuned, blocks
from benchmarks.nn.tuned import numpy as numpy_forms
from tests.support import ROOT, tuned
from tests.support import kernels as support
from tests.support.nn import one_thread  # noqa: F401 - a fixture

BACKENDS = ("numpy", "cupy")
SIZES = ((3, 1), (5, 7), (2, 33), (1, 1000), (1056, 3))  # the last one is cut into parts
WORKLOADS = [(backend, workload) for backend in BACKENDS for workload in tuned.workloads(backend)]


def forms(backend):
    return import_module(f"benchmarks.nn.tuned.{backend}").FORMS


def cases():
    rng = np.random.default_rng(5)
    for rows, width in SIZES:
        for name, (run, inputs) in tuned.operations(rng, rows, width).items():
            yield pytest.param(run, inputs, id=f"{name}-{rows}x{width}")
    for name, (run, inputs) in tuned.fixed_operations(rng).items():
        yield pytest.param(run, inputs, id=name)


CASES = list(cases())


@pytest.mark.parametrize("dtype", tuned.BOUNDS)
@pytest.mark.parametrize(("run", "inputs"), CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_form_gives_what_the_plain_form_gives(backend, run, inputs, dtype):
    with support.backend(backend) as on:
        tuned.require_equal(Tuned(on.xp, forms(backend), 2), run, inputs, dtype)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("run", "inputs"), CASES)
def test_numpys_forms_give_the_same_in_many_small_blocks(monkeypatch, run, inputs, threads):
    monkeypatch.setattr(blocks, "BLOCK", 100)
    monkeypatch.setattr(numpy_forms, "QUERIES", 3)
    tuned.require_equal(Tuned(np, numpy_forms.FORMS, threads), run, inputs, "float64")


@pytest.mark.parametrize("ids", [np.zeros(500, int), np.arange(500) % 3, np.zeros(0, int)], ids=["one", "few", "none"])
def test_scatter_add_counts_ids_that_repeat_often(ids):
    rng = np.random.default_rng(7)
    inputs = {"total": rng.standard_normal((50, 4)), "ids": ids, "values": rng.standard_normal((len(ids), 4))}
    tuned.require_equal(Tuned(np, numpy_forms.FORMS, 2), tuned.scattered, inputs, "float64")


def test_an_operation_has_forms_if_and_only_if_it_says_so():
    modules = (import_module(f"benchmarks.nn.{path.stem}") for path in (ROOT / "benchmarks" / "nn").glob("*.py"))
    said = {name for module in modules for name, value in vars(module).items() if hasattr(value, "plain")}
    assert said == {name for backend in BACKENDS for name in forms(backend)}


@pytest.mark.parametrize("offset", [0, 100, 10_000])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_softmax_of_large_logits_is_as_exact_as_one_of_small_logits(backend, offset):
    x = np.random.default_rng(3).standard_normal((50, 300)).astype("float32") + np.float32(offset)
    shares = attention.softmax(np, x.astype("float64"))[0]
    with support.backend(backend) as on:
        out = on.to_host(attention.softmax(Tuned(on.xp, forms(backend), 1), on.from_host(x))[0])
    assert np.abs(out / shares - 1).max() < 16 * np.finfo("float32").eps


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_form_is_tried(backend):
    """A form that no case above reaches would be compared with nothing."""
    tried = set()

    def noted(name, form):
        def call(*args, **kwargs):
            tried.add(name)
            return form(*args, **kwargs)

        return call

    own = {name: noted(name, form) for name, form in forms(backend).items()}
    with support.backend(backend) as on:
        for case in CASES:
            tuned.results(Tuned(on.xp, own, 2), *case.values, "float64")
    assert tried == set(own)


def test_a_form_that_is_wrong_is_found():
    def short(xp, grad, cache):
        return 0.999 * forms("cupy")["gelu_backward"](xp, grad, cache)

    (case, *_) = (case for case in CASES if case.id.startswith("gelu-5"))
    with support.backend("cupy") as on:
        tuned.require_equal(Tuned(on.xp, forms("cupy"), 1), *case.values, "float64")
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            tuned.require_equal(Tuned(on.xp, forms("cupy") | {"gelu_backward": short}, 1), *case.values, "float64")


@pytest.mark.parametrize(("backend", "workload"), WORKLOADS, ids=lambda value: getattr(value, "name", value))
def test_a_network_of_tuned_forms_passes_its_check(backend, workload):
    for work in tuned.works(workload):
        with support.backend(backend) as on:
            assert support.error_of(workload, work, on, "tuned") < workload.tolerance(work).high


# ---------------------------------------------------------------- what CuPy's forms save


def launches(workload, work, implementation):
    """Return how many kernels one call launches, after a first one."""
    with support.backend("cupy") as on:
        run = support.kernel(workload, work, on, implementation).run
        run()
        gpu = on.xp._gpu.gpu()
        before = gpu.launches
        run()
        return gpu.launches - before


FEWER = {  # at most so many of the plain form's launches, as a share
    "gpt_train": 0.5, "gpt_prefill": 0.5, "gpt_decode": 0.5, "gan_train": 0.2, "gan_generate": 0.1, "cnn_train": 0.3,
    "cnn_infer": 0.4, "mlp_train": 0.65, "diffusion_denoise": 0.55, "diffusion_sample": 0.55, "attention": 0.6,
    "layernorm": 0.25, "softmax": 0.6, "lstm": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    "workload", [workload for backend, workload in WORKLOADS if backend == "cupy"], ids=lambda workload: workload.name
)
def test_cupys_forms_launch_fewer_kernels(workload):
    work = next(tuned.works(workload))
    assert launches(workload, work, "tuned") <= FEWER[workload.name] * launches(workload, work, "default")


def test_the_backward_of_layernorm_reads_means_and_deviations_that_are_not_neighbours():
    """CuPy would give the threads of a warp to neighbouring rows, which are far apart in the large inputs."""
    seen = []
    with support.backend("cupy") as on:
        original = on.xp.ReductionKernel.__call__

        def noted(self, *args, **kwargs):
            if self.name == "bench_along_rows":
                _, x, centre, inverse, *_ = args
                seen.append((len(x) > 1, [array.strides[0] > array.itemsize for array in (centre, inverse)]))
            return original(self, *args, **kwargs)

        on.xp.ReductionKernel.__call__ = noted
        workload = next(each for backend, each in WORKLOADS if (backend, each.name) == ("cupy", "gpt_train"))
        support.kernel(workload, next(tuned.works(workload)), on, "tuned").run()
    assert seen
    assert all(each == (True, [True, True]) for each in seen)


def test_each_kernel_of_cupys_forms_is_made_once():
    made = []
    with support.backend("cupy") as on:
        kinds = (on.xp.ElementwiseKernel, on.xp.ReductionKernel)
        originals = [kind.__init__ for kind in kinds]
        for kind, original in zip(kinds, originals, strict=True):

            def noted(self, *args, original=original, **kwargs):
                made.append(args)
                original(self, *args, **kwargs)

            kind.__init__ = noted
        workload = next(each for backend, each in WORKLOADS if (backend, each.name) == ("cupy", "gpt_train"))
        kernel = support.kernel(workload, next(tuned.works(workload)), on, "tuned")
        kernel.run()
        assert len(made) == len(set(made)) > 10
        kernel.run()
        assert len(made) == len(set(made))
