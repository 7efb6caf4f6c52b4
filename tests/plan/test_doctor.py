"""Each finding gives its advice, and a ready machine gives none."""

from __future__ import annotations

import re
import tomllib

import pytest

from bench_core.plan import doctor
from bench_core.plan.discovery import Device, Probe
from bench_core.plan.doctor import Findings, Level, examine, load_facts
from bench_core.records import Fact
from tests.support import ROOT
from tests.support.probes import facts, numpy_probe

READY = Findings(
    host=facts(
        cpu__cores=8, cpu__threads=8, cpu__cores_usable=8, cpu__governor="performance",
        memory__total=64e9, memory__available=60e9, memory__swap_used=0,
        system__clock_source="tsc", system__virtual_machine="none",
    ) | load_facts(0.01, 0.0),
    probes=[numpy_probe(), Probe("torch", "2.13.0+cu130", (Device("cpu"), Device("cuda:0", "H100")))],
    openblas_best="SKYLAKEX",
    cards=[facts(gpu__name="H100", gpu__power_limit=700.0, gpu__power_limit_default=700.0, gpu__persistence=True,
                 gpu__other_processes=0, gpu__throttle_reasons=["idle"], gpu__pcie_width=16, gpu__pcie_width_max=16)],
)  # fmt: skip


def changed(host=None, card=None, **fields):
    """Return the ready machine with other facts."""
    values = {"host": READY.host | (host or {}), "cards": [READY.cards[0] | (card or {})], **fields}
    return Findings(**{"probes": READY.probes, "openblas_best": READY.openblas_best, **values})


KINDS = [
    {"kind": "performance", "cores": 6, "cpus": "0-11"},
    {"kind": "efficiency", "cores": 8, "cpus": "12-19"},
]
NODES = [{"node": 0, "bytes": 64e9, "cpus": "0-7"}, {"node": 1, "bytes": 128e9, "cpus": ""}]


@pytest.mark.parametrize(
    ("system", "kinds", "affinity", "remedy"),
    [
        ("linux", KINDS, "0-19", "taskset --cpu-list 0-11 bench-core run"),
        ("freebsd14", KINDS, None, "cpuset -l 0-11 bench-core run"),
        ("darwin", [{**kind, "cpus": ""} for kind in KINDS], None, "this system chooses the cores"),
        ("linux", KINDS, "4-11", None),
        ("linux", KINDS[:1], "0-11", None),
    ],
)
def test_of_cores_that_are_not_alike_doctor_tells_how_to_use_one_kind(monkeypatch, system, kinds, affinity, remedy):
    """And says nothing to a process that uses one kind alone."""
    monkeypatch.setattr(doctor.sys, "platform", system)
    advice = examine(changed(host=facts(cpu__core_kinds=kinds, cpu__affinity=affinity)))
    assert bool(advice) is bool(remedy)
    assert not remedy or remedy in advice[0].remedy


def test_a_ready_machine_needs_no_advice():
    assert examine(READY) == []


def test_an_unknown_machine_gets_no_advice_but_for_its_backends():
    """No fact, no finding: nothing is guessed."""
    assert [advice.level for advice in examine(Findings(host={}, probes=[]))] == [Level.BLOCKER]


