"""Fleets that do not exist: plans, runs as nodes write them, and an engine whose nodes are functions."""

from __future__ import annotations

import threading
from dataclasses import replace

from bench_core.fleet.engine import JobState, Place, Places
from bench_core.fleet.plan import TOKEN, FleetFolder, Node, Part, PartState, Plan, State, write_state
from bench_core.records import Status, count_statuses
from tests.support.tables import absent, measured, work, write

COMMIT = "c0ffee" * 7
_HOSTS = (Place("host-a"), Place("host-b"))
OPTIONS = {"preset": "quick", "backends": ["numpy"], "seed": 0, "keyword": "", "markers": "", "budget": None}


def plan_of(nodes=2, runs=2, gpus=0, **known):
    """Return a plan. gpus: of each node; 0 for whole nodes."""
    labels = [f"node-{number:02}" for number in range(1, nodes + 1)]
    parts = [tuple(Part(f"{label}-gpu-{gpu}", gpu) for gpu in range(gpus)) or (Part(label),) for label in labels]
    every = tuple(map(Node, labels, parts))
    known = {"engine": "local", "arguments": ("-k", "matmul"), "version": "1.0", "commit": COMMIT} | known
    return Plan(fleet_id="fleet-1", runs=runs, nodes=every, **known)


def fleet(path, plan=None):
    """Make the folder of a fleet in which nothing was measured yet."""
    plan = plan or plan_of()
    folder = FleetFolder(path / "fleet-1")
    folder.create(plan, {node.label: f"host-{node.label[-2:]}" for node in plan.nodes})
    return folder


def measurements(seconds=1.0, sizes=("16", "32", "64")):
    """Return a case of each size, the first of them without a value."""
    first, *others = sizes
    return [absent(work(first)), *(measured([seconds * t for t in (0.99, 1, 1.01)], work(size)) for size in others)]


def write_run(folder, node, number=0, *, part=None, label=None, options=OPTIONS, done=None, about=None, **known):
    """Write a complete run as the task of a node does; returns its folder. label: another one than it should have."""
    part = part or node
    done = done or measurements(1 + number / 100)
    about = {"planned": len(done), "statuses": count_statuses(done), "options": options} | (about or {})
    known = {"run_id": f"2001010{number + 1}T000000Z-{number:04x}", "git_commit": COMMIT} | known
    label = label or part
    path = write(folder.runs(node, part).parent / "made", done, label, about, **known)
    target = folder.runs(node, part) / path.name  # that of the part, whatever the run says
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.parent.rmdir()
    path.parent.parent.rmdir()
    return target


def failing(status=Status.ERROR, reason="CUDA error: ECC", sizes=("16", "32", "64")):
    """Return a case of each size, none of which gave a value."""
    return [absent(work(size), status=status, reason=reason) for size in sizes]


def begin_run(folder, node, number=0, part=None):
    """Write what is there of a run that was killed."""
    path = folder.runs(node, part or node) / f"2001010{number + 1}T000000Z-{number:04x}"
    path.mkdir(parents=True)
    (path / "journal.jsonl").write_text("{}\n")
    return path


def say(folder, node, began=100.0, ended=200.0, version="1.0", reason="", **parts):
    """Write what a node says of itself. parts: the reason of each part, "_" for "-" in its label."""
    known = {label.replace("_", "-"): PartState((1,), why) for label, why in parts.items()}
    folder.node(node).mkdir(parents=True, exist_ok=True)
    token = folder.private / TOKEN
    order = token.read_text() if token.exists() else ""
    write_state(folder.node(node), State(began, ended, known, version, reason, order))


def whole(path, **known):
    """Make a fleet whose nodes gave everything."""
    plan = plan_of(**known)
    folder = fleet(path, plan)
    for node in plan.nodes:
        say(folder, node.label)
        for part in node.parts:
            for number in range(plan.runs):
                write_run(folder, node.label, number, part=part.label)
    return folder


def told(gathered):
    """Return the problems as (node or part, kind) -> text."""
    found = {(problem.part, problem.kind): problem.text for problem in gathered.problems}
    assert len(found) == len(gathered.problems)
    return found


def given_by(gathered):
    return {part.part: len(part.runs) for part in gathered.given}


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def tree(path):
    """Return the content and the times of every file and folder."""
    return {
        found.relative_to(path): (found.stat().st_mtime_ns, found.read_bytes() if found.is_file() else None)
        for found in sorted(path.rglob("*"))
    }


class FunctionJob:
    """A thread that does what a node would."""

    def __init__(self, task):
        self.why = ""
        self.cancelled = False
        self._thread = threading.Thread(target=self._run, args=(task,))
        self._thread.start()

    def _run(self, task):
        self.why = task() or ""

    def state(self):
        return JobState.RUNNING if self._thread.is_alive() else JobState.ENDED

    def cancel(self):
        self.cancelled = True


class FunctionEngine:
    """Runs `perform(order, place)` for each node. It returns why it failed, None if it did not."""

    name = "fake"
    poll_s = 0.001

    def __init__(self, perform, places=_HOSTS, absent=()):
        self.perform = perform
        self.known = Places(tuple(places), tuple(absent))
        self.orders = []
        self.closed = False

    def places(self):
        return self.known

    def start(self, order, place):
        self.orders.append((order, place))
        return FunctionJob(lambda: self.perform(order, place))

    def close(self):
        self.closed = True


def give(order, place, *, version=None, runs=None):
    """Write what an order asks for, unless it is there: what a healthy node does."""
    import time
    from pathlib import Path

    from bench_core import __version__
    from bench_core.machine.environment import git_state

    private = Path(order.folder).parent
    assert (private / "token").read_text() == order.token
    folder = FleetFolder(private.parent)
    began = time.time()
    state = State(began, version=version or __version__, token=order.token)
    write_state(Path(order.folder), state)
    for part in order.node.parts:
        there = len(folder.complete(order.node.label, part.label))
        for number in range(there, order.runs if runs is None else runs):
            commit = git_state(Path(order.working)).commit
            write_run(folder, order.node.label, number, part=part.label, git_commit=commit)
    write_state(Path(order.folder), replace(state, ended=time.time()))
