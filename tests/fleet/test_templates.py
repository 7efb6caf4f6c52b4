"""The files for sbatch and SkyPilot: their options and fields exist, and what they do is really done."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from bench_core.cli.fleet_template import TEMPLATES, template, template_command
from bench_core.diagnosis.judge import FEWEST_NODES, FEWEST_RUNS
from bench_core.errors import UsageError
from tests.support import ROOT

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(not BASH or sys.platform == "win32", reason="there is no bash")
TINY = "--bench-preset=smoke --bench-backends=numpy --bench-budget=0.01 -k triad"

# Long options of sbatch that a job of this kind may have, from `sbatch --help` and the manual page sbatch(1) of
# Slurm 24.11 (https://slurm.schedmd.com/sbatch.html).
SBATCH = {
    *("account", "array", "begin", "chdir", "comment", "constraint", "cpus-per-task", "dependency", "error"),
    *("exclude", "exclusive", "export", "gpus", "gpus-per-node", "gpus-per-task", "gres", "hint", "hold", "job-name"),
    *("licenses", "mail-type", "mail-user", "mem", "mem-per-cpu", "mem-per-gpu", "nice", "no-requeue", "nodefile"),
    *("nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-node", "open-mode", "output", "partition", "qos"),
    *("requeue", "reservation", "signal", "time", "time-min", "tmp", "use-min-nodes", "wait", "wckey"),
}
# And of srun, from srun(1) of the same version.
SRUN = {"cpu-bind", "kill-on-bad-exit", "exclusive", "mem", "nodes", "ntasks", "output", "error", "label", "overlap"}

# The fields of a task and of its resources, from https://docs.skypilot.co/en/latest/reference/yaml-spec.html (0.10).
TASK = {
    *("name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "volumes", "setup", "run"),
    *("config", "service"),
}
RESOURCES = {
    *("infra", "accelerators", "accelerator_args", "cpus", "memory", "instance_type", "use_spot", "disk_size"),
    *("disk_tier", "network_tier", "max_hourly_cost", "image_id", "ports", "labels", "autostop", "any_of", "ordered"),
    "job_recovery",
}


def in_bash(script, folder, **environ):
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run([BASH, "-c", script], cwd=folder, env=given, capture_output=True, text=True, check=False)


def commented(text):
    """Return a template with the options that it offers in comments."""
    return re.sub(r"^##SBATCH", "#SBATCH", text, flags=re.MULTILINE)


def options_of_sbatch(text):
    """Return the long options of a batch script, and where the first command is: sbatch reads none after that."""
    lines = commented(text).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    found = {line: number for number, line in enumerate(lines) if line.startswith("#SBATCH")}
    return [line.split()[1] for line in found], max(found.values()) < begin


def told(program, folder):
    """Return the long options that a command of Slurm has by its own help, where it is installed."""
    if not shutil.which(program):
        return set()
    conf = folder / "slurm.conf"  # without one it does not even help
    conf.write_text("ClusterName=none\nSlurmctldHost=none\nNodeName=none\nTaskPlugin=task/affinity\n")
    command = [program, "--help"]
    done = subprocess.run(
        command, env={**os.environ, "SLURM_CONF": str(conf)}, capture_output=True, text=True, check=True
    )
    return set(re.findall(r"--([\w-]+)", done.stdout))


def commands(text, program):
    """Return the words of every command of a script that begins with this program, its lines joined."""
    joined = text.replace("\\\n", " ")
    begins = re.compile(rf"^\s*{re.escape(program)} ([^|&\n]*)", re.MULTILINE)
    return [shlex.split(rest, comments=True) for rest in begins.findall(joined)]


def sky():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return yaml.safe_load(template("skypilot"))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", TEMPLATES)
def test_the_command_prints_the_file_as_it_is(engine):
    app = typer.Typer()
    app.command()(template_command)
    done = CliRunner().invoke(app, [engine])
    kept = ROOT / "bench_core" / "fleet" / "templates" / TEMPLATES[engine]
    assert (done.exit_code, done.stdout) == (0, kept.read_text(encoding="utf-8"))


def test_another_engine_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"^ENGINE: no 'slrum'; did you mean 'slurm'\? available: slurm, skypilot$"):
        template("slrum")


@pytest.mark.parametrize("engine", TEMPLATES)
def test_lines_are_short_enough_for_a_terminal_and_name_the_next_command(engine):
    text = template(engine)
    assert max(map(len, text.splitlines())) <= 120
    assert text.isascii()
    assert f"bench-core fleet template {engine} >" in text
    assert "bench-core fleet diagnose results/fleet" in text


def test_there_are_enough_machines_and_runs_for_a_diagnosis():
    (nodes,) = re.findall(r"^#SBATCH --nodes=(\d+)$", template("slurm"), re.MULTILINE)
    (runs,) = re.findall(r"RUNS:-(\d+)", template("slurm"))
    task = sky()
    assert (task["num_nodes"], task["envs"]["RUNS"]) == (int(nodes), runs)
    assert int(nodes) > FEWEST_NODES, "of exactly that many it takes more runs"
    assert int(runs) == FEWEST_RUNS


# --- sbatch ----------------------------------------------------------------------------------------------------------


@needs_bash
def test_the_batch_script_is_valid_bash_as_is_what_each_node_runs():
    text = template("slurm")
    (of_a_node,) = re.findall(r"^srun .* bash -c '\n([^']*)'$", text, re.MULTILINE)
    for script in (text, commented(text), of_a_node):
        assert subprocess.run([BASH, "-n"], input=script, text=True, capture_output=True, check=False).stderr == ""


def test_every_option_of_the_batch_script_is_one_of_sbatch(tmp_path):
    options, before_commands = options_of_sbatch(template("slurm"))
    names = {option.removeprefix("--").partition("=")[0] for option in options}
    assert before_commands
    assert len(options) == len(names) == 12
    assert names - SBATCH == set()
    assert names - (told("sbatch", tmp_path) or names) == set()


def test_every_option_of_srun_is_one_of_srun(tmp_path):
    (words,) = re.findall(r"^srun (.*) bash -c '$", template("slurm"), re.MULTILINE)
    names = {word.removeprefix("--").partition("=")[0] for word in words.split()}
    assert names == {"cpu-bind", "kill-on-bad-exit"}
    assert names <= SRUN
    assert names - (told("srun", tmp_path) or names) == set()


FAKE_SRUN = """#!/bin/sh
# Two nodes, one after the other.
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_PROCID=0 SLURMD_NODENAME=alpha "$@"; first=$?
SLURM_PROCID=1 SLURMD_NODENAME=beta "$@" && exit $first
"""


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@needs_bash
def test_the_batch_script_measures_each_node_under_its_own_name(tmp_path):
    program(tmp_path / "bin", "srun", FAKE_SRUN)
    program(tmp_path / "bin", "bench-core", f'#!/bin/sh\nexec {sys.executable} -m bench_core "$@"\n')
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = in_bash(template("slurm"), tmp_path, PATH=path, SLURM_JOB_ID="7", RUNS="1", OPTIONS=TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted(path.parent.relative_to(tmp_path).parts[:-1] for path in tmp_path.glob("results/**/run.json"))
    assert runs == [("results", "fleet-7", "node-01"), ("results", "fleet-7", "node-02")]
    assert "node-01 is alpha" in done.stdout
    assert "node-02: 0 of 1 runs have failed cases or no result" in done.stdout


@needs_bash
def test_a_node_whose_runs_fail_measures_all_of_them_and_the_job_fails(tmp_path):
    program(tmp_path / "bin", "srun", FAKE_SRUN)
    fails = program(tmp_path / "my programs", "bench-core", '#!/bin/sh\necho "$@"\n[ $SLURM_PROCID = 1 ]\n')
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = in_bash(
        template("slurm"), tmp_path, PATH=path, SLURM_JOB_ID="7", RESULTS="my results", BENCH_CORE=str(fails)
    )
    assert done.returncode == 1
    said = done.stdout.splitlines()
    run = "run --bench-machine={} --bench-output=my results --bench-preset=standard"
    assert said[1:4] == [run.format("node-01")] * 3
    assert said[4] == "node-01: 3 of 3 runs have failed cases or no result"
    assert said[-1] == "node-02: 0 of 3 runs have failed cases or no result"


# --- SkyPilot --------------------------------------------------------------------------------------------------------


def test_every_field_of_the_task_is_one_of_skypilot():
    task = sky()
    assert set(task) <= TASK
    assert set(task["resources"]) <= RESOURCES
    assert all(isinstance(value, str) for value in task["envs"].values())  # as SkyPilot's schema asks


def test_the_fields_that_the_task_offers_in_comments_exist_too():
    offered = re.findall(r"^  # (\w+): ", template("skypilot"), re.MULTILINE)
    assert {"cpus", "infra"} == set(offered)
    assert set(offered) <= RESOURCES


@needs_bash
@pytest.mark.parametrize("part", ["setup", "run"])
def test_the_parts_of_the_task_are_valid_bash(part):
    script = sky()[part]
    assert subprocess.run([BASH, "-n"], input=script, text=True, capture_output=True, check=False).stderr == ""


def test_what_setup_installs_is_in_this_clone():
    setup = sky()["setup"]
    (words,) = commands(setup, ".venv/bin/python -m pip")
    assert words == ["install", "--quiet", "-c", "constraints.txt", "-e", ".$EXTRA"]
    assert (ROOT / "constraints.txt").is_file()
    extra = sky()["envs"]["EXTRA"].strip("[]")
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@needs_bash
def test_the_task_measures_each_machine_under_its_own_name(tmp_path):
    program(tmp_path / ".venv", "unused", "")
    program(tmp_path / ".venv" / "bin", "bench-core", f'#!/bin/sh\nexec {sys.executable} -m bench_core "$@"\n')
    envs = {**sky()["envs"], "RUNS": "1", "OPTIONS": TINY, "FLEET": "of today"}
    done = in_bash(sky()["run"], tmp_path, SKYPILOT_NODE_RANK="11", **envs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "node-12: 0 of 1 runs have failed cases or no result"
    runs = sorted(path.parent.relative_to(tmp_path).parts[:-1] for path in tmp_path.glob("results/**/run.json"))
    assert runs == [("results", "of today", "node-12")], "each launch has a folder of its own"


@needs_bash
def test_a_machine_that_fails_says_so_and_does_not_end_the_task_of_the_others(tmp_path):
    program(tmp_path / ".venv", "unused", "")
    program(tmp_path / ".venv" / "bin", "bench-core", "#!/bin/sh\nexit 1\n")
    done = in_bash(sky()["run"], tmp_path, SKYPILOT_NODE_RANK="0", **sky()["envs"])
    assert (done.returncode, done.stdout) == (0, "node-01: 3 of 3 runs have failed cases or no result\n")
