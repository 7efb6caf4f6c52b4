"""A worker of several ranks, as its parent sees it: what is said of a rank that is dead or late; none is left."""

import json
import os
import signal
import subprocess
import sys
from io import BytesIO
from types import SimpleNamespace

import psutil
import pytest

from bench_core import child_process
from bench_core.backends import torch_ranks
from bench_core.errors import CaseError
from bench_core.records import Case, Measurement, Status, Work, to_json
from bench_core.timing import rank_child, ranks_worker, worker
from bench_core.timing.ranks_worker import RanksWorker
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec

CASE = Case(Work("s", "w", "1", "float64", (("ranks", 2),)), "torch", "cpu:x2")
HERE = ProcessEnvironment("e_1", {})
FAILED = "E1129 api.py:902] failed (exitcode: {}) local_rank: {} (pid: 77) of binary: /usr/bin/python"
STACK = 'Stack (most recent call first):\n  File "{}", line {} in {}\n  File "/x/case.py", line 9 in run_case\n'
KERNEL, WAITING = ("/home/me/bench_own.py", 36, "hang"), ("/lib/torch/distributed/c10d.py", 52, "all_gather")


class Planted(RanksWorker):
    """Two ranks that are no processes. said: by the launcher; code: how that has ended. The ranks write to files."""

    def __init__(self, folder, code=1, said=()):
        super().__init__(WorkerSpec("torch", "cpu:x2", 1, ()))
        self._scratch, self.ended = SimpleNamespace(name=str(folder)), (code, list(said))

    @property
    def _launcher(self):
        log = lambda folder, rank: f"{folder}/{rank}.log"  # noqa: E731
        return SimpleNamespace(
            first_to_fail=torch_ranks.first_to_fail,
            is_waiting=torch_ranks.is_waiting,
            log_of=log,
            rank_in=lambda _: None,
        )

    def _wait(self):
        return self.ended

    def _kill(self): ...


class Asked:
    """The process of a rank: it writes where it is when it is asked to."""

    def __init__(self, path, stack, status=psutil.STATUS_RUNNING):
        self.path, self.stack, self.status = path, stack, lambda: status

    def is_running(self):
        return True

    def send_signal(self, number):
        assert number == signal.SIGUSR1
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self.stack)


def write(folder, rank, text):
    (folder / f"{rank}.log").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("code", "how"), [(-9, "was killed by SIGKILL"), (3, "ended with exit code 3")])
def test_the_first_rank_to_fail_is_named_with_its_end_and_its_last_words(tmp_path, code, how):
    write(tmp_path, 1, "loading\nhere it ends\n")
    worker = Planted(tmp_path, said=["a warning", FAILED.format(code, 1), "ChildFailedError"])
    assert worker._last_words("in measure") == f"rank 1 {how} in measure: here it ends"


def test_a_rank_that_said_nothing_has_no_last_words(tmp_path):
    assert Planted(tmp_path, said=[FAILED.format(-9, 0)])._last_words("while starting") == (
        "rank 0 was killed by SIGKILL while starting"
    )


def test_without_a_rank_that_failed_the_launcher_is_named(tmp_path):
    worker = Planted(tmp_path, -9, ["its last line"])
    assert worker._last_words("in build") == "the launcher was killed by SIGKILL in build: its last line"


def test_a_rank_that_ended_as_if_all_were_well_is_named_rather_than_those_that_missed_it(tmp_path):
    write(tmp_path, 0, "Connection closed by peer\n")
    write(tmp_path, 1, "bye\n")
    (tmp_path / rank_child.GONE).write_text("[1]")
    worker = Planted(tmp_path, said=[FAILED.format(1, 0)])
    assert worker._last_words("in measure") == "rank 1 ended with exit code 0 in measure: bye"


def test_a_rank_that_was_killed_is_named_also_if_another_one_has_missed_it(tmp_path):
    (tmp_path / rank_child.GONE).write_text("[1]")
    worker = Planted(tmp_path, said=[FAILED.format(-9, 1)])
    assert worker._last_words("in measure") == "rank 1 was killed by SIGKILL in measure"


def failure(folder, case=CASE, reason="MemoryError"):
    done = Measurement.missing(case, Status.OOM, "out_of_memory", reason, traceback="t")
    (folder / rank_child.FAILURE).write_text(json.dumps({"rank": 1, "measurement": to_json(done)}))


def test_a_rank_that_left_the_others_is_the_row_with_what_it_said(tmp_path):
    failure(tmp_path)
    done = Planted(tmp_path)._late_or_dead(CASE, "measure", 60.0, HERE)
    assert (done.status, done.reason_code, done.reason) == (Status.OOM, "out_of_memory", "rank 1: MemoryError")
    assert (done.traceback, done.env_id) == ("t", "e_1")


def test_what_a_rank_said_when_it_left_is_the_reason_also_if_its_launcher_ends_too_late(tmp_path):
    failure(tmp_path)
    worker = Planted(tmp_path)
    worker._timed_out = True
    assert worker._late_or_dead(CASE, "measure", 6.0, HERE).status is Status.OOM


