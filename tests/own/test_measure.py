"""`bench_core.measure`: a result to look at, and the same rows as a frame and as files."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import bench_core
from bench_core.errors import UsageError
from bench_core.own.result import Result
from bench_core.records import Row
from tests.own.functions import double

X = np.arange(1.0, 1001.0, dtype="float32")


def test_a_function_is_measured_in_a_worker_and_its_rows_are_those_of_a_run(tmp_path):
    asked = {"backends": ["numpy", "numpy:cuda"], "reference": double, "flops": 1000, "bytes": 8000}
    result = bench_core.measure(double, X, **asked, budget=0.02, output=tmp_path)
    frame = result.to_frame()
    ok = frame.query("status == 'ok'")
    assert set(ok["metric"]) >= {"time", "flop_rate", "bandwidth", "first_call"}
    assert set(ok["suite"]) == {"own"}
    assert (ok["rel_error"] == 0).all()
    assert not ok["flags"].str.contains("not_isolated").any()
    (skipped,) = frame.query("device == 'cuda'").to_dict("records")
    assert (skipped["status"], skipped["reason_code"], skipped["value"]) == ("skipped", "no_device", None)
    pd.testing.assert_frame_equal(frame, bench_core.load(tmp_path))
    title, header, _, line, *_, missing = repr(result).splitlines()  # flags of noise may take more lines
    assert title == "double 1000 float32"
    assert header.split() == ["time", "95", "%", "interval", "rate", "check", *(["flags"] if "flags" in header else [])]
    assert line.startswith("numpy cpu, ")
    assert "error 0.0e+00" in line
    assert missing == "numpy cuda: skipped: numpy finds no cuda device"


def test_what_limits_the_numbers_is_said_below_them():
    result = bench_core.measure(lambda x: 2 * x, X, backends="numpy", bytes=8000, budget=0.02)
    assert [note.partition(":")[0] for note in result.notes] == ["no rate", "measured in this process"]
    assert repr(result).endswith("\n".join(result.notes))
    assert set(result.rows[0].flags.split(";")) >= {"unchecked", "not_isolated"}
    assert "bandwidth" not in set(result.to_frame()["metric"])
    assert result.folder is None


def row(**known):
    columns = {name: "" for name, hint in Row.__annotations__.items() if hint == "str" and name != "schema_version"}
    about = {"workload_version": 1, "threads": None, "workload": "f", "size": "8", "dtype": "float64"}
    about |= {"backend": "numpy", "implementation": "default", "device": "cpu", "metric": "time", "unit": "s"}
    return Row(**{**columns, "clock": "wall", "status": "ok", **about, **known})


def test_text_of_a_library_cannot_paint_the_terminal():
    result = Result((row(status="error", reason="\x1b[31mred"),))
    assert repr(result).splitlines()[-1] == r"numpy cpu: error: \x1b[31mred"


@pytest.mark.parametrize(("encoding", "rule"), [("cp1252", "-----"), ("utf-8", "─────")])
def test_a_result_can_be_printed_whatever_the_encoding_of_stdout(monkeypatch, encoding, rule):
    out = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding, write_through=True))
        print(Result((row(value=2e-3),)))
        sys.stdout.detach()
    assert rule in out.getvalue().decode(encoding)


def test_columns_without_contents_are_left_out():
    header = repr(Result((row(value=2e-3),))).splitlines()[1]
    assert header.split() == ["time", "check"]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"backends": "mlx"}, "measure: backends=mlx: no backend 'mlx'; available: numpy, cupy, torch, jax"),
        (
            {"backends": ["torch:gpu"]},
            "measure: backends=torch:gpu: no type of device 'gpu'; available: cpu, cuda, mps, rocm, tpu, xpu",
        ),
        ({"output": 5}, "measure: output=5: give the path of a folder"),
        ({"budget": 0}, "measure: budget=0: must be a positive number"),
    ],
)
def test_wrong_use_is_one_clear_line(asked, line):
    with pytest.raises(UsageError) as caught:
        bench_core.measure(double, X, **asked)
    assert str(caught.value) == line


def test_a_folder_that_cannot_be_written_is_named_by_the_argument(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError) as caught:
        bench_core.measure(double, X, backends="numpy", output=file)
    assert str(caught.value) == f"measure: output={file}: cannot write there: Not a directory"


def test_a_worker_that_reads_a_function_imports_no_more_than_it_needs():
    code = """
import sys, bench_core
print(*{"numpy", "pandas"} & set(sys.modules))
import bench_core.own.function
print(*{"pandas", "pytest", "rich"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