@pytest.mark.parametrize(
    ("found", "level", "what"),
    [
        (changed(host=facts(cpu__governor="powersave")), Level.WARNING, "governor is powersave"),
        (changed(host=facts(cpu__quota=1.5)), Level.WARNING, "to 1.5 cores"),
        (changed(host=facts(cpu__quota=4.0)), Level.WARNING, "to 4 cores"),
        (changed(host=facts(cpu__quota=1.0)), Level.WARNING, "to 1 core"),
        (changed(host=facts(cpu__quota=4.0, cpu__cores=None)), Level.WARNING, "to 4 cores"),
        (changed(host=facts(cpu__cores_usable=2, cpu__cores=None)), Level.NOTE, "may use 2 of 8 hardware threads"),
        (changed(host={"cpu.given": Fact(2.0, "SLURM_CPUS_PER_TASK")}), Level.NOTE,
         "SLURM_CPUS_PER_TASK gives this job 2 of 8"),
        (changed(shadows=["random.py"]), Level.WARNING, "random.py in this folder"),
        (changed(host=facts(cpu__core_kinds=KINDS)), Level.WARNING,
         "not alike: 6 performance cores, CPUs 0-11; 8 efficiency cores, CPUs 12-19"),
        (changed(host=facts(memory__nodes=NODES)), Level.NOTE, "not alike: node 0: 64.0 GB, CPUs 0-7; node 1: 128 GB"),
        (changed(host=load_facts(0.3, 0.0)), Level.WARNING, "use 30% of the CPU"),
        (changed(host=load_facts(0.0, 0.05)), Level.WARNING, "takes 5.0% of the CPU"),
        (changed(host=facts(memory__available=1e9)), Level.WARNING, "Only 1.0 GB"),
        (changed(host=facts(memory__swap_used=2e9)), Level.WARNING, "2.0 GB are in swap"),
        (changed(host=facts(cpu__threads=16)), Level.NOTE, "16 hardware threads share 8 cores"),
        (changed(host=facts(cpu__cores_usable=2)), Level.NOTE, "may use 2 of 8 cores"),
        (changed(host=facts(env__CUDA_LAUNCH_BLOCKING="1")), Level.WARNING, "CUDA_LAUNCH_BLOCKING=1 is set"),
        (changed(host=facts(env__NVIDIA_TF32_OVERRIDE="0")), Level.WARNING, "NVIDIA_TF32_OVERRIDE=0 is set"),
        (changed(host=facts(env__OMP_NUM_THREADS="2")), Level.NOTE, "OMP_NUM_THREADS=2 is set"),
        (changed(host={"env.LD_PRELOAD": Fact(reason="withheld")}), Level.NOTE, "LD_PRELOAD is set"),
        (changed(host=facts(system__clock_source="hpet")), Level.WARNING, "clock is hpet"),
        (changed(host=facts(system__virtual_machine="QEMU")), Level.NOTE, "virtual machine (QEMU)"),
        (changed(card=facts(gpu__other_processes=2)), Level.WARNING, "H100: 2 other processes compute on it"),
        (changed(card=facts(gpu__other_processes=1)), Level.WARNING, "H100: 1 other process computes on it"),
        (changed(card=facts(gpu__power_limit=350.0)), Level.WARNING, "power limit 350 W of 700 W"),
        (changed(card=facts(gpu__persistence=False)), Level.NOTE, "persistence mode is off"),
        (changed(card=facts(gpu__pcie_width=4)), Level.WARNING, "4 of 16 PCIe lanes"),
        (changed(card=facts(gpu__throttle_reasons=["hardware_thermal"])), Level.WARNING, "(hardware_thermal)"),
        (changed(card=facts(gpu__mig=True)), Level.NOTE, "MIG is on"),
    ],
)  # fmt: skip
def test_each_finding_gives_advice_of_its_level(found, level, what):
    (advice,) = examine(found)
    assert advice.level is level
    assert what in advice.what
    assert advice.why
    assert advice.remedy


@pytest.mark.parametrize(
    ("core", "best", "slow"),
    [
        ("Haswell", "SKYLAKEX", True),
        ("Zen", "SKYLAKEX", True),
        ("SkylakeX", "SKYLAKEX", False),
        ("Sapphirerapids", "SKYLAKEX", False),
        ("Haswell", "HASWELL", False),
        ("Zen", "HASWELL", False),
        ("Sandybridge", "HASWELL", True),
        ("neoversen1", None, False),
    ],
)
def test_slow_kernels_are_told_by_what_the_cpu_could_run(core, best, slow):
    advice = examine(changed(probes=[numpy_probe(core), *READY.probes[1:]], openblas_best=best))
    assert bool(advice) is slow
    assert not slow or core.lower() in advice[0].what


MISSING = {
    name: Probe(name, reason_code="not_installed", reason=f"{name} is not installed") for name in ("cupy", "torch")
}
NUMPY, CPU_TORCH = READY.probes[0], Probe("torch", "2", (Device("cpu"),))
SEEING_CUPY = Probe("cupy", "14", (Device("cuda:0"),))


