"""The environment of a run: every fact with its source, or with the reason why it is unknown; no private data.

The planning process calls `host_environment` once. Each computing process calls `worker_environment`, because
libraries, threads and limits may differ there.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from bench_core.machine import allotment, host, kernel_files, nvml, processor, rapl, smbios
from bench_core.machine.facts import BOARD_UNKNOWN, HYPERVISORS, VOLATILE, known
from bench_core.machine.kernel_files import asked
from bench_core.machine.privacy import why_private
from bench_core.records import Fact, Facts

_PACKAGES = (
    "bench-core", "numpy", "scipy", "pandas", "torch", "triton", "jax", "jaxlib", "libtpu", "ml_dtypes",
    "threadpoolctl", "psutil", "pytest", "pytest-benchmark", "nvidia-ml-py",
)  # fmt: skip
_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy", "cupy-rocm-7-0")  # one library, one package per platform
# The CUDA libraries that PyTorch and CuPy call, if installed as packages: these can be upgraded on their own.
_CUDA = tuple(f"nvidia-{name}{cuda}" for name in ("cublas", "cudnn", "cuda-nvrtc") for cuda in ("", "-cu12", "-cu13"))

# Variables that change the speed or the accuracy of libraries. No other variable is recorded.
_VARIABLES = re.compile(
    r"(?:OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|DNNL|ONEDNN|CUBLAS|CUBLASLT|CUDNN|CUPY|TORCH|TORCHINDUCTOR|"
    r"PYTORCH|TRITON|JAX|XLA|LIBTPU|TPU|MALLOC)_\w+|"
    r"CUDA_(?:VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING|MODULE_LOADING|DEVICE_MAX_CONNECTIONS)|"
    r"NVIDIA_TF32_OVERRIDE|(?:HIP|ROCR)_VISIBLE_DEVICES|PYTHON(?:HASHSEED|MALLOC|OPTIMIZE)|LD_PRELOAD|GLIBC_TUNABLES"
)
_NOT_THE_USER_S = {"KMP_DUPLICATE_LIB_OK"}  # threadpoolctl sets it when imported
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH|HOST|ADDRESS|COORDINATOR|TPU_NAME|TPU_WORKER|(?:^|_)(?:KEY|IP)(?:_|$)"
)

_SEEN_BY_WORKERS = ("cpu.", "memory.limit", "memory.huge_pages", "system.", "python.", "env.")
_LONGEST_LABEL = 48  # characters of the CPU or of a GPU
_SHARED = re.compile(f"{HYPERVISORS}|{BOARD_UNKNOWN}")  # in the name of a CPU: it is that of many
_SHARED_BOARD = re.compile(rf"\([^()]*(?:{_SHARED.pattern})[^()]*\)")
# Words that people leave out of a product's name, and the version that all of QEMU's CPUs have had since 2015.
_NEEDLESS = re.compile(r"(?i:(engineering reference )?developer kit\b|\bworkstation edition\b|\bversion 2\.5\+)")
_DOUBLED = re.compile(r"(?<![a-z0-9])([a-z]+)(?:-\1)+(?![a-z0-9])")
_NOT_TOLD_BY_MODEL = ("family 6 model 85",)  # Skylake, Cascade Lake and Cooper Lake servers: the stepping tells them
# Facts whose hash tells apart CPUs whose name does not. None of them changes with the kernel or with what this process
# may use. The memory does, in a virtual machine: it is in the hash only if fewer than two of these are known.
_TELLING = ("cpu.identity", "cpu.vectors", "cpu.sockets", "cpu.cores", "cpu.threads", "cpu.caches")


@dataclass(frozen=True, slots=True)
class GitState:
    """The state of a checkout: its commit ("" outside of one) and whether tracked files differ (None if unknown)."""

    commit: str = ""
    dirty: bool | None = None


def host_environment() -> Facts:
    """Return the facts about the computer and about this process: Python, packages and environment variables."""
    return _cpu() | _memory() | _system() | _packages() | _variables(os.environ)


def worker_environment(device_uuid: str | None, library: Facts) -> Facts:
    """Return the facts that a computing process sees: its library and device, the driver, the limits of the process.

    device_uuid: of an NVIDIA GPU; None for other devices. library: facts of the array library about itself and its
    device.
    """
    here = _cpu() | _memory() | _system() | _variables(os.environ)
    facts = {name: fact for name, fact in here.items() if name.startswith(_SEEN_BY_WORKERS)}
    if device_uuid is not None:
        facts |= nvml.facts(device_uuid)
    return facts | library


def env_id(facts: Facts) -> str:
    """Return "e_" and 16 hex digits: a hash of all facts except the volatile ones (`facts.VOLATILE`)."""
    stable = {name: fact.value for name, fact in facts.items() if name not in VOLATILE}
    canonical = json.dumps(stable, sort_keys=True, separators=(",", ":"), default=str)
    return "e_" + hashlib.sha256(canonical.encode()).hexdigest()[:16]


def facts_to_json(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return each fact as {value, source}, or {value: null, reason}."""
    return {
        name: {"value": None, "reason": fact.reason} if fact.value is None else _known(fact)
        for name, fact in sorted(facts.items())
    }


