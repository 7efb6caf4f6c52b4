"""`bench-core fleet diagnose` from outside: what is read and given to the diagnosis, formats, and exit codes."""

import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from bench_core.cli import Group
from bench_core.cli.fleet_diagnose import diagnose_command
from bench_core.diagnosis import diagnose
from bench_core.diagnosis.result import Diagnosis, Finding, Fleet, NodeReport, Standing
from bench_core.diagnosis.result import Group as Works
from bench_core.errors import BenchError
from bench_core.fleet.plan import FleetFolder, Node, Part, Plan
from tests.support.fleet_tables import write_fleet

EVERYTHING = Works("all", "everything", "all", "", 4, 0.004)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_fleet(tmp_path_factory.mktemp("fleet"), 5, slow={2: 1.05})


@pytest.fixture(name="asked")
def stand_in(monkeypatch):
    """A diagnosis that calls the nodes in `slow` slow; what it was given is kept."""
    asked = SimpleNamespace(slow=(), reason="", readings=None, least=None)

    def diagnosed(readings, least):
        asked.readings, asked.least = readings, least
        nodes = []
        for name in dict.fromkeys(name for reading in readings for name in reading.rows.cells("machine")):
            standing = Standing.SLOW if name in asked.slow else Standing.ALIKE
            finding = Finding(EVERYTHING, 1.05, 1.04, 1.06, 3, standing, 2.0)
            nodes.append(NodeReport(name, standing, 3, (finding,), (), 2.0))
        kept = () if asked.reason else tuple(nodes)
        return Diagnosis((Fleet("kind", kept, (EVERYTHING,), 0.01, 0.95, least, asked.reason),))

    monkeypatch.setattr(diagnose, "diagnose_readings", diagnosed)
    return asked


def run(*arguments):
    app = typer.Typer(cls=Group)
    app.command("diagnose")(diagnose_command)
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "120"})


def error(done):
    assert isinstance(done.exception, BenchError), done.output
    return done.exception.exit_code, str(done.exception)


def test_no_node_that_is_off_is_exit_code_0(folder, asked):
    done = run(folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].strip() == "None of 5 nodes is slow or fast"
    assert (len(asked.readings), asked.least) == (15, 0.02)


def test_a_slow_node_is_exit_code_1(folder, asked):
    asked.slow = ("node-02",)
    done = run(folder, "--least", "3%")
    assert (done.exit_code, asked.least, done.stderr) == (1, 0.03, "")
    assert "node-02 +5.0 % (+4.0 to +6.0 %) in everything" in done.stdout


def test_a_fleet_that_cannot_be_judged_is_exit_code_5(folder, asked):
    asked.reason = "too few runs"
    done = run(folder)
    assert done.exit_code == 5
    assert "No node is judged: too few runs" in done.stdout


def test_a_slow_node_of_real_tables_is_found_and_its_driver_told(tmp_path):
    """Without the stand-in: the whole way from files to the sentence."""
    fleet = write_fleet(tmp_path, 12, slow={7: 1.2}, gpu={7: {"gpu.driver": "570"}})
    first, again = run(fleet), run(fleet)
    assert first.exit_code == 1
    assert "Of 12 nodes 1 is slow: node-07 +" in first.stdout
    assert "driver: 570; on 11 of 11 other nodes: 580.95" in first.stdout
    assert again.stdout == first.stdout
    assert run(write_fleet(tmp_path / "healthy", 12)).exit_code == 0


def test_nothing_is_called_slow_on_one_run(tmp_path):
    done = run(write_fleet(tmp_path, 12, runs=1, slow={7: 2.0}))
    assert done.exit_code == 5
    assert "No node is judged: " in done.stdout


def test_a_folder_without_results_is_exit_code_3(tmp_path):
    assert error(run(tmp_path))[0] == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--format", "jsno"), "--format: no 'jsno'; did you mean 'json'? available: table, md, csv, json"),
        (("-o", "a.xlsx"), "--output a.xlsx: name it .md, .csv, .json or .txt, or give --format"),
        (("--least", "2"), "--least"),
        (("--filter", "workload == 'none'"), "--filter: no row passes"),
        (("--filter", "worklod == 'x'"), "--filter: no column 'worklod'; did you mean 'workload'?"),
    ],
)
def test_what_is_wrong_is_exit_code_2(folder, given, told):
    code, text = error(run(folder, *given))
    assert code == 2
    assert text.startswith(told)


