"""Every command of README.md is run as it stands, on less work: a smoke run of one workload on NumPy."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEWER = {"--runs 5": "--runs 2", "aa": "aa --runs 4"}  # as good as it gets in seconds
LESS = "--bench-preset=smoke --bench-backends=numpy --bench-budget=0.01 -p no:cacheprovider"


def commands():
    """Yield every command in a block of bash and every inline one that is whole."""
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            yield from line.split("  #")[0].strip().split(" && ")
    console = re.findall(r"^\$ (.*)$", README, re.MULTILINE)
    inline = re.findall(r"`((?:bench-core|pytest|tox|srun|python -m pip|docker) ?[^`]*)`", README)
    yield from (command.strip() for command in [*console, *inline])


def of(*programs):
    return sorted({command for command in commands() if command.startswith(programs)})


@pytest.fixture
def clone(tmp_path):
    """What a command finds in a clone: the benchmarks, results, two other machines' results, a run to resume."""
    for name in ("benchmarks", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (machine,) = (path for path in (ROOT / "results").iterdir() if path.is_dir())
    for name in (machine.name, "h100", "laptop"):
        shutil.copytree(machine, tmp_path / "results" / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (tmp_path / "bin" / "srun").chmod(0o755)
    return tmp_path


def play(command, clone, **environ):
    """Run a command of the README in a clone; return what it said."""
    for long, short in FEWER.items():
        command = re.sub(rf"{re.escape(long)}\b", short, command)
    command = command.replace("PYTHON", sys.executable).replace("LABEL", "node7")
    path = os.pathsep.join([str(clone / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COLUMNS"))}
    less = {"PYTEST_ADDOPTS": f"{LESS} -k 'triad or aa_cases'", "PATH": path}
    done = subprocess.run(
        shlex.split(command), cwd=clone, env=clean | less | environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", of("bench-core", "srun", "pytest"))
def test_a_command_does_what_it_is_there_for(command, clone):
    print(play(command, clone))