def machine_label(host_facts: Facts, gpu_names: Iterable[str]) -> str:
    """Return a name for the machine, made of its hardware: "amd-epyc-9654-96c", "2x-nvidia-l4_amd-epyc-9654-96c".

    It always contains the CPU: the same GPU may be combined with another CPU, whose rows must stay separate. A name
    that covers several CPUs ("Intel Xeon Processor") is followed by family and model, and by the stepping where that
    alone tells them apart (Skylake and Cascade Lake). A hash of what else is known (`_TELLING`) follows where these
    numbers are unknown, where the name is a hypervisor's, and where only the cores are known, not their board. An
    unknown CPU has its architecture and that hash. Two CPUs that share a label have the same name, or the same numbers,
    or everything that is hashed: `--bench-machine` gives them other labels.

    It is valid as an identifier and as a folder name, also for archives, web servers and artifact stores (some read a
    plus sign as a space, or refuse it). It is never the host name.
    """
    return _label(host_facts, [_cut(_short(name)) for name in gpu_names if name], _cut(_cpu_slug(host_facts)))


def labelled_cores(label: str) -> int | None:
    """Return the usable cores that a label of `machine_label` ends in; None if it names none."""
    found = re.search(r"-(\d{1,9})c$", label)
    return int(found[1]) if found else None


def former_labels(host_facts: Facts, gpu_names: Sequence[str]) -> set[str]:
    """Return the labels that earlier versions may have given this machine: their journals have no other fact of it."""
    models = (known(host_facts, "cpu.model"), platform.processor(), platform.machine(), "computer")
    gpus, cpus = ([_former(name) for name in names if name] for names in (gpu_names, models))
    return {_label(host_facts, gpus, cpu) for cpu in cpus}


def _label(host_facts: Facts, gpus: Sequence[str], cpu: str) -> str:
    counts = {name: gpus.count(name) for name in gpus}
    cores = known(host_facts, "cpu.cores_usable")
    names = [(f"{count}x-" if count > 1 else "") + name for name, count in counts.items()]
    return "_".join([*names, cpu + (f"-{cores}c" if cores else "")])


def git_state(path: Path) -> GitState:
    """Return the state of the checkout that contains `path`; untracked files, such as results, do not make it dirty."""
    commit = _git(path, "rev-parse", "--verify", "HEAD")
    if not commit or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return GitState()
    changes = _git(path, "status", "--porcelain", "--untracked-files=no")
    return GitState(commit, None if changes is None else bool(changes))


