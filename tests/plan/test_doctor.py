"""Each finding gives its advice, and a ready machine gives none."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace

import pytest

from bench_core.machine import kernel_files, nvml, topology
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


# ---------------------------------------------------------------- how GPUs are connected

PAIRS = {(0, 1): 12, (2, 3): 12}
TWO_NODES = facts(memory__nodes=[{"node": 0, "bytes": 64e9, "cpus": "0-7"}, {"node": 1, "bytes": 64e9, "cpus": "8-15"}])


@pytest.fixture
def connected(pynvml, tmp_path, monkeypatch):
    """Return a function that gives the advice on the links between H100s of the stand-in; no file tells of them."""
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)

    def advise(gpus, how, faults=None, host=None):
        devices = pynvml.devices[:] = pynvml.connected(gpus, how)
        for number, changes in (faults or {}).items():
            devices[number].answers |= changes
        return examine(changed(host=host, topology=topology.read()))

    return advise


def p2p(status, *others):
    """Return the change of a device that has a status of P2P with some others."""
    uuids = [f"GPU-{number:08x}-0506-0708-090a-0b0c0d0e0f10" for number in range(8)]
    return {"P2PStatus": {uuid: status if number in others else 0 for number, uuid in enumerate(uuids)}}


@pytest.mark.parametrize(
    ("gpus", "how"), [(1, "PCIe"), (1, "NVSwitch"), (4, "PCIe"), (2, PAIRS), (8, "NVSwitch")], ids=str
)
def test_gpus_that_are_all_connected_alike_in_one_node_or_by_nvlink_need_no_advice(connected, gpus, how):
    how = {(0, 1): 12} if how is PAIRS else how
    assert connected(gpus, how) == []


@pytest.mark.parametrize(
    ("gpus", "how", "faults", "advice"),
    [
        (2, "PCIe", {0: p2p(1, 1)},
         ("warning", "No P2P between GPUs 0/1",
          "Here the chipset does not support it; what they exchange goes through the memory of the host",
          "nvidia-smi topo -p2p r shows them; compare such machines with their own kind")),
        (4, "PCIe", {n: p2p(4, *range(8)) for n in range(4)},
         ("warning", "No P2P between each two GPUs",
          "Here it is disabled in the settings of the driver; what they exchange goes through the memory of the host",
          "nvidia-smi topo -p2p r shows them; compare such machines with their own kind")),
        (8, "PCIe", {n: p2p(3, *range(4, 8)) for n in range(4)},
         ("warning", "No P2P between GPUs 0/4, 0/5, 0/6, 0/7, 1/4, 1/5, ... (16 pairs)",
          "Here the I/O hubs between them do not support it; what they exchange goes through the memory of the host",
          "nvidia-smi topo -p2p r shows them; compare such machines with their own kind")),
        (8, "PCIe", {},
         ("note", "The way between GPUs 0/4, 0/5, 0/6, 0/7, 1/4, 1/5, ... (16 pairs) is across NUMA nodes",
          "What they exchange crosses the link between the sockets or nodes",
          "Measure GPUs 0/1 alone (CUDA_VISIBLE_DEVICES=0,1); nvidia-smi topo -m shows all ways")),
        (4, PAIRS, {},
         ("warning", "NVLink connects GPUs 0/1, 2/3, but not GPUs 0/2, 0/3, 1/2, 1/3",
          "The slowest connection decides how fast all GPUs exchange",
          "Measure GPUs 0/1 alone (CUDA_VISIBLE_DEVICES=0,1), or compare such machines with their own kind")),
        (8, "NVSwitch", {5: {"NvLinkState": dict.fromkeys(range(18), 1) | {3: 0}}},
         ("warning", "GPU 5, NVIDIA H100 80GB HBM3: 1 of 18 NVLinks is down", "Another GPU of this model has 18 up",
          "See nvidia-smi nvlink --status, and dmesg for Xid 74")),
        (1, "NVSwitch", {0: {"NvLinkState": dict.fromkeys(range(18), 1) | {3: 0, 4: 0}}},
         ("warning", "GPU 0, NVIDIA H100 80GB HBM3: 2 of 18 NVLinks are down", "All links of a GPU lead to NVSwitch",
          "See nvidia-smi nvlink --status, and dmesg for Xid 74")),
    ],
    ids=["P2P of two", "P2P of all", "P2P of some", "sockets", "bridges", "one link", "links to a switch"],
)  # fmt: skip
def test_a_fault_between_gpus_is_named_with_the_pairs_that_have_it(connected, gpus, how, faults, advice):
    found = [(item.level, item.what, item.why, item.remedy) for item in connected(gpus, how, faults)]
    assert advice in found
    assert len(found) == 1 or (gpus, how) == (8, "PCIe")


RING = {(0, 1): 2, (1, 2): 2, (2, 3): 2, (0, 3): 1, (0, 2): 1, (1, 3): 1}


@pytest.mark.parametrize(
    ("how", "whats"),
    [
        ({(0, 1): 2, (1, 2): 2, (0, 2): 1}, ["1 NVLink between GPUs 0/2, up to 2 between others"]),
        (RING, ["1 NVLink between GPUs 0/2, 0/3, 1/3, up to 2 between others"]),
        ({**RING, (0, 1): 6, (2, 3): 4}, ["1 NVLink between GPUs 0/2, 0/3, 1/3, up to 6 between others"]),
        ({(0, 1): 2, (1, 2): 2, (2, 3): 4},
         ["NVLink connects GPUs 0/1, 1/2, 2/3, but not GPUs 0/2, 0/3, 1/3",
          "2 NVLinks between GPUs 0/1, 1/2, up to 4 between others"]),
    ],
    ids=["triangle", "ring", "three numbers", "chain"],
)  # fmt: skip
def test_pairs_with_fewer_nvlinks_than_others_are_named(connected, how, whats):
    advice = connected(1 + max(map(max, how)), how)
    assert [item.what for item in advice] == whats
    assert {(item.level, item.why) for item in advice} == {
        ("warning", "The slowest connection decides how fast all GPUs exchange")
    }
    most = max(how, key=lambda pair: how[pair])
    assert advice[-1].remedy.startswith(f"Measure GPUs {most[0]}/{most[1]} alone (CUDA_VISIBLE_DEVICES=")


def test_a_gpu_with_fewer_links_to_a_switch_than_others_has_pairs_with_fewer(connected):
    """Without a link that is down, nothing else tells it."""
    (advice,) = connected(3, "NVSwitch", {2: {"NvLinkState": dict.fromkeys(range(12), 1)}})
    assert advice.what == "12 NVLinks between GPUs 0/2, 1/2, up to 18 between others"


@pytest.mark.parametrize(
    ("reason", "whats"),
    [("GPU is lost", ["GPU 1 does not answer: GPU is lost"]), ("Insufficient Permissions", [])],
)
def test_a_gpu_of_which_the_driver_tells_nothing_is_named_unless_it_is_withheld(reason, whats):
    found = changed(topology=topology.Topology(silent=[nvml.Silent(1, reason)]))
    assert [(item.level, item.what) for item in examine(found)] == [("warning", what) for what in whats]


def test_advice_on_one_of_several_cards_says_which(pynvml):
    pynvml.devices[:] = pynvml.connected(3, "PCIe")
    pynvml.devices[2].answers |= {"CurrPcieLinkWidth": 4, "PersistenceMode": 0}
    for several in (True, False):
        whose = "GPU 2, NVIDIA H100 80GB HBM3" if several else "NVIDIA H100 80GB HBM3"
        cards = nvml.cards() if several else nvml.cards()[2:]
        found = Findings(READY.host, READY.probes, READY.openblas_best, cards)
        whats = [f"{whose}: 4 of 16 PCIe lanes", f"{whose}: persistence mode is off"]
        assert [item.what for item in examine(found)] == whats
    found = replace(found, topology=topology.Topology(silent=[nvml.Silent(0, "GPU is lost")]))
    told = [item.what for item in examine(found) if "does not answer" not in item.what]
    assert told == [f"GPU 2, {what}" for what in whats]


def test_links_that_no_gpu_of_a_model_has_up_are_only_noted(connected):
    """As on an H100 NVL, whose bridge has 12 of 18 links; a card without a bridge has none up, and no advice."""
    some = {"NvLinkState": dict.fromkeys(range(12), 1) | {3: 0}}
    advice = connected(2, {(0, 1): 12}, {0: some, 1: some})
    assert [(item.level, item.what) for item in advice] == [
        ("note", f"GPU {n}, NVIDIA H100 80GB HBM3: 1 of 12 NVLinks is down") for n in (0, 1)
    ]
    none = {"NvLinkState": dict.fromkeys(range(12), 0)}
    assert connected(2, {(0, 1): 12}, {0: none, 1: none}) == []


@pytest.mark.parametrize(("of_slot", "of_card", "told"), [(8, 16, True), (16, 16, False), (8, 8, False), (8, 0, False)])
def test_a_slot_with_fewer_lanes_than_its_card_is_named(connected, tmp_path, of_slot, of_card, told):
    """The driver's maximum is that of card and slot together, so that only the kernel knows."""
    file = tmp_path / "sys/bus/pci/devices/0000:10:00.0/max_link_width"
    file.parent.mkdir(parents=True)
    file.write_text(f"{of_card}\n", encoding="utf-8")
    advice = connected(1, "PCIe", {0: {"MaxPcieLinkWidth": of_slot, "CurrPcieLinkWidth": of_slot}})
    assert [item.what for item in advice] == [
        "GPU 0, NVIDIA H100 80GB HBM3: its slot has 8 of the card's 16 PCIe lanes"
    ] * told


