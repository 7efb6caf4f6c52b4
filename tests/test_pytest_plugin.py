"""The plugin, from outside: real pytest runs over a small benchmark folder, read back from what they wrote."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from _pytest.runner import runtestprotocol

import bench_core
from bench_core.noise import cases
from bench_core.plan.targets import Targets
from bench_core.pytest_plugin import _STATE, _mentions_workloads, pytest_report_collectionfinish
from bench_core.pytest_replay import ReplayClock, replay
from bench_core.records import Case, Clock, Measurement, Series, Status
from bench_core.results import schema
from bench_core.run import journal
from bench_core.run import tries as tries_of_a_run
from bench_core.run.session import write_cases
from tests.support import TESTS, forked
from tests.support.measurements import measurement
from tests.support.probes import PROBES
from tests.support.toy_sessions import TOY_FUNCTION, Try, toy_session
from tests.support.workloads import SMALL_SUITE

pytest_plugins = "pytester"
FAULTS = (TESTS / "faulty" / "faults.py").read_text(encoding="utf-8")
QUICK = (
    *("--benchmark-only", "--bench-preset=smoke", "--bench-budget=0.02"),
    *("--bench-backends=numpy", "--bench-machine=m"),
)


@pytest.fixture
def project(installed, tmp_path):
    """A folder with the faulty workloads and nothing else."""
    (tmp_path / "bench_faults.py").write_text(FAULTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py test_*.py\n", encoding="utf-8")
    return tmp_path


def pytest_in(project, *arguments, **environ):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"COLUMNS": "100"} | environ
    return forked.run(["-p", "no:cacheprovider", "-p", "no:xdist", *arguments], project, clean)


def results(project):
    return bench_core.load(project / "results")


def test_a_run_measures_writes_a_folder_and_says_where(project):
    done = pytest_in(project, "-k", "test_good and numpy", *QUICK)
    assert done.returncode == 0, done.stdout
    (folder,) = (project / "results" / "m").iterdir()
    assert f"results: results/m/{folder.name}" in done.stdout
    assert {p.name for p in folder.iterdir()} == {"results.csv", "samples.csv", "run.json"}
    assert {p.name for p in project.iterdir()} - {"__pycache__"} == {"bench_faults.py", "pytest.ini", "results"}
    rows = results(project)
    assert set(rows["metric"]) >= {"time", "flop_rate", "bandwidth", "first_call"}
    assert (rows["status"] == "ok").all()
    assert (rows["value"] > 0).all()


def test_a_round_measures_its_cases_alone_and_leaves_the_devices_for_the_next(project):
    """What it shows is in a log; the summary is for the end of the series."""
    case = Case(cases.Add().work("1000", "float32", n=1000), "numpy", "cpu")
    write_cases(project / "cases", [case])
    done = pytest_in(project, cases.__file__, "--bench-cases=cases", "--bench-probes=probes", *QUICK)
    assert done.returncode == 0, done.stdout
    assert set(results(project)["size"]) == {"1000"}
    assert json.loads((project / "probes").read_text())["backend"] == "numpy"
    assert "bench-core compare" not in done.stdout


TWO_RATES = """
import pytest
from bench_core import check
from bench_core.workload import Costs, Kernel, Limit, Traits, Workload

def double(backend, work, host):
    x = backend.from_host(host["x"])
    return Kernel(lambda: x * 2, inputs={"x": x})

class Product(Workload):
    suite, name, flops = "own", "product", 1.0
    kernels = {"array": {"default": double}}
    traits = Traits(measures=Limit.COMPUTE)

    def works(self, preset, machine):
        return [self.work("1", "float32", n=1000)]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(work["n"], dtype="float32")}

    def costs(self, work):
        return Costs(flops=self.flops)

    def error(self, work, expected, answer):
        return check.relative_error(answer["out"], 2 * expected["x"].astype("float64"))

class Model(Product):
    name, flops, traits = "model", 1e4, Traits()

