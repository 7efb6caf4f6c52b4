"""What connects the GPUs is told as the driver tells it, and what it does not tell is absent with a reason."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from bench_core.machine import nvml, topology
from bench_core.machine.pcie import Link
from bench_core.records import Fact
from tests.standin import install as standin
from tests.support import TESTS
from tests.support.properties import given, st

RATE = 26_562e6  # B/s of an NVLink 4, by the driver
UNTOLD = "the driver does not tell where each NVLink leads"


@pytest.fixture
def machine(pynvml, plant):
    """Return the stand-in's driver, on a machine whose kernel says nothing of PCI devices."""
    plant("proc/version", "none")
    return pynvml


def told(machine, devices):
    """Return the lines about devices, and what the facts of a run on all of them say."""
    machine.devices[:] = devices
    nvml._find.cache_clear()
    facts = topology.link_facts([device.uuid for device in devices])
    return list(topology.lines(topology.read())), [facts["ranks.link"], facts["ranks.link_bandwidth"]]


HALVES = ["GPUs 0-3", "GPUs 4-7"]
MESH = {(0, 1): 4, (0, 2): 4, (0, 3): 4, (1, 2): 4, (1, 3): 4, (2, 3): 4}
RING = {(0, 1): 2, (1, 2): 2, (2, 3): 2, (0, 3): 1}


