"""The commands of Slurm that bench-core and submitit use: `python programs.py FOLDER COMMAND ARGUMENT...`.

As Slurm's own do: sbatch reads the `#SBATCH` lines of a script and refuses an unknown partition in two lines; a job for
a node that is down waits; squeue fails if it knows none of the jobs that it is asked for; scancel with a signal signals
the step and not the batch script, and without one ends the job; srun ends its task at once when it gets a SIGTERM.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

FORMATS = {
    "sinfo": "%N|%P|%T|%G|%E",
    "squeue": "%A|%T|%r",
}


class Refused(Exception):
    """What a command says before it ends with 1."""


@contextlib.contextmanager
def locked(folder):
    """Hold all that is known of the jobs."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def nodes(folder):
    usual = {"state": "idle", "partition": "main*", "gres": "(null)", "reason": "none"}
    return {name: {**usual, **said} for name, said in json.loads((folder / "nodes.json").read_text()).items()}


def job_file(folder, job):
    return folder / "jobs" / f"{job}.json"


def read(folder, job):
    return json.loads(job_file(folder, job).read_text())


def change(folder, job, *, of=None, **changes):
    """Change what is known of a job, if its state is one of `of`."""
    with locked(folder):
        known = read(folder, job)
        if of is None or known["state"] in of:
            job_file(folder, job).write_text(json.dumps({**known, **changes}))


def kill(job, number):
    """Signal the processes of a job: its batch script, and its step."""
    for leader in ("batch", "step"):
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.killpg(job[leader], number)


def options_of(arguments):
    """Return {option: value} and the other arguments, of which the first ends the options."""
    options = {}
    for place, argument in enumerate(arguments):
        if not argument.startswith("--"):
            return options, arguments[place:]
        name, _, value = argument.removeprefix("--").partition("=")
        options[name] = value or True
    return options, []


def srun_options_of(arguments):
    """Likewise for srun as submitit calls it: `--output FILE --error FILE`, in which others have a `=`."""
    options, rest = {}, list(arguments)
    while rest and rest[0].startswith("--"):
        name, _, value = rest.pop(0).removeprefix("--").partition("=")
        options[name] = rest.pop(0) if name in {"output", "error"} and not value else value or True
    return options, rest


def sinfo(folder, arguments):
    options, _ = options_of(arguments)
    assert options["format"] == FORMATS["sinfo"]
    wanted = set(names_of(options["nodes"])) if "nodes" in options else None
    for name, node in nodes(folder).items():
        for partition in node["partition"].split():
            if wanted is not None and name not in wanted:
                continue
            if "partition" in options and partition.rstrip("*") not in options["partition"].split(","):
                continue
            print("|".join([name, partition, node["state"], node["gres"], node["reason"]]))


def names_of(hostlist):
    """Return the names in a list of hosts with at most one pair of brackets each."""
    names = []
    for item in re.findall(r"[^,\[]+(?:\[[^\]]*\])?", hostlist):
        head, _, numbers = item.removesuffix("]").partition("[")
        for part in numbers.split(",") if numbers else [""]:
            low, _, high = part.partition("-")
            among = range(int(low), int(high or low) + 1) if part else [""]
            names += [f"{head}{number:0{len(low)}}" if part else head for number in among]
    return names


def scontrol(folder, arguments):
    if arguments[:2] == ["show", "hostnames"]:
        print("\n".join(names_of(arguments[2])))
        return
    assert arguments[:3] == ["show", "job", "--oneliner"]
    job = read(folder, arguments[3])
    print(f"JobId={arguments[3]} JobState={job['state']} Reason={job['reason']} ExitCode={job.get('exit', '0:0')}")


