"""Why a node has not given everything is said by the most telling of what is known; a clock that is off is named."""

import contextlib
import shutil

import pytest

from bench_core.fleet import gathering
from bench_core.fleet.alone import alone
from bench_core.fleet.gathering import gather
from bench_core.fleet.plan import Seen
from bench_core.fleet.problems import Kind
from tests.support.fleets import begin_run, cut_off, fleet, given_by, plan_of, say, told, whole, write_run

FILES = ("results.csv", "samples.csv", "run.json")


def nothing_of(tmp_path, prepare):
    """Return the problems of a node that gave nothing, while another one gave all; `prepare` plants why."""
    folder = fleet(tmp_path, plan_of(runs=1))
    write_run(folder, "node-01")
    folder.node("node-02").mkdir()
    prepare(folder)
    gathered = gather(folder)
    assert given_by(gathered) == {"node-01": 1, "node-02": 0}
    problems = told(gathered)
    assert {part for part, _ in problems} == {"node-02"}
    return {kind: text for (_, kind), text in problems.items()}


def seen(**known):
    return lambda folder: folder.write_seen("node-02", Seen(100.0, **known))


def log(*texts):
    def write(folder):
        seen(begun=100.0, ended=200.0)(folder)
        say(folder, "node-02")
        (folder.node("node-02") / "node-02").mkdir()
        for number, text in enumerate(texts):
            (folder.node("node-02") / "node-02" / f"log-{number}.txt").write_text(text)

    return write


def both(*prepare):
    return lambda folder: [each(folder) for each in prepare]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda folder: None, "it was given no order"),
        (seen(ended=150.0), "it never began"),
        (seen(ended=150.0, why="NODE_FAIL\n\x1b[1m"), r"NODE_FAIL \x1b[1m"),
        (both(seen(begun=100.0, ended=150.0), lambda f: say(f, "node-02", ended=None)), "it ended without a word"),
        (both(seen(ended=200.0, why="exit 1"), lambda f: say(f, "node-02", reason="no bench_core")), "no bench_core"),
        (both(seen(ended=200.0, why="exit 1"), lambda f: say(f, "node-02", node_02="killed by 9")), "killed by 9"),
        (log("collected 2 items\nERROR: no such backend\nbye\n"), "its log ends: no such backend"),
        (log("first\n", *["\n"] * 9, "last of eleven\n"), "its log ends: last of eleven"),
        (both(seen(ended=200.0), lambda f: say(f, "node-02")), "it is not known why"),
    ],
)
def test_a_node_that_gave_nothing_is_named_with_why(tmp_path, prepare, reason):
    assert nothing_of(tmp_path, prepare) == {Kind.NOTHING: f"no run can be used: {reason}"}


BEGUN = both(seen(begun=100.0), lambda folder: say(folder, "node-02", ended=None))


@pytest.mark.parametrize("prepare", [seen(), BEGUN])
def test_of_a_node_whose_end_nobody_saw_it_is_said_that_nobody_watches_it(tmp_path, prepare):
    resume = f"bench-core fleet run --resume {tmp_path / 'fleet-1'}"
    text = f"no run can be used: nobody watches it any more: it died, or its job goes on; `{resume}` continues"
    assert nothing_of(tmp_path, prepare) == {Kind.NOTHING: text}


def begun_run(folder):
    begin_run(folder, "node-02")


RESUME = "did not end; `bench-core fleet run --resume FLEET` finishes it"
ENDED = both(seen(begun=100.0, ended=200.0), lambda folder: say(folder, "node-02"))
LOST = both(seen(begun=100.0, ended=200.0), lambda folder: say(folder, "node-02", ended=None))


@pytest.mark.parametrize(
    ("driven", "prepare", "reason", "of_run"),
    [
        (True, seen(), ": it has not begun yet", "did not end; it goes on when its node begins"),
        (True, BEGUN, ": it has not ended yet", "is being measured"),
        (True, LOST, ": it ended without a word", RESUME),  # others are still measuring
        (None, seen(), ": it has not begun yet", RESUME),
        (None, BEGUN, ": it has not ended yet", RESUME),
        (False, ENDED, "", RESUME),
    ],
)
def test_of_an_unfinished_run_it_is_said_whether_it_goes_on(tmp_path, monkeypatch, driven, prepare, reason, of_run):
    monkeypatch.setattr(gathering, "is_driven", lambda folder: driven)
    prepare = both(prepare, begun_run)
    of_run = of_run.replace("FLEET", str(tmp_path / "fleet-1"))
    assert nothing_of(tmp_path, prepare) == {
        Kind.NOTHING: f"no run can be used{reason}",
        Kind.UNFINISHED: f"20010101T000000Z-0000: {of_run}",
    }