@pytest.mark.workload(Product())
def test_product(measure):
    measure()

@pytest.mark.workload(Model())
def test_model(measure):
    measure()
"""


def test_a_run_says_at_its_end_how_many_results_are_above_a_ceiling(installed, tmp_path):
    """Both do the same; the model says that it does ten thousand times the FLOPs."""
    (tmp_path / "bench_two.py").write_text(TWO_RATES, encoding="utf-8")
    done = pytest_in(tmp_path, "bench_two.py", *QUICK)
    assert done.returncode == 0, done.stdout
    assert "  1 above_ceiling: faster than the limit that this run measured" in done.stdout.splitlines()
    rows = results(tmp_path)
    above = rows[rows["flags"].str.contains("above_ceiling")]
    assert list(zip(above["workload"], above["metric"], strict=True)) == [("model", "flop_rate")]
    assert set(rows[rows["metric"] == "fraction_of_measured_peak"]["workload"]) == {"product"}


MARKED = "\n".join(f"from {module} import one" for module in ("in_source", "of_the_root", "sched")) + SMALL_SUITE


def test_a_workload_may_import_from_every_folder_that_pytest_does_and_files_with_names_of_python_s_own(
    installed, tmp_path
):
    """From the working folder, a folder in `pythonpath`, and that of the test."""
    files = {
        "of_the_root/__init__.py": "one = 1",
        "src/in_source.py": "one = 1",
        "tests/sched.py": "one = 1",
        "tests/test_small.py": MARKED,
        "pytest.ini": "[pytest]\npythonpath = src\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = pytest_in(tmp_path, "tests", *QUICK)
    assert done.returncode == 0, done.stdout
    assert set(results(tmp_path)["status"]) == {"ok"}


OWN = """
import numpy as np
import pytest
from bench_core.noise.cases import Add

X = np.arange(1.0, 1001.0)

def double(x):
    return 2 * x

def broken(x):
    raise ArithmeticError("it broke\\x1b]0;owned\\x07 \\u202ey")

@pytest.fixture
def mine(measure):
    return measure

@pytest.mark.parametrize("n", [10, 1000])
def test_double(mine, n):
    assert mine(double, X[:n], reference=double, bytes=16 * n).status == "ok"

class TestOthers:
    def test_time_only(self, measure):
        measure(lambda x: x + 1, X)

def test_numpy_only(measure):
    measure(np.sort, X, reference=np.sort, backends="numpy")

def test_broken(measure):
    measure(broken, X)

def test_no_function(measure):
    measure()

def test_not_callable(measure):
    measure(3, X)

def test_option(measure):
    measure(double, X, budget=3)

def test_no_such_argument(measure):
    measure(double, X, colour=3)

def test_same(measure):
    measure(double, X)

def test_twice(measure):
    measure(double, X, name="once")
    measure(double, X, name="again")

def test_never(measure):
    pass

def test_without_data(measure):
    pytest.skip("no data")

@pytest.mark.skip(reason="not today")
def test_not_today(measure):
    measure(double, X)

def test_raises(measure):
    raise RuntimeError("no inputs")

@pytest.mark.workload(Add())
def test_marked(measure):
    measure(double, X)

@pytest.mark.parametrize("measure", [1])
def test_no_fixture(measure):
    assert measure == 1
