"""Whatever a kernel, a disk, a library or a driver does, every planned case ends with a status and the run goes on.

Each test is a real run of small workloads (tests/faulty/faults.py), read back from the files that it left;
`statuses` shows for each of them that its counts add up to its plan.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench_core.machine import allotment
from bench_core.results.reader import read_rows
from bench_core.results.schema import JOURNAL
from tests.faulty.faults import PHASES
from tests.faulty.outcomes import note
from tests.faulty.runs import HERE, Project, ended, reasons, statuses
from tests.standin import install as standin
from tests.support.disks import mounted

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("installed")]

STRUCK = ("-k", "test_struck")
REST = {"calm.1": "ok", "calm.2": "ok", "calm.3": "ok"}
CALM = {**REST, "struck": "ok"}
# How a phase of a kernel is called in a reason.
STAGE = dict.fromkeys(("inputs", "build", "prepare", "first"), "build")
STAGE |= dict.fromkeys(("outputs", "check", "probe"), "check") | dict.fromkeys(("warm_up", "block"), "measure")
STAGE |= {"again": "recheck"}
FEW = ("build", "check", "block")


def folder_of(said):
    """Return the folder that a run has named as that of its results."""
    return Path(next(line for line in said.splitlines() if line.startswith("results: ")).removeprefix("results: "))


def line_of(said, start):
    """Return the first line of an output that begins so."""
    return next(
        (line for line in said.splitlines() if line.startswith(start)), f"no line begins with {start!r}: {said}"
    )


@pytest.fixture(scope="module", autouse=True)
def failing(request, tmp_path_factory):
    """Two runs in the background, of every fault that ends one case: their tests come last, so nobody waits."""

    def run(test, project):
        done = project.run("-k", test, "--bench-timeout=3")
        return project.folder, done

    wanted = any("failures" in getattr(item, "fixturenames", ()) for item in request.session.items)
    with ThreadPoolExecutor(2) as pool:
        yield [
            pool.submit(run, test, Project(tmp_path_factory.mktemp(test)))
            for test in ("test_dies", "test_others")
            if wanted
        ]


# ---------------------------------------------------------------- the worker's memory, clock and threads


def test_memory_ends_at_the_cap_of_the_worker(tmp_path):
    """The cap stands at 1 GB here, so the machine does not notice; the worker lives on."""
    project = Project(tmp_path, {"PYTHONPATH": str(HERE / "site"), "FAULT_SITE": "memory"})
    done = project.run(*STRUCK, FAULT="eat.block")
    found, why = statuses(project.folder), reasons(project.folder)
    assert found == {**REST, "struck": "oom"}
    assert why["struck"][0] == "out_of_memory"
    note("memory exhausted", "block", found, done.code, why["struck"][1])


def test_a_clock_that_goes_back_gives_no_time(tmp_path):
    project = Project(tmp_path, {"PYTHONPATH": str(HERE / "site"), "FAULT_SITE": "clock"})
    done = project.run(*STRUCK, FAULT="turn_back.block")
    found, why = statuses(project.folder), reasons(project.folder)
    assert found == {**REST, "struck": "error"}
    assert why["struck"][0] == "clock_backwards"
    note("the clock goes back", "block", found, done.code, why["struck"][1])


def test_threads_set_by_the_user_do_not_change_what_a_row_says(tmp_path):
    """OMP_NUM_THREADS=1 is everywhere on clusters; a row that says "all cores" must have had them."""
    project = Project(tmp_path)
    done = project.run(*STRUCK, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    found = statuses(project.folder)
    assert found == CALM
    assert {row.threads for row in read_rows(project.folder / "results.csv")} == {allotment.usable_cores()}
    pools = [each["threadpools"]["value"] for each in project.about["environment"]["workers"].values()]
    assert {pool["num_threads"] for each in pools for pool in each} == {allotment.usable_cores()}
    note(
        "OMP_NUM_THREADS=1 in the environment",
        "start",
        found,
        done.code,
        f"threads = {allotment.usable_cores()}, as every core",
    )


def test_cases_that_do_not_add_up_are_an_internal_error_after_the_results_are_written(tmp_path):
    project = Project(tmp_path)
    done = project.run(*STRUCK, STRIKE="miscount")
    assert done.code == pytest.ExitCode.INTERNAL_ERROR
    said = line_of(done.said, "problem: internal error")
    assert "(4 planned, 4 kept, 1 without a row of their status: numpy-cpu-float64-struck)" in said
    assert (project.folder / "run.json").exists()
    with pytest.raises(AssertionError):
        statuses(project.folder)
    note("rows of a case forgotten by bench_core itself", "end", REST, done.code, said)


def test_a_case_that_is_refused_at_the_end_is_told_and_fails_the_run(tmp_path):
    """Its own test has passed before the others were measured."""
    project = Project(tmp_path)
    done = project.run(*STRUCK, STRIKE="contradict")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    said = line_of(done.said, "invalid: phased")
    assert said == "invalid: phased numpy-cpu-float64-struck: other rows contradict it"
    assert line_of(done.said, "4 planned") == "4 planned: 3 ok, 1 invalid"
    found = statuses(project.folder)
    assert found == {**REST, "struck": "invalid"}
    note("a stream that the others contradict", "end", found, done.code, said)


# ---------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path):
    """A project whose results are on a file system of 200 kB of their own; skips where none may be mounted."""
    project = Project(tmp_path / "project", {"TMPDIR": str(tmp_path)})
    results = project.path / "results"
    results.mkdir()
    with mounted(results, "size=200k"):
        yield project


def test_a_full_disk_loses_nothing_the_results_go_elsewhere(small_disk):
    done = small_disk.run(*STRUCK, FAULT="fill.block")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert "problem: the journal could not be written: No space left on device" in done.said
    elsewhere = folder_of(done.said)
    assert small_disk.path not in elsewhere.parents
    assert statuses(elsewhere) == CALM
    said = line_of(done.said, "problem: results").replace(small_disk.folder.name, "RUN")
    assert said == "problem: results/m/RUN could not be written: No space left on device; using a temporary folder"
    note("disk full (tmpfs)", "block", statuses(elsewhere), done.code, said)


def test_where_nothing_can_be_written_what_is_in_the_journal_is_kept_and_finished(tmp_path):
    """No file may grow past 6 kB, neither here nor in the temporary folder: two of the lines fit."""
    project = Project(tmp_path, {"TMPDIR": str(tmp_path)})
    done = project.run(*STRUCK, STRIKE="size:6000")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert "problem: the journal could not be written: File too large" in done.said
    assert "results: not written" in done.said
    said = line_of(done.said, "problem: a temporary folder")
    assert "only the journal is kept" in said
    assert not list(tmp_path.rglob("*.tmp"))
    again = project.resume()
    assert again.code == 0, again.said
    assert statuses(project.folder) == CALM
    note("disk full everywhere (RLIMIT_FSIZE)", "journal", statuses(project.folder), f"{done.code}, resumed 0", said)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path):
    project = Project(tmp_path / "project")
    results = project.path / "results"
    results.mkdir(mode=0o500)
    with mounted(results, "ro") if writes_anyway(results) else contextlib.nullcontext():
        done = project.run(*STRUCK)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    said = line_of(done.said, "ERROR: --bench-output=results: cannot write there: ")
    assert said.endswith(("Permission denied", "Read-only file system"))
    assert not (project.path / "begun.txt").exists()
    note("read-only results folder", "start", {}, done.code, said)


def writes_anyway(folder):
    """Whether the mode of a folder means nothing to this user, as with root."""
    try:
        (folder / "probe").write_text("")
    except OSError:
        return False
    (folder / "probe").unlink()
    return True


def test_a_results_folder_removed_during_the_run_is_made_again(tmp_path):
    """It is an error of the run for all that: somebody should know."""
    project = Project(tmp_path)
    done = project.run(*STRUCK, FAULT="remove.block")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert statuses(project.folder) == CALM
    said = line_of(done.said, "problem: ")
    assert said == "problem: the journal could not be written: it was removed during the run"
    assert not (project.folder / JOURNAL).exists()
    note("results folder removed", "block", statuses(project.folder), done.code, said)


def test_a_journal_that_was_removed_is_written_anew(tmp_path):
    """The next record brings it back, whole: a kill after that loses nothing either."""
    project = Project(tmp_path)
    project.run(*STRUCK, FAULT="remove.block", STRIKE="kill@written:4")
    assert project.resume().code == 0
    assert statuses(project.folder) == CALM
    assert project.begun() == {"calm.1": 1, "struck": 1, "calm.2": 1, "calm.3": 1}


def test_a_file_system_without_rename_over_keeps_the_results(tmp_path):
    """The second writing finds results.csv there already: the run was killed when it had moved one file."""
    project = Project(tmp_path)
    project.run(*STRUCK, STRIKE="kill@replaced:1")
    assert (project.folder / "results.csv").exists()
    done = project.resume(STRIKE="rename")
    assert done.code == 0, done.said
    assert statuses(project.folder) == CALM
    assert sorted(path.name for path in project.folder.iterdir()) == ["results.csv", "run.json", "samples.csv"]
    note("no rename over a file", "results.csv", statuses(project.folder), done.code, "")


def test_eight_runs_at_once_write_eight_whole_results(tmp_path):
    project = Project(tmp_path)
    runs = [project.start("-k", "test_good") for _ in range(8)]
    done = [ended(run) for run in runs]
    assert [each.code for each in done] == [0] * 8
    assert [statuses(folder) for folder in project.folders()] == [{"good": "ok"}] * 8
    note("eight runs at once", "one folder", {str(i): "ok" for i in range(8)}, 0, "eight folders, each complete")


# ---------------------------------------------------------------- libraries

LIBRARIES = {
    "raises": ("raise RuntimeError('libcuda.so.1 is too old')", "import_failed", "libcuda.so.1 is too old"),
    "prints and raises": ("import os; print('{}'); os.write(1, b'?'); raise ImportError('no')", "import_failed", "no"),
    "segfaults": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "was killed by SIGSEGV"),
    "ends the process": ("import os; os._exit(7)", "crashed", "ended with exit code 7"),
}  # fmt: skip


@pytest.mark.parametrize("names", [("raises", "segfaults"), ("prints and raises", "ends the process")], ids=str)
def test_a_library_that_breaks_on_import_is_skipped_with_its_reason(tmp_path, names):
    """Two broken libraries beside each other, and numpy is measured all the same."""
    project = Project(tmp_path, {"PYTHONPATH": str(tmp_path / "lib")})
    for package, name in zip(("torch", "cupy"), names, strict=True):
        (tmp_path / "lib" / package).mkdir(parents=True)
        (tmp_path / "lib" / package / "__init__.py").write_text(LIBRARIES[name][0], encoding="utf-8")
    done = project.run("-k", "test_good", backends="numpy,torch,cupy")
    assert done.code == 0, done.said
    statuses(project.folder)
    rows = read_rows(project.folder / "results.csv")
    assert {row.status for row in rows if row.backend == "numpy"} == {"ok"}
    for package, name in zip(("torch", "cupy"), names, strict=True):
        broken = [row for row in rows if row.backend == package]
        assert {(row.status, row.reason_code) for row in broken} == {("skipped", LIBRARIES[name][1])}
        assert LIBRARIES[name][2] in broken[0].reason
        found = {f"{r.backend} {r.device}": r.status for r in rows if r.backend in {"numpy", package}}
        note(f"a library that {name} on import", "probe", found, done.code, broken[0].reason)


def test_a_library_that_only_breaks_in_the_worker_fails_its_cases_and_is_not_tried_for_ever(tmp_path):
    """It works where it is looked for, and dies where the limits of a worker are set: four cases, two starts."""
    project = Project(tmp_path, {"PYTHONPATH": str(tmp_path / "lib")})
    (tmp_path / "lib" / "cupy").mkdir(parents=True)
    source = (
        "import os, signal, sys\n"
        "if 'MKL_NUM_THREADS' in os.environ:\n"
        f"    open({str(tmp_path / 'starts')!r}, 'a').write('x')\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "del sys.modules['cupy']\n"
        f"sys.path.insert(0, {str(standin.FOLDER)!r})\n"
        "import cupy\n"
    )
    (tmp_path / "lib" / "cupy" / "__init__.py").write_text(source, encoding="utf-8")
    done = project.run(*STRUCK, backends="cupy")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.said
    found, why = statuses(project.folder), reasons(project.folder)
    assert found == dict.fromkeys(CALM, "error")
    assert why["calm.3"][0] == "worker_start"
    assert "was killed by SIGSEGV while starting" in why["calm.3"][1]
    assert (tmp_path / "starts").read_text() == "xx"
    note("a library that segfaults in the worker alone", "start", found, done.code, why["calm.3"][1])


# ---------------------------------------------------------------- the GPU, by its stand-ins

GPU = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"
MIG = "MIG-11121314-1516-1718-191a-1b1c1d1e1f20"


@pytest.mark.parametrize(
    ("visible", "status", "shown"), [("", "skipped", ""), (GPU, "ok", "<GPU id>"), (MIG, "ok", "<MIG id>")]
)
def test_visible_devices_are_obeyed_and_their_ids_are_masked(tmp_path, visible, status, shown):
    project = Project(tmp_path, standin.environ())
    done = project.run("-k", "test_struck and calm.1", backends="cupy", CUDA_VISIBLE_DEVICES=visible)
    assert done.code == 0, done.said
    found = statuses(project.folder)
    assert found == {"calm.1": status}
    assert project.about["environment"]["host"]["env.CUDA_VISIBLE_DEVICES"]["value"] == shown
    for path in project.folder.iterdir():
        assert (visible or GPU) not in path.read_text(encoding="utf-8")
    reason = reasons(project.folder).get("calm.1", ("", f"shown as {shown}"))[1]
    note(f"CUDA_VISIBLE_DEVICES={shown}", "start", found, done.code, reason)


def test_a_card_that_the_driver_loses_costs_its_power_values_alone(tmp_path):
    """What the array library still measures is a measurement; the facts that the driver lost are absent."""
    project = Project(tmp_path, standin.environ())
    done = project.run(*STRUCK, backends="cupy", FAULT="lose_gpu.warm_up")
    assert done.code == 0, done.said
    found = statuses(project.folder)
    assert found == CALM
    power = {row.size for row in read_rows(project.folder / "results.csv") if row.metric == "gpu_power"}
    assert power == {"calm.1"}, "the worker has lost the card for the cases that follow as well"
    note("NVML: GPU is lost", "warm_up", found, done.code, "no power and no clocks from then on")


def test_an_error_of_the_device_does_not_reach_the_next_case(tmp_path):
    """After an illegal access every call of the process fails: the next case has a new one."""
    project = Project(tmp_path, standin.environ())
    done = project.run(*STRUCK, backends="cupy", FAULT="cuda_error.warm_up")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.said
    found, why = statuses(project.folder), reasons(project.folder)
    assert found == {**REST, "struck": "error"}
    assert why["struck"][0] == "CUDARuntimeError"
    note("a CUDA error that sticks to the process", "warm_up", found, done.code, why["struck"][1])


def test_a_kernel_that_does_nothing_on_the_device_has_no_time_by_its_clock(tmp_path):
    """By the clock of the device it takes no time, however often it is called. The wall clock's time stands."""
    project = Project(tmp_path, standin.environ())
    done = project.run("-k", "test_good", backends="cupy")
    assert done.code == 0, done.said
    found = statuses(project.folder)
    assert found == {"good": "ok"}
    clocks = {row.clock for row in read_rows(project.folder / "results.csv") if row.metric == "time"}
    assert clocks == {"wall"}
    note("a clock that stands still", "warm_up", found, done.code, "no time by that clock")


