"""A node that dies in mid-run, one whose clock is off and one whose disk is full are named; the others are whole.

The nodes are tasks of this computer, in processes of their own; driver, tasks, runs and gathering are the real ones.
"""

import re
import sys
from dataclasses import replace

import pytest

from bench_core import child_process
from bench_core.fleet.driver import Driver, Request, new_plan, places_of
from bench_core.fleet.engine import Place, Places
from bench_core.fleet.gathering import gather
from bench_core.fleet.local import Local
from bench_core.fleet.problems import Kind
from bench_core.results.reader import find_results
from tests.support.disks import mounted
from tests.support.node_orders import Site, environ

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="signals and file systems of Linux"),
]
NAMES = ("good", "dies", "late", "full", "fine")
BEHIND = """
import sys, time
from pathlib import Path
from bench_core.fleet import task
task.perform(Path(sys.argv[1]).read_text(), now=lambda: time.time() - 3600)
"""


class Nodes(Local):
    """Several nodes on this computer, each with the fault that its name says."""

    def __init__(self, private, disk):
        super().__init__(private, {})
        self.disk = disk
        self.mended = False

    def places(self):
        return Places(tuple(map(Place, NAMES)))

    def start(self, order, place):
        with pytest.MonkeyPatch.context() as patch:
            if place.name == "late":
                patch.setattr(child_process, "command", lambda _, *rest, parent: [sys.executable, "-c", BEHIND, *rest])
            if place.name == "dies" and not self.mended:
                patch.setenv("STRIKE_TASK", "9")
            if place.name == "full" and not self.mended:
                patch.setenv("FAULT", "fill.block")
            return super().start(order, place)


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = Site(tmp_path, chosen="test_struck")
    environ(monkeypatch, made.project)
    monkeypatch.chdir(made.project.path)
    return made


@pytest.fixture
def disk(site):
    """A small disk with the folder of one node, which the fault fills; skips where none may be mounted."""
    folder = site.fleet.node("full")
    folder.mkdir()
    with mounted(folder, "size=200k"):
        (site.project.path / "results").symlink_to(folder, target_is_directory=True)
        yield folder


def test_faults_of_three_nodes_are_named_and_a_resumption_gives_the_rest(site, disk):
    folder = site.fleet
    engine = Nodes(folder.private, disk)
    request = Request("local", 1, site.order().arguments, by_name=True)
    plan, places, _ = new_plan("fleet", request, engine.places().usable)
    folder.create(plan, {label: place.name for label, place in places.items()})
    Driver(folder, engine, lambda _: None).run(plan, places, {})
    gathered = gather(folder)
    told = {(problem.node, problem.kind): problem.text for problem in gathered.problems}
    assert {node for node, kind in told if not kind.is_note} == {"dies", "full"}
    assert told["dies", Kind.NOTHING] == "no run can be used: the task was killed by SIGKILL"
    assert "finishes it" in told["dies", Kind.UNFINISHED]
    assert told["full", Kind.DISK].startswith("its disk was full: ")
    assert "No space left on device" in told["full", Kind.DISK]
    assert re.match(r"its clock is at least 3,(5|6)\d\d s behind", told["late", Kind.CLOCK])
    given = {part.part: part.verified for part in gathered.given}
    assert given == {"good": 1, "dies": 0, "late": 1, "full": 0, "fine": 1}
    assert {path.parent.parent.name for path in find_results(folder.path)} == {"good", "late", "fine"}

    (disk / "junk").unlink()
    engine.mended = True
    assert gathered.lacking == ("dies", "full")
    names = {label: place.name for label, place in places.items()}
    rest = replace(plan, nodes=tuple(node for node in plan.nodes if node.label in gathered.lacking))
    Driver(folder, engine, lambda _: None).run(rest, places_of(names, engine.places().usable), {})
    again = gather(folder)
    assert {part.part: part.verified for part in again.given} == dict.fromkeys(NAMES, 1)
    assert again.is_whole
    assert len(find_results(folder.path)) == len(NAMES)
    engine.close()
