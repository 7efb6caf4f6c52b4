"""The output of BabelStream: the printed rate is that of the fastest call, and the device is told from the text."""

import pytest

from bench_core.errors import TableError
from bench_core.imported.babelstream import read
from tests.support.other_programs import BABELSTREAM, BABELSTREAM_CSV, BABELSTREAM_OLD, H100

ONE_KERNEL = """\
BabelStream
Version: 4.0
Implementation: OpenMP
Running triad 10 times
Number of elements: 1000000
Precision: double
--------------------------------
Runtime (seconds): 0.01200
Bandwidth (GB/s):  20.000
"""


def test_the_text_gives_times_rates_bytes_and_the_device():
    found = read("b.txt", BABELSTREAM)
    copied, triad = found.entries
    assert (copied.workload, copied.size, copied.dtype) == ("Copy", "33554432", "float64")
    assert (copied.implementation, copied.device, copied.device_name) == ("CUDA", "cuda:0", H100)
    array = 33554432 * 8
    assert (copied.bytes, triad.bytes) == (2 * array, 3 * array)
    time, bandwidth = (q.statistics for q in copied.quantities)
    assert (time["value"], time["mean"], time["max"], time["n"]) == (0.00019, 0.00019, 0.00021, 99)
    assert time["min"] == pytest.approx(2 * array / 2925043.113e6)
    assert (bandwidth["value"], bandwidth["max"]) == (pytest.approx(2 * array / 0.00019), 2925043.113e6)
    assert bandwidth["min"] == pytest.approx(2 * array / 0.00021)
    assert (found.version, found.machine, found.started_at) == ("5.0", "nvidia-h100-80gb-hbm3", "")
    assert found.worker_facts["gpu.driver_cuda"].value == "12040"


def test_an_older_text_has_the_size_that_it_prints_and_its_bytes_stay_empty():
    found = read("b.txt", BABELSTREAM_OLD)
    (copied,) = found.entries
    assert (copied.size, copied.dtype, copied.bytes) == ("134.2_MB", "float32", None)
    assert (copied.device, copied.device_name) == ("cpu", "Intel(R) Xeon(R) CPU E5-2697")
    assert (found.machine, found.notes) == ("", ())


def test_the_csv_is_found_behind_what_the_implementation_prints():
    (copied,) = read("b.csv", BABELSTREAM_CSV).entries
    assert (copied.device, copied.device_name, copied.implementation) == ("cuda:0", "Tesla V100", "default")
    time, bandwidth = (q.statistics for q in copied.quantities)
    assert (time["value"], time["min"], time["max"], time["n"]) == (2e-6, pytest.approx(1e-6), 4e-6, 99)
    assert (copied.bytes, bandwidth["value"], bandwidth["max"]) == (16384.0, pytest.approx(16384 / 2e-6), 16384e6)


@pytest.mark.parametrize(("unit", "factor"), [("MiB", 2**20), ("GB", 1e9), ("TiB", 2**40), ("mibytes", 2**20)])
def test_any_unit_and_separator_of_the_csv_is_read(unit, factor):
    rate = 16384e6 / factor
    text = BABELSTREAM_CSV.replace("max_mbytes", f"max_{unit}").replace(",16384,", f",{rate},").replace(",", ";")
    (copied,) = read("b.csv", text).entries
    assert copied.quantities[1].statistics["max"] == pytest.approx(16384e6)


def test_calls_that_were_timed_together_give_a_mean():
    (triad,) = read("b.txt", ONE_KERNEL).entries
    time, bandwidth = (q.statistics for q in triad.quantities)
    assert (triad.workload, triad.device, triad.bytes) == ("Triad", "cpu", 24e6)
    assert time == {"value": pytest.approx(0.0012), "mean": pytest.approx(0.0012), "n": 10}
    assert bandwidth["value"] == pytest.approx(20e9)


def test_a_failed_validation_makes_all_results_invalid():
    found = read("b.txt", "Validation failed on a[]. Average error 0.1\n" + BABELSTREAM)
    assert {(e.status, e.reason_code, e.quantities) for e in found.entries} == {("invalid", "wrong_answer", ())}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BABELSTREAM.partition("Function")[0], "b.txt: no table of results"),
        (
            BABELSTREAM.replace("0.00018     0.00021     0.00019", "0.00018"),
            "b.txt:13: 2 numbers instead of 4: cut off",
        ),
        (BABELSTREAM + BABELSTREAM, "b.txt:26: a second table of results"),
        (BABELSTREAM.replace("MB/s", "XB/s"), "b.txt:12: 'xb' is no unit"),
        (BABELSTREAM_CSV.replace("Copy,100,", "Copy,1,"), "b.txt:6: the number of calls is 0"),
        (BABELSTREAM_CSV.replace(",2e-06", ""), "b.txt:6: 7 cells under 8 columns: cut off"),
        (BABELSTREAM_CSV.replace("1e-06", "-1"), "b.txt:6: column 'min_runtime' holds '-1'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, said):
    with pytest.raises(TableError) as raised:
        read("b.txt", text)
    assert str(raised.value).startswith(said)
