"""What differs between the environments of one node and most others is told; what varies, only if it is far off."""

from dataclasses import replace

import pytest

from bench_core.compare.loading import Reading
from bench_core.diagnosis.evidence import MOST, Evidence
from tests.support.fleet_tables import fleet, node, reading_of
from tests.support.hostile import CELL_TEXTS

NODES = 8


def causes(machine=3, nodes=NODES, **planted):
    return Evidence.of(map(node, range(1, nodes + 1)), fleet(nodes, **planted)).causes(node(machine))


def test_of_equal_environments_nothing_is_said():
    evidence = Evidence.of(map(node, range(1, 9)), fleet(NODES))
    assert [evidence.causes(node(number)) for number in range(1, 9)] == [()] * NODES


@pytest.mark.parametrize(
    ("owner", "fact", "usual", "odd", "told"),
    [
        ("gpu", "gpu.driver", "580", "570", "driver: 570; on 7 of 7 other nodes: 580"),
        ("gpu", "gpu.ecc", True, False, "ECC: no; on 7 of 7 other nodes: yes"),
        (
            "gpu",
            "gpu.sm_clock_max",
            1.98e9,
            1.2e9,
            "highest clock of the GPU: 1.20 GHz; on 7 of 7 other nodes: 1.98 GHz",
        ),
        ("gpu", "gpu.power_limit", 700.0, 500.0, "power limit: 500 W; on 7 of 7 other nodes: 700 W"),
        (
            "gpu",
            "gpu.throttle_reasons",
            ["idle"],
            ["idle", "hardware_thermal"],
            "what limited its clocks before any work: hardware_thermal; on 7 of 7 other nodes: nothing",
        ),
        ("gpu", "gpu.pcie_generation", 5, 3, "PCIe generation: 3; on most other nodes: 5"),
        (
            "gpu",
            "gpu.ecc_errors",
            0,
            12,
            "memory errors of the GPU that ECC could not correct: 12; on most other nodes: 0",
        ),
        ("gpu", "gpu.remapped_rows", 0, 2, "rows of the GPU's memory that were replaced: 2; on most other nodes: 0"),
        (
            "gpu",
            "gpu.temperature",
            40,
            71,
            "temperature of the GPU before any work: 71 degrees C; on most other nodes: 40 degrees C",
        ),
        ("gpu", "gpu.other_processes", 0, 2, "other processes on the GPU: 2; on most other nodes: 0"),
        ("host", "memory.total", 128e9, 125e9, "memory: 125 GB; on most other nodes: 128 GB"),
        ("host", "memory.bandwidth", 300e9, 260e9, "bandwidth of its DIMMs: 260 GB/s; on 7 of 7 other nodes: 300 GB/s"),
        ("host", "system.kernel", "6.1", "6.8", "kernel: 6.8; on 7 of 7 other nodes: 6.1"),
        (
            "host",
            "cpu.governor",
            "performance",
            "powersave",
            "CPU governor: powersave; on 7 of 7 other nodes: performance",
        ),
        (
            "host",
            "load.average",
            [0.1, 0.1, 0.1],
            [9.5, 3.0, 1.0],
            "load before the run: 9.5; on most other nodes: 0.1",
        ),
        ("host", "package.torch", "2.13", "2.12", "packages: torch 2.12 instead of 2.13"),
        ("host", "package.torch", "2.13", None, "packages: torch not installed instead of 2.13"),
        ("host", "env.OMP_NUM_THREADS", None, "4", "environment variables: OMP_NUM_THREADS 4 instead of unset"),
    ],
)
def test_a_fact_of_one_node_is_told_beside_that_of_the_others(owner, fact, usual, odd, told):
    facts = {number: {fact: odd if number == 3 else usual} for number in range(1, NODES + 1)}
    assert causes(3, **{owner: facts}) == (told,)
    assert causes(5, **{owner: facts}) == ()