def _git(path: Path, *arguments: str) -> str | None:
    # `fsmonitor` is a command that a checkout can configure; a benchmark must not run it.
    command = ["git", "-C", str(path), "-c", "core.fsmonitor=false", *arguments]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environ, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> Facts:
    return {
        "cpu.model": processor.model(),
        "cpu.identity": processor.identity(),
        "cpu.architecture": _present(platform.machine(), "platform.machine"),
        "cpu.vectors": _vectors(),
        "cpu.sockets": host.sockets(),
        "cpu.cores": _present(allotment.physical_cores(), "psutil.cpu_count"),
        "cpu.core_kinds": processor.kinds(),
        "cpu.threads": _present(allotment.logical_cpus(), "psutil.cpu_count"),
        "cpu.cores_usable": Fact(allotment.usable_cores(), "affinity, physical cores, quota and job"),
        "cpu.affinity": _affinity(),
        "cpu.quota": allotment.quota(),
        "cpu.given": allotment.given(),
        "cpu.caches": host.caches(),
        "cpu.numa_nodes": host.numa_nodes(),
        "cpu.governor": host.governor(),
        "cpu.scaling_driver": host.scaling_driver(),
        "cpu.boost": host.boost(),
        "cpu.smt": host.kernel_setting("/sys/devices/system/cpu/smt/active"),
        "cpu.energy_counters": rapl.fact(),
        "cpu.frequency": asked(lambda: psutil.cpu_freq().current * 1e6, "psutil.cpu_freq"),
    }


def _memory() -> Facts:
    return {
        "memory.total": _present(allotment.total_memory(), "psutil.virtual_memory"),
        "memory.nodes": host.memory_nodes(),
        "memory.available": allotment.free_memory(),
        "memory.limit": allotment.memory(),
        "memory.bandwidth": smbios.memory_bandwidth(),
        "memory.swap_used": asked(lambda: psutil.swap_memory().used, "psutil.swap_memory"),
        "memory.huge_pages": host.kernel_setting("/sys/kernel/mm/transparent_hugepage/enabled"),
    }