def sbatch(folder, arguments):
    (script,) = arguments
    text = Path(script).read_text()
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    options, _ = options_of([word for line in lines for word in shlex.split(line)])
    node, partition = options["nodelist"], options.get("partition")
    known = nodes(folder)
    if partition and all(partition not in each["partition"].replace("*", "").split() for each in known.values()):
        raise Refused(
            f"sbatch: error: invalid partition specified: {partition}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
    is_up = known[node]["state"] == "idle"
    with locked(folder):
        job = str(len(list((folder / "jobs").glob("*.sh"))) + 1)
        (folder / "jobs" / f"{job}.sh").write_text(text)
        reason = "None" if is_up else "ReqNodeNotAvail, UnavailableNodes:" + node
        said = {"node": node, "state": "PENDING", "reason": reason, "options": options}
        job_file(folder, job).write_text(json.dumps(said))
    if is_up:
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.Popen([sys.executable, __file__, str(folder), "run", job], start_new_session=True, **nothing)
    print(f"Submitted batch job {job}")


def run(folder, arguments):
    """The node: it runs the batch script of a job."""
    (job,) = arguments
    options = read(folder, job)["options"]
    given = {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NODELIST": options["nodelist"],
        "SLURMD_NODENAME": options["nodelist"],
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1",
    }
    logs = [Path(options[each].replace("%j", job)) for each in ("output", "error")]
    with logs[0].open("ab") as out, logs[1].open("ab") as err:
        script = subprocess.Popen(
            ["bash", folder / "jobs" / f"{job}.sh"],
            env={**os.environ, **given},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        change(folder, job, of={"PENDING"}, state="RUNNING", batch=script.pid)
        code = script.wait()
    if code == 0:
        change(folder, job, of={"RUNNING"}, state="COMPLETED", exit="0:0")
    else:
        exit_ = f"{code}:0" if code > 0 else f"0:{-code}"
        change(folder, job, of={"RUNNING"}, state="FAILED", reason="NonZeroExitCode", exit=exit_)


def srun(folder, arguments):
    options, command = srun_options_of(arguments)
    job = os.environ["SLURM_JOB_ID"]
    logs = [Path(options[each].replace("%j", job).replace("%t", "0")) for each in ("output", "error")]
    ranks = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    with logs[0].open("ab") as out, logs[1].open("ab") as err:
        step = subprocess.Popen(command, env={**os.environ, **ranks}, stdout=out, stderr=err, start_new_session=True)
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(step.pid, signal.SIGKILL))
        change(folder, job, step=step.pid)
        code = step.wait()
    sys.exit(code if code >= 0 else 128 - code)


def squeue(folder, arguments):
    options, _ = options_of(arguments)
    assert options["format"] == FORMATS["squeue"]
    assert options["states"] == "all"
    known = [job for job in options["jobs"].split(",") if job_file(folder, job).exists()]
    if not known:
        raise Refused("slurm_load_jobs error: Invalid job id specified")
    for job in known:
        with locked(folder):
            said = read(folder, job)
        print(f"{job}|{said['state']}|{said['reason']}")


def sacct(folder, arguments):
    options, _ = options_of(arguments)
    path = folder / "accounting.json"
    known = json.loads(path.read_text()) if path.exists() else None
    if known is None:
        raise Refused("Slurm accounting storage is disabled")
    assert {"noheader", "parsable2", "allocations"} <= set(options)
    assert options["format"] == "State"
    print(known.get(options["jobs"], ""))


def scancel(folder, arguments):
    options, (job,) = options_of(arguments)
    said = read(folder, job)
    if "signal" in options:
        if said["state"] == "RUNNING" and "step" in said:
            os.killpg(said["step"], signal.Signals[f"SIG{options['signal']}"])
        return
    change(folder, job, of={"PENDING", "RUNNING"}, state="CANCELLED", reason="None")
    kill(said, signal.SIGKILL)


PROGRAMS = {
    "sbatch": sbatch,
    "srun": srun,
    "squeue": squeue,
    "sacct": sacct,
    "sinfo": sinfo,
    "scontrol": scontrol,
    "scancel": scancel,
}

if __name__ == "__main__":
    kept, program, *rest = sys.argv[1:]
    try:
        {**PROGRAMS, "run": run}[program](Path(kept), rest)
    except Refused as refused:
        sys.exit(str(refused))
