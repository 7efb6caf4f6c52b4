"""Slurm as an engine: against commands that run jobs on this computer, in real processes."""

import os
import shutil
import subprocess
import sys
import time

import pytest

import bench_core
from bench_core.errors import UsageError
from bench_core.fleet import slurm
from bench_core.fleet.engine import EngineError, JobState, Place, Places
from bench_core.fleet.plan import Node, Order, Part
from bench_core.fleet.slurm import Queue, Said, Slurm, checked, gpus_of, is_over, jobs_of, last_line, places_of, refusal
from tests.support import ROOT
from tests.support.properties import given, st

needs_slurm = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("bash"), reason="the commands are programs of a POSIX system"
)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs the extra `fleet`")
    from tests.support.fake_slurm import Cluster, beside, tasks

    cluster = Cluster(tmp_path / "slurm of this computer")
    cluster.nodes({"a": {}, "b": {"gres": "gpu:h100:8(S:0-1)"}})
    monkeypatch.setenv("PATH", beside(os.environ["PATH"], cluster.bin))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setattr(slurm, "_task", lambda: tasks.perform)
    yield cluster
    cluster.close()


@pytest.fixture
def engine(cluster, tmp_path):
    engine = made(tmp_path)
    yield engine
    engine.close()


def made(tmp_path, **settings):
    """Return the engine, which asks Slurm at every look."""
    engine = Slurm(tmp_path / "private", settings)
    engine._queue.least_s = 0
    return engine


def order(tmp_path, kind, node="node-01"):
    return Order(Node(node, (Part(node),)), 3, (kind,), str(tmp_path / node), "token", str(tmp_path))


