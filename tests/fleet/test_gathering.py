"""What the nodes of a fleet gave is verified and copied; what is wrong with one is said, and the others are whole."""

import errno
import shutil
from dataclasses import replace

import pytest

from bench_core.compare import read
from bench_core.errors import TableError
from bench_core.fleet import gathering
from bench_core.fleet.gathering import gather, set_aside
from bench_core.fleet.plan import Part
from bench_core.fleet.problems import Kind
from bench_core.results import reader
from tests.support.fleets import (
    OPTIONS,
    begin_run,
    cut_off,
    failing,
    fleet,
    given_by,
    measurements,
    plan_of,
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


def test_a_damaged_state_is_told_with_what_to_do_until_nothing_is_missing(tmp_path):
    folder = whole(tmp_path)
    state = folder.node("node-02") / "state.json"
    state.write_text('{"began": "noon"}')
    assert gather(folder).is_whole
    run = folder.complete("node-02", "node-02")[0]
    shutil.rmtree(folder.path / "node-02")
    shutil.rmtree(run)
    gathered = gather(folder)
    problems = told(gathered)
    assert problems["node-02", Kind.DAMAGED].startswith(f"{state}: not written by this version of bench-core")
    resume = f"bench-core fleet run --resume {folder.path}"
    assert problems["node-02", Kind.DAMAGED].endswith(f"; `{resume}` gives it a new order")
    assert problems["node-02", Kind.FEWER] == "1 of 2 runs can be used: it is not known why"
    assert given_by(gathered) == {"node-01": 2, "node-02": 1}


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


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, Kind.DISK), (errno.EDQUOT, Kind.DISK), (errno.EACCES, Kind.COPY)]
)
def test_a_part_that_cannot_be_copied_is_named_and_the_others_are_copied(tmp_path, monkeypatch, number, kind):
    folder = whole(tmp_path, nodes=3)
    real = gathering.write_atomically
    written = []

    def refuse(path, content):
        if path.parent.parent.name == "node-02" and len(written) == 2:
            raise OSError(number, "No way")
        real(path, content)
        written.extend([path.name] * (path.parent.parent.name == "node-02"))

    monkeypatch.setattr(gathering, "write_atomically", refuse)
    gathered = gather(folder)
    assert written == ["results.csv", "samples.csv"]  # and no run.json: nobody takes it for whole
    (name, _) = (run.name for run in folder.complete("node-02", "node-02"))
    assert told(gathered) == {("node-02", kind): f"{name}: cannot be copied: No way"}
    assert given_by(gathered) == {"node-01": 2, "node-02": 0, "node-03": 2}
    assert (gathered.lacking, gathered.is_whole) == ((), False)  # to measure again would not help
    monkeypatch.setattr(gathering, "write_atomically", real)
    assert gather(folder).is_whole


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    folder = whole(tmp_path, runs=1)
    (folder.path / "node-01").write_text("mine")
    gathered = gather(folder)
    assert told(gathered).keys() == {("node-01", Kind.COPY)}
    assert given_by(gathered) == {"node-01": 0, "node-02": 1}


@pytest.mark.parametrize("of_run", [False, True])
def test_a_link_to_another_folder_is_neither_written_to_nor_read(tmp_path, of_run):
    folder = whole(tmp_path, runs=1)
    (run,) = folder.complete("node-01", "node-01")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run, elsewhere / run.name)
    link = folder.path / "node-01" / run.name if of_run else folder.path / "node-01"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere / run.name if of_run else elsewhere)
    before = tree(elsewhere)
    gathered = gather(folder)
    assert told(gathered)["node-01", Kind.KEPT].startswith(f"{link}: a symbolic link, which is not followed")
    cut_off(run / "samples.csv")
    gathered = gather(folder)
    assert given_by(gathered) == {"node-01": 0, "node-02": 1}
    assert "its copy" not in told(gathered)["node-01", Kind.DAMAGED]
    assert tree(elsewhere) == before


def test_a_run_that_is_damaged_after_it_was_gathered_counts_by_its_copy(tmp_path):
    folder = whole(tmp_path)
    first = gather(folder)
    damaged, lost = folder.complete("node-02", "node-02")
    cut_off(damaged / "results.csv")
    shutil.rmtree(lost)
    assert gather(folder) == replace(first, new=0)
    assert gather(folder).is_whole