@pytest.mark.parametrize(
    ("affinity", "what"),
    [
        ("0-7", "GPUs 4-7 are at NUMA node 1, of whose cores this process may use none"),
        ("8,10", "GPUs 0-3 are at NUMA node 0, of whose cores this process may use none"),
        ("0-15", None),
        ("7-8", None),
        (None, None),
    ],
)
def test_gpus_far_from_all_cores_that_may_be_used_are_named(connected, affinity, what):
    advice = connected(8, "NVSwitch", host=TWO_NODES | facts(cpu__affinity=affinity))
    assert [item.what for item in advice] == [what] * bool(what)
    cpus = "8-15" if affinity == "0-7" else "0-7"
    assert not what or advice[0].remedy == f"taskset --cpu-list {cpus} bench-core run keeps to that node"


def test_one_gpu_far_from_all_cores_is_named_in_the_singular(connected):
    (advice,) = connected(5, "NVSwitch", host=TWO_NODES | facts(cpu__affinity="0-7"))
    assert advice.what == "GPU 4 is at NUMA node 1, of whose cores this process may use none"


@pytest.mark.parametrize(
    "refused",
    [
        {"NvLinkState": "NVMLError_NoPermission"}, {"P2PStatus": "NVMLError_NotSupported"},
        {"TopologyCommonAncestor": "NVMLError_NotSupported"}, {"MigMode": [1, 1]},
        {"CurrPcieLinkWidth": "NVMLError_NotSupported", "MaxPcieLinkWidth": "NVMLError_NotSupported"},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_driver_does_not_tell_of_links_gives_no_advice(connected, pynvml, refused):
    changes = {name: getattr(pynvml, what) if isinstance(what, str) else what for name, what in refused.items()}
    assert connected(4, "NVSwitch", {0: changes, 2: changes}) == []
