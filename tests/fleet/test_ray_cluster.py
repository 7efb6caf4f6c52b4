"""The engine `ray` on a real cluster of two nodes: `tox run -e ray`; it takes about two minutes.

The nodes are on one machine and have its host name. They are treated as if they shared no folder with it.
"""

import csv
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import psutil
import pytest

from bench_core import __version__
from bench_core.fleet import ray as engine
from bench_core.fleet.engine import EngineError, JobState
from bench_core.fleet.plan import FleetFolder, Node, Order, Part
from bench_core.fleet.ray import Ray
from tests.support import ray_cluster

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: python -m pip install ray"),
    pytest.mark.skipif(sys.platform == "win32", reason="no priorities as on POSIX"),
    pytest.mark.timeout(300),
]
# Says what it sees, waits until all files that it was told are there, and then measures.
MEASURED = """
import json, os, time
from pathlib import Path
import numpy as np

def test_sum(measure, request):
    seen = {"nice": os.nice(0), "pid": os.getpid()}
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONBREAKPOINT"):
        seen[name] = os.environ.get(name)
    label = request.config.getoption("bench_machine")
    Path("part").write_text(json.dumps(seen))
    Path("part").rename(label)
    while not all(Path(name).exists() for name in json.loads(Path(label + ".waits").read_text())):
        time.sleep(0.05)
    measure(np.sum, np.ones(1000))
"""
ARGUMENTS = ("test_sum.py", "--bench-backends=numpy", "--bench-preset=smoke", "--bench-budget=0.01")
PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster.running() as made:
        yield made


@pytest.fixture
def fleet(cluster, tmp_path):
    made = Fleet(cluster, tmp_path)
    yield made
    made.engine.close()


class Fleet:
    """An engine, a folder for what the nodes give, and the working folders in which they say what they see."""

    def __init__(self, cluster, tmp_path):
        self.folder = FleetFolder(tmp_path / "fleet")
        self.engine = Ray(self.folder.private, {"address": cluster.address})
        self.tmp_path = tmp_path
        self.places = {place.name.partition("/")[2]: place for place in self.engine.places().usable}

    def start(self, label, place, waits=()):
        """Start a run on a node. waits: the files that are to be there before it measures."""
        working = self.working(label)
        working.mkdir()
        (working / "test_sum.py").write_text(MEASURED)
        (working / f"{label}.waits").write_text(json.dumps([str(path) for path in waits]))
        order = Order(Node(label, (Part(label),)), 1, ARGUMENTS, str(self.folder.node(label)), "token", str(working))
        return self.engine.start(order, self.places[place])

    def working(self, label):
        return self.tmp_path / f"working-{label}"

    def seen(self, label):
        """Return the file in which a run says what it sees."""
        return self.working(label) / label

    def wait_for(self, job, *others):
        for each in (job, *others):
            until(lambda each=each: each.state() is JobState.ENDED)

    def machine_of_the_run(self, label):
        """Return the machine in the table of the one complete run that a node has given."""
        (run,) = self.folder.complete(label, label)
        with (run / "results.csv").open(encoding="utf-8", newline="") as file:
            (machine,) = {row["machine"] for row in csv.DictReader(file)}
        return machine


def until(happens):
    """Wait for an event that another process brings about; fails if it does not come."""
    limit = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < limit, "it did not happen"
        threading.Event().wait(0.05)


def test_two_nodes_of_one_host_measure_at_the_same_time_and_give_their_runs_without_a_shared_folder(fleet):
    assert {name: place.gpus for name, place in fleet.places.items()} == {"head": 2, "second": 2}
    labels = {"node-01": "head", "node-02": "second"}
    meets = [fleet.seen(label) for label in labels]  # each measures only once the other one has begun as well
    jobs = [fleet.start(label, place, meets) for label, place in labels.items()]
    fleet.wait_for(*jobs)
    assert [job.why for job in jobs] == ["", ""]
    assert [fleet.machine_of_the_run(label) for label in labels] == list(labels)
    states = [fleet.folder.state(label) for label in labels]
    assert [state.parts[label].exit_codes for state, label in zip(states, labels, strict=True)] == [(0,), (0,)]
    for label in labels:
        seen = json.loads(fleet.seen(label).read_text())
        assert seen["CUDA_VISIBLE_DEVICES"] == "0,1"  # what Ray gave of the two that the node declares
        assert (seen["OMP_NUM_THREADS"], seen["PYTHONBREAKPOINT"]) == (None, None)  # which Ray has set in its worker
        assert seen["nice"] == (0 if os.geteuid() == 0 else 15)