# ---------------------------------------------------------------- kernels that fail, in every phase

# The fault, its phases, the status, the reason's code and words, both with the stage of the harness.
OUTCOMES = (
    ("raise", PHASES, "error", "RuntimeError", "the kernel fell over"),
    ("segfault", PHASES, "crashed", "crashed_{}", "was killed by SIGSEGV in {}"),
    ("kill", PHASES, "crashed", "crashed_{}", "was killed by SIGKILL in {}"),
    ("exit", FEW, "crashed", "crashed_{}", "ended with exit code 3 in {}"),
    ("memory", FEW, "oom", "out_of_memory", "Unable to allocate"),
    ("hang", FEW, "timeout", "timeout_{}", "no result within 3 s, stopped in {}"),
    ("forge", FEW, "error", "bad_answer", "the worker gave an invalid answer in {}"),
)


@pytest.fixture(scope="module")
def failures(failing):
    """The statuses and the reasons of the cases of both runs."""
    (many, done), (others, done_others) = (run.result() for run in failing)
    assert done.code == done_others.code == pytest.ExitCode.TESTS_FAILED, done.said + done_others.said
    assert "31 planned: 1 ok, 10 error, 20 crashed" in done.said
    return statuses(many) | statuses(others), reasons(many) | reasons(others)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome[0])
def test_a_kernel_that_fails_is_a_record_of_its_phase_and_the_run_goes_on(failures, outcome):
    how, phases, status, code, words = outcome
    found, why = failures
    assert found["calm.1"] == "ok"
    for phase in phases:
        reason_code, reason = why[f"{how}.{phase}"]
        assert (found[f"{how}.{phase}"], reason_code) == (status, code.format(STAGE[phase]))
        assert words.format(STAGE[phase]) in reason
    about = "SIGKILL of the worker" if how == "kill" else f"a kernel: {how}"
    note(about, ", ".join(phases), {p: found[f"{how}.{p}"] for p in phases}, 1, f"{reason_code}: {reason}")


def test_every_failure_was_planned_and_no_other_case_was(failures):
    assert set(failures[0]) == {"calm.1", *(f"{how}.{phase}" for how, phases, *_ in OUTCOMES for phase in phases)}
