"""A rank that hangs, dies, is slow or gives a wrong answer costs its own case alone, is named, and leaves nothing.

One of each kind, in as few launches as possible; `python -m tests.faulty.trial_ranks` plants each many times.
"""

import os
import re
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench_core.errors import CaseError
from bench_core.machine import allotment
from bench_core.machine.kernel_files import numbers
from bench_core.results.reader import read_rows
from bench_core.timing.ranks_worker import RanksWorker
from bench_core.timing.worker_protocol import WorkerSpec
from tests.faulty import left, trial_ranks
from tests.faulty.outcomes import note
from tests.faulty.runs import HERE, Project, in_journal, reasons, statuses

pytestmark = [
    pytest.mark.faults,
    pytest.mark.usefixtures("installed"),
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.skipif(allotment.usable_cores() < 2, reason="two ranks need two cores"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended"),
]

STATUSES = {
    "calm.1": "ok",
    "uneven.1": "ok",
    "wrong.again": "invalid",
    "kill-0.block": "crashed",
    "hang.block": "timeout",
    "calm.2": "ok",
    "interrupt.block": "interrupted",
    "calm.3": "interrupted",
}


@pytest.fixture(scope="module")
def striking(tmp_path_factory):
    """A run in which a rank strikes, until it interrupts pytest; what it has left."""
    folder = tmp_path_factory.mktemp("striking")
    project = Project(folder, trial_ranks.environ(folder), "ranks.py")
    with trial_ranks.interrupts_reach_children():
        done = project.run("--bench-timeout=6", "--bench-budget=1.2", backends=trial_ranks.TARGET, timeout=600)
    return project, done, left.behind(str(folder), project.path / "begun.txt", folder / "tmp")


def test_a_rank_that_strikes_is_named_in_the_row_of_its_case_and_all_others_are_measured(striking):
    project, done, _ = striking
    found, why = statuses(project.folder), reasons(project.folder)
    assert found == STATUSES, done.said
    for how in ("wrong.again", "kill-0.block", "hang.block"):
        assert re.fullmatch(trial_ranks.CASES[how][1], why[how][1])
        note("of ranks: " + how.partition(".")[0], how.partition(".")[2], {how: found[how]}, done.code, why[how][1])


def test_an_interrupt_keeps_what_was_measured(striking):
    project, done, _ = striking
    assert done.code == pytest.ExitCode.INTERRUPTED, done.said
    assert reasons(project.folder)["interrupt.block"] == ("interrupted", "interrupted while it ran")


def test_a_rank_that_is_slow_where_none_waits_for_it_is_flagged(striking):
    rows = read_rows(striking[0].folder / "results.csv")
    slow = {row.size for row in rows if "slow_rank_1" in row.flags}
    assert slow == {"uneven.1"}
    assert not [row for row in rows if "slow_rank_0" in row.flags]


def test_the_cores_are_divided_among_the_ranks_and_that_is_told(striking):
    project, _, _ = striking
    share = allotment.usable_cores() // 2
    times = [row for row in read_rows(project.folder / "results.csv") if row.metric == "time" and row.has_value]
    assert {(row.device, row.device_type, row.threads) for row in times} == {("cpu:x2", "cpu", 2 * share)}
    for facts in project.about["environment"]["workers"].values():
        assert facts["ranks"]["value"] == 2
        assert facts["ranks.collectives"]["value"] == "gloo"
        assert facts["ranks.cores"]["value"] == len(allotment.share_of_cpus(0, 2))
        assert facts["torch.threads"]["value"] == share
        first, second = map(numbers, facts["ranks.affinity"]["value"].split(" | "))
        assert first.isdisjoint(second), "no core is that of both"
        assert (first, second) == (allotment.share_of_cpus(0, 2), allotment.share_of_cpus(1, 2))


@pytest.mark.skipif("GLOO_SOCKET_IFNAME" in os.environ, reason="the user has named a network interface")
def test_nobody_listens_where_another_host_could_reach(striking):
    words = [line.split() for line in (striking[0].path / "begun.txt").read_text().splitlines()]
    addresses = {address for what, address, *_ in words if what == "listens"}
    assert addresses, "two ranks that talk to each other listen somewhere"
    assert addresses <= {"127.0.0.1", "::1"}


def test_neither_a_process_nor_a_port_nor_a_folder_is_left(striking):
    assert striking[2] == ""


def test_ranks_end_when_pytest_is_killed_and_the_journal_is_kept(tmp_path):
    project = Project(tmp_path, trial_ranks.environ(tmp_path), "ranks.py")
    done = project.run(backends=trial_ranks.TARGET, FAULT="calm.1 kill_pytest.block", timeout=600)
    assert done.code == -signal.SIGKILL, done.said
    assert set(in_journal(project.folder)) == {"calm.1"}
    log = project.path / "begun.txt"
    assert left.behind(str(tmp_path), log) == ""
    # A later run removes these: bench_core/scratch.py.
    assert {path.name[:19] for path in (tmp_path / "tmp").iterdir()} == {"bench-core-scratch-"}


def test_a_rank_that_dies_before_it_is_connected_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    environ = trial_ranks.environ(tmp_path)
    path = os.pathsep.join([str(HERE / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name, value in {**environ, "PYTHONPATH": path, "FAULT_RANK": "starting_kill"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", None)
    worker = RanksWorker(WorkerSpec("torch", "cpu:x2", 1, ()))
    with pytest.raises(CaseError, match=r"^rank 1 was killed by SIGKILL while starting: here it ends$") as caught:
        worker.start()
    assert caught.value.code == "worker_start"
    worker.close()
    assert left.behind(str(tmp_path), Path("none"), tmp_path / "tmp") == ""