def test_of_a_run_that_is_damaged_in_both_places_the_copy_is_named_because_it_is_still_read(tmp_path):
    folder = whole(tmp_path)
    gather(folder)
    run = folder.complete("node-02", "node-02")[0]
    for path in (run, folder.path / "node-02" / run.name):
        cut_off(path / "results.csv")
    gathered = gather(folder)
    says = f"its copy in node-02/{run.name} is still read by everyone: move it away"
    assert told(gathered)["node-02", Kind.DAMAGED].endswith(f"is of another run; {says}")
    assert [refused.folder for refused in gathered.refused] == [run]
    set_aside(folder, gathered)
    again = gather(folder)  # it is still read
    assert told(again)["node-02", Kind.DAMAGED].endswith(says)
    assert again.refused == ()  # and is not moved by us
    shutil.rmtree(folder.path / "node-02" / run.name)
    assert told(gather(folder)).keys() == {("node-02", Kind.FEWER)}


def test_a_run_that_is_refused_only_after_others_are_there_is_named_until_its_copy_is_moved_away(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=3, runs=1))
    run = write_run(folder, "node-01", options=OPTIONS | {"seed": 7})
    assert given_by(gather(folder))["node-01"] == 1
    for node in ("node-02", "node-03"):
        write_run(folder, node)
    gathered = gather(folder)
    says = f"its copy in node-01/{run.name} is still read by everyone: move it away"
    assert told(gathered)["node-01", Kind.OPTIONS] == (
        f"{run.name}: was measured with seed 7, most others with 0; {says}"
    )
    set_aside(folder, gathered)
    write_run(folder, "node-01", 1)
    again = gather(folder)
    assert told(again).keys() == {("node-01", Kind.OPTIONS)}
    assert (given_by(again)["node-01"], again.lacking, again.is_whole) == (1, (), False)
    shutil.rmtree(folder.path / "node-01" / run.name)
    assert gather(folder).is_whole


def test_a_node_of_which_every_case_failed_is_gathered_and_named(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=3))
    for number in range(2):
        write_run(folder, "node-01", number)
        write_run(folder, "node-02", number)
        write_run(folder, "node-03", number, done=failing())
    gathered = gather(folder)
    (problem,) = gathered.problems
    assert (problem.node, problem.kind) == ("node-03", Kind.FAILED)
    assert problem.text.startswith("none of its 3 cases was measured: 3 error, such as matmul 16 float32 numpy cpu (")
    assert problem.text.endswith("): CUDA error: ECC")
    assert given_by(gathered) == {"node-01": 2, "node-02": 2, "node-03": 2}
    assert (gathered.lacking, gathered.is_whole) == ((), False)  # to measure again would not help


def test_a_case_that_failed_on_one_node_alone_is_a_note(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=3, runs=1))
    for node in ("node-01", "node-02"):
        write_run(folder, node)
    write_run(folder, "node-03", done=[*measurements(sizes=("16", "32")), *failing(sizes=("64",))])
    gathered = gather(folder)
    (problem,) = gathered.problems
    assert (problem.node, problem.kind) == ("node-03", Kind.FAILED_HERE)
    assert problem.text.startswith("1 of 3 cases has no value here and one on most nodes: 1 error, such as matmul 64 ")
    assert gathered.is_whole


def test_runs_of_one_node_with_other_cases_are_refused_with_both_counts(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=2, runs=2))
    write_run(folder, "node-01", 0)
    write_run(folder, "node-01", 1)
    other = write_run(folder, "node-02", 0, done=measurements(sizes=("16", "128")))
    write_run(folder, "node-02", 1)  # as the runs of the other node
    gathered = gather(folder)
    text = told(gathered)["node-02", Kind.MIXED]
    assert text.startswith(f"{other.name}: has planned 2 cases, and the other runs of this node 3: lacks 2 of those, ")
    assert "; has 1 other, such as matmul 128 " in text
    assert given_by(gathered) == {"node-01": 2, "node-02": 1}
    assert (gathered.lacking, [refused.folder for refused in gathered.refused]) == (("node-02",), [other])
