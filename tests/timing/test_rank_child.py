"""The code of a rank, with threads for ranks: who reads, who answers, and what is said of one that fails alone."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from bench_core.errors import Unavailable
from bench_core.records import Case, Costs, Measurement, Status, Work, to_json
from bench_core.timing import rank_child
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import Settings
from bench_core.timing.sampling import Durations
from bench_core.timing.sources import WorkloadSource
from bench_core.timing.worker_protocol import ProcessEnvironment
from tests.support import ROOT
from tests.support.fake_ranks import Together

SOURCE = WorkloadSource(str(ROOT), "tests.faulty.faults", "test_good")
SETTINGS = Settings(Durations(), 0, 1 << 20)


def case(ranks=2):
    return Case(Work("s", "w", "1", "float64", (("ranks", ranks),)), "torch", "cpu:x2")


def measured(status=Status.OK, reason="", **known):
    return replace(Measurement.missing(case(), status, "code" if reason else "", reason), **known)


class Backend:
    """A backend of one rank, whose teams are as large as the world or leave some out."""

    def __init__(self, ranks):
        self.world, self.asked = ranks, []

    def team(self, size):
        self.asked.append(size)
        return self.world.rank < size


def served(monkeypatch, size, commands, outcomes):
    """Serve commands in so many ranks. outcomes: of the cases, by rank. Return what each rank has answered."""
    monkeypatch.setattr(rank_child, "commands", lambda: iter(commands))
    monkeypatch.setattr(rank_child, "exempt_imports", lambda: None)
    monkeypatch.setattr(protocol, "process_environment", lambda backend: ProcessEnvironment("e_1", {}))
    monkeypatch.setattr(rank_child, "run_case", lambda case, workload, backend, *_: outcomes[backend.world.rank])
    answers = [[] for _ in range(size)]

    def work(ranks):
        rank_child._serve(Backend(ranks), answers[ranks.rank].append, [])

    assert Together(size).run(work) == [None] * size
    return answers


def test_rank_0_alone_reads_commands_and_all_run_the_case(monkeypatch):
    start = {"do": "start"}
    outcomes = {0: measured(), 1: measured(Status.ERROR, "no")}
    answers = served(monkeypatch, 2, [start, protocol.case_command(case(), SOURCE, SETTINGS)], outcomes)
    ready, done = answers[0]
    assert ready["processes"] == [os.getpid()] * 2
    assert done["measurement"]["reason"] == "rank 1: no"


def test_a_rank_that_a_work_does_not_need_waits_for_the_next_case(monkeypatch):
    commands = [protocol.case_command(case(ranks), SOURCE, SETTINGS) for ranks in (1, 2)]
    answers = served(monkeypatch, 2, commands, {0: measured(), 1: measured(Status.INVALID, "wrong")})
    assert [each["measurement"]["status"] for each in answers[0]] == ["ok", "invalid"]


def outcomes(*found):
    return [None if each.status is Status.OK else to_json(each) for each in found]


def test_the_worst_outcome_counts_and_keeps_all_but_its_reason():
    known = {"costs": Costs(flops=1.0), "backend_version": "2", "device_name": "d", "rel_error": 0.5, "traceback": "t"}
    bad = measured(Status.INVALID, "wrong", **known)
    good = measured()
    assert rank_child.of_all(good, outcomes(good, good)) == good
    assert rank_child.of_all(good, outcomes(good, bad)) == replace(bad, reason="rank 1: wrong")
    assert rank_child.of_all(bad, outcomes(bad, bad)) == bad  # all have failed: it is no matter of a rank


def test_a_reason_names_a_rank_once():
    bad = measured(Status.INVALID, "rank 1: wrong")
    assert rank_child.of_all(measured(), outcomes(measured(), bad)).reason == "rank 1: wrong"


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """Exit codes with which this process would have ended; it has the folder for the files of ranks."""
    codes, event = [], threading.Event()

    def end(code):
        codes.append(code)
        event.set()

    monkeypatch.setattr(rank_child.os, "_exit", end)
    monkeypatch.setattr(rank_child, "GRACE", 0.01)
    monkeypatch.setenv(rank_child.FOLDER, str(tmp_path))
    return codes, event


def test_a_rank_that_failed_alone_says_why_and_ends(ended, tmp_path):
    codes, event = ended
    why = {"rank": 1, "measurement": to_json(measured(Status.OOM, "no memory"))}
    with rank_child._leaving(why):
        assert event.wait(20)
    assert codes == [1]
    assert json.loads((tmp_path / rank_child.FAILURE).read_text()) == why


def test_the_first_rank_that_leaves_is_the_one_whose_words_are_kept(ended, tmp_path):
    codes, event = ended
    (tmp_path / rank_child.FAILURE).write_text("of rank 0")
    with rank_child._leaving({"rank": 1}):
        assert event.wait(20)
    assert (tmp_path / rank_child.FAILURE).read_text() == "of rank 0"
    assert codes == [1]


def test_a_rank_stays_if_the_others_come_as_well(monkeypatch, ended, tmp_path):
    monkeypatch.setattr(rank_child, "GRACE", 60.0)
    with rank_child._leaving({"rank": 1}):
        pass
    assert not (tmp_path / rank_child.FAILURE).exists()
    assert ended[0] == []


def test_a_rank_that_cannot_go_on_waits_to_be_ended_and_says_which_had_ended_before(
    monkeypatch, ended, tmp_path, capsys
):
    """The launcher names the first to fail: not one that failed because another was gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    slept = []
    monkeypatch.setattr(rank_child.time, "sleep", slept.append)
    with rank_child._ending_last() as processes:
        processes[:] = [os.getpid(), gone.pid]
        raise RuntimeError("Connection closed by peer")
    assert ended[0] == [1]
    assert slept == [rank_child.GRACE]
    assert json.loads((tmp_path / rank_child.GONE).read_text()) == [1]
    assert "Connection closed by peer" in capsys.readouterr().err


class NoLauncher:
    def connect(self, device):
        raise Unavailable("no_collectives", "there are none")


def test_a_rank_that_cannot_connect_says_so_by_rank_0_or_by_its_end(monkeypatch):
    monkeypatch.setattr(rank_child, "GRACE", 0.0)
    answers = []
    assert rank_child._connected(NoLauncher(), "cuda:x2", 0, answers.append) is None
    assert answers == [protocol.unavailable_answer(Unavailable("no_collectives", "there are none"))]
    with pytest.raises(SystemExit, match="there are none"):
        rank_child._connected(NoLauncher(), "cuda:x2", 1, lambda message: None)


def test_a_rank_other_than_0_neither_reads_nor_writes_the_streams_of_the_parent():
    code = (
        "import os, sys\n"
        "from bench_core.timing import rank_child\n"
        "with rank_child._silence():\n"
        "    os.write(2, b'<' + os.read(0, 9) + b'>')\n"
        "    print('printed', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="command", capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("", "<>printed\n")
