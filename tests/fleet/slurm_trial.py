"""A real Slurm on this computer, made for the trial and removed after it: `python tests/fleet/slurm_trial.py [--keep]`.

For root on Debian, with its packages slurm-wlm and munge; it installs nothing, and says what is missing. Two nodes are
two slurmd with names of their own, where Debian's slurmd can have that; else there is one, and the table says so.

It runs `bench-core fleet` as a user would, checks what is there afterwards, prints a table of what it found, and ends
with 0 if all is as it should be, 1 if not, 2 if something is missing. It takes minutes, so no test runs it.
"""

import argparse
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench_core.fleet.plan import FleetFolder  # noqa: E402 - of this clone, installed or not
from bench_core.results import schema  # noqa: E402

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel")
NODES = ("trial-1", "trial-2")
SHORT = ("--bench-preset=smoke", "--bench-backends=numpy", "--bench-budget=0.01", "-k", "triad or launch")
LONG = ("--bench-preset=smoke", "--bench-backends=numpy", "--bench-budget=0.1", "-k", "triad or launch or matmul")
CONF = """
ClusterName=trial
SlurmctldHost={host}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdTimeout=10
KillWait=5
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
{nodes}
PartitionName=trial Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Broken(Exception):
    """Slurm cannot be made to work here."""


class RealSlurm:
    """munged, slurmctld and a slurmd for each node, in a folder; a context."""

    def __init__(self, folder, names):
        self.folder, self.names = Path(folder), names
        self.running = {}
        self.environ = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self):
        try:
            self._configure()
            self._munge()
            self._start("slurmctld", ["slurmctld", "-D", "-f", self.environ["SLURM_CONF"]])
            for name in self.names:
                self.start_node(name)
            self.wait_idle(self.names)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """End the jobs, then the daemons, each by its own id."""
        if "slurmctld" in self.running:
            self.ask("scancel", "--user=root")
        for name in self.names:
            self.kill_processes(name)
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _configure(self):
        self.folder.chmod(0o755)  # munge refuses a folder that others may write
        (self.folder / "state").mkdir()
        ports = free_ports(1 + len(self.names))
        node = "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs=1 RealMemory=512 State=UNKNOWN"
        host = socket.gethostname().split(".")[0]
        nodes = "\n".join(node.format(name, host, port) for name, port in zip(self.names, ports[1:], strict=True))
        text = CONF.format(host=host, address="127.0.0.1", folder=self.folder, ports=ports, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        version = re.search(r"(\d+)\.\d+", self.ask("slurmd", "-V"))
        if version and int(version[1]) >= 23:  # earlier ones need a cgroup, and find which version it has
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")  # a container may have none

    def _munge(self):
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        names = {"key": "key", "pid": "pid", "log": "log", "seed": "seed"}
        files = [f"--{option}-file={self.folder}/munge.{name}" for option, name in names.items()]
        self._start("munged", ["munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *files])
        wait_for((self.folder / "munge.socket").exists, "munged has no socket", self)

    def _start(self, name, command):
        log = (self.folder / f"{name}.out").open("ab")
        self.running[name] = subprocess.Popen(
            command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def start_node(self, name):
        (self.folder / f"spool-{name}").mkdir(exist_ok=True)
        command = ["slurmd", "-D", "-f", self.environ["SLURM_CONF"], "-N", name]
        self._start(name, command)

    def ask(self, *command):
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def states(self):
        return dict(line.split() for line in self.ask("sinfo", "-hN", "-o", "%N %T").splitlines() if " " in line)

    def wait_idle(self, names):
        wait_for(lambda: all(self.states().get(name) == "idle" for name in names), "no node is idle", self)

    def kill_processes(self, name):
        """Kill what runs on a node: its slurmd, the stepd of its jobs, and the jobs."""
        jobs = self.ask("squeue", "-h", "-w", name, "-o", "%A").split()
        steps = {f"[{job}." for job in jobs if job.isdecimal()}
        doomed = [process for process in psutil.process_iter() if belongs(process, name, steps)]
        if daemon := self.running.pop(name, None):
            daemon.kill()
            daemon.wait()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, 10)

    def last_words(self):
        """Return the ends of all logs."""
        logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def belongs(process, node, steps):
    """Whether a process is of a job on a node, or is the stepd of such a job."""
    try:
        title = " ".join(process.cmdline())
        if title.startswith("slurmstepd: ") and any(step in title for step in steps):
            return True
        return process.environ().get("SLURMD_NODENAME") == node
    except (psutil.Error, OSError):
        return False


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(is_so, otherwise, slurm, seconds=60):
    end = time.monotonic() + seconds
    while not is_so():
        dead = [name for name, process in slurm.running.items() if process.poll() is not None]
        if dead or time.monotonic() > end:
            raise Broken(f"{otherwise} ({', '.join(dead) or 'nothing'} has ended)\n{slurm.last_words()}")
        time.sleep(0.2)


class Trial:
    """What was tried, and what came of it."""

    def __init__(self, slurm, work):
        self.slurm, self.work = slurm, work
        self.rows = []
        self.seen = set()  # the folders of fleets that have been waited for

    def check(self, what, found, expected):
        self.rows.append((what, str(found), found == expected, str(expected)))
        print(f"{'ok  ' if found == expected else 'FAIL'} {what}: {found}", flush=True)

    def start(self, *arguments):
        command = [sys.executable, "-m", "bench_core", "fleet", *arguments]
        environ = {**self.slurm.environ, "PYTHONPATH": str(ROOT)}
        print("$ bench-core fleet", *arguments, flush=True)
        return subprocess.Popen(
            command,
            cwd=self.work,
            env=environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self, process):
        """Return the exit code of a command, and what it has printed."""
        said, _ = process.communicate(timeout=900)
        print("".join(f"    {line}\n" for line in said.splitlines()), flush=True)
        return process.returncode, said

    def fleet(self, *arguments):
        return self.end(self.start(*arguments))

    def newest(self):
        return FleetFolder(max(self.work.glob("results/fleet-2*"), key=lambda path: path.stat().st_mtime_ns))

    def given(self, folder):
        """Return how many runs were gathered of each node, by its name in Slurm."""
        names = folder.names()
        return {name: len(list(folder.path.glob(f"{label}/*/run.json"))) for label, name in sorted(names.items())}


def tree(folder):
    """Return what is in the files of a folder and when each was written, but for the private ones."""
    files = [path for path in folder.path.rglob("*") if path.is_file() and folder.private not in path.parents]
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


def try_normal(trial):
    code, _ = trial.fleet("run", "--on", "slurm", "--runs", "2", *SHORT)
    trial.check("a run on all nodes: exit code", code, 0)
    folder = trial.newest()
    trial.check("its runs", trial.given(folder), dict.fromkeys(trial.slurm.names, 2))
    before = tree(folder)
    code, _ = trial.fleet("gather", str(folder.path))
    trial.check("a second gather: exit code", code, 0)
    trial.check("a second gather: files changed", len(before.items() ^ tree(folder).items()), 0)
    public = [path for path in before if any(name in path.read_text(errors="replace") for name in trial.slurm.names)]
    trial.check("files with the name of a node", len(public), 0)


def try_wrong(trial):
    code, said = trial.fleet("run", "--on", "slurm", "--set", "partition=nowhere", *SHORT)
    trial.check("a partition that does not exist: exit code", code, 2)
    trial.check("it is named", "nowhere" in said, True)
    code, said = trial.fleet("run", "--on", "slurm", "--set", "constraint=nowhere", *SHORT)
    trial.check("a job that sbatch refuses: exit code", code, 2)
    trial.check("in its words", "Invalid feature specification" in said, True)
    code, said = trial.fleet("run", "--on", "slurm", "--set", "partiton=trial", *SHORT)
    trial.check("a setting that does not exist: exit code and the nearest", (code, "'partition'" in said), (2, True))


def wait_for_a_run(trial, process, node):
    """Wait until a node measures for the fleet that was just started: it has a journal."""

    def is_so():
        if process.poll() is not None:
            raise Broken(f"fleet run has ended\n{process.stdout.read()}")
        new = {path for path in trial.work.glob("results/fleet-2*") if (path / ".fleet" / "plan.json").exists()}
        for found in map(FleetFolder, new - trial.seen):
            labels = [label for label, name in found.names().items() if name == node]
            if any(list(found.node(label).rglob(schema.JOURNAL)) for label in labels):
                trial.seen |= new
                return True
        return False

    wait_for(is_so, f"{node} does not measure", trial.slurm, 120)


def try_death(trial):
    *others, last = trial.slurm.names
    process = trial.start("run", "--on", "slurm", "--runs", "3", *LONG)
    wait_for_a_run(trial, process, last)
    trial.slurm.kill_processes(last)
    code, said = trial.end(process)
    folder = trial.newest()
    given = trial.given(folder)
    trial.check("a node dies in mid-run: exit code", code, 1)
    label = next(label for label, name in folder.names().items() if name == last)
    trial.check("the node and why", re.search(rf"^{label} ended: .*(NODE_FAIL)", said, re.MULTILINE) is not None, True)
    trial.check("the others are whole", {name: given[name] for name in others}, dict.fromkeys(others, 3))
    trial.check("the dead one lacks runs", given[last] < 3, True)
    code, said = trial.fleet("run", "--resume", str(folder.path))
    trial.check("a resumption while it is down: exit code", code != 0, True)
    trial.slurm.start_node(last)
    trial.slurm.wait_idle(trial.slurm.names)
    code, said = trial.fleet("run", "--resume", str(folder.path))
    trial.check("a resumption when it is back: exit code", code, 0)
    trial.check("all are whole", trial.given(folder), dict.fromkeys(trial.slurm.names, 3))


def try_cancelled(trial):
    """An administrator ends a job."""
    last = trial.slurm.names[-1]
    process = trial.start("run", "--on", "slurm", "--runs", "2", *LONG)
    wait_for_a_run(trial, process, last)
    print(trial.slurm.ask("scancel", *trial.slurm.ask("squeue", "-h", "-w", last, "-o", "%A").split()))
    code, said = trial.end(process)
    folder = trial.newest()
    trial.check("a job is cancelled by scancel: exit code", code, 1)
    trial.check("that is said", "CANCELLED" in said, True)
    label = next(label for label, name in folder.names().items() if name == last)
    state = folder.state(label)
    trial.check("the task had time to say so itself", state is not None and state.ended is not None, True)
    trial.check("its run can be resumed", len(folder.unfinished(label, label)), 1)


def try_time_limit(trial):
    code, _ = trial.fleet("run", "--on", "slurm", "--runs", "100", "--set", "time=2", *SHORT)
    folder = trial.newest()
    states = [(label, folder.state(label)) for label in sorted(folder.names())]
    trial.check("more runs than the time allows: exit code", code, 1)
    said = [None if state is None or state.ended is None else state.parts[label].reason for label, state in states]
    trial.check("each node says why it ended", set(said), {"interrupted: this node was told to end"})
    trial.check("what it has measured is there", min(trial.given(folder).values()) > 0, True)


def try_interrupt(trial):
    process = trial.start("run", "--on", "slurm", "--runs", "3", *LONG)
    wait_for_a_run(trial, process, trial.slurm.names[-1])
    process.send_signal(signal.SIGINT)
    code, _ = trial.end(process)
    trial.check("Ctrl-C: exit code", code, 130)
    wait_for(lambda: not trial.slurm.ask("squeue", "-h").strip(), "a job remains", trial.slurm)
    trial.check("Ctrl-C: jobs that remain", trial.slurm.ask("squeue", "-h").strip(), "")
    trial.slurm.wait_idle(trial.slurm.names)
    folder = trial.newest()
    code, _ = trial.fleet("run", "--resume", str(folder.path))
    trial.check("a resumption after it: exit code", code, 0)
    trial.check("all are whole after it", trial.given(folder), dict.fromkeys(trial.slurm.names, 3))


def try_template(trial):
    path = trial.work / "fleet.sbatch"
    path.write_text(trial.start("template", "slurm").communicate()[0])
    program = trial.work / "bench-core"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m bench_core "$@"\n')
    program.chmod(0o755)
    options = " ".join(SHORT).replace("triad or launch", "triad")
    environ = {**trial.slurm.environ, "RUNS": "2", "OPTIONS": options, "BENCH_CORE": str(program)}
    command = ["sbatch", "--wait", "--parsable", f"--nodes={len(trial.slurm.names)}", str(path)]
    done = subprocess.run(command, cwd=trial.work, env=environ, capture_output=True, text=True, check=False)
    print(done.stderr, *(log.read_text() for log in trial.work.glob("bench-core-*.log")))
    trial.check("the template for sbatch: exit code", done.returncode, 0)
    expected = {f"node-{number:02}": 2 for number in range(1, len(trial.slurm.names) + 1)}
    trial.check("its runs", labelled(trial), expected)


def labelled(trial):
    """Return the runs of the newest folder that the template has made, by label."""
    folders = [path for path in trial.work.glob("results/fleet-*") if re.fullmatch(r"fleet-\d+", path.name)]
    newest = max(folders, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        return {}
    return {path.name: len(list(path.glob("*/run.json"))) for path in sorted(newest.glob("node-*"))}


TRIALS = {
    "normal": try_normal,
    "wrong": try_wrong,
    "death": try_death,
    "cancelled": try_cancelled,
    "time": try_time_limit,
    "interrupt": try_interrupt,
    "template": try_template,
}


def missing():
    """Return what this computer lacks, a line each with what to do."""
    lines = [] if os.geteuid() == 0 else ["root: Slurm's daemons start jobs in the name of users"]
    if absent := [name for name in NEEDED if not shutil.which(name)]:
        lines.append(f"{', '.join(absent)}: apt-get install -y slurm-wlm munge")
    try:
        import submitit  # noqa: F401
    except ImportError:
        lines.append('submitit: python -m pip install -e ".[fleet]"')
    return lines


def two_nodes(folder):
    """Return the names of the nodes that can be had here: two, or one where slurmd takes no name."""
    said = subprocess.run(["slurmd", "--help"], capture_output=True, text=True, check=False)
    return NODES if re.search(r"^\s*-N\b", said.stdout + said.stderr, re.MULTILINE) else NODES[:1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"only these: {', '.join(TRIALS)}")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with all logs and results")
    options = parser.parse_args()
    if lines := missing():
        print("missing:", *lines, sep="\n  ")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="slurm-trial-"))
    trial = None
    try:
        (folder / "work").mkdir()
        with RealSlurm(folder, two_nodes(folder)) as slurm:
            trial = Trial(slurm, folder / "work")
            version = slurm.ask("sinfo", "--version").strip()
            trial.check(f"{version}: nodes on this computer, each by a slurmd of its own", len(slurm.names), 2)
            for name in options.trials or TRIALS:
                TRIALS[name](trial)
    except Broken as broken:
        print(broken)
        return 1
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report(trial.rows)


def report(rows):
    """Print what was found; return the exit code."""
    width = max(len(row[0]) for row in rows)
    print()
    for what, found, is_good, expected in rows:
        print(f"{what:{width}}  {'ok' if is_good else 'WRONG'}  {found}{'' if is_good else f', not {expected}'}")
    wrong = sum(not is_good for _, _, is_good, _ in rows)
    print(f"{len(rows)} checks, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
