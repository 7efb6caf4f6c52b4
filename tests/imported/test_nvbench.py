"""The JSON and the CSV of nvbench: times by two clocks, cold and hot, and one case whichever form a run is saved in."""

import json

import pytest

from bench_core.errors import TableError
from bench_core.imported.nvbench import read
from tests.support.other_programs import H100, NVBENCH_CSV, nvbench


def by_kind(entry):
    return {(q.metric, q.clock, q.cache): q.statistics for q in entry.quantities}


def test_the_json_has_medians_and_quartiles_in_its_columns():
    found = read("n.json", json.dumps(nvbench()))
    done, skipped = found.entries
    assert (done.workload, done.size, done.device, done.device_name) == ("copy_kernel", "1024", "cuda:0", H100)
    assert done.params == {"Elements": "1024", "T_ct": "F32"}
    kinds = by_kind(done)
    assert kinds["time", "wall", "cold"] == {"value": 3e-4, "mean": 3e-4, "std": 1e-5, "n": 500}
    of_all = {"value": 1.9e-4, "mean": 2e-4, "std": 2e-5, "min": 1e-4, "max": 4e-4, "p25": 1.5e-4, "p75": 2.5e-4}
    assert kinds["time", "device", "cold"] == of_all | {"n": 500}
    assert kinds["time", "device", "hot"] == {"value": 1e-4, "mean": 1e-4, "n": 900}
    assert kinds["bandwidth", "device", "cold"]["value"] == 2e12
    assert kinds["gpu_clock", "", "cold"]["value"] == 1.7e9
    assert len(kinds) == 5  # the rate `inf` is none
    assert (skipped.status, skipped.reason, skipped.quantities) == ("skipped", "too large", ())
    assert (found.version, found.machine, found.worker_facts["gpu.name"].value) == (
        "0.1.0",
        "nvidia-h100-80gb-hbm3",
        H100,
    )


def test_the_csv_gives_the_same_cases():
    of_csv, of_json = read("n.csv", NVBENCH_CSV), read("n.json", json.dumps(nvbench()))
    for one, other in zip(of_csv.entries, of_json.entries, strict=True):
        assert (one.workload, one.params, one.size, one.device) == (
            other.workload,
            other.params,
            other.size,
            other.device,
        )
        assert one.status == other.status
    kinds = by_kind(of_csv.entries[0])
    assert kinds["time", "wall", "cold"] == pytest.approx({"value": 3e-4, "mean": 3e-4, "std": 3e-5, "n": 500})
    assert kinds["time", "device", "cold"] == pytest.approx({"value": 2e-4, "mean": 2e-4, "std": 5e-5, "n": 500})
    assert kinds["time", "device", "hot"] == {"value": 1e-4, "mean": 1e-4, "n": 900}
    assert kinds["sample_rate", "device", "cold"]["value"] == 5e9


def test_noise_in_percent_as_earlier_versions_wrote_it_is_a_share():
    old = NVBENCH_CSV.replace("Noise", "Noise (%)").replace(",0.25,", ",25,")
    assert by_kind(read("n.csv", old).entries[0])["time", "device", "cold"]["std"] == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("F32,No", "pair<int, float>,No", r"n.csv:2: 18 cells under 17 columns \(use the JSON"),
        (",2e-4,", ",fast,", "n.csv:2: column 'GPU Time .sec.' holds 'fast'"),
        ("kernel,0,NVIDIA H100 80GB HBM3,2^10", "kernel,a,x,2^10", "n.csv:2: column 'Device' holds 'a'"),
        (",900,1e-4", "", r"n.csv:2: 15 cells under 17 columns \(cut off"),
        ("Skipped", "Skip", "n.csv:1: not the header of the CSV of nvbench"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(old, new, said):
    with pytest.raises(TableError, match=f"^{said}"):
        read("n.csv", NVBENCH_CSV.replace(old, new))


def test_a_json_from_before_tags_is_refused_by_its_version():
    document = nvbench()
    document["benchmarks"][0]["states"][0]["summaries"] = [{"hint": "duration"}]
    with pytest.raises(TableError, match=r"states\[0\].summaries\[0\]: has no tag: .* before its version 1.0"):
        read("n.json", json.dumps(document))
