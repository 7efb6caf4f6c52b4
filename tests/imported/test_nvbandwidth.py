"""The output of nvbandwidth: each number of a matrix is a case of the GPU that it belongs to, and 0 is none."""

import json

import pytest

from bench_core.errors import TableError
from bench_core.imported.nvbandwidth import read
from tests.support.other_programs import H100, HOST, NVBANDWIDTH, nvbandwidth


def numbers(found):
    return [
        (e.workload, e.device, e.params.get("peer"), q.metric, pytest.approx(q.statistics["value"]))
        for e in found.entries
        for q in e.quantities
    ]


def test_each_number_of_the_text_is_a_case():
    found = read("n.txt", NVBANDWIDTH)
    assert numbers(found) == [
        ("host_to_device_memcpy_ce", "cuda:0", "cpu0", "bandwidth", 55.26e9),
        ("host_to_device_memcpy_ce", "cuda:1", "cpu0", "bandwidth", 55.25e9),
        ("device_to_device_memcpy_read_ce", "cuda:0", "gpu1", "bandwidth", 395.02e9),
        ("host_device_latency_sm", "cuda:0", "cpu0", "load_latency", 680e-9),
        ("host_device_latency_sm", "cuda:1", "cpu0", "load_latency", 695e-9),
    ]
    assert (found.entries[-1].status, found.entries[-1].reason) == ("error", "out of memory")
    assert (found.version, found.machine) == ("v0.8", "2x-nvidia-h100-80gb-hbm3")
    facts = {name: fact.value for name, fact in found.worker_facts.items()}
    assert facts == {"gpu.driver": "550.54.15", "gpu.driver_cuda": "12.4", "gpu.name": H100}
    assert HOST not in repr(found)


def test_the_json_gives_the_same_case_as_the_text():
    found = read("n.json", json.dumps(nvbandwidth()))
    (first, waived), (of_text, *_) = found.entries, read("n.txt", NVBANDWIDTH).entries
    assert (first.workload, first.params, first.device, first.quantities) == (
        of_text.workload,
        of_text.params,
        of_text.device,
        of_text.quantities,
    )
    assert (waived.status, waived.reason_code) == ("unsupported", "waived")
    assert HOST not in repr(found)


def test_several_matrices_of_one_test_are_works_of_their_own():
    direction = "memcpy CE GPU(row) <-> GPU(column) {} bandwidth (GB/s)\n  0 1\n 0 N/A 20\n\n"
    text = "Running both_ways.\n" + direction.format("Read1") + direction.format("Total")
    assert [e.params["kind"] for e in read("n.txt", text).entries] == ["read1", "total"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NVBANDWIDTH.replace(" 0     55.26     55.25\n", ""), "n.txt:13: host_to_device_memcpy_ce: no numbers after"),
        (NVBANDWIDTH.replace("     55.25\n", "\n"), "n.txt:15: host_to_device_memcpy_ce: 1 number under 2 columns"),
        (NVBANDWIDTH.replace("55.26", "5x.26"), "n.txt: line 13, host_to_device_memcpy_ce: '5x.26' is not a number"),
        (NVBANDWIDTH.replace("(GB/s)", "(parsecs)"), "n.txt: line 13, host_to_device_memcpy_ce: no known unit at the"),
        (NVBANDWIDTH.partition("Running")[0], "n.txt: no results: the output was cut off"),
        (json.dumps({"nvbandwidth": {"error": "no driver"}}), "n.txt: nvbandwidth: has no testcases: no driver"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, said):
    with pytest.raises(TableError) as raised:
        read("n.txt", text)
    assert str(raised.value).startswith(said)