def test_a_node_is_given_to_one_task_at_a_time(fleet, tmp_path):
    first = fleet.start("first", "second", [tmp_path / "go"])
    until(fleet.seen("first").exists)
    later = fleet.start("later", "second")
    elsewhere = fleet.start("elsewhere", "head")
    fleet.wait_for(elsewhere)  # Ray had the time to begin another task
    assert (first.state(), later.state()) == (JobState.RUNNING, JobState.WAITING)
    (tmp_path / "go").touch()
    fleet.wait_for(first, later)
    assert fleet.folder.state("first").ended <= fleet.folder.state("later").began
    assert [fleet.machine_of_the_run(label) for label in ("first", "later", "elsewhere")] == [
        *("first", "later", "elsewhere")
    ]


def test_a_task_that_is_cancelled_gives_what_it_has_and_one_that_waits_never_begins(fleet, tmp_path):
    running = fleet.start("running", "second", [tmp_path / "never"])
    waiting = fleet.start("waiting", "second")
    until(fleet.seen("running").exists)
    assert (running.state(), waiting.state()) == (JobState.RUNNING, JobState.WAITING)
    waiting.cancel()
    running.cancel()
    fleet.wait_for(running, waiting)
    assert (running.why, waiting.why) == ("", "cancelled")
    assert "interrupted" in fleet.folder.state("running").parts["running"].reason
    assert [run.parent.name for run in fleet.folder.unfinished("running", "running")] == ["running"]
    assert fleet.folder.state("waiting") is None
    assert not fleet.seen("waiting").exists()


def test_closing_ends_a_task_with_all_its_processes(fleet, tmp_path):
    job = fleet.start("left", "second", [tmp_path / "never"])
    until(fleet.seen("left").exists)
    job.state()
    pid = json.loads(fleet.seen("left").read_text())["pid"]
    fleet.engine.close()
    assert (job.state(), job.why) == (JobState.ENDED, "cancelled")
    until(lambda: not psutil.pid_exists(pid))


def test_a_node_that_dies_in_mid_run_is_named_and_the_others_are_whole(cluster, tmp_path):
    lost = cluster.add("lost")
    fleet = Fleet(cluster, tmp_path)
    try:
        dies = fleet.start("dies", "lost", [tmp_path / "never"])
        lives = fleet.start("lives", "head", [tmp_path / "go"])
        until(lambda: fleet.seen("dies").exists() and fleet.seen("lives").exists())
        cluster.lose(lost)
        fleet.wait_for(dies)
        (tmp_path / "go").touch()
        fleet.wait_for(lives)
        assert dies.why.startswith(("the process of the task died, or the whole node", "the node died: "))
        assert lives.why == ""
        assert fleet.machine_of_the_run("lives") == "lives"
        assert not fleet.folder.node("dies").exists()
        until(lambda: len(fleet.engine.places().usable) == 2)
        with pytest.raises(EngineError, match="Ray has no node"):
            fleet.start("again", "lost")
    finally:
        fleet.engine.close()


def test_a_node_with_another_version_says_so(fleet):
    node = fleet.engine._nodes[fleet.places["second"].name]
    order = Order(Node("old", (Part("old"),)), 1, (), str(fleet.folder.node("old")), "token", str(fleet.tmp_path))
    job = engine.RayJob(fleet.engine._ray, node, order, "9.9")
    fleet.wait_for(job)
    assert job.why == f"this node has bench_core {__version__}, and not 9.9"


def test_what_ray_carries_over_needs_no_bench_core_to_say_that_it_is_missing():
    from ray import cloudpickle

    code = """
import pickle, sys
sys.modules["bench_core"] = None
print(*pickle.load(sys.stdin.buffer)("order", "1"))
"""
    carried = cloudpickle.dumps(engine._carried())
    done = subprocess.run([sys.executable, "-c", code], input=carried, capture_output=True, timeout=60, check=False)
    assert b"('refused', 'bench_core cannot be imported in the workers of Ray on this node: " in done.stdout, (
        done.stderr
    )
    assert b"bench_core" in pickle.dumps(engine.on_node)  # which a function of the module would need


def test_without_a_cluster_on_this_computer_none_is_started(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EngineError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        Ray(tmp_path, {"address": "127.0.0.1:1"}).places()
    assert list(tmp_path.iterdir()) == []
