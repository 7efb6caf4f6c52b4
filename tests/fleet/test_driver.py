"""Each node gets its order, and what becomes of it is written down and told; no clock but the one that is given."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import pytest

from bench_core import __version__
from bench_core.errors import UsageError
from bench_core.fleet import driver
from bench_core.fleet.driver import Driver, Request, new_plan, places_of, require_same
from bench_core.fleet.engine import EngineError, JobState, Place, Places
from bench_core.fleet.plan import Node, Order, Part, Seen
from bench_core.machine.environment import GitState
from tests.support.fleets import fleet, plan_of, say, write_run

W, R, E = JobState.WAITING, JobState.RUNNING, JobState.ENDED


@dataclass
class Job:
    """A job whose states are written in advance, each the outcome of one look: a state, or what is raised or done."""

    states: list
    why: str = ""
    cancels: int = 0

    def state(self):
        step = self.states.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            return step()
        return step

    def cancel(self):
        self.cancels += 1


@dataclass
class Engine:
    """Gives out jobs by label, or raises what stands in place of one."""

    jobs: dict
    name: str = "fake"
    poll_s: float = 10.0
    orders: list = field(default_factory=list)

    def places(self):
        return Places(())

    def start(self, order, place):
        self.orders.append((order, place))
        job = self.jobs[order.node.label]
        if isinstance(job, BaseException):
            raise job
        return job

    def close(self):
        raise AssertionError("whoever has made it closes it")


class World:
    """A clock that goes on only when somebody waits, the lines that were told, and what happens at some times."""

    def __init__(self, folder, jobs, at=None):
        self.now = 1000.0
        self.lines = []
        self.at = at or {}
        self.engine = Engine(jobs)
        self.driver = Driver(folder, self.engine, self.lines.append, self.clock, self.sleep)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        happens = self.at.get(self.now)
        if happens:
            happens()

    def run(self, plan, absent=None, without=()):
        places = {n.label: Place(f"host-{n.label[-2:]}") for n in plan.nodes if n.label not in without}
        return self.driver.run(plan, places, absent or {})


def interrupt():
    raise KeyboardInterrupt


def seen(folder, node):
    """Return what was seen of a node, without the token, which is that of its orders."""
    found = folder.seen(node)
    assert found.token == (folder.private / "token").read_text()
    return replace(found, token="")


def test_each_node_is_told_all_it_needs_and_can_prove_that_it_sees_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(gpus=2, runs=3)
    folder = fleet(tmp_path, plan)
    world = World(type(folder)(folder.path.relative_to(tmp_path)), {"node-01": Job([E]), "node-02": Job([E])})
    assert world.run(plan) is False
    for (order, place), node in zip(world.engine.orders, plan.nodes, strict=True):
        token = (folder.private / "token").read_text()
        assert len(token) == 32
        private = str((tmp_path / "fleet-1" / ".fleet" / node.label).resolve())
        nothing = {part.label: 0 for part in node.parts}
        assert order == Order(node, 3, ("-k", "matmul"), private, token, str(tmp_path), nothing)
        assert Order.from_text((folder.node(node.label) / "order.json").read_text()) == order
        assert place.name == f"host-{node.label[-2:]}"


def test_what_is_seen_is_written_down_with_the_time_and_told_once(tmp_path):
    folder = fleet(tmp_path)

    def finish():
        say(folder, "node-02")
        write_run(folder, "node-02", 0)
        write_run(folder, "node-02", 1)
        return E

    jobs = {"node-01": Job([W, R, R, R, E], why="NODE_FAIL\x1b[2J"), "node-02": Job([R, R, finish])}
    world = World(folder, jobs, {1020.0: lambda: say(folder, "node-01", began=1015.0, ended=None)})
    assert world.run(folder.plan()) is False
    assert seen(folder, "node-01") == Seen(1000.0, 1020.0, 1040.0, r"NODE_FAIL\x1b[2J")
    assert seen(folder, "node-02") == Seen(1000.0, 1020.0, 1020.0, "")
    assert world.lines == [
        "node-01 waiting",
        "node-02 running",
        "node-01 running",
        "node-02 ended: 2 runs",
        r"node-01 ended: 0 runs (NODE_FAIL\x1b[2J)",
    ]


def test_why_a_node_waits_or_stops_is_told_when_it_changes(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=1, gpus=2))
    waits = "waits for GPU 0\x1b[2J"
    world = World(folder, {"node-01": Job([R] * 5 + [E])})
    world.at = {
        1010.0: lambda: say(folder, "node-01", ended=None, node_01_gpu_0=waits),
        1030.0: lambda: say(folder, "node-01", ended=None, node_01_gpu_0="", node_01_gpu_1=waits),
        1040.0: lambda: say(folder, "node-01", ended=None, node_01_gpu_0=waits, node_01_gpu_1=waits),
        1050.0: lambda: say(folder, "node-01", reason="stopped", node_01_gpu_0=waits, node_01_gpu_1="died"),
    }
    world.run(folder.plan())
    assert world.lines == [
        "node-01 running",
        r"node-01-gpu-0: waits for GPU 0\x1b[2J",
        r"node-01-gpu-1: waits for GPU 0\x1b[2J",
        r"node-01-gpu-0: waits for GPU 0\x1b[2J",
        "node-01: stopped",
        "node-01-gpu-1: died",
        "node-01 ended: 0 runs",
    ]


def test_what_the_task_of_an_earlier_order_waits_for_is_not_told(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=1))
    say(folder, "node-01", reason="waits for ever")
    earlier = (folder.node("node-01") / "state.json").read_text()
    world = World(folder, {"node-01": Job([R, R, E])})
    world.at = {1010.0: lambda: (folder.node("node-01") / "state.json").write_text(earlier)}
    world.run(folder.plan())
    assert world.lines == ["node-01 running", "node-01 ended: 0 runs"]


def test_why_an_engine_lets_a_job_wait_is_told_when_it_changes(tmp_path):
    class Reasoned(Job):
        @property
        def reason(self):
            return reasons.pop(0)

    reasons = ["", "Priority", "Priority", "Resources\x1b[2J"]
    folder = fleet(tmp_path, plan_of(nodes=1))
    world = World(folder, {"node-01": Reasoned([W, W, W, W, R, E])})
    world.run(folder.plan())
    assert world.lines == [
        "node-01 waiting",
        "node-01 waiting (Priority)",
        r"node-01 waiting (Resources\x1b[2J)",
        "node-01 running",
        "node-01 ended: 0 runs",
    ]


def test_a_state_that_cannot_be_read_is_a_sign_of_life(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=1))

    def damaged():
        (folder.node("node-01") / "state.json").write_text("{")
        return R

    World(folder, {"node-01": Job([R, damaged, E])}).run(folder.plan())
    assert seen(folder, "node-01") == Seen(1000.0, 1010.0, 1020.0)


def test_what_a_node_said_in_an_earlier_attempt_is_forgotten(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=1))
    say(folder, "node-01", began=1.0)
    World(folder, {"node-01": Job([R, E])}).run(folder.plan())
    assert folder.state("node-01") is None
    assert seen(folder, "node-01") == Seen(1000.0, None, 1010.0)


def test_what_the_task_of_an_earlier_order_says_is_no_sign_of_life(tmp_path):
    """It outlives its driver, and writes its state again after this one has removed it."""
    folder = fleet(tmp_path, plan_of(nodes=1))
    say(folder, "node-01", began=1.0)
    (state,) = folder.node("node-01").glob("state.json")
    earlier = state.read_text()
    world = World(folder, {"node-01": Job([R, R, R, R, E])})
    world.at = {
        1010.0: lambda: state.write_text(earlier),
        1030.0: lambda: say(folder, "node-01", began=1029.0, ended=None),
    }
    world.run(folder.plan())
    assert seen(folder, "node-01") == Seen(1000.0, 1030.0, 1040.0)


def test_a_full_disk_ends_no_job_and_is_told(tmp_path, monkeypatch):
    folder = fleet(tmp_path, plan_of(nodes=2))
    world = World(folder, {"node-01": Job([R, E]), "node-02": Job([R, E])})

    def full(self, node, seen):
        if node == "node-01":
            raise OSError(28, "No space left on device")
        write_seen(self, node, seen)

    write_seen = type(folder).write_seen
    monkeypatch.setattr(type(folder), "write_seen", full)
    assert world.run(plan_of(nodes=2)) is False
    assert folder.seen("node-02").ended is not None
    assert "node-01: what was seen of it cannot be written: No space left on device" in world.lines
    assert not any(job.cancels for job in world.engine.jobs.values())


def test_a_node_whose_order_cannot_be_written_is_not_started_and_the_others_are(tmp_path, monkeypatch):
    folder = fleet(tmp_path, plan_of(nodes=2))
    world = World(folder, {"node-02": Job([R, E])})
    write_order = type(folder).write_order

    def full(self, order):
        if order.node.label == "node-01":
            raise OSError(28, "No space left on device")
        return write_order(self, order)

    monkeypatch.setattr(type(folder), "write_order", full)
    assert world.run(plan_of(nodes=2)) is False
    assert "node-01 not started: its order cannot be written: No space left on device" in world.lines


def test_a_node_that_cannot_be_started_is_told_and_the_others_measure(tmp_path):
    folder = fleet(tmp_path)
    world = World(folder, {"node-01": EngineError("sbatch: invalid partition"), "node-02": Job([E])})
    assert world.run(folder.plan()) is False
    assert seen(folder, "node-01") == Seen(1000.0, None, 1000.0, "sbatch: invalid partition")
    assert world.lines == ["node-01 not started: sbatch: invalid partition", "node-02 ended: 0 runs"]


def test_if_no_node_can_be_started_the_engine_has_the_word(tmp_path):
    folder = fleet(tmp_path)
    world = World(folder, {"node-01": EngineError("first"), "node-02": EngineError("second")})
    with pytest.raises(EngineError, match="first"):
        world.run(folder.plan())


def test_a_node_that_is_not_there_is_given_no_order(tmp_path):
    folder = fleet(tmp_path, plan_of(nodes=3))
    say(folder, "node-02", began=1.0)
    world = World(folder, {"node-01": Job([E])})
    world.run(folder.plan(), {"node-02": "drained"}, without=("node-02", "node-03"))
    assert seen(folder, "node-02") == Seen(1000.0, None, 1000.0, "cannot be used now: drained")
    assert seen(folder, "node-03") == Seen(1000.0, None, 1000.0, "is not there now")
    assert folder.state("node-02") is None  # else its clock would be compared with an order that it never had
    assert world.lines == ["node-02 cannot be used now: drained", "node-03 is not there now", "node-01 ended: 0 runs"]


def test_a_job_that_can_no_longer_be_seen_is_cancelled_and_counts_as_ended(tmp_path):
    folder = fleet(tmp_path)
    jobs = {"node-01": Job([R, EngineError("no answer")]), "node-02": Job([R, R, E])}
    world = World(folder, jobs)
    assert world.run(folder.plan()) is False
    assert seen(folder, "node-01") == Seen(1000.0, None, 1010.0, "no answer")
    assert (jobs["node-01"].cancels, jobs["node-02"].cancels) == (1, 0)


def test_an_interrupt_cancels_all_jobs_and_waits_for_those_that_write_what_they_have(tmp_path):
    folder = fleet(tmp_path)
    jobs = {"node-01": Job([R, R, R, E], why="CANCELLED"), "node-02": Job([R] * 20)}
    world = World(folder, jobs, {1010.0: interrupt})
    assert world.run(folder.plan()) is True
    assert seen(folder, "node-01") == Seen(1000.0, None, 1030.0, "CANCELLED")
    assert seen(folder, "node-02") == Seen(1000.0, None, 1070.0, "it was cancelled, and did not end within 60 s")
    assert (jobs["node-01"].cancels, jobs["node-02"].cancels) == (1, 1)
    assert world.lines[2:] == [
        "interrupted: up to 60 s for 2 nodes to write what was measured",
        "node-01 ended: 0 runs (CANCELLED)",
        "node-02 did not end",
    ]


def test_an_interrupt_while_orders_are_given_cancels_those_that_were(tmp_path):
    folder = fleet(tmp_path)
    job = Job([E], why="CANCELLED")
    world = World(folder, {"node-01": job, "node-02": KeyboardInterrupt()})
    assert world.run(folder.plan()) is True
    assert job.cancels == 1
    assert folder.seen("node-01").why == "CANCELLED"


def test_an_error_in_between_leaves_no_job_behind(tmp_path):
    folder = fleet(tmp_path)
    jobs = {"node-01": Job([R, OSError("disk")]), "node-02": Job([R])}
    world = World(folder, jobs)
    with pytest.raises(OSError, match="disk"):
        world.run(folder.plan())
    assert (jobs["node-01"].cancels, jobs["node-02"].cancels) == (1, 1)


def test_two_processes_do_not_drive_one_fleet(tmp_path):
    pytest.importorskip("fcntl", reason="this system has no such locks")
    folder = fleet(tmp_path, plan_of(nodes=1))
    other = World(folder, {"node-01": Job([E])})

    def meanwhile():
        with pytest.raises(UsageError, match="another process is measuring this fleet"):
            other.run(folder.plan())
        return E

    World(folder, {"node-01": Job([meanwhile])}).run(folder.plan())
    assert other.engine.orders == []
    assert other.run(folder.plan()) is False  # the first one has ended


def request(**known):
    return Request(**{"engine": "slurm", "runs": 3, "arguments": ("-k", "x")} | known)


def labels(names, **known):
    plan, by_label, notes = new_plan("fleet-1", request(**known), [Place(name) for name in names])
    assert [place.name for place in by_label.values()] == list(names)
    assert [node.label for node in plan.nodes] == list(by_label)
    return list(by_label), notes


def test_labels_are_numbers_so_that_no_table_has_a_name():
    assert labels(["b", "a"]) == (["node-01", "node-02"], [])
    many, _ = labels([f"n{i}" for i in range(100)])
    assert (many[0], many[-1]) == ("node-001", "node-100")


def test_names_become_labels_that_differ_and_may_be_names_of_folders():
    assert labels(["gpu-a", "n1.example.org"], by_name=True) == (["gpu-a", "n1.example.org"], [])
    names = ["a", "A", "a", "../x y", "slurm", "unfinished", "", ".fleet", "é" * 3, "x" * 99]
    found, notes = labels(names, by_name=True)
    assert found == ["a", "A-2", "a-3", "x-y", "slurm-2", "unfinished-2", "node", "fleet", "node-2", "x" * 60]
    assert len({label.lower() for label in found}) == len(names)
    assert notes[:3] == [
        "A is labelled A-2",
        "a is labelled a-3: two nodes have that name",
        "../x y is labelled x-y",
    ]


def test_a_plan_has_what_was_asked_for_and_what_is_measured_with(monkeypatch):
    monkeypatch.setattr(driver, "git_state", lambda path: GitState("abc", False))
    plan, _, _ = new_plan("fleet-1", request(settings={"time": "60"}), [Place("a", 2)])
    assert (plan.fleet_id, plan.engine, plan.runs, plan.arguments) == ("fleet-1", "slurm", 3, ("-k", "x"))
    assert (plan.version, plan.commit, plan.settings) == (__version__, "abc", {"time": "60"})
    assert (plan.working, plan.dirty) == (str(Path.cwd()), False)
    assert plan.nodes == (Node("node-01", (Part("node-01"),)),)


def test_each_gpu_is_a_part_and_nodes_without_one_are_left_out_and_named():
    plan, by_label, notes = new_plan("f", request(per="gpu"), [Place("a"), Place("b", 2)])
    assert plan.nodes == (Node("node-01", (Part("node-01-gpu-0", 0), Part("node-01-gpu-1", 1))),)
    assert by_label == {"node-01": Place("b", 2)}
    assert notes == ["a: has no GPU, and is left out"]


@pytest.mark.parametrize(
    ("places", "per", "text"),
    [([], "node", "no node is there"), ([Place("a"), Place("b")], "gpu", "--per gpu: 2 nodes, none with a GPU")],
)
def test_without_a_node_that_can_do_it_there_is_no_plan(places, per, text):
    with pytest.raises(UsageError, match=text):
        new_plan("f", request(per=per), places)


def test_a_node_is_found_again_by_its_name_and_of_two_with_one_name_each_once():
    names = {"node-01": "twin", "node-02": "gone", "node-03": "twin", "node-04": "twin"}
    assert places_of(names, [Place("twin", 1), Place("new"), Place("twin", 2)]) == {
        "node-01": Place("twin", 1),
        "node-03": Place("twin", 2),
    }


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"version": "0.1"}, "--resume F: started with bench-core 0.1, which is now "),
        ({"commit": "abc"}, "--resume F: started with git_commit abc, which is now def"),
        ({"commit": ""}, "--resume F: started with git_commit unknown, which is now def"),
    ],
)
def test_a_fleet_is_finished_with_what_it_was_started_with(monkeypatch, tmp_path, known, text):
    monkeypatch.setattr(driver, "git_state", lambda path: GitState("def", False))
    same = {"version": __version__, "commit": "def"}
    require_same(plan_of(**same), tmp_path)
    with pytest.raises(UsageError) as caught:
        require_same(plan_of(**same | known), type(tmp_path)("F"))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(("was", "now"), [(True, False), (False, True), (True, None), (None, False), (False, False)])
def test_uncommitted_changes_at_either_time_are_a_note(monkeypatch, tmp_path, was, now):
    monkeypatch.setattr(driver, "git_state", lambda path: GitState("def", now))
    notes = require_same(plan_of(version=__version__, commit="def", dirty=was), tmp_path)
    assert notes == ["measured with uncommitted changes, which may be others now"] * (was or now or False)


def test_a_fleet_is_finished_in_the_folder_where_it_was_started_wherever_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "git_state", lambda path: GitState("def" if path == tmp_path / "there" else "", False))
    plan = plan_of(nodes=1, version=__version__, commit="def", working=str(tmp_path / "there"))
    with pytest.raises(UsageError, match=r"--resume F: started in .*there, which is no folder now"):
        require_same(plan, Path("F"))
    (tmp_path / "there").mkdir()
    assert require_same(plan, Path("F")) == []
    world = World(fleet(tmp_path, plan), {"node-01": Job([E])})
    world.run(plan)
    assert world.engine.orders[0][0].working == str(tmp_path / "there")


def test_an_engine_is_imported_when_it_is_named(monkeypatch, tmp_path):
    made = ModuleType("bench_core.fleet.ray")
    made.Ray = lambda private, settings: (private, settings)
    monkeypatch.setitem(sys.modules, "bench_core.fleet.ray", made)
    assert driver.engine("ray", tmp_path, {"address": "auto"}) == (tmp_path, {"address": "auto"})


def test_an_unknown_engine_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="--on: no 'slrum'; did you mean 'slurm'"):
        driver.engine("slrum", tmp_path, {})
