"""Runs that are killed, interrupted or told to end, at chosen points: what was measured is kept, once, and finished.

The points are places in the code, never times: a kernel strikes in a phase of its case, a plugin at a
write of the run's files. A run has four cases, and its second one is the one that is struck.
"""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from bench_core.results.schema import JOURNAL
from tests.faulty.outcomes import note
from tests.faulty.runs import Done, Project, in_journal, in_samples, reasons, statuses, two_at_a_time

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("installed")]

PLAN = {"calm.1", "struck", "calm.2", "calm.3"}
KERNEL = ("inputs", "build", "first", "outputs", "check", "probe", "warm_up", "block", "again")
# Lines of the journal: 1 the head, 2 the worker's environment, 3 to 6 the cases. Files moved: 1 results.csv,
# 2 samples.csv, 3 run.json.
WRITES = (
    *("torn:2", "written:2", "torn:3", "written:3", "torn:4", "written:5", "torn:6", "written:6"),
    *("replace:1", "replace:2", "replace:3", "replaced:3"),
)
KILLS = (
    *(("pytest", {"FAULT": f"kill_pytest.{phase}"}, phase) for phase in KERNEL[::2]),
    *(("pytest and worker", {"FAULT": f"kill_both.{phase}"}, phase) for phase in KERNEL[1::2]),
    *(("pytest", {"STRIKE": f"kill@{point}"}, point) for point in WRITES),
)


@dataclass(frozen=True)
class Killed:
    """A run that was killed and then finished: what the journal held, and how often each case had begun, before."""

    project: Project
    first: Done
    kept: dict[str, list[float]]
    begun: dict[str, int]
    second: Done


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def kills(request, pool):
    def kill_and_finish(kill, project):
        first = project.run("-k", "test_struck", **kill[1])
        kept, begun = in_journal(project.folder), project.begun()
        return Killed(project, first, kept, begun, project.resume())

    return two_at_a_time(pool, request, "kill", kill_and_finish)


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: f"{kill[0].replace(' ', '_')}-{kill[2]}")
def test_a_killed_run_is_finished_and_nothing_is_lost_or_measured_twice(kills, kill):
    who, _, point = kill
    done = kills[str(kill)].result()
    project, folder = done.project, done.project.folder
    assert done.first.code == -signal.SIGKILL, done.first.said
    assert done.second.code == 0, done.second.said
    assert statuses(folder) == dict.fromkeys(PLAN, "ok")
    samples = in_samples(folder)
    assert {size: samples[size] for size in done.kept} == done.kept
    again = project.begun() - done.begun
    assert set(again) == PLAN - set(done.kept)
    assert set(again.values()) <= {1}
    assert not (folder / JOURNAL).exists()
    note(f"SIGKILL of {who}", point, statuses(folder), f"{done.first.code}, resumed {done.second.code}",
         f"{len(done.kept)} kept from the journal, {len(again)} measured on resuming")  # fmt: skip


def test_each_point_of_a_kill_leaves_its_number_of_cases_in_the_journal(kills):
    """Of the four cases, as many are in the journal as the place of the kill has it: the points do differ."""
    expected = {"torn:3": 0, "written:3": 1, "torn:4": 1, "written:5": 3, "torn:6": 3, "replaced:3": 4, "block": 1}
    found = {kill[2]: len(kills[str(kill)].result().kept) for kill in KILLS if str(kill) in kills}
    assert {point: found.get(point) for point in expected} == expected


def test_a_run_killed_before_anything_was_measured_says_that_there_is_nothing_to_finish(tmp_path):
    project = Project(tmp_path)
    project.run("-k", "test_struck", STRIKE="kill@torn:1")
    again = project.resume()
    assert again.code == pytest.ExitCode.USAGE_ERROR
    assert "nothing to resume: " in again.said
    assert "the journal has no head" in again.said
    assert "Traceback" not in again.said


