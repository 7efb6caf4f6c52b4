"""A run is gathered only if it is whole, unchanged, of its part and of the plan; any other one is named."""

import json
from dataclasses import replace

import pytest

from bench_core.files import digest
from bench_core.fleet.gathering import gather
from bench_core.fleet.problems import Kind
from bench_core.records import Status
from tests.support.fleets import cut_off, fleet, given_by, plan_of, say, told, whole, write_run
from tests.support.properties import given, settings, st
from tests.support.tables import absent, measured, work

FILES = ("results.csv", "samples.csv", "run.json")


def change_digit(path):
    text = path.read_text()
    place = text.rindex("1")
    path.write_text(f"{text[:place]}2{text[place + 1 :]}")


def of_another_run(path):
    other = next(each for each in sorted(path.parent.parent.iterdir()) if each != path.parent)
    path.write_bytes((other / path.name).read_bytes())


def without(name):
    def remove(path):
        about = json.loads(path.read_text())
        del about[name]
        path.write_text(json.dumps(about))

    return remove


def count_one_more(path):
    path.write_text(path.read_text().replace('"planned": 3', '"planned": 4'))


def link(path):
    elsewhere = path.parent.parent.parent.parent / f"elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


DAMAGE = [
    ("results.csv", cut_off, "results.csv has not the sha256 that run.json says"),
    ("results.csv", change_digit, "results.csv has not the sha256 that run.json says"),
    ("results.csv", of_another_run, "results.csv has not the sha256 that run.json says"),
    ("results.csv", lambda path: path.unlink(), "results.csv: no such file or folder"),
    ("results.csv", link, "results.csv: a symbolic link, which is not followed"),
    ("samples.csv", cut_off, "samples.csv has not the sha256 that run.json says"),
    ("samples.csv", change_digit, "samples.csv has not the sha256 that run.json says"),
    ("samples.csv", lambda path: path.unlink(), "samples.csv: no such file or folder"),
    ("samples.csv", link, "samples.csv: a symbolic link, which is not followed"),
    ("run.json", cut_off, "run.json: not JSON: "),
    ("run.json", of_another_run, "results.csv has not the sha256 that run.json says"),
    ("run.json", link, "run.json: a symbolic link, which is not followed"),
    ("run.json", lambda path: path.write_text("[]"), "run.json is not that of a run: not an object"),
    ("run.json", lambda path: path.write_text("[" * 100_000), "run.json: not JSON: "),
    ("run.json", lambda path: path.write_text('{"run": 1}'), "run.json is of the schema None, not 1"),
    ("run.json", without("files"), "run.json lacks 'files'"),
    ("run.json", without("statuses"), "run.json lacks 'statuses'"),
    ("run.json", count_one_more, "4 cases are planned, 3 have a status and 3 are in results.csv"),
]


@pytest.mark.parametrize(("name", "damage", "text"), DAMAGE, ids=[f"{n}-{t[:30]}" for n, _, t in DAMAGE])
def test_a_damaged_run_is_named_and_not_gathered_and_the_others_are(tmp_path, name, damage, text):
    folder = whole(tmp_path)
    run = folder.complete("node-02", "node-02")[0]
    damage(run / name)
    gathered = gather(folder)
    problems = told(gathered)
    assert problems.keys() == {("node-02", Kind.DAMAGED), ("node-02", Kind.FEWER)}
    assert problems["node-02", Kind.DAMAGED].startswith(f"{run.name}: {text}")
    assert problems["node-02", Kind.FEWER] == "1 of 2 runs can be used"
    assert given_by(gathered) == {"node-01": 2, "node-02": 1}
    assert not (folder.path / "node-02" / run.name).exists()
    assert (gathered.lacking, gathered.is_whole) == (("node-02",), False)
    assert [refused.folder for refused in gathered.refused] == [run]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damage_stops_gathering_and_no_changed_table_is_gathered(tmp_path_factory, data):
    folder = whole(tmp_path_factory.mktemp("damaged"), runs=1)
    (run,) = folder.complete("node-02", "node-02")
    path = run / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    kept = data.draw(st.sampled_from([content[place + 1 :], b"", content[place:]]))
    damaged = content[:place] + data.draw(st.binary(max_size=3)) + kept
    path.write_bytes(damaged)
    gathered = gather(folder)
    assert given_by(gathered)["node-01"] == 1
    if path.name != "run.json" and damaged.replace(b"\r\n", b"\n") != content:
        assert given_by(gathered)["node-02"] == 0
    assert gathered.is_whole == (given_by(gathered)["node-02"] == 1)


def test_a_table_that_lacks_cases_is_damaged_although_the_plan_and_the_statuses_agree(tmp_path):
    folder = whole(tmp_path, runs=1)
    (run,) = folder.complete("node-02", "node-02")
    about = json.loads((run / "run.json").read_text())
    about |= {"planned": 4, "statuses": {"ok": 3, "oom": 1}}
    (run / "run.json").write_text(json.dumps(about))
    gathered = gather(folder)
    text = f"{run.name}: 4 cases are planned, 4 have a status and 3 are in results.csv"
    assert told(gathered)["node-02", Kind.DAMAGED] == text
    assert given_by(gathered) == {"node-01": 1, "node-02": 0}