"""
OWN_RESULTS = "r\x1b\u202e"  # a folder
OWN_OUTCOMES = {
    ("double", "10"): ("ok", "", ""),
    ("double", "1000"): ("ok", "", ""),
    ("time_only", "1000"): ("ok", "", ""),
    ("sort", "1000"): ("ok", "", ""),
    ("broken", "1000"): ("error", "ArithmeticError", r"ArithmeticError: it broke\x1b]0;owned\x07 \u202ey"),
    ("no_function", "unknown"): ("error", "test_failed", "measure: needs a function, measure(fn, x), or a test"),
    ("not_callable", "unknown"): ("error", "test_failed", "measure: the first argument must be a function, not of"),
    ("option", "unknown"): ("error", "test_failed", "measure: budget= is for scripts, in tests it is --bench-budget"),
    ("no_such_argument", "unknown"): ("error", "test_failed", "measure: no argument 'colour'; available: backends, "),
    ("same", "unknown"): ("error", "test_failed", "measure: double 1000 float64 was measured by another test: "),
    ("once", "1000"): ("ok", "", ""),
    ("never", "unknown"): ("error", "not_measured", "the test has never called measure"),
    ("without_data", "unknown"): ("skipped", "test_skipped", "no data"),
    ("not_today", "unknown"): ("skipped", "test_skipped", "not today"),
    ("raises", "unknown"): ("error", "test_failed", "no inputs"),
    ("add", "1000"): ("error", "test_failed", "measure: this test is marked with a workload: call measure() without"),
}


@pytest.fixture(scope="module")
def own(installed, tmp_path_factory):
    """A session with functions of one's own, most of them with wrong use: its folder and what it said."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "bench_own.py").write_text(OWN.replace("Add()", "Small()").replace("X = ", SMALL, 1), encoding="utf-8")
    return folder, pytest_in(
        folder, *QUICK, "-k", "not no_fixture", f"--bench-output={OWN_RESULTS}", "--junitxml=junit.xml"
    )


SMALL = "class Small(Add):\n    sizes = (1000,)\n\nX = "


def test_functions_of_ones_own_are_measured_beside_workloads_and_each_planned_case_is_a_row(own):
    folder, done = own
    rows = bench_core.load(folder / OWN_RESULTS).query("metric == 'time'").set_index(["workload", "size"])
    assert done.returncode == 1
    assert f"{len(OWN_OUTCOMES)} planned: 5 ok, 2 skipped, 9 error" in done.stdout
    assert set(rows.index) == set(OWN_OUTCOMES)
    for key, (status, code, reason) in OWN_OUTCOMES.items():
        found = rows.loc[key]
        assert (found["status"], found["reason_code"], found["reason"][: len(reason)]) == (status, code, reason), key
    assert set(rows.loc[("time_only", "1000"), "flags"].split(";")) >= {"unchecked", "not_isolated"}
    assert "not_isolated" not in rows.loc[("double", "1000"), "flags"]
    assert set(bench_core.load(folder / OWN_RESULTS).query("metric == 'bandwidth'")["size"]) == {"10", "1000"}


def test_no_text_of_a_kernel_is_shown_or_written_raw(own):
    folder, done = own
    files = [path for path in [folder / "junit.xml", *(folder / OWN_RESULTS).rglob("*")] if path.is_file()]
    texts = [done.stdout, *(path.read_text(encoding="utf-8") for path in files)]
    assert [c for text in texts for c in "\x1b\x07\u202e" if c in text] == []
    assert r"results: r\x1b\u202e/m/" in done.stdout
    assert sum(r"it broke\x1b]0;owned\x07 \u202ey" in text for text in texts) >= 3  # terminal, table, junit


def test_wrong_use_of_measure_is_one_line_and_no_traceback(own):
    _, done = own
    shown = [line for line in done.stdout.splitlines() if line.startswith("measure: ")]
    assert len(shown) == 7
    assert "measure: called twice: a test measures one thing" in shown
    assert "exception" not in done.stdout
    assert "was not used" not in done.stdout, "pytest-benchmark would warn of each"
    assert "benchmark 'double 1000 float64': 1 tests" in done.stdout


def test_plain_pytest_checks_functions_once_and_a_test_may_have_another_measure(own):
    folder, _ = own
    done = pytest_in(folder, "-k", "double or broken or no_fixture or numpy_only", "--bench-backends=numpy", "-rs")
    assert "1 failed, 4 passed" in done.stdout, done.stdout
    assert "error: ArithmeticError: it broke" in done.stdout