def test_four_nodes_with_one_fault_do_not_hide_each_other():
    facts = {
        n: {"gpu.driver": "570" if n <= 4 else "580", "gpu.temperature": 75 if n <= 4 else 40} for n in range(1, 21)
    }
    assert causes(3, 20, gpu=facts) == (
        "driver: 570; on 16 of 19 other nodes: 580",
        "temperature of the GPU before any work: 75 degrees C; on most other nodes: 40 degrees C",
    )
    assert causes(9, 20, gpu=facts) == ()


def test_without_a_majority_nothing_is_told():
    facts = {number: {"gpu.driver": str(500 + number % 3)} for number in range(1, NODES + 1)}
    assert causes(3, gpu=facts) == ()


def test_a_number_within_the_range_of_the_others_or_near_it_is_not_told():
    facts = {number: {"gpu.temperature": 40 + number} for number in range(1, NODES + 1)}
    assert [causes(number, gpu=facts) for number in (1, 3, 8)] == [()] * 3
    scattered = {number: {"gpu.temperature": 30 + 6 * number} for number in range(1, NODES + 1)}
    assert causes(8, gpu=scattered) == ()  # 12 degrees above most of the others, which are 30 apart
    cool = {3: {"gpu.temperature": 10}}
    assert causes(3, gpu=cool) == ()  # a cool card is no cause


def test_facts_that_are_unknown_are_not_told():
    assert causes(3, gpu={3: dict.fromkeys(("gpu.driver", "gpu.ecc", "gpu.temperature"))}) == ()
    others = {number: {"gpu.driver": None} for number in range(1, NODES + 1) if number not in {3, 4}}
    assert causes(3, gpu={**others, 3: {"gpu.driver": "570"}}) == ()  # only one other knows it


def test_the_link_of_a_card_counts_as_fast_as_it_was_seen():
    """An idle card lowers its generation."""
    facts = {number: {"gpu.pcie_generation": 5} for number in range(1, NODES + 1)}
    readings = [r for r in fleet(NODES, gpu=facts) if r.origins[0][1] != "node-03"]
    readings += [reading_of(3, run, gpu={"gpu.pcie_generation": 1 if run else 5}) for run in range(3)]
    assert Evidence.of(map(node, range(1, 9)), readings).causes("node-03") == ()


def test_a_power_limit_below_the_default_is_told_once_with_both():
    def limits(watts):
        return {"gpu.power_limit": watts, "gpu.power_limit_default": 700.0}

    facts = {number: limits(450.0 if number == 3 else 700.0) for number in range(1, NODES + 1)}
    assert causes(3, gpu=facts) == ("power limit: capped at 450 W of 700 W; on 7 of 7 other nodes: as delivered",)


def test_pcie_lanes_are_told_against_those_that_the_link_has():
    facts = {n: {"gpu.pcie_width": 8 if n == 3 else 16, "gpu.pcie_width_max": 16} for n in range(1, NODES + 1)}
    assert causes(3, gpu=facts) == ("PCIe lanes: 8 of 16; on 7 of 7 other nodes: 16 of 16",)


def test_flags_are_told_by_the_share_of_results_that_have_them():
    (told,) = causes(3, flags={3: ("throttled",)})
    assert told == "heat or a power limit slowed the GPU: 100 % of the cases; on most other nodes: 0 % of the cases"
    assert causes(5, flags={3: ("throttled",)}) == ()
    assert causes(3, flags=dict.fromkeys(range(1, NODES + 1), ("throttled",))) == ()
    assert causes(3, flags={3: ("near_cache",)}) == ()


def after(number, run, **values):
    """Return the reading of a run in which metrics of the GPU were read right after the timed blocks."""
    table = reading_of(number, run)
    (time,) = (row for row in table.rows if row.device == "cuda:0" and row.metric == "time")
    more = [replace(time, metric=name, unit="1", clock="", value=value) for name, value in values.items()]
    return Reading.of(table.path, [*table.rows, *more], "", table.files)