def test_a_filter_leaves_the_works_that_pass(folder, asked):
    run(folder, "--filter", "device == 'cpu'")
    assert {device for reading in asked.readings for (device,) in reading.rows.distinct("device")} == {"cpu"}


def test_each_format_is_written_and_the_verdict_is_on_stderr(folder, asked, tmp_path):
    asked.slow = ("node-02",)
    verdict = "bench-core: Of 5 nodes 1 is slow: node-02 +5.0 % (+4.0 to +6.0 %) in everything\n"
    for name in ("a.json", "a.csv", "a.md", "a.txt"):
        done = run(folder, "-o", tmp_path / name)
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", verdict)
    assert len(json.loads((tmp_path / "a.json").read_text())["fleets"][0]["nodes"]) == 5
    assert (tmp_path / "a.csv").read_text().startswith("fleet,node,group,")
    assert (tmp_path / "a.md").read_text().startswith("### Verdict")
    assert (tmp_path / "a.txt").read_text().startswith("Verdict\n")
    done = run(folder, "--format", "json")
    assert (done.stdout, done.stderr) == ((tmp_path / "a.json").read_text(), verdict)


def test_a_table_is_as_long_as_the_limit(folder, asked):
    assert "3 more lines: --limit 0 shows all" in run(folder, "--limit", "2").stdout
    assert "more line" not in run(folder, "--limit", "0").stdout


def test_names_of_the_engine_are_on_the_terminal_and_in_no_file(folder, asked, tmp_path):
    parts = (Part("node-02-gpu-0", 0), Part("node-03", 1))
    plan = Plan("fleet-1", "slurm", 3, (), (Node("node-02", parts),), "1.0")
    fleet = FleetFolder(write_fleet(tmp_path / "fleet", 5))
    fleet.create(plan, {"node-02": "gpu07"})
    asked.slow = ("node-02", "node-03")
    shown = run(fleet.path).stdout
    assert "node-02 (gpu07) +5.0 %" in shown
    assert "node-03 (gpu07) +5.0 %" in shown  # a part has the name of its node
    for format_ in ("md", "csv", "json"):
        done = run(fleet.path, "--format", format_)
        assert "gpu07" not in done.stdout + done.stderr
    run(fleet.path, "-o", tmp_path / "a.txt")
    assert "gpu07" not in (tmp_path / "a.txt").read_text()


@pytest.fixture
def two_fleets(tmp_path):
    made = []
    for number in (1, 2):
        made.append(FleetFolder(write_fleet(tmp_path / f"results {number}", 5)))
        made[-1].create(Plan(f"fleet-{number}", "local", 3, (), (), "1.0"), {})
    return made


def test_nodes_of_two_fleets_with_one_label_are_refused(asked, two_fleets):
    """As nodes are numbered, they would count as one computer with twice the runs."""
    first, second = (fleet.path for fleet in two_fleets)
    told = f"two fleets: node-01 of {first} is another computer than that of {second}: diagnose each fleet by itself"
    assert error(run(first, second / "node-01")) == (2, told)
    assert error(run(first.parent)) == (2, told), "both are found in one folder"
    assert asked.readings is None


def test_two_fleets_whose_labels_differ_can_be_diagnosed_together(asked, two_fleets):
    first, second = (fleet.path for fleet in two_fleets)
    assert run(first, f"theirs={second}/node-01").exit_code == 0
    (second / "node-01").rename(second / "kept")
    assert run(first / "node-01", second / "node-02").exit_code == 0


def test_one_fleet_in_two_places_is_one(asked, two_fleets):
    first, second = two_fleets
    second.create(first.plan(), {})
    assert run(first.path, second.path).exit_code == 0


def test_a_damaged_private_folder_changes_nothing_but_the_names(asked, tmp_path):
    fleet = write_fleet(tmp_path / "fleet", 5)
    (fleet / ".fleet").mkdir()
    (fleet / ".fleet" / "names.json").write_text("{")
    assert run(fleet).exit_code == 0


def test_the_file_that_is_written_is_none_that_was_read(folder):
    table = next(folder.glob("*/*/results.csv"))
    assert error(run(folder, "-o", table))[0] == 2
