"""What the nodes of a fleet gave is verified and copied; what is wrong with one is said, and the others are whole."""

import errno
import shutil
from dataclasses import replace

import pytest

from bench_core.compare import read
from bench_core.errors import TableError
from bench_core.fleet import gathering
from bench_core.fleet.gathering import gather, set_aside
from bench_core.fleet.plan import Part, Seen
from bench_core.fleet.verification import Kind
from bench_core.results import reader
from tests.support.fleets import (
    OPTIONS,
    begin_run,
    cut_off,
    fleet,
    given_by,
    measurements,
    plan_of,
    say,
    told,
    tree,
    whole,
    write_run,
)

FILES = ("results.csv", "samples.csv", "run.json")


def test_the_runs_of_all_nodes_are_copied_beside_each_other_and_can_be_read(tmp_path):
    folder = whole(tmp_path)
    gathered = gather(folder)
    assert (gathered.problems, gathered.lacking, gathered.is_whole, gathered.new) == ((), (), True, 4)
    assert given_by(gathered) == {"node-01": 2, "node-02": 2}
    for part in gathered.given:
        assert part.runs == tuple(folder.path / part.part / run.name for run in folder.complete(part.node, part.part))
        for run in part.runs:
            for name in FILES:
                assert (run / name).read_bytes() == (folder.runs(part.node, part.part) / run.name / name).read_bytes()
    readings = read([str(folder.path)])
    assert {reading.files.about["run"]["machine"] for reading in readings} == {"node-01", "node-02"}
    assert [note for reading in readings for note in reading.files.notes] == []


def test_each_gpu_of_a_node_is_a_machine_of_its_own(tmp_path):
    gathered = gather(whole(tmp_path, nodes=1, gpus=2))
    assert gathered.is_whole
    assert given_by(gathered) == {"node-01-gpu-0": 2, "node-01-gpu-1": 2}


def test_to_gather_again_changes_no_byte_and_no_time(tmp_path):
    folder = whole(tmp_path, nodes=3)
    begin_run(folder, "node-03", 5)
    (folder.complete("node-02", "node-02")[0] / "samples.csv").write_text("damaged")
    first = gather(folder)
    before = tree(folder.path)
    second = gather(folder)
    assert tree(folder.path) == before
    assert second == replace(first, new=0)
    assert first.new == 5


def test_a_copy_that_was_interrupted_is_finished(tmp_path):
    folder = whole(tmp_path)
    (target, *_) = gather(folder).given[0].runs
    before = tree(target)
    (target / "run.json").unlink()
    again = gather(folder)
    assert (again.new, again.is_whole) == (1, True)
    assert {name: content for name, (_, content) in tree(target).items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_two_nodes_with_one_label_are_both_named(tmp_path):
    folder = fleet(tmp_path)
    for number in range(2):
        write_run(folder, "node-01", number)
        write_run(folder, "node-02", number, label="node-01")
    gathered = gather(folder)
    assert given_by(gathered) == {"node-01": 2, "node-02": 0}
    texts = [problem.text for problem in gathered.problems if problem.kind is Kind.LABEL]
    says = "is labelled 'node-01', which is not node-02: node-01 and node-02 have one label"
    assert texts == [f"{run.name}: {says}" for run in folder.complete("node-02", "node-02")]


def test_runs_in_a_folder_of_another_label_are_named(tmp_path):
    folder = whole(tmp_path)
    own = folder.runs("node-02", "node-02")
    own.rename(own.with_name("node-01"))
    problems = told(gather(folder))
    assert problems["node-02", Kind.LABEL] == (
        "has runs that are labelled 'node-01', which is not node-02: node-01 and node-02 have one label"
    )
    assert ("node-02", Kind.NOTHING) in problems


def test_of_two_nodes_with_one_label_in_the_plan_the_first_is_gathered_and_both_are_named(tmp_path):
    plan = plan_of()
    one, other = plan.nodes
    plan = replace(plan, nodes=(one, replace(other, parts=(Part("node-01"),))))
    folder = fleet(tmp_path, plan)
    for node in ("node-01", "node-02"):
        for number in range(2):
            write_run(folder, node, number, part="node-01", done=measurements(1 + len(node) * number))
    gathered = gather(folder)
    (problem,) = gathered.problems
    assert (problem.node, problem.kind) == ("node-02", Kind.LABEL)
    assert problem.text == "node-01 and node-02 have one label, node-01: only the runs of node-01 are gathered"
    assert [(part.node, len(part.runs)) for part in gathered.given] == [("node-01", 2), ("node-02", 0)]


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("seed", 7, "seed 7, most others with 0"),
        ("preset", "full", 'preset "full", most others with "quick"'),
        ("backends", [], 'backends [], most others with ["numpy"]'),
        ("keyword", "x", 'keyword "x", most others with ""'),
        ("markers", "gpu", 'markers "gpu", most others with ""'),
        ("budget", 0.5, "budget 0.5, most others with null"),
        ("timeout", 9, "timeout 9, most others with null"),
    ],
)
def test_runs_with_other_options_than_most_are_refused(tmp_path, option, value, text):
    folder = fleet(tmp_path, plan_of(nodes=3, runs=1))
    for node in ("node-01", "node-03"):
        write_run(folder, node)
    run = write_run(folder, "node-02", options=OPTIONS | {option: value})
    gathered = gather(folder)
    assert told(gathered)["node-02", Kind.OPTIONS] == f"{run.name}: was measured with {text}"
    assert given_by(gathered) == {"node-01": 1, "node-02": 0, "node-03": 1}


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
        (seen(), "it has not begun yet"),
        (seen(ended=150.0), "it never began"),
        (seen(ended=150.0, why="NODE_FAIL\n\x1b[1m"), r"NODE_FAIL \x1b[1m"),
        (both(seen(begun=100.0), lambda f: say(f, "node-02", ended=None)), "it has not ended yet"),
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


