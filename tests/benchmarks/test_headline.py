"""The preset `headline`: the rows of README's table, the limits of a machine, a compiled and a captured form."""

import pytest

from bench_core.records import Ceiling, Machine, Preset, Target
from tests.support.planned import CPU, GPU, HEADLINE, WORKLOADS, cases
from tests.support.readme_table import TABLE


def test_every_row_of_the_readme_is_in_it_on_every_target():
    for _, workload, size, dtype, precision, _ in TABLE:
        found = {
            (c.backend, c.device)
            for c in HEADLINE
            if (c.work.workload, c.work.size, c.work.dtype, c.work.precision) == (workload, size, dtype, precision)
        }
        assert found == {(target.backend, target.device) for target in CPU + GPU}, workload


def test_every_case_of_headline_is_one_of_standard():
    assert set(HEADLINE) < set(cases(Preset.STANDARD, CPU + GPU))


def test_it_holds_the_limits_of_a_gpu():
    limits = {w.name: w.ceiling for w in WORKLOADS if w.ceiling}
    assert set(limits.values()) == set(Ceiling)
    found = {
        (limits[c.work.workload], c.work.size, c.work.dtype, c.work.precision)
        for c in HEADLINE
        if c.work.workload in limits and (c.backend, c.device) == ("torch", "cuda:0")
    }
    assert found == {
        (Ceiling.ARITHMETIC, "4096", "float64", "ieee"),
        (Ceiling.ARITHMETIC, "4096", "float32", "ieee"),
        (Ceiling.ARITHMETIC, "4096", "float32", "tf32"),
        (Ceiling.ARITHMETIC, "8192", "bfloat16", "ieee"),
        (Ceiling.ARITHMETIC, "4096", "float8_e4m3fn", "ieee"),
        (Ceiling.MEMORY, "256MiB", "float64", "ieee"),
        (Ceiling.HOST_TO_DEVICE, "256MiB-pinned", "float32", "ieee"),
        (Ceiling.DEVICE_TO_HOST, "256MiB-pinned", "float32", "ieee"),
        (Ceiling.LAUNCH, "1", "float32", "ieee"),
    }


def test_it_holds_the_loops_of_jax_as_one_program_beside_one_for_each_step():
    found = {(c.work.workload, c.implementation) for c in cases(Preset.HEADLINE, [Target("jax", "jax", "cpu")])}
    looped = {(name, form) for name in ("gpt_decode", "diffusion_sample") for form in ("default", "scan")}
    assert looped < found
    assert {name for name, form in found if form == "scan"} == {name for name, _ in looped}


def test_it_holds_one_compiled_and_one_captured_form():
    forms = [c.implementation for c in HEADLINE]
    assert (forms.count("compile"), forms.count("cudagraph")) == (1, 1)


def test_it_holds_the_tuned_form_of_the_networks_that_gain_most_by_it():
    """Without it, a GPU would be compared with a CPU that clears new pages for most of its time."""
    tuned = {(c.work.workload, c.backend) for c in HEADLINE if c.implementation == "tuned" and c.work.suite == "model"}
    networks = ("cnn_train", "gan_train", "diffusion_sample")
    assert tuned == {(name, backend) for name in networks for backend in ("numpy", "cupy", "torch")}


def test_headline_has_fewer_than_90_cases_and_one_thread_count():
    """Some ninety cases on a GPU machine with two libraries, one thread count each."""
    assert len(HEADLINE) < 90
    assert {c.threads for c in HEADLINE} == {None}


def test_a_cache_that_holds_the_fixed_size_adds_copies_of_arrays_that_it_does_not_hold():
    huge = cases(Preset.HEADLINE, CPU, Machine(last_level_cache=300 << 20, cores=2))
    sizes = {(c.work.workload, c.work.size) for c in huge if c.work.suite == "memory"}
    assert sizes == {("copy", "256MiB"), ("copy", "2048MiB"), ("triad", "256MiB")}


@pytest.mark.parametrize(("targets", "forms"), [(CPU, set()), (GPU, {"compile", "cudagraph"})])
def test_quick_has_a_compiled_and_a_captured_form_where_they_take_seconds(targets, forms):
    prepared = {c.implementation for c in cases(Preset.QUICK, targets) if c.work.suite == "model"}
    assert prepared & {"compile", "cudagraph"} == forms
