"""Real runs in a folder of their own, and what they leave behind: for tests of what a run survives."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench_core import child_process
from bench_core.files import digest
from bench_core.results import reader, schema
from bench_core.run import journal
from tests.support import ROOT, forked

HERE = Path(__file__).parent
QUICK = (
    *("--benchmark-only", "--bench-preset=smoke", "--bench-budget=0.02", "--bench-machine=m"),
    *("-p", "no:cacheprovider", "-q"),
)
# The tests count how often a case begins, and lines of the journal: a busy machine, on which blocks are disturbed and
# answers late, would add second tries.
# What is there of NumPy the run finds itself, where it is imported already, and not in a process of its own.
CONFTEST = """
from bench_core.plan import discovery
from bench_core.run import tries
from bench_core.timing import parent_clock

tries.is_disturbed = lambda done: False
parent_clock.LATE = 60.0
probe = discovery.probe
discovery.probe = lambda name: discovery.discover(name) if name == "numpy" else probe(name)
"""
_SEPARATE = ("case_id", "backend", "implementation", "device", "threads")


@dataclass(frozen=True)
class Done:
    """A process that has ended: its exit code and all that it said."""

    code: int
    said: str


@dataclass
class Project:
    """A folder with the workloads of a file here, in which runs happen."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)
    source: str = "faults.py"

    def __post_init__(self):
        self.path.mkdir(parents=True, exist_ok=True)
        text = (HERE / self.source).read_text(encoding="utf-8")
        (self.path / f"bench_{self.source}").write_text(text, encoding="utf-8")
        (self.path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        (self.path / "pytest.ini").write_text("[pytest]\npython_files = bench_*.py\n", encoding="utf-8")

    def environment(self, **variables):
        """Return a clean environment in which pytest loads two plugins and no others: that halves a run."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "CUDA", "FAULT", "STRIKE", "OMP"))}
        plugins = "bench_core.pytest_plugin,pytest_benchmark.plugin"
        ours = {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": plugins}
        ours["FAULT_LOG"] = str(self.path / "begun.txt")
        ours["PYTHONDONTWRITEBYTECODE"] = "1"  # a full disk must not leave half a .pyc to the next test
        both = kept | ours | self.environ | variables
        folders = [both.get("PYTHONPATH"), self.environ.get("PYTHONPATH"), os.environ.get("PYTHONPATH")]
        if "STRIKE" in both:
            both["PYTEST_PLUGINS"] += ",tests.faulty.strikes"
            folders.append(str(ROOT))
        return both | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}

    def start(self, *arguments, backends="numpy", **variables):
        """Start a run and return its process."""
        return self._start([*QUICK, f"--bench-backends={backends}", *arguments], variables)

    def _start(self, arguments, variables):
        """Start pytest: a new process of Python only where its environment is what is tested."""
        fresh = self.environ or not variables.keys() <= {"FAULT", "STRIKE"}
        return forked.start(arguments, self.path, self.environment(**variables), fresh=bool(fresh))

    def run(self, *arguments, timeout=120, **known):
        """Run to the end, which must come within `timeout` seconds."""
        return ended(self.start(*arguments, **known), timeout)

    def resume(self, folder=None, *arguments, **variables):
        """Finish a run, by default the only one there is, as the command does that a user would type.

        `bench-core run --resume` becomes this command of pytest: tests/cli/test_run.py.
        """
        rest = ["-p", "no:cacheprovider", "-q", *arguments, f"--bench-resume={folder or self.folder}"]
        return ended(self._start([*child_process.MEASURING, *rest], variables))

    @property
    def folder(self):
        """The folder of the only run."""
        (folder,) = self.folders()
        return folder

    @property
    def about(self):
        """What run.json of the only run says."""
        return json.loads((self.folder / schema.RUN).read_text(encoding="utf-8"))

    def folders(self):
        return sorted(path for path in (self.path / "results").glob("*/*") if path.is_dir())

    def begun(self):
        """Return how often each case was begun."""
        return Counter((self.path / "begun.txt").read_text(encoding="utf-8").split())


def two_at_a_time(pool, request, name, run):
    """Start `run(value, project)` in a pool of threads for every value of a parameter that the selected tests have.

    Most of a run is one process waiting for another, so two runs take little longer than one. Returns a
    Future by value's text.
    """
    folders = request.getfixturevalue("tmp_path_factory")  # not to be asked by several threads at once
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    values = [spec.params[name] for spec in specs if spec and name in spec.params]
    return {str(value): pool.submit(run, value, Project(folders.mktemp(name))) for value in values}


def ended(process, timeout=120):
    """Wait for a process and return its outcome."""
    said, _ = process.communicate(timeout=timeout)
    return Done(process.returncode, said)


def statuses(folder):
    """Return the status of every case of a finished run by size.

    Every run of the suite is read here, so every one is shown to add up: one status a case, as many cases as
    were planned, and the counts of run.json are those of the rows.
    """
    rows = reader.read_rows(folder / schema.RESULTS)
    about = json.loads((folder / schema.RUN).read_text(encoding="utf-8"))
    by_case = {}
    for row in rows:
        by_case.setdefault(tuple(getattr(row, name) for name in _SEPARATE), set()).add((row.size, row.status))
    assert all(len(told) == 1 for told in by_case.values()), by_case
    found = [next(iter(told)) for told in by_case.values()]
    assert len(found) == about["planned"] == sum(about["statuses"].values())
    assert Counter(status for _, status in found) == about["statuses"]
    for name in (schema.RESULTS, schema.SAMPLES):
        text = (folder / name).read_text(encoding="utf-8")
        assert about["files"][name]["sha256"] == digest(text)
    return dict(found)


def reasons(folder):
    """Return (reason code, reason) by size of the cases that have one."""
    return {r.size: (r.reason_code, r.reason) for r in reader.read_rows(folder / schema.RESULTS) if r.reason_code}


def in_journal(folder):
    """Return the samples of the time metric, by size, that a journal holds; {} where it has not even a head."""
    try:
        records = journal.read(folder / schema.JOURNAL).measurements
    except reader.TableError:
        return {}
    return {m.case.work.size: list(m.series[0].seconds) for m in records if m.series}


def in_samples(folder):
    """Return the samples of the time metric, by size, that a finished run holds."""
    sizes = {row.case_id: row.size for row in reader.read_rows(folder / schema.RESULTS)}
    found = {}
    with (folder / schema.SAMPLES).open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            if record["metric"] == "time" and record["clock"] == "wall":
                found.setdefault(sizes[record["case_id"]], []).append(float(record["seconds"]))
    return found
