"""`bench-core check` from outside: real measurements of a tiny suite, and machines that were planted in folders."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.cli import limits as command
from bench_core.machine import nvml
from bench_core.plan.discovery import Device, Probe
from bench_core.plan.doctor import Findings
from bench_core.records import Fact, Status
from bench_core.run import replicate
from tests.standin import install as standin
from tests.support import ROOT, forked, tables
from tests.support.limits import CEILINGS, FACTS, H100, limit

PRODUCT = """
import numpy as np
import pytest

from bench_core.records import Ceiling, Costs
from bench_core.workload import Kernel, Workload


def product(backend, work, host):
    a, b = backend.from_host(host["a"]), backend.from_host(host["b"])

    def run():
        c = a @ b
        c.view(np.uint64)[17, 23] ^= np.uint64({bit})
        return c

    return Kernel(run)


class Product(Workload):
    suite = "mine"
    name = "product"
    kernels = {{"numpy": {{"default": product}}}}
    ceiling = Ceiling.ARITHMETIC

    def works(self, preset, machine):
        yield self.work("64", "float64")

    def is_headline(self, work, implementation, machine):
        return True

    def inputs(self, work, rng):
        return {{name: rng.standard_normal((64, 64)) for name in "ab"}}

    def costs(self, work):
        return Costs(flops=2.0 * 64**3, least_bytes=3.0 * 8 * 64**2)

    def error(self, work, host, answer):
        right = host["a"] @ host["b"]
        return float(np.linalg.norm(answer["out"] - right) / np.linalg.norm(right))


class Other(Product):
    name = "other"
    ceiling = None


@pytest.mark.workload(Product())
def test_product(measure):
    measure()


@pytest.mark.workload(Other())
def test_other(measure):
    measure()
"""


@pytest.fixture
def project(tmp_path):
    """Return a function that creates a folder with one product; a bit of one element of its answer is flipped."""

    def make(bit=0):
        (tmp_path / "bench_mine.py").write_text(PRODUCT.format(bit=bit), encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")
        return tmp_path

    return make


def clean():
    """Return an environment without the options of this session, in which a bare checkout is found from any folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return kept | {"COLUMNS": "200", "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))}


def launched(turn, output, arguments):
    """Measure as `replicate.launch`, but by a fork: half of a session of so little is imports."""
    line = replicate.command(turn, output, arguments)
    done = forked.run(line[line.index("pytest") + 1 :], Path.cwd(), dict(os.environ))
    output.mkdir(parents=True, exist_ok=True)
    (output / replicate.LOG).write_text(done.stdout, encoding="utf-8")
    return done.returncode


@pytest.fixture
def findings(monkeypatch):
    """Replace the findings of doctor, so that no process is started for them and nothing waits."""
    monkeypatch.setattr(replicate, "launch", launched)
    pools = [{"internal_api": "openblas", "architecture": "Haswell"}]
    numpy = Probe("numpy", "2", (Device("cpu", "X", "", {"threadpools": Fact(pools)}),))
    monkeypatch.setattr(command, "gather_findings", lambda: Findings({}, [numpy], openblas_best="SKYLAKEX"))
    for name in [name for name in os.environ if name.startswith("PYTEST_ADD")]:
        monkeypatch.delenv(name)


def invoke(*arguments):
    return CliRunner().invoke(app, ["check", *(str(a) for a in arguments)], env={"COLUMNS": "200"})


def checked(*arguments):
    return invoke(*arguments, "--bench-backends=numpy", "--bench-budget=0.02")


def test_a_flipped_bit_in_a_product_is_wrong(project, findings, monkeypatch):
    monkeypatch.chdir(project(bit=1 << 40))
    done = checked()
    assert done.exit_code == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "product 64 float64" in line]
    assert line.split()[0] == "wrong"
    assert "invalid: relative error" in line
    assert "Not all right" in done.stdout


