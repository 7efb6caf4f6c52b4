"""The files of a run can be published unchanged, and files published by others can be read safely."""

import ast
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from bench_core.results import reader, schema, writer
from tests.faulty.runs import HERE, ROOT, Project
from tests.standin import install as standin
from tests.support.tables import processes, write

HOST, USER = "zeus-17.lab.example", "mmustermann"
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"  # of the first GPU of both stand-ins
MORE = ("10.77.3.21", "02:42:ac:11:00:02", "s3cr3t-t0ken", "fe11ow-branch", "1650423012345")  # the last: its serial


# ---------------------------------------------------------------- what is written


@pytest.fixture(scope="module")
def planted(installed, tmp_path_factory):
    """Run kernels that print private data, on a machine with known names; return the project and the names."""
    home = tmp_path_factory.mktemp("planted") / "home" / USER
    checkout, libraries = home / "checkout", home / "lib"
    (libraries / "torch").mkdir(parents=True)
    (libraries / "torch" / "__init__.py").write_text("raise OSError(f'cannot load {__file__}')", encoding="utf-8")
    told = f"{home}/data/weights.bin and '{home}' on {HOST} ({MORE[0]}, {MORE[1]}) for {USER}: {UUID} is lost"
    path = [str(HERE / "site"), str(libraries), str(standin.FOLDER)]
    environ = {
        "PYTHONPATH": ":".join(path), "FAULT_HOST": HOST, "HOSTNAME": HOST, "USER": USER, "LOGNAME": USER,
        "HOME": str(home), "FAULT_TEXT": told, "CUDA_VISIBLE_DEVICES": UUID, "HIP_VISIBLE_DEVICES": UUID,
        "TORCH_HOME": f"{home}/torch", "CUPY_CACHE_DIR": f"{home}/.cupy", "MALLOC_CONF": f"prof_prefix:{home}/p",
        "PYTORCH_API_TOKEN": MORE[2], "OMP_TOOL_LIBRARIES": f"tool for {USER}",
    }  # fmt: skip
    project = Project(checkout, environ)
    for command in (["init", "-q", "-b", MORE[3]], ["add", "."], ["commit", "-q", "-m", f"by {USER}"]):
        name = ["-c", f"user.name={USER}", "-c", f"user.email={USER}@{HOST}"]
        subprocess.run(["git", *name, *command], cwd=checkout, check=True)
    done = project.run("-k", "test_tells", "--bench-keep-journal", backends="numpy,torch,cupy")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.said
    hidden = {UUID, UUID.removeprefix("GPU-"), UUID.removeprefix("GPU-").replace("-", "")}
    return project, {HOST, HOST.partition(".")[0], USER, str(home), *MORE, *hidden}


@pytest.mark.faults
def test_no_file_of_a_run_names_a_host_a_user_a_path_an_address_or_a_device(planted):
    project, names = planted
    written = [path for path in (project.path / "results").rglob("*") if path.is_file()]
    assert {path.name for path in written} == {"results.csv", "samples.csv", "run.json", "journal.jsonl"}
    for path in written:
        text = str(path.relative_to(project.path)) + path.read_text(encoding="utf-8")
        assert [name for name in names if name.lower() in text.lower()] == [], path.name


@pytest.mark.faults
def test_no_file_of_a_run_names_this_very_machine(planted):
    """The host name is faked only in Python, so the real one must not get into a file by another way."""
    real = socket.gethostname().partition(".")[0]
    if len(real) < 6:
        pytest.skip(f"{real!r} is a word that may stand anywhere")
    for path in planted[0].folder.iterdir():
        assert real not in path.read_text(encoding="utf-8")