@pytest.mark.parametrize(
    ("driver", "extra"),
    [
        (facts(gpu__driver="580.65.06", gpu__driver_cuda="13.0"), "cuda13"),
        (facts(gpu__driver="610.1", gpu__driver_cuda="14.1"), "cuda13"),
        (facts(gpu__driver="570.86.15", gpu__driver_cuda="12.8"), "cuda12"),
        (facts(gpu__driver="525.60.13", gpu__driver_cuda="12.0"), "cuda12"),
        (facts(gpu__driver="580.65.06", gpu__driver_cuda=None), "cuda13"),
        (facts(gpu__driver="550.54.14", gpu__driver_cuda=None), "cuda12"),
        (facts(gpu__driver=None, gpu__driver_cuda=None), "cuda13"),
    ],
)
@pytest.mark.parametrize(
    "probes",
    [
        [],
        [NUMPY, MISSING["torch"]],
        [*READY.probes, MISSING["cupy"]],
        [NUMPY, SEEING_CUPY, MISSING["torch"]],
        [NUMPY, SEEING_CUPY, CPU_TORCH],
    ],
    ids=["nothing works", "no library sees the GPU", "cupy is missing", "torch is missing", "torch is a CPU build"],
)
def test_every_remedy_names_the_extra_that_fits_the_driver(driver, extra, probes):
    """torch's own extra brings the newest build, which a driver for CUDA 12 cannot run."""
    remedies = " ".join(advice.remedy for advice in examine(changed(card=driver, probes=probes)))
    assert f'".[{extra}]"' in remedies
    assert set(re.findall(r"\[(\w+)\]", remedies)) == {extra}


def test_without_a_driver_no_cuda_is_installed_for_torch():
    (advice,) = examine(Findings(READY.host, [NUMPY, MISSING["torch"]], READY.openblas_best))
    assert '".[torch]"' in advice.remedy


@pytest.mark.parametrize(
    "driver",
    [facts(gpu__driver="470.57.02", gpu__driver_cuda="11.4"), facts(gpu__driver="470.57.02", gpu__driver_cuda=None)],
)
@pytest.mark.parametrize("probes", [[NUMPY, SEEING_CUPY, CPU_TORCH], [NUMPY, SEEING_CUPY, MISSING["torch"]], [NUMPY]])
def test_a_driver_that_is_too_old_for_every_extra_is_told_so(driver, probes):
    """CUDA 12 is the oldest that CuPy 14 and PyTorch 2.10 are built for."""
    remedies = [advice.remedy for advice in examine(changed(card=driver, probes=probes))]
    assert any("Update the driver" in remedy and "525" in remedy for remedy in remedies)
    assert not re.findall(r"\[cuda\d+\]", " ".join(remedies))


def test_the_extras_that_remedies_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {extra for extra, _, _ in doctor._EXTRAS} | {"torch"} <= set(project["optional-dependencies"])


def test_a_backend_of_another_package_has_no_extra_here():
    other = Probe("other", reason_code="not_installed", reason="other is not installed")
    (advice,) = examine(changed(probes=[*READY.probes, other]))
    assert "pip install" not in advice.remedy


@pytest.mark.parametrize(("device", "told"), [("cpu", True), ("cuda:0", False)])
def test_a_library_that_alone_does_not_see_the_gpu_is_named(device, told):
    torch = Probe("torch", "2", (Device("cpu"), Device(device)))
    cupy = Probe("cupy", "14", (Device("cuda:0"),))
    found = changed(card=facts(gpu__name="NVIDIA L4", gpu__driver_cuda="12.4"), probes=[READY.probes[0], torch, cupy])
    advice = [item for item in examine(found) if item.what == "torch does not see the GPU"]
    assert bool(advice) is told


def test_slow_kernels_name_the_variable_that_asks_for_them():
    found = changed(host=facts(env__OPENBLAS_CORETYPE="Haswell"), probes=[numpy_probe("Haswell"), READY.probes[1]])
    assert "OPENBLAS_CORETYPE selects them" in examine(found)[0].why


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("not_installed", Level.NOTE),
        ("no_device", Level.NOTE),
        ("crashed", Level.WARNING),
        ("import_failed", Level.WARNING),
        ("timeout", Level.WARNING),
    ],
)
def test_missing_backend_is_explained(code, level):
    broken = Probe("cupy", reason_code=code, reason="because of this")
    (advice,) = examine(changed(probes=[*READY.probes, broken]))
    assert advice.level is level
    assert "cupy" in advice.what
    assert "because of this" in advice.why


@pytest.mark.parametrize(("visible", "remedy"), [(None, ".[cuda13]"), ("", "Unset CUDA_VISIBLE_DEVICES")])
def test_a_gpu_that_no_library_uses_gets_a_remedy(visible, remedy):
    host = {} if visible is None else facts(env__CUDA_VISIBLE_DEVICES=visible)
    (advice,) = examine(changed(host=host, probes=[numpy_probe()]))
    assert advice.what == "No library uses the H100"
    assert remedy in advice.remedy


def test_the_gravest_comes_first():
    found = changed(host=facts(cpu__threads=16, cpu__governor="powersave"), probes=[])
    assert [a.level for a in examine(found)] == sorted((a.level for a in examine(found)), key=list(Level).index)
    assert examine(found)[0].level is Level.BLOCKER
