"""The environment is complete, stable where it should be, and names nobody."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench_core import records
from bench_core.backends.numpy import NumpyBackend
from bench_core.machine import environment, nvml, privacy
from bench_core.records import Fact
from tests.standin import install as standin
from tests.support import ROOT

UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


@pytest.fixture
def backend():
    return NumpyBackend("cpu")


def test_every_fact_has_a_source_or_a_reason(backend):
    facts = environment.host_environment() | environment.worker_environment(backend.device_uuid, backend.facts())
    assert len(facts) > 35
    for name, fact in facts.items():
        assert bool(fact.source) != bool(fact.reason), name
        assert (fact.value is None) == bool(fact.reason), name


def test_json_is_a_value_with_its_source_or_null_with_its_reason(backend):
    facts = {"b": Fact(0, "there"), "a": Fact(reason="not here"), "c": Fact(value=False, source="there")}
    plain = environment.facts_to_json(facts)
    assert list(plain) == ["a", "b", "c"]
    assert plain["a"] == {"value": None, "reason": "not here"}
    assert plain["b"] == {"value": 0, "source": "there"}
    json.dumps(environment.facts_to_json(environment.host_environment()), allow_nan=False)


def test_env_id_ignores_what_changes_by_itself():
    facts = {
        "cpu.model": Fact("X", "here"),
        "gpu.temperature": Fact(30, "driver"),
        "load.average": Fact([0, 0, 0], "os"),
    }
    hot = facts | {"gpu.temperature": Fact(80, "driver"), "load.average": Fact([9, 9, 9], "os")}
    assert environment.env_id(facts) == environment.env_id(hot)
    assert re.fullmatch(r"e_[0-9a-f]{16}", environment.env_id(facts))


@pytest.mark.parametrize("change", [{"cpu.model": Fact("Y", "here")}, {"env.OMP_NUM_THREADS": Fact("2", "os.environ")}])
def test_env_id_sees_what_bears_on_performance(change):
    facts = {"cpu.model": Fact("X", "here")}
    assert environment.env_id(facts) != environment.env_id(facts | change)


def test_env_id_is_the_same_twice_in_a_worker(backend):
    first, second = (
        environment.env_id(environment.worker_environment(backend.device_uuid, backend.facts())) for _ in range(2)
    )
    assert first == second


def test_worker_with_a_gpu_has_the_driver_s_facts(backend):
    backend.device_uuid = UUID
    with standin.pynvml_module():
        nvml._nvml.cache_clear()
        nvml._find.cache_clear()
        facts = environment.worker_environment(backend.device_uuid, backend.facts())
        nvml._nvml.cache_clear()
        nvml._find.cache_clear()
    assert facts["gpu.driver"].value == "580.65.06"
    assert "01020304" not in str(facts)


def test_only_listed_variables_are_read():
    environ = {
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_CORETYPE": "Haswell",
        "CUPY_CACHE_DIR": "/home/me/cache",
        "CUPY_TF32": "1",
        "CUDA_VISIBLE_DEVICES": f"{UUID},1",
        "HIP_VISIBLE_DEVICES": UUID,
        "TORCH_API_TOKEN": "hunter2",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "HOME": "/home/me",
        "LD_PRELOAD": "/usr/lib/libjemalloc.so",
    }
    assert environment._variables(environ) == {
        "env.CUDA_VISIBLE_DEVICES": Fact("<GPU id>,1", "CUDA_VISIBLE_DEVICES"),
        "env.CUPY_CACHE_DIR": Fact(reason="withheld: it contains a path"),
        "env.CUPY_TF32": Fact("1", "os.environ"),
        "env.HIP_VISIBLE_DEVICES": Fact(reason="withheld: it contains a UUID"),
        "env.LD_PRELOAD": Fact(reason="withheld: it contains a path"),
        "env.OMP_NUM_THREADS": Fact("4", "os.environ"),
        "env.OPENBLAS_CORETYPE": Fact("Haswell", "os.environ"),
    }


def test_nothing_private_is_in_any_fact(backend, monkeypatch):
    """Host, user and home are planted where libraries and variables could carry them out."""
    monkeypatch.setattr(socket, "gethostname", lambda: "zeus-17")
    monkeypatch.setattr(privacy.getpass, "getuser", lambda: "mmustermann")
    monkeypatch.setattr(environment.platform, "release", lambda: "6.1.0-zeus-17")
    monkeypatch.setenv("TORCH_HOME", "/home/mmustermann/torch")
    monkeypatch.setenv("MKL_VERBOSE_HOST", "zeus-17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUID)
    privacy._names.cache_clear()
    text = json.dumps(
        records.to_json(
            environment.host_environment() | environment.worker_environment(backend.device_uuid, backend.facts())
        )
    )
    privacy._names.cache_clear()
    for secret in ("zeus-17", "mmustermann", "01020304", str(Path.home()) + "/", os.sep + "site-packages"):
        assert secret not in text


@pytest.mark.parametrize(
    ("cpu", "cores", "gpus", "label"),
    [
        ("AMD EPYC 9654 96-Core Processor", 96, [], "amd-epyc-9654-96c"),
        ("Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz", 8, [], "intel-xeon-platinum-8480c-8c"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", 8, [], "amd-ryzen-7-7840u-w-radeon-780m-graphics-8c"),
        ("x1", 1, ["NVIDIA H100 80GB HBM3"], "nvidia-h100-80gb-hbm3_x1-1c"),
        (
            "x1",
            1,
            ["NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"],
            "nvidia-rtx-pro-6000-blackwell-max-q_x1-1c",
        ),
        ("x1", 1, ["NVIDIA L4", "NVIDIA L4"], "2x-nvidia-l4_x1-1c"),
        ("x1", 1, ["NVIDIA L4", "NVIDIA A10", "NVIDIA L4"], "2x-nvidia-l4_nvidia-a10_x1-1c"),
        ("../../etc/1", 2, [], "etc-1-2c"),
        ("", 2, [""], "unknown-x86-64-f02c23-2c"),
        ("龍芯", None, [], "computer-f02c23"),
    ],
)
def test_a_machine_is_labelled_by_its_gpus_cpu_and_cores(monkeypatch, cpu, cores, gpus, label):
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    facts = {"cpu.model": Fact(cpu or None, "s"), "cpu.cores_usable": Fact(cores, "s")}
    assert environment.machine_label(facts, gpus) == records.identifier(label)


def test_long_names_of_gpus_are_cut_at_a_word_and_those_that_differ_beyond_it_stay_apart():
    words = "NVIDIA Graphics Accelerator of a Very Large Computer"
    labels = [environment.machine_label({}, [f"{words} {end}"]).partition("_")[0] for end in ("A", "B")]
    assert all(re.fullmatch("nvidia-graphics-accelerator-of-a-very-[0-9a-f]{6}", label) for label in labels)
    assert len(set(labels)) == 2
    (one,) = {len(environment.machine_label({}, ["x" * length]).partition("_")[0]) for length in (48, 49, 90)}
    assert one == 48


def test_machine_label_is_not_the_host_name():
    assert socket.gethostname() not in environment.machine_label(environment.host_environment(), [])


def test_what_the_system_cannot_tell_is_a_reason(monkeypatch):
    def unsupported():
        raise NotImplementedError

    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    monkeypatch.setattr(psutil, "swap_memory", unsupported)
    facts = environment.host_environment()
    assert facts["cpu.frequency"] == Fact(reason="psutil.cpu_freq: AttributeError")
    assert facts["memory.swap_used"] == Fact(reason="psutil.swap_memory: NotImplementedError")


def test_git_state_is_the_commit_and_whether_tracked_files_changed(tmp_path):
    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *author, *arguments], check=True, capture_output=True)

    assert environment.git_state(tmp_path / "nowhere") == environment.GitState()
    git("init")
    assert environment.git_state(tmp_path) == environment.GitState()
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    clean = environment.git_state(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", clean.commit)
    assert clean.dirty is False
    (tmp_path / "results").write_text("untracked")
    assert environment.git_state(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert environment.git_state(tmp_path) == environment.GitState(clean.commit, dirty=True)


def test_git_state_is_empty_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state(Path.cwd()) == environment.GitState()


NOTHING = """
import getpass, json, os, pathlib, pwd, sys, tempfile
import psutil
from pathlib import Path