def test_cases_that_most_nodes_have_are_named_where_they_are_missing(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=3, runs=1))
    for node in ("node-01", "node-02"):
        write_run(folder, node)
    write_run(folder, "node-03", done=measurements(sizes=("16", "32", "128")))
    gathered = gather(folder)
    (problem,) = gathered.problems
    assert (problem.node, problem.kind) == ("node-03", Kind.CASES)
    assert problem.text.startswith("has not planned 1 of the 3 cases that most have, such as matmul 64 float32 numpy")
    assert gathered.is_whole
    assert given_by(gathered)["node-03"] == 1


def test_a_file_with_other_content_is_never_replaced_and_nothing_is_written_beside_it(tmp_path):
    folder = whole(tmp_path)
    run = folder.complete("node-01", "node-01")[0]
    kept = folder.path / "node-01" / run.name / "samples.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    gathered = gather(folder)
    assert told(gathered) == {
        (
            "node-01",
            Kind.KEPT,
        ): f"{kept}: is there with other content, and is not replaced: move it away and gather again"
    }
    assert [path.name for path in kept.parent.iterdir()] == ["samples.csv"]
    assert kept.read_text() == "mine"
    assert given_by(gathered) == {"node-01": 1, "node-02": 2}
    assert (gathered.lacking, gathered.is_whole) == ((), False)  # to measure again would not help


def test_a_link_where_a_run_should_be_copied_to_is_not_followed(tmp_path):
    folder = whole(tmp_path)
    run = folder.complete("node-01", "node-01")[0]
    target = folder.path / "node-01" / run.name / "run.json"
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "elsewhere.json")
    assert told(gather(folder))["node-01", Kind.KEPT].startswith(f"{target}: a symbolic link")
    assert not (tmp_path / "elsewhere.json").exists()


def test_a_damaged_state_is_named_and_its_runs_are_gathered(tmp_path):
    folder = whole(tmp_path)
    state = folder.node("node-02") / "state.json"
    state.write_text('{"began": "noon"}')
    gathered = gather(folder)
    assert told(gathered)["node-02", Kind.DAMAGED].startswith(f"{state}: not written by this version of bench-core")
    assert given_by(gathered) == {"node-01": 2, "node-02": 2}


def test_a_folder_without_a_plan_is_no_fleet(tmp_path):
    with pytest.raises(TableError, match=r"plan\.json: no such file or folder"):
        gather(replace(fleet(tmp_path), path=tmp_path))


def test_refused_runs_are_set_aside_so_that_they_are_measured_again(tmp_path):
    folder = whole(tmp_path)
    for _ in range(2):  # the second time there is a run of that name
        run = folder.complete("node-02", "node-02")[0]
        content = (run / "results.csv").read_bytes()
        cut_off(run / "samples.csv")
        set_aside(folder, gather(folder))
        assert run not in folder.complete("node-02", "node-02")
        write_run(folder, "node-02", 0)
    aside = folder.node("node-02") / "node-02" / "refused"
    assert sorted(path.name for path in aside.iterdir()) == [run.name, f"{run.name}-1"]
    assert (aside / run.name / "results.csv").read_bytes() == content
    assert gather(folder).is_whole
    assert len(reader.find_results(folder.path)) == 4  # those aside are read by nobody


def test_a_copy_that_the_disk_ends_has_no_run_json_so_that_nobody_takes_it_for_whole(tmp_path, monkeypatch):
    folder = whole(tmp_path, nodes=1, runs=1)
    real = gathering.write_atomically
    written = []

    def full(path, content):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)
        written.append(path.name)

    monkeypatch.setattr(gathering, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        gather(folder)
    assert written == ["results.csv", "samples.csv"]
    monkeypatch.setattr(gathering, "write_atomically", real)
    assert gather(folder).is_whole