def test_ranks_that_have_ended_are_not_late_though_their_launcher_is(tmp_path):
    worker = Planted(tmp_path, said=[FAILED.format(-9, 1)])
    worker._timed_out = True
    worker._ranks = {rank: Asked(tmp_path / "log", "", psutil.STATUS_ZOMBIE) for rank in range(2)}
    done = worker._late_or_dead(CASE, "measure", 6.0, HERE)
    assert (done.status, done.reason) == (Status.CRASHED, "rank 1 was killed by SIGKILL in measure")


@pytest.mark.parametrize("text", ["", "{", '{"rank": 1, "measurement"'])
def test_half_a_file_of_a_rank_says_nothing(tmp_path, text):
    (tmp_path / rank_child.FAILURE).write_text(text)
    done = Planted(tmp_path, said=[FAILED.format(1, 1)])._late_or_dead(CASE, "measure", 60.0, HERE)
    assert (done.status, done.reason) == (Status.CRASHED, "rank 1 ended with exit code 1 in measure")


def test_what_a_rank_said_of_another_case_is_not_said_of_this_one(tmp_path):
    failure(tmp_path, Case(CASE.work, "torch", "cpu:x3"))
    done = Planted(tmp_path, said=[FAILED.format(1, 1)])._late_or_dead(CASE, "measure", 60.0, HERE)
    assert done.status is Status.CRASHED


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(ranks_worker, "_TO_SAY_WHERE", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_a_late_rank_is_named_before_those_that_wait_for_it(tmp_path):
    worker = Planted(tmp_path)
    worker._timed_out = True
    places = {0: WAITING, 1: KERNEL}
    worker._ranks = {rank: Asked(tmp_path / f"{rank}.log", STACK.format(*place)) for rank, place in places.items()}
    done = worker._late_or_dead(CASE, "measure", 6.0, HERE)
    assert (done.status, done.reason_code) == (Status.TIMEOUT, "timeout_measure")
    assert done.reason == (
        "no result within 6 s, stopped in measure: rank 1 is in bench_own.py:36 (hang), "
        "rank 0 waits in c10d.py:52 (all_gather)"
    )


@pytest.mark.usefixtures("no_pause")
def test_the_last_stack_tells_where_a_rank_is_and_a_rank_without_one_is_told_as_well(tmp_path):
    worker = Planted(tmp_path)
    write(tmp_path, 0, STACK.format("/lib/old.py", 1, "before") + "words\n")
    here = STACK.format("/lib/torch/nn.py", 7, "linear")
    worker._ranks = {0: Asked(tmp_path / "0.log", here), 1: Asked(tmp_path / "1.log", "no stack\n")}
    assert worker._whereabouts() == ": rank 0 is in nn.py:7 (linear), rank 1 does not say where it is"


@pytest.mark.usefixtures("no_pause")
def test_a_rank_that_is_not_there_is_told(tmp_path):
    worker = Planted(tmp_path)
    gone = Asked(tmp_path / "1.log", "", psutil.STATUS_ZOMBIE)
    worker._ranks = {0: Asked(tmp_path / "0.log", STACK.format(*WAITING)), 1: gone}
    assert worker._whereabouts() == ": rank 1 has no process, rank 0 waits in c10d.py:52 (all_gather)"


@pytest.mark.parametrize(
    ("status", "ends"),
    [("ok", False), ("skipped", False), ("unsupported", False), ("error", True), ("oom", True), ("invalid", True)],
)
def test_a_case_that_fails_on_any_rank_ends_all_and_other_cases_are_served_on(monkeypatch, tmp_path, status, ends):
    done, closed = Measurement.missing(CASE, Status(status), "code", "reason"), []
    monkeypatch.setattr(ranks_worker.Worker, "execute", lambda *_: done)
    worker = Planted(tmp_path)
    monkeypatch.setattr(worker, "close", lambda: closed.append(True))
    assert worker.execute(CASE, None, None, 1.0, lambda phase: None) is done
    assert bool(closed) is ends


SLEEP = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="groups of processes are of POSIX")
def test_ranks_end_with_their_worker_and_all_that_they_have_started_though_each_has_a_session_of_its_own():
    def sleeper():
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **child_process.apart()}
        process = subprocess.Popen([sys.executable, "-c", SLEEP], **options)
        return process, psutil.Process(int(process.stdout.readline()))

    (launcher, _), (one, ones), (two, twos) = sleeper(), sleeper(), sleeper()
    worker = RanksWorker(WorkerSpec("torch", "cpu:x2", 1, ()))
    worker._process, worker._ranks = launcher, {0: psutil.Process(one.pid), 1: psutil.Process(two.pid)}
    worker._kill()
    for process in (one, two):
        process.wait(timeout=10)
        process.stdin.close()
        process.stdout.close()
    assert launcher.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs([ones, twos], timeout=10)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert worker._ranks == {}


def test_without_a_temporary_folder_ranks_do_not_meet_somewhere_else(monkeypatch):
    log = BytesIO()
    monkeypatch.setattr(worker, "_log_and_scratch", lambda: (log, None))
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(CaseError, match="no temporary folder can be written to: ranks meet through files in one"):
        RanksWorker(WorkerSpec("torch", "cpu:x2", 1, ())).start()
    assert log.closed