def test_a_run_that_was_renamed_is_not_taken_for_another_one(tmp_path):
    folder = whole(tmp_path)
    run = folder.complete("node-01", "node-01")[0]
    run.rename(run.with_name("20010109T000000Z-9999"))
    assert told(gather(folder))["node-01", Kind.DAMAGED] == (
        f"20010109T000000Z-9999: run.json is that of the run '{run.name}'"
    )


def test_a_run_of_another_commit_is_refused_and_one_whose_commit_is_unknown_is_not(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=2, runs=1, commit="a" * 40))
    run = write_run(folder, "node-01", git_commit="b" * 40)
    write_run(folder, "node-02", git_commit="")
    gathered = gather(folder)
    assert (
        told(gathered)["node-01", Kind.VERSION] == f"{run.name}: is of commit '{'b' * 40}', the fleet of '{'a' * 40}'"
    )
    assert given_by(gathered) == {"node-01": 0, "node-02": 1}


def test_a_node_with_another_bench_core_is_refused(tmp_path):
    folder = whole(tmp_path, runs=1)
    say(folder, "node-02", version="0.9\x1b[31m")
    gathered = gather(folder)
    text = told(gathered)["node-02", Kind.VERSION]
    assert text.endswith(r"is of bench-core 0.9\x1b[31m, the fleet of 1.0")
    assert given_by(gathered) == {"node-01": 1, "node-02": 0}


def test_a_run_whose_interrupted_cases_can_no_longer_be_measured_is_damaged(tmp_path):
    folder = whole(tmp_path, runs=1)
    (run,) = folder.complete("node-02", "node-02")
    table = run / "results.csv"
    table.write_text(table.read_text().replace(",oom,", ",interrupted,"))
    about = json.loads((run / "run.json").read_text())
    about["statuses"] = {"ok": 2, "interrupted": 1}
    about["files"]["results.csv"]["sha256"] = digest(table.read_bytes())
    (run / "run.json").write_text(json.dumps(about))
    text = told(gather(folder))["node-02", Kind.DAMAGED]
    assert text == f"{run.name}: 1 case interrupted, and its journal is gone"


def test_the_label_must_be_right_in_the_table_and_beside_it(tmp_path):
    folder = fleet(tmp_path, plan_of(runs=2))
    in_table = write_run(folder, "node-01", 0, label="desk")
    about = json.loads((in_table / "run.json").read_text())
    about["run"]["machine"] = "node-01"
    (in_table / "run.json").write_text(json.dumps(about))
    beside = write_run(folder, "node-01", 1)
    about = json.loads((beside / "run.json").read_text())
    about["run"]["machine"] = "desk"
    (beside / "run.json").write_text(json.dumps(about))
    texts = [problem.text for problem in gather(folder).problems if problem.kind is Kind.LABEL]
    assert texts == [f"{run.name}: is labelled 'desk', which is not node-01" for run in (in_table, beside)]


def on_threads(case, threads):
    """Return a measurement whose case was planned with this number of threads; None for all cores."""
    return replace(case, case=replace(case.case, threads=threads))


@pytest.mark.parametrize("failed", [1, None, 16])
def test_cases_that_differ_in_their_threads_alone_are_told_apart_and_none_hides_another(tmp_path, failed):
    """A process that died before it began leaves no number of threads for all cores; others do."""
    folder = fleet(tmp_path, plan_of(nodes=3, runs=1))
    good = {1: on_threads(measured([1.0, 1.1], work("64"), threads=1), 1)}
    good[None] = on_threads(measured([0.1, 0.2], work("64"), threads=16), None)
    crashed = on_threads(absent(work("64"), status=Status.CRASHED, reason="by SIGSEGV"), 1 if failed == 1 else None)
    bad = good | {crashed.case.threads: replace(crashed, threads=failed)}
    for node, cases in (("node-01", good), ("node-02", good), ("node-03", bad)):
        write_run(folder, node, done=list(cases.values()))
    gathered = gather(folder)
    (problem,) = gathered.problems
    assert (problem.node, problem.kind) == ("node-03", Kind.FAILED_HERE)
    name = f"matmul 64 float32 numpy cpu ({work('64').case_id}){' 1t' * (failed == 1)}"
    text = f"1 of 2 cases has no value here and one on most nodes: 1 crashed, such as {name}: by SIGSEGV"
    assert problem.text == text


def test_nodes_with_different_numbers_of_cores_have_the_same_cases(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=2, runs=1))
    for node, cores in (("node-01", 8), ("node-02", 16)):
        every = {1: 1, None: cores}
        done = [on_threads(measured([1.0, 1.1], work("64"), threads=n), case) for case, n in every.items()]
        write_run(folder, node, done=done)
    assert gather(folder).problems == ()