def test_pytest_benchmark_records_exactly_the_samples_that_were_measured(project):
    done = pytest_in(project, "-k", "test_good and numpy", *QUICK, "--benchmark-json=out.json")
    assert done.returncode == 0, done.stdout
    (recorded,) = json.loads((project / "out.json").read_text())["benchmarks"]
    samples = next((project / "results").rglob("samples.csv"))
    with samples.open(encoding="utf-8", newline="") as lines:
        counted = [float(line["seconds"]) for line in csv.DictReader(lines) if line["noisy"] == "false"]
    assert recorded["stats"]["data"] == counted
    time_row = results(project).query("metric == 'time'").iloc[0]
    assert recorded["stats"]["median"] == pytest.approx(time_row["value"])
    assert recorded["extra_info"]["case_id"] == time_row["case_id"]
    assert recorded["extra_info"]["flop_rate"] > 0
    said = done.stdout
    assert said.index("good[numpy-cpu-float64-good]") < said.index("= bench-core ="), "the summary is below their table"
    assert max(map(len, said[said.index(" benchmark '") : said.index("= bench-core =")].splitlines())) <= 100


@pytest.mark.faults
def test_every_planned_case_is_a_row_whatever_happened_to_it(project):
    done = pytest_in(project, "-k", "test_every and numpy and not eat and not hang", *QUICK)
    assert done.returncode == 1
    by_size = results(project).drop_duplicates("size").set_index("size")["status"].to_dict()
    assert by_size == {
        "good": "ok",
        "garbage": "ok",
        "wrong": "invalid",
        "not_finite": "invalid",
        "shape": "invalid",
        "raise": "error",
        "segfault": "crashed",
        "exit": "crashed",
        "memory": "oom",
    }
    assert "9 planned: 2 ok, 1 oom, 1 error, 2 crashed, 3 invalid" in done.stdout
    missing = results(project).query("status != 'ok'")
    assert missing["value"].isna().all()
    assert (missing["reason"] != "").all()


@pytest.mark.faults
def test_a_hang_ends_at_the_timeout_and_the_run_goes_on(project):
    done = pytest_in(project, "-k", "test_hang and numpy", "--bench-timeout=3", *QUICK)
    assert done.returncode == 1
    assert results(project).drop_duplicates("size").set_index("size")["status"].to_dict() == {
        "good": "ok",
        "hang": "timeout",
    }


@pytest.mark.faults
@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="SIGINT is ignored here, under nohup or in a background job of a shell, so every run ignores it too",
)
def test_ctrl_c_keeps_what_was_measured_and_marks_the_rest(project):
    command = [sys.executable, "-m", "pytest", "-k", "numpy and test_hang", *QUICK, "--bench-timeout=600"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        journal = _wait_for(lambda: next((project / "results").rglob("journal.jsonl"), None))
        _wait_for(lambda: '"status"' in journal.read_text())  # of the case before
        time.sleep(1)  # into the hang
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=120) == pytest.ExitCode.INTERRUPTED
    statuses = results(project).query("metric == 'time'")["status"].tolist()
    assert sorted(statuses) == ["interrupted", "ok"]
    assert list((project / "results").rglob("journal.jsonl")), "an interrupted run can be finished"
    elsewhere = pytest_in(project, "--benchmark-only", f"--bench-resume={journal.parent}", "-k", "no_such")
    assert elsewhere.returncode == pytest.ExitCode.USAGE_ERROR
    assert "none of its cases is found here: name the files or folders" in elsewhere.stdout


def _wait_for(found):
    for _ in range(1200):
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("waited 120 s in vain")


