"""What PyTorch in several processes tells of the devices that these have."""

from types import SimpleNamespace

import pytest

from bench_core.backends import torch_ranks

HIP, CUDA = SimpleNamespace(hip="6.4"), SimpleNamespace(hip=None)


@pytest.mark.parametrize(
    ("version", "link"), [(CUDA, "NVLink 4 x18 through NVSwitch"), (HIP, None)], ids=["CUDA", "ROCm"]
)
def test_the_links_of_a_run_are_those_between_the_gpus_of_its_ranks(pynvml, version, link):
    """CUDA's devices 0 and 1 are found by their UUIDs: here the driver's 3 and 2. AMD's driver is not asked."""
    pynvml.devices[:] = pynvml.connected(4, "NVSwitch")
    pynvml.devices[0].answers["NvLinkState"] |= {0: 0}
    uuids = [pynvml.devices[number].uuid.removeprefix("GPU-") for number in (3, 2)]
    cuda = SimpleNamespace(get_device_properties=lambda number: SimpleNamespace(uuid=uuids[number]))
    facts = torch_ranks._link_facts(SimpleNamespace(version=version, cuda=cuda), 2)
    assert {name: fact.value for name, fact in facts.items()} == (
        {"ranks.link": link, "ranks.link_bandwidth": 18 * 26.562e9} if link else {}
    )