@pytest.mark.parametrize(
    ("gpus", "how", "lines", "link", "bandwidth"),
    [
        (8, "NVSwitch",
         [("GPUs 0-3", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 18 of 18 links up"),
          ("GPUs 4-7", "NUMA node 1, PCIe 5.0 x16, NVLink 4: 18 of 18 links up"),
          ("between each two", "NVLink x18 through NVSwitch, P2P")],
         "NVLink 4 x18 through NVSwitch", 18 * RATE),
        (4, MESH,
         [("GPUs 0-3", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 12 of 12 links up"),
          ("between each two", "NVLink x4, P2P")],
         "NVLink 4 x12", 12 * RATE),
        (4, RING,
         [("GPUs 0,3", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 3 of 3 links up"),
          ("GPUs 1-2", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 4 of 4 links up"),
          ("between 0/1, 1/2, 2/3", "NVLink x2, P2P"),
          ("between 0/2, 1/3", "several PCIe switches, P2P"),
          ("between 0/3", "NVLink x1, P2P")],
         "NVLink 4 x3, between 4 of 6 pairs", 3 * RATE),
        (4, {(0, 1): 12, (2, 3): 12},
         [("GPUs 0-3", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 12 of 12 links up"),
          ("between 0/1, 2/3", "NVLink x12, P2P"),
          ("between 0/2, 0/3, 1/2, 1/3", "several PCIe switches, P2P")],
         "PCIe 5.0 x16, NVLink between some pairs", 32e9 * 128 / 130 / 8 * 16),
        (2, "PCIe",
         [("GPUs 0-1", "NUMA node 0, PCIe 5.0 x16"), ("between 0/1", "several PCIe switches, P2P")],
         "PCIe 5.0 x16", 32e9 * 128 / 130 / 8 * 16),
        (8, "PCIe",
         [("GPUs 0-3", "NUMA node 0, PCIe 5.0 x16"), ("GPUs 4-7", "NUMA node 1, PCIe 5.0 x16"),
          ("between 0/1, 0/2, 0/3, 1/2, 1/3, 2/3, ... (12 pairs)", "several PCIe switches, P2P"),
          ("between 0/4, 0/5, 0/6, 0/7, 1/4, 1/5, ... (16 pairs)", "across NUMA nodes, P2P")],
         "PCIe 5.0 x16", 32e9 * 128 / 130 / 8 * 16),
    ],
    ids=["NVSwitch", "mesh", "ring", "bridges", "PCIe", "PCIe in two nodes"],
)  # fmt: skip
def test_gpus_and_pairs_that_are_alike_share_a_line_and_the_link_of_a_run_is_that_of_all(
    machine, gpus, how, lines, link, bandwidth
):
    shown, facts = told(machine, machine.connected(gpus, how))
    assert shown == lines
    assert [fact.value for fact in facts] == [link, pytest.approx(bandwidth)]
    assert all(fact.source and not fact.reason for fact in facts)


def test_of_a_run_on_some_gpus_only_the_links_between_these_count(machine):
    machine.devices[:] = machine.connected(4, MESH)
    facts = topology.link_facts([machine.devices[number].uuid for number in (3, 1)])
    assert facts["ranks.link"] == Fact("NVLink 4 x4", "nvmlDeviceGetNvLinkState")
    by = "NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON, times the links that are up"
    assert facts["ranks.link_bandwidth"] == Fact(4 * RATE, by)


@pytest.mark.parametrize(
    ("changes", "of_gpu", "between", "link", "bandwidth"),
    [
        ({"NvLinkState": dict.fromkeys(range(18), 1) | {5: 0}}, "NVLink 4: 17 of 18 links up",
         "NVLink x17 through NVSwitch, P2P", "NVLink 4 x17 through NVSwitch", 17 * RATE),
        ({"NvLinkState": dict.fromkeys(range(18), 0)}, "NVLink 4: 0 of 18 links up",
         "several PCIe switches, P2P", "PCIe 5.0 x16", Link(5, 16).rate),
        ({"NvLinkState": None}, "", "several PCIe switches, P2P", "PCIe 5.0 x16", Link(5, 16).rate),
        ({"Architecture": None}, "NVLink: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink x18 through NVSwitch", 18 * RATE),
        ({"FieldValues": None}, "NVLink 4: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink 4 x18 through NVSwitch", 18 * 25e9),
        ({"FieldValues": {164: 26_000}}, "NVLink 4: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink 4 x18 through NVSwitch", 18 * 26e9),
        ({"FieldValues": {}, "Architecture": 10}, "NVLink 5: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink 5 x18 through NVSwitch", 18 * 50e9),
        ({"FieldValues": None, "Architecture": 99}, "NVLink: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink x18 through NVSwitch", "nvmlDeviceGetFieldValues: Not Supported"),
        ({"FieldValues": {91: 18}, "Architecture": 99}, "NVLink: 18 of 18 links up",
         "NVLink x18 through NVSwitch, P2P", "NVLink x18 through NVSwitch",
         "NVML_FI_DEV_NVLINK_GET_SPEED: Not Supported"),
    ],
    ids=["a link down", "no bridge", "no NVLink", "no architecture", "rate of the datasheet", "rate by link",
         "Blackwell", "a new GPU", "a new GPU without a rate"],
)  # fmt: skip
def test_nvlinks_are_counted_and_rated_by_the_driver_then_by_the_datasheet(
    machine, changes, of_gpu, between, link, bandwidth
):
    shown, facts = told(machine, machine.connected(2, "NVSwitch", **changes))
    assert shown == [("GPUs 0-1", f"NUMA node 0, PCIe 5.0 x16, {of_gpu}".rstrip(", ")), ("between 0/1", between)]
    assert facts[0].value == link
    assert bandwidth in (facts[1].value, facts[1].reason)


def test_the_gpu_with_the_fewest_links_limits_all(machine):
    devices = machine.connected(8, "NVSwitch")
    devices[2].answers["NvLinkState"] |= {0: 0, 1: 0}
    _, facts = told(machine, devices)
    assert [fact.value for fact in facts] == ["NVLink 4 x16 through NVSwitch", 16 * RATE]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"NvLinkState": "NVMLError_NoPermission"}, "nvmlDeviceGetNvLinkState: Insufficient Permissions"),
        ({"NvLinkRemoteDeviceType": None}, UNTOLD),
        ({"NvLinkRemoteDeviceType": "NVMLError_FunctionNotFound"}, UNTOLD),
        ({"NvLinkRemoteDeviceType": dict.fromkeys(range(18), 255)}, UNTOLD),
    ],
)
def test_where_the_nvlinks_are_not_told_no_link_is_claimed(machine, changes, said):
    changes = {name: getattr(machine, what) if isinstance(what, str) else what for name, what in changes.items()}
    shown, facts = told(machine, machine.connected(2, "NVSwitch", **changes))
    assert f"NVLink unknown ({said})" in shown[0][1]
    assert facts == [Fact(reason=said)] * 2
    assert topology.read().pairs[0].nvlinks is None


def test_a_direct_link_is_known_by_its_peer_from_drivers_that_do_not_tell_types(machine):
    shown, facts = told(machine, machine.connected(2, {(0, 1): 4}, NvLinkRemoteDeviceType=None))
    assert shown[0] == ("GPUs 0-1", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 4 of 4 links up")
    assert facts[0].value == "NVLink 4 x4"


@pytest.mark.parametrize(
    ("status", "p2p", "link"),
    [
        (0, "P2P", "PCIe 5.0 x16"),
        (1, "no P2P: the chipset does not support it", "PCIe 5.0 x16, without P2P"),
        (2, "no P2P: these GPUs do not support it", "PCIe 5.0 x16, without P2P"),
        (3, "no P2P: the I/O hubs between them do not support it", "PCIe 5.0 x16, without P2P"),
        (4, "no P2P: it is disabled in the settings of the driver", "PCIe 5.0 x16, without P2P"),
        (5, "no P2P: it is not supported here", "PCIe 5.0 x16, without P2P"),
        (6, "P2P unknown (nvmlDeviceGetP2PStatus does not know it)", "PCIe 5.0 x16"),
        ({0: 0, 1: 5}, "no P2P: it is not supported here", "PCIe 5.0 x16, without P2P"),
        ("NVMLError_NotSupported", "P2P unknown (nvmlDeviceGetP2PStatus: Not Supported)", "PCIe 5.0 x16"),
        ("NVMLError_NoPermission", "P2P unknown (nvmlDeviceGetP2PStatus: Insufficient Permissions)", "PCIe 5.0 x16"),
    ],
)
def test_missing_p2p_has_its_cause(machine, status, p2p, link):
    status = getattr(machine, status) if isinstance(status, str) else status
    devices = machine.connected(2, "PCIe")
    devices[0].answers["P2PStatus"] = {devices[1].uuid: status}
    shown, facts = told(machine, devices)
    assert shown[1] == ("between 0/1", f"several PCIe switches, {p2p}")
    assert facts[0].value == link


def test_nvlinks_that_may_not_be_used_do_not_count(machine):
    devices = machine.connected(4, MESH)
    for device in devices:
        device.answers["P2PStatus"] = dict.fromkeys(device.answers["P2PStatus"], 4)
    assert told(machine, devices)[1][0].value == "PCIe 5.0 x16, without P2P"
    devices[0].answers["P2PStatus"][devices[1].uuid] = 0
    assert told(machine, devices)[1][0].value == "PCIe 5.0 x16, NVLink between some pairs, P2P between some pairs"


@pytest.mark.parametrize(
    ("level", "how"),
    [
        (0, "on one board"), (10, "PCIe switch"), (20, "several PCIe switches"), (30, "PCIe host bridge"),
        (40, "several PCIe host bridges"), (50, "across NUMA nodes"), (60, "unknown"),
    ],
)  # fmt: skip
def test_the_nearest_common_part_of_two_gpus_is_named(machine, level, how):
    devices = machine.connected(2, "PCIe")
    devices[0].answers["TopologyCommonAncestor"] = {devices[1].uuid: level}
    assert told(machine, devices)[0][1] == ("between 0/1", f"{how}, P2P")


@pytest.mark.parametrize(
    ("changes", "link", "rate"),
    [
        ({"CurrPcieLinkGeneration": 1}, "PCIe 5.0 x16", Link(5, 16).rate),
        ({"CurrPcieLinkWidth": 8}, "PCIe 5.0 x8", Link(5, 8).rate),
        ({"CurrPcieLinkWidth": None}, "PCIe 5.0 x16", Link(5, 16).rate),
        ({"MaxPcieLinkGeneration": 3}, "PCIe 3.0 x16", 8e9 * 128 / 130 / 8 * 16),
        ({"MaxPcieLinkGeneration": 7}, "PCIe 7.0 x16", "the rate of PCIe 7.0 is not known here"),
    ],
    ids=["idle", "narrow", "width unknown", "old board", "new board"],
)
def test_a_pcie_link_is_that_under_load_with_the_lanes_of_now(machine, changes, link, rate):
    shown, facts = told(machine, machine.connected(2, "PCIe", **changes))
    assert shown[0] == ("GPUs 0-1", f"NUMA node 0, {link}")
    assert facts[0].value == link
    assert rate in (facts[1].value, facts[1].reason)


def test_the_slowest_of_unlike_pcie_links_limits_all(machine):
    devices = machine.connected(4, "PCIe")
    devices[3].answers["CurrPcieLinkWidth"] = 4
    assert [fact.value for fact in told(machine, devices)[1]] == ["PCIe 5.0 x4", Link(5, 4).rate]


def test_the_source_of_a_pcie_link_is_that_of_the_slowest_gpu(machine):
    """The driver tells only the highest width of the first, which is slower than the last."""
    devices = machine.connected(3, "PCIe")
    devices[0].answers |= {"CurrPcieLinkWidth": machine.NVMLError_NotSupported, "MaxPcieLinkWidth": 8}
    link, bandwidth = told(machine, devices)[1]
    by = "nvmlDeviceGetMaxPcieLinkGeneration, nvmlDeviceGetMaxPcieLinkWidth"
    assert link == Fact("PCIe 5.0 x8", by)
    assert bandwidth == Fact(Link(5, 8).rate, f"PCI-SIG, PCI Express Base Specification; {by}")


@pytest.mark.parametrize("name", ["MaxPcieLinkGeneration", "CurrPcieLinkWidth"])
def test_an_unknown_pcie_link_is_absent_with_the_reason(machine, name):
    refused = {name: machine.NVMLError_NoPermission, "MaxPcieLinkWidth": None}
    shown, facts = told(machine, machine.connected(2, "PCIe", **refused))
    assert shown[0] == ("GPUs 0-1", "NUMA node 0, PCIe link unknown")
    assert facts == [Fact(reason=f"nvmlDeviceGet{name}: Insufficient Permissions")] * 2


@pytest.mark.parametrize(
    ("file", "mask", "node"),
    [
        ("1\n", [1], Fact(1, "/sys/bus/pci/devices/*/numa_node")),
        (None, [0, 2], Fact(65, "nvmlDeviceGetMemoryAffinity")),
        ("-1\n", [4], Fact(2, "nvmlDeviceGetMemoryAffinity")),
        ("-1\n", [3], Fact(reason="the firmware does not tell it")),
        (None, None, Fact(reason="no /sys/bus/pci/devices/*/numa_node")),
        ("garbage", None, Fact(reason="no /sys/bus/pci/devices/*/numa_node")),
    ],
)
def test_the_numa_node_is_that_of_the_kernel_then_of_the_driver(machine, plant, file, mask, node):
    machine.devices[:] = machine.connected(1, "PCIe", MemoryAffinity=mask)
    if file:
        plant("sys/bus/pci/devices/0000:10:00.0/numa_node", file)
    assert topology.read().gpus[0].numa_node == node


@pytest.mark.parametrize(("file", "lanes"), [("16\n", 16), ("255\n", None), ("0", None), ("", None)])
def test_the_lanes_of_the_card_itself_are_told_by_the_kernel(machine, plant, file, lanes):
    machine.devices[:] = machine.connected(1, "PCIe", PciInfo=machine.address(0))
    plant("sys/bus/pci/devices/0000:10:00.0/max_link_width", file)
    assert topology.read().gpus[0].pcie.lanes_of_card.value == lanes


def test_slices_of_a_card_have_no_link_to_others(machine):
    shown, facts = told(machine, machine.connected(2, "NVSwitch", MigMode=[1, 1]))
    assert shown[1] == ("between 0/1", "several PCIe switches, P2P unknown (MIG is on)")
    assert facts == [Fact(reason="MIG is on: slices of a card have no link to other cards")] * 2


def test_one_gpu_has_a_line_and_no_pair(machine):
    shown, facts = told(machine, machine.connected(1, "NVSwitch"))
    assert shown == [("GPU 0", "NUMA node 0, PCIe 5.0 x16, NVLink 4: 18 of 18 links up")]
    assert facts == [Fact(reason="there is no other GPU")] * 2


def test_a_lost_gpu_keeps_the_numbers_of_the_others(machine):
    devices = machine.connected(4, "PCIe")
    devices[1].lost = True
    machine.devices[:] = devices
    found = topology.read()
    assert [gpu.number for gpu in found.gpus] == [0, 2, 3]
    assert list(topology.lines(found)) == [
        ("GPUs 0,2-3", "NUMA node 0, PCIe 5.0 x16"),
        ("GPU 1", "GPU is lost"),
        ("between each two", "several PCIe switches, P2P"),
    ]
    facts = topology.link_facts([device.uuid for device in devices])
    assert facts["ranks.link"] == Fact(reason="the driver has no devices with the UUID of this one")


def test_a_gpu_that_is_withheld_from_this_process_is_told_in_the_words_of_the_driver(machine):
    machine.devices[:] = machine.connected(2, "PCIe")
    machine.devices[1].withheld = True
    found = topology.read()
    assert found.silent == [nvml.Silent(1, "Insufficient Permissions")]
    assert found.silent[0].is_withheld
    assert list(topology.lines(found))[1] == ("GPU 1", "Insufficient Permissions")


def test_without_a_driver_there_is_one_reason(machine, monkeypatch):
    monkeypatch.setattr(machine, "driver", None)
    assert set(topology.link_facts([None, None]).values()) == {
        Fact(reason="no NVIDIA driver: NVML Shared Library Not Found")
    }
    with pytest.raises(nvml.NotTold):
        topology.read()


ASKED = sorted(set(re.findall(r'"(nvml[A-Z]\w+)"', Path(topology.__file__).read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", ASKED)
def test_a_function_that_this_nvidia_ml_py_lacks_is_a_reason(machine, monkeypatch, name):
    """The fact is absent, and nothing raises."""
    machine.devices[:] = machine.connected(2, "NVSwitch")
    ask = nvml._ask
    monkeypatch.setattr(
        nvml, "_ask", lambda source, *rest: ask(source, missing) if source == name else ask(source, *rest)
    )

    def missing():
        raise AttributeError(name)

    assert len(topology.read().pairs) == 1
    assert set(topology.link_facts([device.uuid for device in machine.devices])) == {
        "ranks.link", "ranks.link_bandwidth"
    }  # fmt: skip


def test_what_is_asked_exists_in_nvidia_ml_py_and_is_called_as_the_stand_in_is():
    """Names, numbers of arguments and constants: without a GPU, nothing else ties the stand-in to the real module."""
    module = importlib.import_module("pynvml")
    assert not Path(module.__file__).is_relative_to(TESTS)
    assert len(ASKED) > 8
    with standin.pynvml_module() as here:
        assert str(module.NVMLError(3)) == str(here.NVMLError(3)) == "Not Supported"
        for name in {*ASKED, "nvmlDeviceGetFieldValues", "nvmlDeviceGetIndex"}:
            asked, pretended = (inspect.signature(getattr(of, name)).parameters for of in (module, here))
            assert len(asked) == len(pretended) or "which" in pretended, name
    for name, number in (topology._LINK_COUNT, topology._COMMON_SPEED, topology._SPEED):
        assert getattr(module, name) == number
    assert {getattr(module, f"NVML_DEVICE_ARCH_{name}") for name in
            ("PASCAL", "VOLTA", "TURING", "AMPERE", "HOPPER", "BLACKWELL")} == set(topology._GENERATIONS)  # fmt: skip
    kinds = [getattr(module, f"NVML_NVLINK_DEVICE_TYPE_{name}") for name in ("GPU", "IBMNPU", "SWITCH")]
    assert [topology._FAR_ENDS[kind] for kind in kinds] == ["gpu", "cpu", "switch"]
    levels = ("INTERNAL", "SINGLE", "MULTIPLE", "HOSTBRIDGE", "NODE", "SYSTEM")
    assert [getattr(module, f"NVML_TOPOLOGY_{level}") for level in levels] == list(topology._LEVELS)
    refusals = ("CHIPSET_NOT_SUPPORTED", "GPU_NOT_SUPPORTED", "IOH_TOPOLOGY_NOT_SUPPORTED", "DISABLED_BY_REGKEY",
                "NOT_SUPPORTED")  # fmt: skip
    assert [getattr(module, f"NVML_P2P_STATUS_{name}") for name in refusals] == list(topology._REFUSALS)
    assert (module.NVML_P2P_STATUS_OK, module.NVML_P2P_CAPS_INDEX_WRITE) == (0, topology._WRITE)
    types = ("DOUBLE", "UNSIGNED_INT", "UNSIGNED_LONG", "UNSIGNED_LONG_LONG", "SIGNED_LONG_LONG", "SIGNED_INT",
             "UNSIGNED_SHORT")  # fmt: skip
    assert [getattr(module, f"NVML_VALUE_TYPE_{name}") for name in types] == list(nvml._MEMBERS)
    assert {name for name, _ in module.c_nvmlValue_t._fields_} == set(nvml._MEMBERS.values())
    assert {"domain", "bus", "device"} <= {name for name, _ in module.nvmlPciInfo_t._fields_}


def test_no_record_and_no_fact_holds_a_uuid_a_serial_number_or_an_address(machine):
    machine.devices[:] = machine.connected(8, "NVSwitch")
    found = topology.read()
    text = f"{found} {list(topology.lines(found))} {topology.link_facts([d.uuid for d in machine.devices])}"
    for secret in ("0506", "16504230", ":00.0", "00000000", "busId"):
        assert secret not in text


ERRORS = st.sampled_from(["NVMLError_NotSupported", "NVMLError_NoPermission", "NVMLError_FunctionNotFound"])


@st.composite
def machines(draw):
    """Return a number of GPUs, the NVLinks of some pairs (or a switch), which links are down, and what refuses."""
    gpus = draw(st.integers(1, 5))
    pairs = [(i, j) for j in range(gpus) for i in range(j)]
    mesh = st.dictionaries(st.sampled_from(pairs), st.integers(1, 4)) if pairs else st.just({})
    how = draw(st.one_of(st.sampled_from(["NVSwitch", "PCIe"]), mesh))
    down = draw(st.lists(st.tuples(st.integers(0, gpus - 1), st.integers(0, 17)), max_size=4))
    asked = st.sampled_from(
        ["Architecture", "PciInfo", "MemoryAffinity", "TopologyCommonAncestor", "P2PStatus", "FieldValues",
         "NvLinkState", "NvLinkRemoteDeviceType", "NvLinkRemotePciInfo", "MaxPcieLinkGeneration", "CurrPcieLinkWidth",
         "MigMode", "Name"]
    )  # fmt: skip
    refused = draw(st.lists(st.tuples(st.integers(0, gpus - 1), asked, ERRORS), max_size=4))
    return gpus, how, down, refused


@given(machines())
def test_whatever_is_refused_each_gpu_and_pair_is_told_and_no_link_carries_more_than_its_links(drawn):
    gpus, how, down, refused = drawn
    with standin.pynvml_module() as driver:
        nvml._nvml.cache_clear()
        nvml._find.cache_clear()
        devices = driver.devices[:] = driver.connected(gpus, how)
        for number, link in down:
            if link in devices[number].answers.get("NvLinkState", {}):
                devices[number].answers["NvLinkState"][link] = 0
        for number, name, error in refused:
            devices[number].answers[name] = getattr(driver, error)
        found = topology.read()
        facts = topology.link_facts([device.uuid for device in devices])
        nvml._nvml.cache_clear()
        nvml._find.cache_clear()
    assert [gpu.number for gpu in found.gpus] == list(range(gpus))
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        (i, j) for i in range(gpus) for j in range(i + 1, gpus)
    ]
    for fact in [*facts.values(), *(fact for gpu in found.gpus for fact in gpu.facts().values())]:
        assert (fact.value is None) == bool(fact.reason)
        assert bool(fact.source) != bool(fact.reason)
    for pair in found.pairs:
        if pair.nvlinks:
            assert pair.nvlinks <= min(len(found.gpus[pair.first].up), 18)
    link, bandwidth = facts["ranks.link"].value, facts["ranks.link_bandwidth"].value
    if link and link.startswith("NVLink") and bandwidth:
        assert 0 < bandwidth <= max(len(gpu.up) for gpu in found.gpus) * RATE
        assert all(gpu.up for gpu in found.gpus)
