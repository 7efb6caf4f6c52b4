"""Facts that do not change tell two computers apart, and one computer never from itself."""

import json
import math

import pytest

from bench_core.machine.facts import (
    LASTING,
    VOLATILE,
    absent,
    against,
    contradictions,
    cuda_version,
    lasting,
    shown,
    shown_text,
    valid,
)
from bench_core.records import Fact

BOX = {
    "cpu.model": "AMD EPYC",
    "cpu.identity": "AuthenticAMD family 25 model 1 stepping 1",
    "cpu.cores": 16,
    "cpu.threads": 32,
    "memory.total": 100e9,
    "system.virtual_machine": "none",
    "device_name of cuda:0": "GPU A",
}


def facts(**values):
    return {name.replace("__", "."): Fact(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu.model", "Intel Xeon"),
        ("cpu.identity", "AuthenticAMD family 25 model 17 stepping 1"),
        ("cpu.cores", 8),
        ("cpu.threads", 16),
        ("memory.total", 96e9),
        ("memory.total", 104e9),
        ("system.virtual_machine", "QEMU"),
        ("system.virtual_machine", "of unknown make"),
        ("device_name of cuda:0", "GPU B"),
    ],
)
def test_each_lasting_fact_alone_contradicts_in_both_directions(name, value):
    other = BOX | {name: value}
    assert contradictions(BOX, other) == contradictions(other, BOX) == (name,)


def test_every_lasting_fact_is_tested_and_none_of_them_changes_from_minute_to_minute():
    assert set(LASTING) == {name for name in BOX if not name.startswith("device_name")}
    assert not set(LASTING) & VOLATILE


@pytest.mark.parametrize("name", list(BOX))
def test_a_fact_that_one_side_does_not_know_contradicts_nothing(name):
    unknown = {other: value for other, value in BOX.items() if other != name}
    assert contradictions(BOX, unknown) == contradictions(unknown, BOX | {name: "other"}) == ()


def test_three_percent_of_memory_are_the_kernel_s_and_a_maker_that_is_unknown_may_be_any():
    assert contradictions(BOX, BOX | {"memory.total": 97.1e9}) == ()
    virtual = [{"system.virtual_machine": maker} for maker in ("QEMU", "of unknown make", "Xen")]
    assert [contradictions(virtual[1], other) for other in virtual] == [(), (), ()]
    assert contradictions(virtual[0], virtual[2]) == ("system.virtual_machine",)


def test_a_gpu_at_another_address_contradicts_nothing():
    assert contradictions({"device_name of cuda:0": "GPU A"}, {"device_name of cuda:1": "GPU B"}) == ()


def test_devices_are_named_by_rows_and_the_cpu_s_name_is_its_model():
    rows = [("cpu", "AMD EPYC"), ("cuda:0", "GPU A"), ("cuda:0", "GPU A"), ("cuda", ""), ("cpu", "AMD EPYC")]
    assert lasting({}, rows) == {"cpu.model": "AMD EPYC", "device_name of cuda:0": "GPU A"}
    assert lasting(facts(cpu__model="From the kernel"), rows)["cpu.model"] == "From the kernel"
    assert lasting({}, [("cpu:x2", "AMD EPYC")]) == {"cpu.model": "AMD EPYC"}


def test_a_device_with_two_names_in_one_run_has_none():
    """Two libraries may call one device differently; that makes no second computer."""
    assert lasting({}, [("cpu", "AMD EPYC"), ("cpu", "epyc"), ("cuda:0", "GPU A")]) == {
        "device_name of cuda:0": "GPU A"
    }


@pytest.mark.parametrize("value", [None, "", True, "lots", [], {}, 0, -1, math.nan, math.inf, 10**400])
def test_values_that_a_file_should_not_have_count_as_unknown(value):
    found = lasting(facts(memory__total=value, cpu__cores=value))
    assert found == valid({"memory.total": value, "cpu.cores": value}) == {}
    assert contradictions(found, BOX) == ()
    assert valid({**BOX, "another": 1, "device_name of cuda:1": 1}) == BOX


@pytest.mark.parametrize(
    "name",
    [
        "arm",
        "aarch64",
        "i386",
        "x86_64",
        "AMD64",
        "powerpc",
        "Intel64 Family 6 Model 142 Stepping 10, GenuineIntel",
        "ARMv8 (64-bit) Family 8 Model D4B Revision 2, Qualcomm Technologies Inc",
    ],
)
def test_an_architecture_is_no_model_so_that_earlier_tables_of_an_m1_contradict_no_later_ones(name):
    assert lasting(facts(cpu__model=name), [("cpu", name)]) == {}