@pytest.fixture
def folder(installed, tmp_path):
    """A folder without any settings: one workload, and a script that is none of ours."""
    (tmp_path / "bench_toy.py").write_text(FAULTS, encoding="utf-8")
    (tmp_path / "bench_script.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "ini"),
    [
        ([], None),
        (["."], None),
        (["bench_toy.py"], None),
        (["--doctest-modules", "--ignore=bench_script.py"], None),
        (["bench_toy.py", "."], None),
        (["bench_toy.py"], "[pytest]\npython_files = bench_toy.py\n"),
        ([], "[pytest]\npython_files = bench_toy.py\n"),
    ],
)
def test_a_bench_file_is_found_once_whether_it_is_named_or_not(folder, given, ini):
    if ini:
        (folder / "pytest.ini").write_text(ini, encoding="utf-8")
    done = pytest_in(folder, *given, "-k", "test_good", "--bench-backends=numpy", "--collect-only", "-q")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^\S+::\S+$", done.stdout, re.MULTILINE) == ["bench_toy.py::test_good[numpy-cpu-float64-good]"]


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        ("@pytest.mark.workload(W())\ndef test_w(measure): ...", True),
        ("def test_f(tmp_path,\n    measure): ...", True),
        ("def test_f(measured): ...", False),
        ("def run(measure): ...", False),
    ],
)
def test_a_bench_file_is_collected_for_a_workload_or_a_function(tmp_path, text, is_ours):
    (tmp_path / "bench_some.py").write_text(text, encoding="utf-8")
    assert _mentions_workloads(tmp_path / "bench_some.py") is is_ours


def test_a_script_that_only_speaks_of_bench_core_is_not_imported(tmp_path):
    (tmp_path / "bench_plot.py").write_text(
        '"""Plot what bench_core wrote."""\nraise SystemExit("usage")\n', encoding="utf-8"
    )
    (tmp_path / "test_unit.py").write_text("def test_unit():\n    pass\n", encoding="utf-8")
    done = pytest_in(tmp_path)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_a_bench_file_outside_the_clone_is_measured_by_the_documented_command(folder):
    done = pytest_in(folder, "-k", "test_good and numpy", *QUICK)
    assert done.returncode == 0, done.stdout
    assert set(results(folder)["workload"]) == {"fault"}


def test_plain_pytest_checks_the_answers_times_nothing_and_writes_nothing(project):
    (project / "test_unit.py").write_text("def test_unit():\n    pass\n")
    done = pytest_in(project, "-k", "test_unit or test_good or (test_every and wrong)", "-rs")
    assert done.returncode == 1, "the wrong kernel is red without being measured"
    assert "2 passed" in done.stdout
    assert "1 failed" in done.stdout
    assert not (project / "results").exists()
    assert "OPS" not in done.stdout


@pytest.mark.parametrize(
    "options",
    [(), (*QUICK, "--bench-keep-journal"), (*QUICK, "--bench-keep-journal", "--bench-isolation=off")],
    ids=["check", "isolated", "not isolated"],
)
def test_an_exception_is_shown_with_its_type_and_its_traceback_which_no_file_holds(project, options):
    done = pytest_in(project, "-k", "numpy and test_every and raise", *options)
    assert done.returncode == 1
    shown = done.stdout.partition("error: RuntimeError: the kernel fell over\n")[2]
    assert shown.startswith('\nTraceback (most recent call last):\n  File "bench_faults.py", line ')
    assert str(project) not in shown
    files = {path.name: path.read_text("utf-8") for path in (project / "results").rglob("*") if path.is_file()}
    assert set(files) == ({"results.csv", "samples.csv", "run.json", "journal.jsonl"} if options else set())
    assert [name for name, text in files.items() if "raceback" in text] == []
    assert all("RuntimeError: the kernel fell over" in files.get(name, "") for name in files if name == "results.csv")