def test_clock_and_temperature_right_after_the_blocks_are_told_against_the_fleet():
    readings = [
        after(
            n, run, gpu_clock=1.98e9 * (0.9 if n == 3 else 1 + 0.001 * n), gpu_temperature=84 if n == 3 else 60 + n % 3
        )
        for n in range(1, NODES + 1)
        for run in range(3)
    ]
    evidence = Evidence.of(map(node, range(1, 9)), readings)
    clock, heat = evidence.causes("node-03")
    assert clock == (
        "clock of the GPU right after the timed blocks, from the median node: -10.4 %; on most other nodes: "
        "-0.2 % to +0.2 %"
    )
    assert heat == (
        "temperature of the GPU right after the timed blocks, from the median node: +22 degrees C; "
        "on most other nodes: -2 degrees C to +0 degrees C"
    )
    assert evidence.causes("node-05") == ()


def test_the_library_that_computed_is_told():
    readings = fleet(NODES)
    odd = [r for r in readings if r.origins[0][1] == "node-03"]
    readings = [r for r in readings if r not in odd] + [
        Reading.of(r.path, [replace(row, library="OtherBLAS 2") for row in r.rows], "", r.files) for r in odd
    ]
    assert Evidence.of(map(node, range(1, 9)), readings).causes("node-03") == (
        "library: OtherBLAS 2; on 7 of 7 other nodes: SomeBLAS 1",
    )


def test_the_most_telling_come_first_and_no_more_than_eight_are_told():
    odd = {f"x.{letter}": "odd" for letter in "abcdefghij"} | {"system.kernel": "6.8"}
    usual = {f"x.{letter}": "usual" for letter in "abcdefghij"} | {"system.kernel": "6.1"}
    told = causes(
        3,
        host={number: odd if number == 3 else usual for number in range(1, NODES + 1)},
        gpu={3: {"gpu.driver": "1"}},
    )
    assert len(told) == MOST
    assert [line.split(":")[0] for line in told[:3]] == ["driver", "kernel", "x.a"]


def test_many_packages_are_one_sentence():
    facts = {f"package.p{n}": "1" for n in range(6)}
    (told,) = causes(3, host={3: facts} | {n: dict.fromkeys(facts, "2") for n in range(1, 9) if n != 3})
    assert told == ("packages: p0 1 instead of 2, p1 1 instead of 2, p2 1 instead of 2, p3 1 instead of 2, 2 more")


def test_a_fact_that_changed_between_the_runs_of_a_node_is_told_with_both_values():
    readings = fleet(NODES)
    readings[6] = reading_of(3, 0, gpu={"gpu.driver": "570"})
    (told,) = Evidence.of(map(node, range(1, 9)), readings).causes("node-03")
    assert told == "driver: 570 / 580.95; on 7 of 7 other nodes: 580.95"


def test_of_tables_without_run_json_nothing_is_said():
    bare = [Reading.of(r.path, r.rows) for r in fleet(4)]
    assert Evidence.of(map(node, range(1, 5)), bare).causes("node-01") == ()


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_no_text_of_a_file_reaches_a_cause_unescaped(text):
    host = {number: dict.fromkeys(("cpu.governor", "package.torch", "x"), "usual") for number in range(1, 5)}
    host[3] = dict.fromkeys(host[3], text) | {text: text}
    told = causes(3, 4, host=host, gpu={3: {"gpu.driver": text}})
    assert len(told) == 4
    assert all(line.isprintable() for line in told)


@pytest.mark.parametrize(
    "odd", ["x", [], ["x"], {}, {"a": [1]}, True, 10**299, -1, 0, [None], 1e300, [1e300]], ids=repr
)
def test_facts_of_any_type_raise_nothing(odd):
    names = ("temperature", "throttle_reasons", "power_limit", "power_limit_default", "pcie_width", "pcie_width_max")
    told = causes(1, 4, host={1: {"load.average": odd}}, gpu={1: {f"gpu.{name}": odd for name in names}})
    assert all(line.isprintable() for line in told)