def test_a_run_may_be_killed_again_while_it_is_finished(tmp_path):
    """Three times at three points, first at the first line that it adds: each try goes on where the last ended."""
    project = Project(tmp_path)
    assert project.run("-k", "test_struck", FAULT="kill_pytest.block").code == -signal.SIGKILL
    kept = in_journal(project.folder)
    for point in ("torn:1", "written:1", "replace:2"):
        assert project.resume(STRIKE=f"kill@{point}").code == -signal.SIGKILL
        assert kept.items() <= in_journal(project.folder).items()
        kept = in_journal(project.folder)
    assert project.resume().code == 0
    assert statuses(project.folder) == dict.fromkeys(PLAN, "ok")
    assert in_samples(project.folder) == kept
    assert project.resume().code == pytest.ExitCode.USAGE_ERROR


def test_finishing_a_part_of_a_run_loses_nothing_of_the_rest(tmp_path):
    """The plan is that of the run, whatever of it is selected when it is taken up."""
    project = Project(tmp_path)
    project.run("-k", "test_struck", FAULT="kill_pytest.build")
    part = project.resume(None, "-k", "struck-never or calm.2")
    assert part.code == 0
    assert statuses(project.folder) == {
        "calm.1": "ok", "calm.2": "ok", "struck": "interrupted", "calm.3": "interrupted"
    }  # fmt: skip
    assert project.resume().code == 0
    assert statuses(project.folder) == dict.fromkeys(PLAN, "ok")
    assert set(project.begun().values()) == {1, 2}
    assert project.begun()["struck"] == 2


def test_a_run_that_goes_on_cannot_be_finished_by_another_process(tmp_path):
    project = Project(tmp_path)
    running = project.start("-k", "test_struck", FAULT="hang.block")
    try:
        wait_for_line(project, 3)
        other = project.resume()
        assert other.code == pytest.ExitCode.USAGE_ERROR
        assert "another process is writing this run" in other.said
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == pytest.ExitCode.INTERRUPTED
    assert project.resume().code == 0


def wait_for_line(project, number):
    """Wait until the journal has a line of this number, as long as it takes: the run is another process's."""
    for _ in range(1200):
        if any((folder / JOURNAL).read_text().count("\n") >= number for folder in project.folders()):
            return
        time.sleep(0.05)
    raise AssertionError("waited 60 s in vain")


SIGNALS = (
    ("SIGINT", {"FAULT": "interrupt.block"}),
    ("SIGINT, again while the results are written", {"FAULT": "interrupt.block", "STRIKE": "interrupt@replace:2"}),
    ("SIGTERM", {"FAULT": "terminate.build"}),
    ("SIGTERM, again while the results are written", {"FAULT": "terminate.check", "STRIKE": "terminate@replace:3"}),
    ("SIGTERM, again at once, while pytest ends and at exit", {"FAULT": "terminate.block", "STRIKE": "again"}),
    ("SIGHUP", {"FAULT": "hang_up.block"}),
)


@pytest.fixture(scope="module")
def signals(request, pool):
    def send_and_finish(sent, project):
        first = project.run("-k", "test_struck", **sent[1])
        left = statuses(project.folder), reasons(project.folder), in_samples(project.folder)
        return project, first, left, project.resume()

    return two_at_a_time(pool, request, "sent", send_and_finish)


@pytest.mark.parametrize("sent", SIGNALS, ids=[name.replace(" ", "_") for name, _ in SIGNALS])
def test_a_signal_ends_the_run_with_its_results_written_and_it_can_be_finished(signals, sent):
    name, variables = sent
    if signal.getsignal(getattr(signal, name.partition(",")[0])) is signal.SIG_IGN:
        pytest.skip("ignored here, under nohup or in a background job of a shell, so every run ignores it too")
    project, first, (found, why, samples), second = signals[str(sent)].result()
    assert first.code == pytest.ExitCode.INTERRUPTED, first.said
    assert found == {"calm.1": "ok", "struck": "interrupted", "calm.2": "interrupted", "calm.3": "interrupted"}
    assert why["struck"] == ("interrupted", "interrupted while it ran")
    assert why["calm.2"] == ("not_reached", "the run ended before its turn")
    finish = f"to finish the run: bench-core run --resume results/m/{project.folder.name}"
    assert finish in first.said
    assert set(samples) == {"calm.1"}
    note(name, variables["FAULT"].partition(".")[2], found, first.code, finish.replace(project.folder.name, "RUN"))
    assert second.code == 0, second.said
    assert statuses(project.folder) == dict.fromkeys(PLAN, "ok")
    assert in_samples(project.folder)["calm.1"] == samples["calm.1"]