def test_while_a_process_drives_the_fleet_its_nodes_are_waited_for(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such locks")

    def drive(folder):
        seen()(folder)
        held.enter_context(alone(folder))

    with contextlib.ExitStack() as held:
        assert nothing_of(tmp_path, drive) == {Kind.NOTHING: "no run can be used: it has not begun yet"}


def test_that_all_went_well_is_no_reason_and_neither_is_the_log_of_a_run_that_is_damaged(tmp_path):
    folder = whole(tmp_path)
    for node in ("node-01", "node-02"):
        (folder.node(node) / node / "log-1.txt").write_text("===== 2 passed in 1.00s =====\n")
    cut_off(folder.complete("node-01", "node-01")[0] / "samples.csv")
    shutil.rmtree(folder.complete("node-02", "node-02")[0])
    problems = told(gather(folder))
    assert problems["node-01", Kind.FEWER] == "1 of 2 runs can be used"
    assert problems["node-02", Kind.FEWER] == "1 of 2 runs can be used: it is not known why"


@pytest.mark.parametrize("last", ["== 1 failed, 2 passed in 1.00s ==", "== 2 passed, 1 error in 1.00s ==", "Killed"])
def test_a_log_that_ends_with_a_failure_is_a_reason(tmp_path, last):
    assert nothing_of(tmp_path, log(f"{last}\n")) == {Kind.NOTHING: f"no run can be used: its log ends: {last}"}


def test_a_part_that_gave_fewer_runs_is_named_with_why(tmp_path):
    folder = whole(tmp_path, nodes=1, gpus=2, runs=3)
    lost = folder.complete("node-01", "node-01-gpu-1")[-1]
    for name in FILES:
        (lost / name).unlink()
    say(folder, "node-01", node_01_gpu_1="the time limit of the job")
    gathered = gather(folder)
    assert told(gathered) == {("node-01-gpu-1", Kind.FEWER): "2 of 3 runs can be used: the time limit of the job"}
    assert gathered.lacking == ("node-01",)


def test_of_an_unfinished_run_it_is_said_how_to_finish_it(tmp_path):
    folder = whole(tmp_path / "my fleets", runs=1)
    (folder.complete("node-02", "node-02")[0] / "journal.jsonl").write_text("{}\n")  # cases of it were interrupted
    folder.write_seen("node-02", Seen(100.0, 100.0, 200.0, "TIMEOUT"))
    problems = told(gather(folder))
    assert problems == {
        ("node-02", Kind.UNFINISHED): "20010101T000000Z-0000: did not end; "
        f"`bench-core fleet run --resume '{folder.path}'` finishes it",
        ("node-02", Kind.NOTHING): "no run can be used: TIMEOUT",
    }


FULL = "OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    "prepare",
    [
        log(f"collected 2 items\n{FULL}\nERROR: something else\n"),
        lambda folder: say(folder, "node-02", reason=FULL),
        lambda folder: say(folder, "node-02", node_02=FULL),
        both(seen(ended=200.0, why="exit 1"), log(f"{FULL}\n")),
    ],
)
def test_a_full_disk_is_recognised_wherever_it_is_said(tmp_path, prepare):
    problems = nothing_of(tmp_path, prepare)
    assert problems.keys() == {Kind.NOTHING, Kind.DISK}
    assert FULL.removeprefix("OSError: ") in problems[Kind.DISK]
    assert problems[Kind.DISK].startswith("its disk was full: ")


def test_a_disk_that_is_so_full_that_nobody_could_say_so_is_seen(tmp_path, monkeypatch):
    folder = whole(tmp_path)
    shutil.rmtree(folder.node("node-02"))
    monkeypatch.setattr(gathering, "is_full", folder.node("node-02").__eq__)
    kinds = {problem.kind: problem.text for problem in gather(folder).problems if problem.node == "node-02"}
    assert kinds[Kind.DISK] == "the disk with its folder is full"


@pytest.mark.parametrize(
    ("began", "ended", "text"),
    [
        (3700.0, 3800.0, "at least 3,600 s ahead of"),  # 3,600 s from the end: what is seen of the begin says less
        (105.0, 206.0, "at least 6 s ahead of"),
        (10.0, 110.0, "at least 80 s behind"),
        (94.9, 150.0, ""),
        (104.0, 204.0, ""),
        (85.0, None, "at least 5 s behind"),
    ],
)
def test_a_clock_that_is_off_is_named_with_how_much_it_is_at_least(tmp_path, began, ended, text):
    folder = whole(tmp_path)
    say(folder, "node-02", began, ended)
    folder.write_seen("node-02", Seen(90.0, 101.0, 200.0))
    gathered = gather(folder)
    says = f"its clock is {text} that of this computer: the times of its runs are wrong, not their durations"
    assert told(gathered) == ({("node-02", Kind.CLOCK): says} if text else {})
    assert gathered.is_whole  # its runs can be used


def test_a_clock_is_not_judged_by_what_the_task_of_an_earlier_order_says(tmp_path):
    folder = whole(tmp_path)
    say(folder, "node-02", 105.0, 206.0)
    folder.write_seen("node-02", Seen(90.0, 101.0, 200.0, token="of the last order"))
    assert told(gather(folder)) == {}