def test_a_right_product_on_an_unknown_device_is_shown_as_nothing_known(project, findings, monkeypatch):
    folder = project()
    monkeypatch.chdir(folder)
    done = checked("--json")
    assert done.exit_code == 3, done.stderr
    plain = json.loads(done.stdout)
    (reading,) = plain["readings"]  # `other` shows no limit
    assert (reading["what"], reading["who"], reading["verdict"]) == ("float64 product", "numpy", "nothing known")
    assert reading["value"] > 0
    assert plain["exit_code"] == 3
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("-k", "nothing_of_the_kind", "--bench-backends=numpy"),
            "no benchmark of a limit matches; --bench-suite=always selects",
        ),
        (("--bench-presett=x",), "unrecognized arguments: --bench-presett=x"),
        (("--bench-output=here",), "check keeps no results"),
        (("--from=nowhere", "-k", "x"), "--from measures nothing: leave out -k"),
        (("--from=nowhere",), "--from nowhere: nowhere: no such file or folder"),
        ((f"--from={'x' * 300}",), "cannot be read: File name too long"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(project, findings, monkeypatch, arguments, said):
    monkeypatch.chdir(project())
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("bench-core: ")
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_a_measurement_that_was_killed_is_told_by_its_signal(findings, monkeypatch):
    def killed(turn, output, arguments):
        output.mkdir()
        (output / replicate.LOG).write_text("collected 1 item\n", encoding="utf-8")
        return -9

    monkeypatch.setattr(replicate, "launch", killed)
    done = invoke()
    assert done.exit_code == 2
    assert "nothing was measured, pytest was killed by SIGKILL: collected 1 item" in done.stderr


def test_what_doctor_warns_of_is_quoted_and_a_card_that_no_library_uses_is_told(project, findings, monkeypatch):
    """With such a card the machine is not all right."""
    monkeypatch.chdir(project())
    real = command.gather_findings
    card = {"gpu.name": Fact(H100, "nvmlDeviceGetName"), "gpu.driver": Fact("470.1", "nvmlSystemGetDriverVersion")}
    monkeypatch.setattr(command, "gather_findings", lambda: dataclasses.replace(real(), cards=[card]))
    done = checked()
    assert done.exit_code == 3, done.output
    warnings = done.stdout.partition("Warnings of bench-core doctor\n")[2]
    assert "  NumPy multiplies with OpenBLAS's haswell kernels" in warnings
    assert "two minutes" in done.stderr
    assert f"gpu, {H100}" in done.stdout
    assert "no installed library computes on it" in done.stdout


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], ["-m", "ceiling", "-k", "not (cpu and bfloat16)"]),
        (["-k", "torch", "-q"], ["-q", "-m", "ceiling", "-k", "not (cpu and bfloat16) and (torch)"]),
        (["-mgpu"], ["-m", "ceiling and (gpu)", "-k", "not (cpu and bfloat16)"]),
    ],
)
def test_what_a_user_selects_is_selected_from_the_limits(given, passed):
    assert command.selecting(given) == passed


def test_gathered_findings_hold_the_card_and_the_load(monkeypatch):
    monkeypatch.setattr("bench_core.plan.discovery.probe", lambda name: Probe(name, reason_code="crashed", reason="x"))
    monkeypatch.setattr("bench_core.plan.findings.LOOK_S", 0.1)
    with standin.pynvml_module():
        nvml._nvml.cache_clear()
        found = command.gather_findings()
    nvml._nvml.cache_clear()
    assert found.cards[0]["gpu.name"].value == H100
    assert found.host["load.busy"].value is not None


def planted(folder, *measurements, ceilings=None, **facts):
    """Write a run of a machine with one H100; returns its folder."""
    worker = {name: {"value": value, "source": "planted"} for name, value in (FACTS | facts).items()}
    about = {"environment": {"host": {}, "workers": {"e": worker}}}
    about |= {"ceilings": {name: str(c) for name, c in CEILINGS.items()} if ceilings is None else ceilings}
    return tables.write(folder, measurements, about=about)


GOOD = (limit("square", 720e12, dtype="bfloat16"), limit("duplicate", 2900e9), limit("up", 51e9), limit("call", 5e-6))