@pytest.mark.parametrize("value", [None, "", True, 3, [], {}])
def test_a_model_that_is_no_text_counts_as_unknown(value):
    assert lasting(facts(cpu__model=value, system__virtual_machine=value)) == {}


def test_facts_that_change_are_no_lasting_ones():
    assert lasting(facts(load__average=[1.0], memory__available=5, cpu__cores=2)) == {"cpu.cores": 2}


def test_a_contradiction_is_said_in_units():
    assert against("memory.total", [25276514304, 135148564480]) == "memory.total: 25.3 GB against 135 GB"
    assert against("cpu.cores", [2, None, 16]) == "cpu.cores: 2 against unknown against 16"


def test_thread_pools_are_shown_in_words_and_in_one_order():
    """threadpoolctl lists them in the order in which libraries were loaded."""
    blas = {"prefix": "libopenblas", "version": "0.3.31", "architecture": "Zen", "num_threads": 2, "user_api": "blas"}
    openmp = {"prefix": "libgomp", "version": None, "num_threads": 2}
    words = "libgomp with 2 threads, libopenblas 0.3.31 Zen with 2 threads"
    assert shown("threadpools", [blas, openmp]) == shown("threadpools", [openmp, blas]) == words
    assert (shown("threadpools", []), shown("threadpools", ["odd"])) == ("none", "odd")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory.total", 25276514304),
        ("gpu.power_limit", 350.5),
        ("cpu.sm_clock_max", 2e9),
        ("threadpools", [{"prefix": "libgomp", "num_threads": 2}]),
        ("cpu.caches", {"L2": 1 << 20}),
        ("cpu.vectors", ["avx2", "fma"]),
        ("cpu.vectors", []),
    ],
)
def test_a_value_that_became_a_text_is_shown_as_the_value_is(name, value):
    assert shown_text(name, json.dumps(value)) == shown(name, value) != ""


@pytest.mark.parametrize("text", ["2.12", "12", "true", "null", "AMD EPYC", "", "[unset]", "{", "[" * 100_000, '"a"'])
def test_a_text_that_is_no_list_and_has_no_unit_stays_as_it_is(text):
    """A version of 2.10 is no number, and a variable may be set to anything."""
    assert shown_text("package.torch", text) == text


@pytest.mark.parametrize("text", ["unknown", "", "[", "8 GB"])
def test_a_text_in_place_of_a_number_with_a_unit_stays_as_it_is(text):
    assert shown_text("memory.total", text) == text


def test_kinds_of_cores_and_nodes_of_memory_are_shown_in_words_even_if_a_file_has_odd_ones():
    kinds = [
        {"kind": "performance", "cores": 6, "cpus": "0-11", "frequency": 4.7e9, "last_level_cache": 24e6},
        {"kind": "", "cores": 8, "cpus": ""},
    ]
    assert shown("cpu.core_kinds", kinds) == "6 performance cores, CPUs 0-11, 4.70 GHz, 24.0 MB of cache; 8 cores"
    lone = {"kind": "Cortex-X1", "cores": 1, "cpus": "7", "capacity": 1024}
    assert shown("cpu.core_kinds", [lone]) == "1 Cortex-X1 core, CPUs 7, capacity 1024"
    nodes = [{"node": 0, "bytes": 64e9, "cpus": "0-15"}, {"node": 1, "bytes": 128e9, "cpus": ""}]
    assert shown("memory.nodes", nodes) == "node 0: 64.0 GB, CPUs 0-15; node 1: 128 GB, without CPUs"
    assert shown("cpu.core_kinds", [{}, {"frequency": "x"}]) == "? cores; ? cores"
    assert (shown("cpu.core_kinds", []), shown("memory.nodes", ["odd"])) == ("none", "odd")


@pytest.mark.parametrize(
    ("name", "word"), [("package.cupy", "not installed"), ("env.OMP_NUM_THREADS", "unset"), ("cpu.packages", "")]
)
def test_what_it_means_that_a_fact_is_absent_is_known_of_packages_and_variables(name, word):
    assert absent(name) == word


@pytest.mark.parametrize(("number", "version"), [(12080, "12.8"), (13010, "13.1"), (9000, "9.0")])
def test_the_number_by_which_cuda_tells_its_version_is_spelt_out(number, version):
    assert cuda_version(number) == version