def refuse(*_):
    raise KeyError("no such user")

pwd.getpwuid = pwd.getpwnam = refuse
psutil.PROCFS_PATH = "/nowhere"
tempfile.tempdir = "/nowhere"
from bench_core.machine import cpu_limits, environment, kernel_files, privacy

kernel_files.ROOT = Path("/nowhere")
from bench_core.backends.numpy import NumpyBackend
from bench_core.plan import findings

backend = NumpyBackend("cpu")
facts = environment.host_environment() | environment.worker_environment(None, backend.facts()) | findings.watch(0.01)
assert privacy.scrub("/a/b") == "b"
free = backend.memory()
text = json.dumps(environment.facts_to_json(facts), allow_nan=False)
print(environment.machine_label(facts, []), cpu_limits.fact(cpu_limits.read()).reason)
print({name: fact.reason for name, fact in facts.items() if fact.value is None})
"""


def test_where_proc_sys_home_and_temporary_folders_are_hidden_facts_are_absent_with_a_reason(tmp_path):
    """Collection never fails: in a process of its own, with a user of no name."""
    environ = {name: value for name, value in os.environ.items() if name not in {"HOME", "USER", "LOGNAME", "TMPDIR"}}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", NOTHING]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    label, reasons = done.stdout.splitlines()
    assert label.startswith("unknown-")
    reasons = ast.literal_eval(reasons)
    assert all(reasons.values())
    assert reasons["cpu.model"].startswith("unknown CPU model: no /proc/cpuinfo")
    for name in ("cpu.core_kinds", "cpu.caches", "memory.available", "memory.nodes", "system.container", "cpu.smt"):
        assert name in reasons