def test_a_folder_of_a_good_machine_is_in_range_with_exit_code_0(tmp_path):
    done = invoke("--from", planted(tmp_path, *GOOD))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"cuda:0, {H100}"
    assert [" ".join(line.split()) for line in lines[1:5]] == [
        "in range bfloat16 product torch 720 TFLOP/s normal 627 TFLOP/s to 874 TFLOP/s [1]",
        "in range copy in memory torch 2.90 TB/s normal 2.32 TB/s to 3.35 TB/s [2]",
        "in range host to device torch 51.0 GB/s normal 47.3 GB/s to 59.9 GB/s [3]",
        "nothing known one launch torch 5.00 µs",
    ]
    assert any("[1] stas00/ml-engineering, compute/accelerator/README.md" in line for line in lines)
    assert any("[3] PCIe 5.0 x16" in line for line in lines)
    assert "doctor" not in done.stdout, "the folder may be of another machine"


def test_faults_of_a_folder_are_named_below_what_is_low(tmp_path):
    low = limit("square", 380e12, dtype="bfloat16"), limit("up", 12.6e9), limit("duplicate", 1e12)
    facts = {"gpu.pcie_width": 4, "gpu.power_limit": 350.0}
    done = invoke("--from", planted(tmp_path, *low, **facts))
    assert done.exit_code == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    low_ones = [i for i, line in enumerate(lines) if line.startswith("low")]
    below = {lines[i].split(maxsplit=1)[1].split("  ")[0]: lines[i + 1] for i in low_ones}
    assert below == {
        "bfloat16 product": "power is capped: 350 W of 700 W",
        "copy in memory": "power is capped: 350 W of 700 W",
        "host to device": "4 of 16 PCIe lanes",
    }


def test_a_low_value_without_a_cause_says_so(tmp_path):
    done = invoke("--from", planted(tmp_path, limit("square", 380e12, dtype="bfloat16")))
    assert done.exit_code == 1
    assert "no cause is confirmed by the driver or the rows" in done.stdout


def test_json_of_a_folder_holds_readings_and_exit_code(tmp_path):
    plain = json.loads(invoke("--json", "--from", planted(tmp_path, *GOOD)).stdout)
    assert plain["exit_code"] == 0
    assert plain["readings"][0]["normal"]["source"].startswith("stas00/ml-engineering")
    assert plain["doctor"] == []


@pytest.mark.parametrize(
    ("ceilings", "said"),
    [
        ("", "does not name the workloads of limits"),
        ({}, "no row measures a limit"),
        ({"square": "?"}, "no row measures"),
    ],
)
def test_a_folder_that_names_no_limit_cannot_be_judged(tmp_path, ceilings, said):
    done = invoke("--from", planted(tmp_path, *GOOD, ceilings=ceilings))
    assert done.exit_code == 2
    assert said in done.stderr


def test_escapes_and_markup_in_a_folder_are_shown_as_plain_text(tmp_path):
    """Escape sequences and markup in a reason or a device name from a file have no effect."""
    bad = limit("square", device="[red]X\x1b[2J", status=Status.INVALID, reason="[bold]\x1b]0;title\x07no[/]")
    done = invoke("--from", planted(tmp_path, bad))
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout
    assert "[red]X" in done.stdout
    assert "[bold]" in done.stdout


@pytest.mark.faults
def test_a_check_that_is_killed_ends_its_measurement(project, tmp_path):
    folder = project()
    text = (folder / "bench_mine.py").read_text(encoding="utf-8").replace("return Kernel(run)", "hang()")
    hang = """
def hang():
    import os, pathlib, time
    pathlib.Path("pid").write_text(str(os.getppid()))
    time.sleep(100)
"""
    (folder / "bench_mine.py").write_text(text + hang, encoding="utf-8")
    absent = tmp_path / "absent"  # what doctor would look for devices with, which takes seconds
    absent.mkdir()
    for name in ("torch", "jax"):
        (absent / f"{name}.py").write_text("raise ImportError", encoding="utf-8")
    environ = clean()
    environ["PYTHONPATH"] += os.pathsep + str(absent)
    line = [sys.executable, "-m", "bench_core", "check", "--bench-backends=numpy"]
    with subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as run:
        deadline = time.monotonic() + 120
        while not (folder / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(90) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)