def wait_for(is_so, seconds=60.0):
    """Wait until something is so; fails after far more time than it takes."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never was"
        time.sleep(0.02)


def wait_for_end(job):
    wait_for(lambda: job.state() is JobState.ENDED)


def started(tmp_path, node="node-01"):
    return (tmp_path / node / "started").exists


# --- the nodes -------------------------------------------------------------------------------------------------------


@needs_slurm
def test_the_nodes_of_the_default_partition_are_the_places(cluster, engine):
    cluster.nodes({"a": {}, "b": {"gres": "gpu:4"}, "c": {"partition": "other"}, "d": {"partition": "main* other"}})
    assert engine.places() == Places((Place("a"), Place("b", 4), Place("d")))


@needs_slurm
def test_a_partition_that_the_user_names_counts_instead(cluster, tmp_path):
    cluster.nodes({"a": {}, "c": {"partition": "other"}, "d": {"partition": "main* other"}})
    assert made(tmp_path, partition="other").places() == Places((Place("c"), Place("d")))


@needs_slurm
def test_of_a_list_of_nodes_those_that_slurm_does_not_know_are_absent(cluster, tmp_path):
    cluster.nodes({f"n{number:02}": {} for number in range(1, 4)} | {"x": {}})
    there = made(tmp_path, nodes="n[02-04]").places()
    assert there.usable == (Place("n02"), Place("n03"))
    assert there.absent == (("n04", "Slurm knows no such node in the default partition"),)


@needs_slurm
@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("down*", "Not responding", "down, does not answer: Not responding"),
        ("drained", "bad DIMM|slot 3 [admin@2026]", "drained: bad DIMM|slot 3 [admin@2026]"),
        ("idle*", "none", "idle, does not answer"),
        ("reserved", "none", "reserved"),
        ("unheard_of", "none", "unheard_of"),
    ],
)
def test_a_node_that_cannot_be_used_is_absent_for_the_reason_that_slurm_gives(cluster, engine, state, reason, said):
    cluster.nodes({"a": {}, "b": {"state": state, "reason": reason}})
    assert engine.places() == Places((Place("a"),), (("b", said),))


@pytest.mark.parametrize(
    "state", ["idle", "idle~", "idle#", "mixed", "mixed-", "allocated", "allocated+", "completing"]
)
def test_a_node_that_is_busy_or_asleep_can_be_used(state):
    assert places_of([f"a|main*|{state}|(null)|none"], is_any=False, is_reserved=False) == Places((Place("a"),))


def test_the_nodes_of_a_reservation_can_be_used_with_it():
    lines = ["a|main*|reserved|(null)|none", "b|main*|maint$|(null)|none"]
    assert places_of(lines, is_any=False, is_reserved=True) == Places((Place("a"), Place("b")))


def test_a_node_that_one_partition_can_use_is_a_place_once():
    lines = ["a|p|drained|gpu:1|x", "a|q|idle|gpu:1|x"]
    assert places_of(lines, is_any=True, is_reserved=False) == Places((Place("a", 1),))


@needs_slurm
def test_without_a_default_partition_those_that_there_are_are_named(cluster, engine):
    cluster.nodes({"a": {"partition": "big"}, "b": {"partition": "small"}})
    with pytest.raises(EngineError, match=r"no default partition: give --set partition=NAME, of big, small$"):
        engine.places()


@needs_slurm
def test_a_partition_without_nodes_is_named(cluster, tmp_path):
    with pytest.raises(EngineError, match=r"^Slurm has no node in partition none$"):
        made(tmp_path, partition="none").places()


# --- jobs ------------------------------------------------------------------------------------------------------------


@needs_slurm
def test_a_job_runs_the_task_on_its_node_and_ends(engine, tmp_path):
    jobs = [engine.start(order(tmp_path, "ends", f"node-{name}"), Place(name)) for name in ("a", "b")]
    for job in jobs:
        wait_for_end(job)
    assert [job.why for job in jobs] == ["", ""]
    said = [(tmp_path / f"node-{name}" / "started").read_text().split()[0] for name in ("a", "b")]
    assert said == ["a", "b"]


@needs_slurm
def test_a_job_has_its_node_alone_and_whole_and_is_not_queued_again(cluster, tmp_path):
    engine = made(tmp_path, partition="main", time="1-00:00:00", mail_user="me")
    wait_for_end(engine.start(order(tmp_path, "ends"), Place("b", 8)))
    lines = cluster.script(1).splitlines()
    for option in (
        *("nodelist=b", "exclusive", "ntasks-per-node=1", "nodes=1", "mem=0", "no-requeue", "signal=TERM@90"),
        *("gres=gpu:8", "partition=main", "time=1-00:00:00", "mail-user=me", "job-name=bench-core"),
    ):
        assert f"#SBATCH --{option}" in lines
    assert not [line for line in lines if "wckey" in line]
    (srun,) = (line for line in lines if line.startswith("srun"))
    assert " --cpu-bind=none " in srun


@needs_slurm
def test_without_a_time_that_of_the_partition_holds_and_without_gpus_none_are_asked_for(cluster, engine, tmp_path):
    wait_for_end(engine.start(order(tmp_path, "ends"), Place("b", 8)))
    wait_for_end(engine.start(order(tmp_path, "ends"), Place("a")))
    assert "--time" not in cluster.script(1)
    assert ["--gres" in cluster.script(job) for job in (1, 2)] == [True, False]


@needs_slurm
def test_a_clone_is_found_by_its_path_and_an_installed_copy_without(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_core, "__file__", str(tmp_path / "it's" / "bench_core" / "__init__.py"))
    (line,) = slurm._setup()
    shown = os.popen(f'PYTHONPATH=before; {line}; echo "$PYTHONPATH"').read()
    assert shown == f"{(tmp_path / chr(105)).parent.resolve()}/it's:before\n"
    monkeypatch.setattr(slurm.sysconfig, "get_path", lambda kind: str(tmp_path / "it's"))
    assert slurm._setup() == []


@needs_slurm
def test_what_sbatch_refuses_is_told_in_its_own_words_and_only_once(cluster, tmp_path, capfd):
    engine = made(tmp_path, partition="nowhere")
    with pytest.raises(EngineError) as error:
        engine.start(order(tmp_path, "ends"), Place("a"))
    assert str(error.value) == (
        "sbatch refuses node-01: invalid partition specified: nowhere; "
        "Batch job submission failed: Invalid partition name specified"
    )
    assert capfd.readouterr().err == ""


@needs_slurm
def test_a_task_that_raises_has_failed_with_its_last_words(engine, tmp_path):
    job = engine.start(order(tmp_path, "fails"), Place("a"))
    wait_for_end(job)
    assert job.why == "FAILED with exit code 1: OSError: No space left on device"


@needs_slurm
def test_a_task_that_exits_has_failed_with_its_exit_code(engine, tmp_path):
    job = engine.start(order(tmp_path, "exits"), Place("a"))
    wait_for_end(job)
    assert job.why == "FAILED with exit code 3: the library is broken"


@needs_slurm
def test_a_job_whose_node_dies_has_ended_with_node_fail(cluster, engine, tmp_path):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    assert job.state() is JobState.RUNNING
    cluster.kill_node("a")
    wait_for_end(job)
    assert job.why == "NODE_FAIL NodeDown"


@needs_slurm
@pytest.mark.parametrize("state", ["TIMEOUT", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE", "NEW_IN_VERSION_99"])
def test_every_other_end_is_named_as_slurm_names_it(cluster, engine, tmp_path, state):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    cluster.put(job.id, state=state, reason="None")
    assert (job.state(), job.why) == (JobState.ENDED, state)


@needs_slurm
def test_cancelling_lets_the_task_end_gently(engine, tmp_path):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    assert (job.state(), job.reason) == (JobState.RUNNING, "")
    job.cancel()
    wait_for_end(job)
    assert (tmp_path / "node-01" / "ended").read_text() == "gently"
    assert job.why == ""
    job.cancel()  # of one that has ended: nothing


@needs_slurm
def test_a_job_that_waits_is_cancelled_before_it_begins(cluster, engine, tmp_path):
    cluster.nodes({"a": {"state": "down"}})
    job = engine.start(order(tmp_path, "ends"), Place("a"))
    assert (job.state(), job.reason) == (JobState.WAITING, "ReqNodeNotAvail, UnavailableNodes:a")
    job.cancel()
    assert (job.state(), job.why) == (
        JobState.ENDED,
        "CANCELLED while it waited (ReqNodeNotAvail, UnavailableNodes:a)",
    )
    assert job.reason == ""
    assert not started(tmp_path)()


@needs_slurm
def test_closing_ends_what_has_not_ended(cluster, tmp_path):
    engine = made(tmp_path)
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    engine.close()
    assert (job.state(), job.why) == (JobState.ENDED, "CANCELLED")
    assert not (tmp_path / "node-01" / "ended").exists()


@needs_slurm
def test_of_a_job_that_squeue_has_forgotten_accounting_tells_the_end(cluster, engine, tmp_path):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    cluster.close()
    cluster.forget(job.id)
    cluster.accounting({job.id: "CANCELLED by 0"})
    assert (job.state(), job.why) == (JobState.ENDED, "CANCELLED")


@needs_slurm
def test_a_job_that_nobody_knows_any_more_has_ended_after_some_looks(cluster, engine, tmp_path):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    assert job.state() is JobState.RUNNING
    cluster.close()
    cluster.forget(job.id)
    assert [job.state() for _ in range(3)] == [JobState.RUNNING, JobState.RUNNING, JobState.ENDED]
    assert job.why == "Slurm knows job 1 no longer"


@needs_slurm
def test_while_slurm_does_not_answer_what_it_said_last_holds_and_a_result_is_an_end(engine, tmp_path):
    job = engine.start(order(tmp_path, "waits"), Place("a"))
    wait_for(started(tmp_path))
    assert job.state() is JobState.RUNNING

    def silent(command):
        raise EngineError("squeue: Unable to contact slurm controller")

    engine._queue.ask = silent
    assert [job.state() for _ in range(5)] == [JobState.RUNNING] * 5
    job.cancel()
    wait_for_end(job)
    assert job.why == ""


# --- what can be wrong before ----------------------------------------------------------------------------------------


def test_settings_are_options_of_sbatch_with_either_sign():
    assert checked({"partition": "gpu", "mail_user": "me", "cpus-per-task": "4", "nodes": "a[1-3]"}) == {
        "partition": "gpu",
        "mail-user": "me",
        "cpus-per-task": "4",
    }


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"partiton": "x"}, "no setting of Slurm 'partiton'; did you mean 'partition'?"),
        ({"nodelist": "x"}, "no setting of Slurm 'nodelist'; did you mean 'nodes'?"),
        ({"requeue": "1"}, "no setting of Slurm 'requeue'; available: account"),
        ({"time": " "}, "--set time: needs a value in one line"),
        ({"comment": "a\n#SBATCH --uid=0"}, "--set comment: needs a value in one line"),
    ],
)
def test_a_wrong_setting_is_one_line(setting, said):
    with pytest.raises(UsageError) as error:
        checked(setting)
    assert said in str(error.value)


def test_without_submitit_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(EngineError, match=r"^Slurm needs a missing package: python -m pip install submitit$"):
        Slurm(tmp_path, {})


def test_without_slurm_the_line_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs the extra `fleet`")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"^no Slurm here: there is no srun on the PATH$"):
        Slurm(tmp_path, {})
    with pytest.raises(EngineError, match=r"^no Slurm here: there is no sinfo on the PATH$"):
        slurm._ask(["sinfo"])


def test_a_folder_in_whose_name_submitit_would_replace_something_is_refused(tmp_path):
    pytest.importorskip("submitit", reason="needs the extra `fleet`")
    with pytest.raises(EngineError, match="for the number of a job"):
        Slurm(tmp_path / "100%j", {})


def test_the_module_is_imported_without_submitit():
    code = "import sys, bench_core.fleet.slurm; sys.exit('submitit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- how answers are read --------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_all_jobs_are_asked_for_at_once_and_not_again_within_two_seconds():
    clock, asked = Clock(), []

    def ask(command):
        asked.append(command)
        return "9|RUNNING|None\n10|PENDING|Resources\n"

    queue = Queue(2.0, clock, ask)
    queue.add("10")
    queue.add("9")
    assert (queue.look("9"), queue.look("10"), len(asked)) == (Said("RUNNING"), Said("PENDING", "Resources"), 1)
    assert asked[0][1:] == ["--noheader", "--states=all", "--jobs=9,10", "--format=%A|%T|%r"]
    clock.now = 1.9
    assert (queue.look("9"), len(asked)) == (Said("RUNNING"), 1)
    queue.drop("9")
    clock.now = 2.0
    assert (queue.look("10"), len(asked), asked[1][3]) == (Said("PENDING", "Resources"), 2, "--jobs=10")
    queue.add("11")  # a new one is asked for at once
    assert (queue.look("11"), len(asked)) == (None, 3)


def test_if_slurm_has_not_answered_that_holds_for_all_jobs_until_it_is_asked_again():
    clock, answers = Clock(), [EngineError("squeue: Unable to contact slurm controller"), "9|RUNNING|None\n"]

    def ask(command):
        answer = answers.pop(0)
        if isinstance(answer, EngineError):
            raise answer
        return answer

    queue = Queue(2.0, clock, ask)
    queue.add("9")
    queue.add("10")
    for job in ("9", "10"):
        with pytest.raises(EngineError, match=r"Unable to contact"):
            queue.look(job)
    clock.now = 2.0
    assert (queue.look("9"), queue.look("10")) == (Said("RUNNING"), None)


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("(null)", 0),
        ("", 0),
        ("gpu:8", 8),
        ("gpu", 1),
        ("gpu:h100", 1),
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:nvidia_a100_1g.5gb:7(S:0,2)", 7),
        ("shard:32,gpu:a100:4,gpu:v100:2(S:1)", 6),
        ("gpus:3,tmpgpu:2", 0),
    ],
)
def test_gpus_are_counted_in_the_generic_resources(gres, count):
    assert gpus_of(gres) == count


@given(st.text())
def test_no_answer_of_slurm_is_an_error(text):
    lines = text.splitlines()
    places = places_of(lines, is_any=True, is_reserved=False)
    assert all(why and why.isprintable() for _, why in places.absent)
    assert gpus_of(text) >= 0
    assert all(number.isdecimal() and seen.state for number, seen in jobs_of(lines).items())
    assert refusal(text).isprintable()


@pytest.mark.parametrize(
    "state", ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "PREEMPTED"]
)
def test_states_of_an_end(state):
    assert is_over(state)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "UNKNOWN"])
def test_states_before_the_end(state):
    assert not is_over(state)


def test_the_last_words_of_a_log_are_not_those_of_srun(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("one\nModuleNotFoundError: No module named 'submitit'\n\nsrun: error: a: task 0: Exited with 1\n")
    assert last_line(log) == "ModuleNotFoundError: No module named 'submitit'"
    log.write_bytes(b"x" * (1 << 17) + b"\nlast \xff\n")
    assert last_line(log) == "last \ufffd"


def test_words_of_slurm_that_are_no_error_lines_are_taken_whole():
    assert (
        refusal("slurm_load_jobs error: Invalid job id specified\n")
        == "slurm_load_jobs error: Invalid job id specified"
    )
    assert refusal(" \n") == "it says nothing"
    assert refusal("squeue: fatal: no\x1b[2Jwhere") == "no\\x1b[2Jwhere"


def test_the_task_that_is_submitted_is_that_of_the_node():
    pytest.importorskip("bench_core.fleet.task")
    assert (slurm._task().__module__, slurm._task().__name__) == ("bench_core.fleet.task", "perform")