def _system() -> Facts:
    tick = time.get_clock_info("perf_counter")
    return {
        "system.os": _os(),
        "system.kernel": _public(platform.release(), "platform.release"),
        "system.libc": _present(" ".join(platform.libc_ver()).strip(), "platform.libc_ver"),
        "system.container": host.container(),
        "system.virtual_machine": host.virtual_machine(),
        "system.clock": Fact(f"{tick.implementation}, {tick.resolution:g} s", "time.get_clock_info"),
        "system.clock_source": host.kernel_setting("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "load.average": asked(lambda: list(os.getloadavg()), "os.getloadavg"),
        "python.version": Fact(platform.python_version(), "platform.python_version"),
        "python.implementation": Fact(platform.python_implementation(), "platform.python_implementation"),
        "python.gil": Fact(getattr(sys, "_is_gil_enabled", lambda: True)(), "sys._is_gil_enabled"),
    }


def _packages() -> Facts:
    facts = {f"package.{name}": _installed(name) for name in _PACKAGES}
    found = [name for name in _CUPY if not _installed(name).reason]
    facts["package.cupy"] = _installed(found[0] if found else "cupy")
    facts |= {f"package.{name}": fact for name in _CUDA if not (fact := _installed(name)).reason}
    if found:
        facts["package.cupy"] = Fact(f"{facts['package.cupy'].value} ({found[0]})", "importlib.metadata")
    return facts


@functools.cache
def _installed(name: str) -> Fact:
    try:
        return Fact(version(name), "importlib.metadata")
    except PackageNotFoundError:
        return Fact(reason="not installed")


def _variables(environ: Mapping[str, str]) -> Facts:
    """Return the listed variables that are set; a value with private data (see `why_private`) is withheld."""
    facts = {}
    for name in sorted(environ):
        if _VARIABLES.fullmatch(name) and not _SECRET.search(name) and name not in _NOT_THE_USER_S:
            facts[f"env.{name}"] = _public(environ[name], "os.environ")
    if "CUDA_VISIBLE_DEVICES" in environ:
        facts["env.CUDA_VISIBLE_DEVICES"] = nvml.visible_devices(environ["CUDA_VISIBLE_DEVICES"])
    return facts


def _vectors() -> Fact:
    """Return the vector extensions of the CPU, of those by which libraries choose their kernels."""
    kinds = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
             "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "sve", "sve2", "bf16", "i8mm")  # fmt: skip
    found = [kind for kind in kinds if kind in processor.flags()]
    return Fact(found, "/proc/cpuinfo") if found else Fact(reason="/proc/cpuinfo lists no known vector extension")


def _affinity() -> Fact:
    own = allotment.affinity()
    return Fact(kernel_files.ranges(allotment.cpus()), f"{own.source}, cpuset") if own.value else own


def _os() -> Fact:
    try:
        return _public(platform.freedesktop_os_release()["PRETTY_NAME"], "/etc/os-release")
    except (OSError, KeyError):
        return _present(platform.system(), "platform.system")


def _cpu_slug(facts: Facts) -> str:
    """Return the part of a label that names the CPU; see `machine_label`."""
    model, identity = known(facts, "cpu.model"), str(known(facts, "cpu.identity") or "")
    if not model:
        return f"unknown-{_slug(platform.machine() or 'cpu')}-{_digest(_told(facts))}"
    shared = _SHARED.search(model)
    if not shared and re.search(r"\d|\(\w", _plain(model)):  # the maker's number, or the word that tells QEMU's models
        return _short(model)
    found = re.search(r"(family \d+ model \d+)\b(.*)", identity)
    numbers = [found[0] if found[1] in _NOT_TOLD_BY_MODEL else found[1]] if found else []
    parts = [_short(_SHARED_BOARD.sub("", model)), *map(_slug, numbers)]
    return "-".join(parts if numbers and not shared else [*parts, _digest(_told(facts))])


def _told(facts: Facts) -> str:
    """Return what is known of a CPU whose name does not tell it apart; also the memory, if that is almost nothing."""
    told = {name: value for name in _TELLING if (value := known(facts, name)) is not None}
    if len(told) < 2:
        told["memory.total"] = _rounded_up(known(facts, "memory.total"))
    return json.dumps(told, sort_keys=True, default=str)


def _rounded_up(size: Any) -> int | None:
    """Return a total of memory as it is sold: with the kernel's own share, rounded up to two bits below the first."""
    if not isinstance(size, int) or size <= 0:
        return None
    step = 1 << max(0, size.bit_length() - 3)
    return -(-size // step) * step


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _plain(text: str) -> str:
    """Return a model's name in lower case without trade marks and clock rates."""
    return re.sub(r"\((?:r|tm)\)|\bcpu\b|\bprocessor\b|@.*|\d+-core\b|\bwith\b.*", " ", text.lower())


def _slug(text: str) -> str:
    """Return a model's name in lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", _plain(text)).strip("-") or "computer"


def _short(name: str) -> str:
    """Return `_slug` without words that tell nothing; a word that is doubled, by maker and product, stands once."""
    return _DOUBLED.sub(r"\1", _slug(_NEEDLESS.sub(" ", name)))


def _cut(slug: str) -> str:
    """Return a part of a label in the length that folders bear; the words that are cut off leave a hash."""
    if len(slug) <= _LONGEST_LABEL:
        return slug
    most = _LONGEST_LABEL - 7
    return f"{slug[: most + 1].rpartition('-')[0] or slug[:most]}-{_digest(slug)}"


def _former(name: str) -> str:
    return _slug(name)[:_LONGEST_LABEL].rstrip("-")


def _present(value: Any, source: str) -> Fact:
    return Fact(value, source) if value else Fact(reason=f"{source} gives no value")


def _public(value: str, source: str) -> Fact:
    what = why_private(value)
    return Fact(reason=f"withheld: it contains {what}") if what else Fact(value, source)


def _known(fact: Fact) -> dict[str, Any]:
    return {"value": fact.value, "source": fact.source}
