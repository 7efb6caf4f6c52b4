"""`bench-core fleet run` and `gather` from outside: what is told, what is written where, and exit codes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core import child_process
from bench_core.cli import app
from bench_core.fleet import driver
from bench_core.fleet.engine import EngineError, Place
from bench_core.fleet.plan import FleetFolder
from bench_core.machine.environment import GitState
from bench_core.results import reader
from tests.support.fleets import FunctionEngine, give, tree, whole
from tests.support.workloads import SMALL_SUITE

LOCAL = ("run", "--on", "local")


def run(*arguments, columns=200):
    done = CliRunner().invoke(app, ["fleet", *map(str, arguments)], env={"COLUMNS": str(columns)})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def engines(monkeypatch, tmp_path):
    """Make `--on` anything a given engine; returns what the engine was made with."""
    monkeypatch.chdir(tmp_path)
    made = []

    def use(engine):
        def make(name, private, settings):
            made.append((name, private, dict(settings)))
            return engine

        monkeypatch.setattr(driver, "engine", make)
        return made

    return use


def only_fleet(parent="results"):
    (path,) = Path(parent).glob("fleet-*")
    return FleetFolder(path)


def test_all_nodes_measure_and_the_next_command_is_told(engines):
    engine = FunctionEngine(give)
    made = engines(engine)
    done = run(*LOCAL, "--", "-k", "matmul")
    assert done.exit_code == 0, done.output
    folder = only_fleet()
    assert made == [("local", folder.private, {})]
    assert [(order.runs, order.arguments) for order, _ in engine.orders] == [(3, ("-k", "matmul"))] * 2
    assert done.stdout.splitlines() == [
        "node     name    runs    problem",
        "────────────────────────────────",
        "node-01  host-a  3 of 3",
        "node-02  host-b  3 of 3",
        f"results: {folder.path}",
        f"To find the nodes that differ: bench-core compare {folder.path}",
    ]
    ended = sorted(line for line in done.stderr.splitlines() if "ended" in line)
    assert ended == ["node-01 ended: 3 runs", "node-02 ended: 3 runs"]
    assert len(reader.find_results(folder.path)) == 6


def test_real_runs_are_what_is_gathered(engines, tmp_path):
    """A run of a node is one of `bench-core run`: what that writes passes the verification."""
    (tmp_path / "bench_small.py").write_text(SMALL_SUITE)

    def measure(order, place):
        (part,) = order.node.parts
        ours = [f"--bench-output={order.folder}/{part.label}/runs", f"--bench-machine={part.label}"]
        command = child_process.pytest_command(sys.executable, *child_process.MEASURING, *order.arguments, *ours)
        done = subprocess.run(command, cwd=order.working, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode else ""

    engines(FunctionEngine(measure))
    options = ["bench_small.py", "--bench-preset=smoke", "--bench-backends=numpy", "-p", "no:cacheprovider"]
    done = run(*LOCAL, "--runs", "1", "--", *options)
    assert done.exit_code == 0, done.output
    rows = [row for path in reader.find_results(only_fleet().path) for row in reader.read_rows(path)]
    assert {row.machine for row in rows if row.has_value} == {"node-01", "node-02"}


def test_no_name_of_a_node_is_in_a_file_outside_of_the_private_folder(engines):
    engines(FunctionEngine(give))
    assert run(*LOCAL, "--runs", "1").exit_code == 0
    folder = only_fleet()
    public = [path for path in folder.path.rglob("*") if path.is_file() and folder.private not in path.parents]
    assert len(public) == 6
    assert not [path for path in public if b"host-" in path.read_bytes() or "host-" in str(path)]
    assert b"host-a" in (folder.private / "names.json").read_bytes()


def test_with_name_nodes_the_labels_are_the_names(engines):
    engines(FunctionEngine(give, [Place("twin"), Place("twin")]))
    done = run(*LOCAL, "--runs", "1", "--name-nodes")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[0] == "twin is labelled twin-2: two nodes have that name"
    assert {row.machine for path in reader.find_results(only_fleet().path) for row in reader.read_rows(path)} == {
        "twin",
        "twin-2",
    }


def test_a_node_that_gives_nothing_is_named_and_a_resumption_measures_only_that_one(engines):
    dead = FunctionEngine(lambda order, place: give(order, place) if place.name == "host-a" else "NODE_FAIL")
    engines(dead)
    done = run(*LOCAL, "--runs", "2", "--bench-output=there")
    folder = only_fleet("there")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[2:] == [
        "node-01  host-a  2 of 2",
        "node-02  host-b  0 of 2  no run can be used: NODE_FAIL",
        f"results: {folder.path}",
        f"To measure what is missing: bench-core fleet run --resume {folder.path}",
    ]
    assert "node-02 ended: 0 runs (NODE_FAIL)" in done.stderr.splitlines()
    well = FunctionEngine(give)
    engines(well)
    done = run("run", "--resume", folder.path)
    assert done.exit_code == 0, done.output
    assert [(order.node.label, place.name) for order, place in well.orders] == [("node-02", "host-b")]
    assert done.stdout.splitlines()[3] == "node-02  host-b  2 of 2"
    again = run("run", "--resume", folder.path)
    assert (again.exit_code, again.stdout, again.stderr) == (0, done.stdout, "")


def test_damaged_runs_are_set_aside_and_measured_again(engines):
    engines(FunctionEngine(give))
    assert run(*LOCAL, "--runs", "1").exit_code == 0
    folder = only_fleet()
    (target,) = (folder.path / "node-02").iterdir()
    (source,) = folder.complete("node-02", "node-02")
    (source / "results.csv").write_text("")
    for path in target.iterdir():
        path.unlink()
    done = run("gather", folder.path)
    assert done.exit_code == 1
    assert f"{source.name}: results.csv has not the sha256 that run.json says" in done.stdout
    assert run("run", "--resume", folder.path).exit_code == 0
    assert len(reader.find_results(folder.path)) == 2


def test_a_resumption_from_another_folder_measures_in_that_of_the_plan(engines, monkeypatch, tmp_path):
    engines(FunctionEngine(lambda order, place: "NODE_FAIL"))
    run(*LOCAL, "--runs", "1")
    path = only_fleet().path.absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    engine = FunctionEngine(give)
    engines(engine)
    assert run("run", "--resume", path).exit_code == 0
    assert {order.working for order, _ in engine.orders} == {str(tmp_path)}


def test_a_resumption_with_uncommitted_changes_is_told(engines, monkeypatch):
    monkeypatch.setattr(driver, "git_state", lambda path: GitState("", True))
    engines(FunctionEngine(lambda order, place: "NODE_FAIL"))
    run(*LOCAL, "--runs", "1")
    engines(FunctionEngine(give))
    path = only_fleet().path
    done = run("run", "--resume", path)
    assert done.stderr.splitlines()[0] == f"{path}: measured with uncommitted changes, which may be others now"


def test_a_node_that_is_gone_at_a_resumption_is_told(engines):
    engines(FunctionEngine(lambda order, place: "NODE_FAIL" if place.name == "host-b" else give(order, place)))
    run(*LOCAL, "--runs", "1")
    folder = only_fleet()
    engines(FunctionEngine(give, [Place("host-a")], [("host-b", "drained: broken fan")]))
    done = run("run", "--resume", folder.path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[3] == (
        "node-02  host-b  0 of 1  no run can be used: cannot be used now: drained: broken fan"
    )


def test_settings_of_the_engine_are_kept_for_a_resumption_and_may_be_changed_there(engines):
    made = engines(FunctionEngine(lambda order, place: "TIMEOUT"))
    given = ["--set", "time=60", "--set", "account=a=b", "--nodes", "n[1-2]", "--runs", "1"]
    assert run("run", "--on", "slurm", *given).exit_code == 1
    assert made[0][::2] == ("slurm", {"time": "60", "account": "a=b", "nodes": "n[1-2]"})
    path = only_fleet().path
    assert run("run", "--resume", path, "--set", "time=90").exit_code == 1
    assert made[1][::2] == ("slurm", {"time": "90", "account": "a=b", "nodes": "n[1-2]"})


def test_only_the_nodes_that_are_named_measure(engines):
    engine = FunctionEngine(give, absent=[("host-c", "down")])
    made = engines(engine)
    done = run("run", "--on", "ray", "--runs", "1", "--nodes", "host-b, host-c")
    assert done.exit_code == 1, "one of the nodes that were named has given nothing"
    assert "not measured: host-c: down" in done.stdout.splitlines()
    assert [place.name for _, place in engine.orders] == ["host-b"]
    assert done.stderr.splitlines()[0] == "host-c cannot be used: down"
    assert made[0][2] == {}


def test_nodes_that_cannot_be_used_are_told_again_at_the_end_and_are_no_failure_if_nobody_named_them(engines):
    engines(FunctionEngine(give, absent=[("host-c", "down: a fan")]))
    done = run(*LOCAL, "--runs", "1")
    assert done.exit_code == 0, done.output
    assert "not measured: host-c: down: a fan" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ("host-aa", "--nodes: no node 'host-aa'; did you mean 'host-a'? available: host-a, host-b, host-c"),
        ("host-c", "--nodes: none of them can be used: host-c: down"),
    ],
)
def test_nodes_that_are_not_there_are_named_before_anything_is_written(engines, nodes, text):
    engines(FunctionEngine(give, absent=[("host-c", "down")]))
    done = run(*LOCAL, "--nodes", nodes)
    assert (done.exit_code, done.stderr) == (2, f"bench-core: {text}\n")
    assert not Path("results").exists()


def test_each_gpu_has_a_line_of_its_own(engines):
    engines(FunctionEngine(give, [Place("host-a", 2)]))
    done = run(*LOCAL, "--per", "gpu", "--runs", "1")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[2:4]] == ["node-01-gpu-0", "node-01-gpu-1"]


def test_an_engine_that_refuses_every_node_is_one_line_and_leaves_no_folder(engines):
    engine = FunctionEngine(give)

    def refuse(order, place):
        raise EngineError("sbatch: invalid partition")

    engine.start = refuse
    engines(engine)
    done = run(*LOCAL)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "bench-core: sbatch: invalid partition"
    assert list(Path("results").iterdir()) == []
    assert engine.closed


def test_an_interrupt_ends_with_130_and_what_there_was_is_gathered(engines):
    engine = FunctionEngine(lambda order, place: give(order, place, runs=1))
    engine.start_one = engine.start

    def start(order, place):
        if place.name == "host-b":
            raise KeyboardInterrupt
        return engine.start_one(order, place)

    engine.start = start
    engines(engine)
    done = run(*LOCAL, "--runs", "2")
    assert done.exit_code == 130
    assert "node-01  host-a  1 of 2" in done.stdout
    assert f"--resume {only_fleet().path}" in done.stdout


def test_a_folder_that_cannot_be_written_to_is_one_line(engines):
    engine = FunctionEngine(give)
    engines(engine)
    Path("taken").write_text("")
    done = run(*LOCAL, "--bench-output=taken")
    assert done.exit_code == 2
    assert done.stderr.startswith("bench-core: --bench-output=taken: cannot write there: ")
    assert engine.orders == []
    assert engine.closed


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["--bench-machine=x"], "--bench-machine=x: leave it out: each node gets a label"),
        (["--bench-machine", "x"], "--bench-machine: leave it out: each node gets a label"),
        (["--bench-resume=x"], "--bench-resume=x: leave it out: a fleet is finished by --resume FLEET"),
        (["--bench-process=1"], "--bench-process=1: leave it out"),
        (["--bench-shuffle=1"], "--bench-shuffle=1: leave it out"),
        (["--bench-keep-journal"], "--bench-keep-journal: leave it out"),
        (["--bench-probes=x"], "--bench-probes=x: leave it out"),
        (["--bench-cases=x"], "--bench-cases=x: leave it out"),
        (["-n", "4"], "-n: leave it out: cases that run at the same time disturb each other"),
        (["-n4"], "-n4: leave it out"),
        (["-nauto"], "-nauto: leave it out"),
        (["--numprocesses=4"], "--numprocesses=4: leave it out"),
        (["--bench-output", "x"], "--bench-output DIR: write --bench-output=DIR"),
        (["--set", "time"], "--set: 'time' is not KEY=VALUE"),
        (["--set", "=60"], "--set: '=60' is not KEY=VALUE"),
        (["--on", "slrum"], "--on: no 'slrum'; did you mean 'slurm'?"),
        (["--per", "gpuu"], "--per: no 'gpuu'; did you mean 'gpu'?"),
    ],
)
def test_what_a_fleet_cannot_do_is_refused_in_one_line_and_nothing_is_started(engines, given, text):
    made = engines(None)
    done = run(*LOCAL, *given)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench-core: {text}")
    assert made == []


def test_the_engine_must_be_named(engines):
    engines(None)
    done = run("run")
    assert (done.exit_code, done.stderr) == (2, "bench-core: --on: name what starts the tasks: slurm, ray or local\n")


@pytest.mark.parametrize(
    "given",
    [["--on", "local"], ["--runs", "3"], ["--per", "gpu"], ["--nodes", "a"], ["--name-nodes"], ["-k", "x"],
     ["--bench-output=there"]],
)  # fmt: skip
def test_a_resumption_takes_no_other_plan(engines, tmp_path, given):
    engines(None)
    done = run("run", "--resume", whole(tmp_path).path, *given)
    assert done.exit_code == 2
    assert done.stderr == "bench-core: --resume measures what was planned: leave out all other options but --set\n"


@pytest.mark.parametrize("command", [["gather"], ["run", "--resume"]])
def test_a_folder_that_is_no_fleet_cannot_be_read(engines, tmp_path, command):
    done = run(*command, tmp_path)
    assert done.exit_code == 3
    assert done.stderr == f"bench-core: {tmp_path / '.fleet' / 'plan.json'}: no such file or folder\n"


def test_a_second_gather_changes_no_byte_and_no_time_and_says_the_same(tmp_path):
    folder = whole(tmp_path)
    first = run("gather", folder.path)
    before = tree(folder.path)
    second = run("gather", folder.path)
    assert (first.exit_code, second.exit_code, second.stdout) == (0, 0, first.stdout)
    assert tree(folder.path) == before


@pytest.mark.parametrize(
    ("nodes", "runs", "told", "needed"),
    [
        (1, 1, "", 0),
        (4, 3, "compare", 0),
        (5, 3, "compare", 4),
        (5, 4, "fleet diagnose", 0),
        (6, 2, "compare", 3),
        (6, 3, "fleet diagnose", 0),
    ],
)
def test_the_command_that_is_told_is_one_that_so_few_nodes_and_runs_are_enough_for(tmp_path, nodes, runs, told, needed):
    folder = whole(tmp_path, nodes=nodes, runs=runs)
    *_, before, last = run("gather", folder.path).stdout.splitlines()
    if needed:
        by = f"`fleet diagnose` needs {needed} runs of each: measure with --runs {needed}"
        assert last == f"To find a slow node among {nodes}, {by}"
        last = before
    expected = f"To find the nodes that differ: bench-core {told} {folder.path}" if told else f"results: {folder.path}"
    assert last == expected


@pytest.mark.parametrize(("nodes", "is_told"), [(4, False), (5, True), (6, False)])
def test_before_five_nodes_measure_it_is_told_that_the_usual_runs_are_too_few_to_find_a_slow_one(
    engines, nodes, is_told
):
    engines(FunctionEngine(give, [Place(f"host-{number}") for number in range(nodes)]))
    done = run(*LOCAL)
    assert done.exit_code == 0, done.output
    told = "To find a slow node among 5, `fleet diagnose` needs 4 runs of each: measure with --runs 4"
    assert (told in done.stderr.splitlines()) is is_told


def test_a_problem_of_a_node_is_told_once_beside_its_first_gpu(tmp_path):
    folder = whole(tmp_path, nodes=1, gpus=2)
    (folder.node("node-01") / "state.json").write_text("{")
    shutil.rmtree(folder.complete("node-01", "node-01-gpu-1")[0])  # else a damaged file is of no consequence
    lines = run("gather", folder.path).stdout.splitlines()
    assert "state.json" in lines[2]
    assert "state.json" not in "".join(lines[3:])
