"""A Slurm of this computer alone: its commands are small programs that run jobs here, in real processes.

`Cluster(folder)` writes them to `folder/bin`, which a test puts first on the PATH. `programs.py` is their code, and
says what it does as Slurm does; `tasks.py` has what the jobs of tests run.
"""

import contextlib
import json
import os
import shlex
import signal
import sys
from pathlib import Path

from tests.support.fake_slurm import programs


class Cluster:
    """The nodes and jobs of a Slurm that is kept in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "jobs").mkdir(parents=True)
        bin_ = self.folder / "bin"
        bin_.mkdir()
        for name in programs.PROGRAMS:
            program = bin_ / name
            words = shlex.join([sys.executable, programs.__file__, str(self.folder), name])
            program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            program.chmod(0o755)
        self.bin = str(bin_)
        self.nodes({})

    def nodes(self, nodes):
        """Set the nodes: {name: {"state", "partition", "gres", "reason"}}, each with a default."""
        (self.folder / "nodes.json").write_text(json.dumps(nodes))

    def accounting(self, jobs):
        """Set what sacct knows: {job: state}; None: accounting is off, as it is at first."""
        (self.folder / "accounting.json").write_text(json.dumps(jobs))

    def forget(self, job):
        """Let squeue not know a job any more."""
        self._job(job).unlink()

    def job(self, job):
        return json.loads(self._job(job).read_text())

    def put(self, job, **changes):
        """Change what Slurm says of a job."""
        with programs.locked(self.folder):
            known = json.loads(self._job(job).read_text()) if self._job(job).exists() else {}
            self._job(job).write_text(json.dumps({**known, **changes}))

    def script(self, job):
        return (self.folder / "jobs" / f"{job}.sh").read_text()

    def kill_node(self, name):
        """A node dies with all that runs there; Slurm notices it."""
        for path in (self.folder / "jobs").glob("*.json"):
            job = json.loads(path.read_text())
            if job["node"] == name and job["state"] == "RUNNING":
                self.put(path.stem, state="NODE_FAIL", reason="NodeDown")
                programs.kill(job, signal.SIGKILL)

    def close(self):
        for path in (self.folder / "jobs").glob("*.json"):
            with contextlib.suppress(KeyError):
                programs.kill(json.loads(path.read_text()), signal.SIGKILL)

    def _job(self, job):
        return self.folder / "jobs" / f"{job}.json"


def beside(path, folder):
    """Return a PATH on which the commands of a cluster come first."""
    return os.pathsep.join([folder, path])