@pytest.mark.faults
def test_what_the_planted_kernels_told_is_still_said_but_for_the_names(planted):
    """This validates the search above: the texts of the kernels did reach the reasons."""
    project, _ = planted
    rows = reader.read_rows(project.folder / schema.RESULTS)
    reasons = {(row.backend, row.size): row.reason for row in rows if row.reason}
    masked = "weights.bin and '<user>' on <host> (<address>, <address>) for <user>: <uuid> is lost"
    assert reasons["numpy", "raise_text.build"] == f"RuntimeError: {masked}"
    assert reasons["numpy", "die_text.check"].endswith(f"exit code 3 in check: {masked}")
    assert reasons["cupy", "raise_text.block"] == f"RuntimeError: {masked}"
    assert "__init__.py" in reasons["torch", "calm.1"]
    environment = project.about["environment"]
    assert environment["host"]["env.CUDA_VISIBLE_DEVICES"]["value"] == "<GPU id>"
    assert environment["host"]["env.TORCH_HOME"]["reason"] == "withheld: it contains a path"
    assert project.about["run"]["git_commit"]
    assert "gpu.name" in next(facts for facts in environment["workers"].values() if "gpu.driver" in facts)


# ---------------------------------------------------------------- what is read

FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "input"}
FORBIDDEN_IMPORTS = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "code",
    "commands",
}


# They pass a function of the user from this process to its own worker, in a folder that only this user can read.
PICKLE_OF_OUR_OWN = {"own/source.py", "timing/shared.py", "timing/sources.py"}


def dangers(source):
    """Yield calls in a module that could execute text from a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS or name.endswith(("allow_pickle", "read_pickle", "to_pickle")):
                yield f"{node.lineno}: {name}()"
            for keyword in node.keywords:
                if keyword.arg in {"shell", "allow_pickle"} and ast.unparse(keyword.value) != "False":
                    yield f"{node.lineno}: {name}({keyword.arg}=...)"
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"{node.lineno}: import {name}" for name in modules if name.split(".")[0] in FORBIDDEN_IMPORTS)


def test_nothing_in_bench_core_runs_a_text():
    """There is no eval, exec, pickle or shell, so the text of a results file cannot be executed."""
    package = ROOT / "bench_core"
    for path in sorted(package.rglob("*.py")):
        allowed = ["import pickle"] if path.relative_to(package).as_posix() in PICKLE_OF_OUR_OWN else []
        assert [found.partition(": ")[2] for found in dangers(path.read_text(encoding="utf-8"))] == allowed, path


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "def f():\n    exec(text)",
        "import pickle",
        "from yaml import load",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_the_search_for_dangers_finds_them(source):
    assert list(dangers(source))


def test_the_search_for_dangers_lets_the_harmless_pass():
    assert (
        list(dangers("import re, subprocess\nre.compile('x')\nmodel.eval()\nsubprocess.run(['ls'], shell=False)")) == []
    )


def test_no_path_that_stands_in_a_file_is_opened(tmp_path):
    """Every text in the files is the path of an existing file; reading, comparing and reporting must open none."""
    bait = tmp_path / "bait.txt"
    bait.write_text("schema_version,run_id\n", encoding="utf-8")
    folders = [write(tmp_path / "given", processes([t, t, t]), machine) for machine, t in (("a", 1.0), ("b", 2.0))]
    columns = (
        "run_id",
        "machine",
        "size",
        "params",
        "implementation",
        "library",
        "placement",
        "reason",
        "backend_version",
        "git_commit",
    )
    for folder in folders:
        rows = reader.read_rows(folder / schema.RESULTS)
        kept = {"machine"} if folder == folders[0] else set()
        baited = [replace(row, **{name: str(bait) for name in columns if name not in kept}) for row in rows]
        about = {"environment": {"host": {"file": {"value": str(bait)}}}, "options": {"output": str(bait)}}
        writer.write_run(folder, baited, [], {**about, "run": {"run_id": str(bait)}, "parent": str(bait)})
    script = (
        "import sys, warnings\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, known: opened.append(str(known[0])) if event == 'open' else None)\n"
        "from bench_core import load, render\n"
        "from bench_core.compare import compare, read\n"
        "load(sys.argv[1])\n"
        "compared = compare(read([sys.argv[1]]))\n"
        "print(render.text(compared, 100))\n"
        "assert any(path.endswith('results.csv') for path in opened)\n"
        "assert sys.argv[2] not in opened, 'opened'\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "given"), str(bait)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
