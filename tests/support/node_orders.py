"""Orders for the side of a node, carried out by real runs of a small project, and what these can be told to do.

What a run does beside measuring is told by variables: TURNS is a file to which every run appends when it begins and
when it ends; MEET a folder in which as many runs meet as MEETING says, before any of them measures; STRIKE_TASK a
signal that the case "struck" sends to the task.
"""

import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench_core.fleet.devices import LOCKS
from bench_core.fleet.plan import TOKEN, FleetFolder, Node, Order, Part
from bench_core.results import schema
from tests.faulty.runs import Project
from tests.standin import install

ARGUMENTS = (
    *("--bench-preset=smoke", "--bench-budget=0.01", "--bench-backends=numpy", "-p", "no:cacheprovider", "-q"),
)
ONE = Node("node-01", (Part("node-01"),))
LONGEST = 120.0  # seconds that a test waits for an event at most
CONFTEST = """
import os, signal, time
from pathlib import Path

def note(what):
    if file := os.environ.get("TURNS"):
        with Path(file).open("a") as turns:
            turns.write(f"{what} {os.getpid()}\\n")

def pytest_sessionstart(session):
    note("begins")
    if folder := os.environ.get("MEET"):
        Path(folder, str(os.getpid())).touch()
        end = time.monotonic() + 60.0
        while len(os.listdir(folder)) < int(os.environ["MEETING"]):
            assert time.monotonic() < end, "the others do not come"
            time.sleep(0.02)

def pytest_sessionfinish(session):
    note("ends")

def pytest_runtest_setup(item):
    if "-struck" in item.name and (number := os.environ.get("STRIKE_TASK")):
        os.kill(os.getppid(), int(number))
        signal.pause()  # until the task, or the kernel after its end, tells this process to end
"""


@dataclass
class Site:
    """A folder with a project, and a fleet of one node there."""

    path: Path
    node: Node = ONE
    runs: int = 1
    chosen: str = "test_good"
    project: Project = field(init=False)

    def __post_init__(self):
        self.project = Project(self.path / "project")
        conftest = self.project.path / "conftest.py"
        conftest.write_text(conftest.read_text(encoding="utf-8") + CONFTEST, encoding="utf-8")
        self.shares()

    @property
    def fleet(self):
        return FleetFolder(self.path / "fleet")

    @property
    def folder(self):
        """The private folder of the node."""
        return self.fleet.node(self.node.label)

    @property
    def state(self):
        return self.fleet.state(self.node.label)

    def shares(self, token="agreed"):
        """Write the file by which the node knows that it sees the folder of the order."""
        self.fleet.private.mkdir(parents=True, exist_ok=True)
        (self.fleet.private / TOKEN).write_text(token, encoding="utf-8")

    def order(self, *arguments, **changes):
        known = {"node": self.node, "runs": self.runs, "folder": str(self.folder), "token": "agreed"}
        # The file is named: a run that is finished would look through the suite as well.
        chosen = (str(self.project.path / "bench_faults.py"), "-k", self.chosen, *ARGUMENTS, *arguments)
        return Order(**{**known, "arguments": chosen, "working": str(self.project.path), **changes})

    def complete(self, label="node-01"):
        return self.fleet.complete(self.node.label, label)

    def unfinished(self, label="node-01"):
        return self.fleet.unfinished(self.node.label, label)

    def log(self, label="node-01", number=0):
        return (self.folder / label / f"log-{number}.txt").read_text(encoding="utf-8", errors="replace")


def about(run):
    """Return what run.json of a run says."""
    return json.loads((run / schema.RUN).read_text(encoding="utf-8"))


def fact(run, name):
    """Return a fact of the computer of a run."""
    return about(run)["environment"]["host"][name]["value"]


def driver(folder, script):
    """Write a stand-in for nvidia-ml-py with devices of its own, for processes; return the folder for PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    usual = (install.FOLDER / "pynvml.py").read_text(encoding="utf-8")
    (folder / "pynvml.py").write_text(f"{usual}\n\ndevices[:] = {script}\n", encoding="utf-8")
    return folder


def environ(patch, project, *folders, **variables):
    """Give this process, and all that it starts, a clean environment in which the project is measured.

    Locks of devices are in the temporary folder, in which nobody else waits for them.
    """
    wanted = project.environment(**{LOCKS: tempfile.gettempdir(), **variables})
    for name in os.environ.keys() - wanted.keys():
        patch.delenv(name)
    path = [*map(str, folders), wanted["PYTHONPATH"]]
    for name, value in (wanted | {"PYTHONPATH": os.pathsep.join(filter(None, path))}).items():
        patch.setenv(name, value)


def until(condition, what):
    """Wait for what another process does, and return it when it is true."""
    end = time.monotonic() + LONGEST
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)
    return found