def test_absent_backends_are_skipped_with_the_reason_that_the_row_has(project):
    done = pytest_in(project, "-k", "test_good", "-rs", *QUICK, "--bench-backends=numpy,cupy", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout
    skipped = results(project).query("backend == 'cupy'").iloc[0]
    assert skipped["status"] == "skipped"
    assert skipped["reason_code"]
    assert skipped["reason"] in done.stdout


def test_a_required_backend_that_is_absent_fails_before_anything_is_measured(project):
    done = pytest_in(project, *QUICK, "--bench-require=cupy", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--bench-require=cupy: not available: " in done.stdout
    assert not (project / "results").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--bench-preset=huge", "--bench-preset=huge: no 'huge'; available: smoke, headline, quick, standard, full"),
        (
            "--bench-backends=nmupy",
            "--bench-backends=nmupy: no backend 'nmupy'; did you mean 'numpy'? available: numpy, cupy, torch",
        ),
        ("--bench-budget=-1", "--bench-budget=-1: must be a positive number of seconds"),
        ("--bench-budget=soon", "--bench-budget=soon: must be a positive number of seconds"),
        ("--bench-timeout=0", "--bench-timeout=0: must be a positive number of seconds"),
        ("--bench-require=", "--bench-require=: has no value; leave the option out for its default"),
        ("--bench-resume=", "--bench-resume=: has no value"),
        ("--bench-resume=x\x1b\u202e", r"--bench-resume=x\x1b\u202e: nothing to resume: no journal.jsonl there"),
        ("--bench-backends=torch:gpu", "no type of device 'gpu'; available: cpu, cuda, mps, rocm, tpu, xpu"),
        ("--bench-seed=x", "--bench-seed=x: must be a whole number, 0 or more"),
        ("--bench-isolation=maybe", "--bench-isolation=maybe: no 'maybe'; available: on, off"),
        ("--bench-machine=my machine", "--bench-machine: 'my machine' is not an identifier"),
        (
            "--bench-machine=unfinished",
            "--bench-machine=unfinished: a folder of this name holds runs that are not finished",
        ),
        ("--bench-output=bench_faults.py", "--bench-output=bench_faults.py: cannot write there"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_a_failure(project, option, message):
    done = pytest_in(project, "-k", "test_good and numpy", *QUICK, option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = done.stdout
    assert message in said
    assert "Traceback" not in said
    assert "".join(said.split()).isprintable()


def test_an_output_folder_that_pytest_takes_for_its_root_is_refused(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = pytest_in(project, "--benchmark-only", "--bench-output", str(elsewhere))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "write --bench-output=DIR" in done.stdout


def test_options_may_stand_in_the_ini_file(project):
    with (project / "pytest.ini").open("a") as ini:
        ini.write("bench_preset = nonsense\n")
    done = pytest_in(project, "--benchmark-only")
    assert "--bench-preset=nonsense" in done.stdout


def test_xdist_is_refused_with_one_line(project):
    pytest.importorskip("xdist")
    command = [sys.executable, "-m", "pytest", "-n2", *QUICK]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "run without pytest-xdist" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (project / "results").exists()


def test_a_session_without_pytest_benchmark_is_left_alone(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    done = pytest_in(tmp_path, "-p", "no:benchmark")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_collecting_alone_measures_nothing_and_writes_nothing(project):
    done = pytest_in(project, *QUICK, "--collect-only", "-q")
    assert "bench_faults.py::test_good[numpy-cpu-float64-good]" in done.stdout
    assert not (project / "results").exists()


def test_the_marker_gpu_selects_gpu_cases_alone(project):
    gpu = pytest_in(project, *QUICK, "--bench-backends=torch", "--collect-only", "-q", "-m", "gpu").stdout
    assert "[torch-cuda" in gpu
    assert "cpu" not in re.findall(r"\[(.*?)\]", gpu)[0]


def test_isolation_off_measures_in_this_process(project):
    done = pytest_in(project, "-k", "test_good and numpy", "--bench-isolation=off", *QUICK)
    assert done.returncode == 0, done.stdout
    assert (results(project)["status"] == "ok").all()


def test_a_session_without_workloads_is_left_alone(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own(benchmark):\n    benchmark(lambda: None)\n")
    done = pytest_in(tmp_path, "--benchmark-only")
    assert done.returncode == 0
    assert "1 passed" in done.stdout
    assert "bench-core" not in done.stdout.split("Legend")[1]
    assert not (tmp_path / "results").exists()


def test_devices_that_are_left_out_are_told_before_any_time_is_spent():
    targets = Targets(("torch",), PROBES)
    stash = {_STATE: SimpleNamespace(session=SimpleNamespace(targets=targets))}
    config = SimpleNamespace(stash=stash, getoption={}.get)
    assert pytest_report_collectionfinish(config) == [f"bench-core: {line}" for line in targets.left_out()]
    assert "left out: torch cuda:1; " in targets.left_out()[0]
    config.stash[_STATE].session = None
    assert pytest_report_collectionfinish(config) == []


class RecordingBenchmark:
    """pytest-benchmark's pedantic mode as its fixture does it: clock, call, clock."""

    def __init__(self, clock):
        self.clock, self.extra_info, self.seen, self.disabled = clock, {}, [], False

    def pedantic(self, target, rounds=1):
        for _ in range(rounds):
            start = self.clock()
            target()
            self.seen.append(self.clock() - start)


def test_replay_hands_over_the_samples_bit_for_bit():
    samples = (0.1, 0.2 + 1e-17, 1 / 3, 5e-324, 1e9)
    clock = ReplayClock()
    benchmark = RecordingBenchmark(clock)
    replay(measurement(seconds=samples), benchmark, clock)
    assert tuple(benchmark.seen) == samples
    assert benchmark.extra_info["status"] == "ok"


def test_pytest_benchmark_gets_the_blocks_that_count():
    clock = ReplayClock()
    benchmark = RecordingBenchmark(clock)
    replay(measurement(series=(Series("time", Clock.WALL, (1.0, 9.0, 2.0), noisy=(1,)),)), benchmark, clock)
    assert benchmark.seen == [1.0, 2.0]


def test_without_samples_nothing_reaches_the_table_of_pytest_benchmark():
    benchmark = RecordingBenchmark(ReplayClock())
    replay(Measurement(measurement().case, Status.OK), benchmark, benchmark.clock)
    assert benchmark.disabled
    assert benchmark.extra_info == {}


# ---------------------------------------------------------------- cases that are measured again later

HIT, CALMER = Try(2.0, lost=0.6), Try(3.0)
FIRST_TRIES = [(size, backend, False) for backend in ("numpy", "torch") for size in "abc"]


def samples_of(session):
    """Return the seconds of each benchmark that pytest-benchmark has saved, by its id."""
    saved = json.loads((session / "saved.json").read_text(encoding="utf-8"))
    return {b["params"] and b["name"].partition("[")[2][:-1]: b["stats"]["data"] for b in saved["benchmarks"]}


@pytest.fixture
def toy(installed, pytester, monkeypatch):
    def run(tries, *options, **more):
        return toy_session(pytester, monkeypatch, tries, "--bench-budget=0.5", *options, **more)

    run.path = pytester.path
    return run


def test_a_disturbed_case_is_measured_again_after_the_others_of_its_worker_and_told_once(toy):
    said, script = toy(
        {("b", "numpy"): [HIT, CALMER]},
        "-v",
        "--junitxml=junit.xml",
        "--benchmark-json=saved.json",
        "--benchmark-save-data",
    )
    assert script.log == [*FIRST_TRIES[:3], ("b", "numpy", True), *FIRST_TRIES[3:]]
    said.assert_outcomes(passed=6)
    said.stdout.fnmatch_lines(["*[[]100%[]]", "*6 planned: 6 ok*"])
    samples = samples_of(toy.path)
    assert len(samples) == 6
    assert sorted(map(tuple, samples.values())) == [(1.0,) * 5] * 5 + [(3.0,) * 5]
    assert (toy.path / "junit.xml").read_text(encoding="utf-8").count("<testcase") == 6
    times = results(toy.path).query("metric == 'time' and size == 'b' and backend == 'numpy'")
    assert list(times["value"]) == [3.0]
    assert "never_quiet" not in times["flags"].iloc[0]
    (about,) = (toy.path / "results").rglob("run.json")
    assert json.loads(about.read_text(encoding="utf-8"))["disturbed"]["lost_s"] == {"measured_again": 10.0}
    said.stdout.fnmatch_lines(["20 % of the timed seconds were disturbed and do not count: measured again 20 %"])


def test_a_run_that_is_killed_between_two_tries_keeps_the_first_and_is_resumed_without_the_second(toy):
    said, script = toy({("b", "numpy"): [HIT, CALMER]})
    (folder,) = (script.kept / "m").iterdir()
    before = {m.case.work.size: m for m in journal.read(folder / schema.JOURNAL).measurements}
    assert before["b"].series[0].seconds == (2.0,) * 5
    said, script = toy({}, f"--bench-resume={folder}")
    said.assert_outcomes(passed=6)
    assert script.log == FIRST_TRIES[3:]
    times = bench_core.load(folder).query("metric == 'time' and size == 'b' and backend == 'numpy'")
    assert list(times["value"]) == [2.0]


def test_a_case_is_tried_twice_at_most_and_only_while_there_is_time(toy):
    said, script = toy(
        {("b", "numpy"): [HIT, HIT], ("c", "numpy"): [HIT, HIT], ("c", "torch"): [HIT, HIT]}, "--bench-budget=0.2"
    )
    said.assert_outcomes(passed=6)
    assert [entry for entry in script.log if entry[2]] == [
        ("b", "numpy", True),
        ("c", "torch", True),
    ]
    said, script = toy({("a", "numpy"): [HIT, HIT]})
    assert script.log == FIRST_TRIES


def test_a_case_to_be_tried_again_is_no_failure_and_a_failure_ends_a_session_that_says_so(toy):
    said, script = toy({("b", "numpy"): [HIT, CALMER], ("a", "torch"): [Try(1.0, status=Status.ERROR)]}, "-x")
    said.assert_outcomes(passed=3, failed=1)
    assert script.log == [*FIRST_TRIES[:3], ("b", "numpy", True), FIRST_TRIES[3]]


class TriesFailuresAgain:
    """Does as pytest-rerunfailures does: runs an item without telling, until it does not fail."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        item.execution_count = 0
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        while True:
            item.execution_count += 1
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if item.execution_count == 2 or not any(report.failed for report in reports):
                break
            item._initrequest()
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True


def test_a_case_that_is_disturbed_and_one_that_fails_are_both_tried_again(toy):
    tries = {("b", "numpy"): [HIT, CALMER], ("c", "numpy"): [Try(1.0, status=Status.ERROR), Try(4.0)]}
    said, script = toy(tries, plugins=[TriesFailuresAgain()])
    said.assert_outcomes(passed=6)
    assert script.log == [*FIRST_TRIES[:3], ("c", "numpy", False), ("b", "numpy", True), *FIRST_TRIES[3:]]


def test_a_function_of_one_s_own_is_measured_again_as_well(toy, monkeypatch):
    monkeypatch.setattr(tries_of_a_run, "EXTRA", 9.0)
    said, script = toy({("8", "numpy"): [HIT, CALMER]}, suite=TOY_FUNCTION)
    said.assert_outcomes(passed=1, skipped=1)
    assert script.log == [("8", "numpy", False), ("8", "numpy", True)]


def test_a_second_try_that_is_wrong_fails_the_test_and_has_no_value(toy):
    said, _ = toy({("b", "numpy"): [HIT, Try(1.0, status=Status.INVALID)]})
    said.assert_outcomes(passed=5, failed=1)
    assert set(results(toy.path).query("size == 'b' and backend == 'numpy'")["status"]) == {"invalid"}
