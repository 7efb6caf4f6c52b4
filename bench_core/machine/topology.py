"""How the GPUs of this machine are connected: their NUMA nodes, PCIe links, NVLinks, and access to each other (P2P).

All of it is told by the driver (NVML) and the kernel. A GPU has the number that the driver gives it (as in nvidia-smi),
which may differ from CUDA's. UUIDs and PCI addresses are only compared; no record contains one. Two numbers of NVML are
not asked for. nvmlDeviceGetNumaNodeId is the node of a GPU's own memory (Grace Hopper), not the node that it is near.
nvmlDeviceGetNvLinkVersion counts unlike its documentation: drivers have said 5 for an A100 (open-mpi/hwloc#658) and 7
for an H100, which would be NVLink 5. The architecture tells the generation instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.machine import kernel_files, nvml
from bench_core.machine.nvml import NotTold, Silent, ask
from bench_core.machine.pcie import Link
from bench_core.records import Fact, Facts
from bench_core.units import counted

# NVLink generation by nvmlDeviceArchitecture_t: Pascal, Volta, Turing, Ampere, Hopper, Blackwell.
_GENERATIONS = {4: 1, 5: 2, 6: 2, 7: 3, 9: 4, 10: 5}
# B/s of one link in one direction, by generation: a GPU's total over both directions / 2 / its links, 160 GB/s of 4
# links, 300 of 6, 600 of 12, 900 of 18, 1800 of 18. Drivers tell the rate of the signals, up to 6 % more.
_NVLINK = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}
_NVLINK_SOURCE = "NVIDIA, NVLink and NVLink Switch, bandwidth per GPU by generation"
_MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS
_LINK_COUNT = ("NVML_FI_DEV_NVLINK_LINK_COUNT", 91)
_COMMON_SPEED = ("NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON", 90)
_SPEED = ("NVML_FI_DEV_NVLINK_GET_SPEED", 164)
_GPU, _CPU, _SWITCH = "gpu", "cpu", "switch"
_FAR_ENDS = {0: _GPU, 1: _CPU, 2: _SWITCH}  # nvmlIntNvLinkDeviceType_t

ACROSS = "across NUMA nodes"
# nvmlGpuTopologyLevel_t, the nearest first.
_LEVELS = {
    0: "on one board",
    10: "PCIe switch",
    20: "several PCIe switches",
    30: "PCIe host bridge",
    40: "several PCIe host bridges",
    50: ACROSS,
}
# nvmlGpuP2PCapsIndex_t. pynvml's own NVML_P2P_CAPS_INDEX_READ is the tuple (0,), by a comma too many.
_READ, _WRITE = 0, 1
# nvmlGpuP2PStatus_t: 0 is "works", 6 "unknown".
_REFUSALS = {
    1: "the chipset does not support it",
    2: "these GPUs do not support it",
    3: "the I/O hubs between them do not support it",
    4: "it is disabled in the settings of the driver",
    5: "it is not supported here",
}
_NUMA_NODE = "/sys/bus/pci/devices/*/numa_node"
_LANES = "/sys/bus/pci/devices/*/max_link_width"
_MOST_LANES = 32  # PCI Express Base Specification
_MASKS = 16  # words of 64 NUMA nodes each
_LISTED = 6  # pairs in one line

_Address = tuple[int, int, int]  # of a PCI device: domain, bus, device


@dataclass(frozen=True, slots=True)
class Pcie:
    """The PCIe link of a card: generations and lanes, each a number.

    The maxima are those of card and board together; lanes_of_card are those that the card has by itself. An idle link
    may run at a lower generation than under load.
    """

    generation: Fact
    generation_max: Fact
    width: Fact
    width_max: Fact
    lanes_of_card: Fact

    @property
    def link(self) -> Link | None:
        """The link under load: the highest generation, with the lanes that it has now; None if unknown."""
        generation, lanes = self.generation_max.value, self._lanes.value
        return Link(generation, lanes) if generation and lanes else None

    @property
    def source(self) -> str:
        """What has told `link`."""
        return f"{self.generation_max.source}, {self._lanes.source}"

    @property
    def _lanes(self) -> Fact:
        return self.width if self.width.value else self.width_max


@dataclass(frozen=True, slots=True)
class NvLink:
    """One NVLink of a GPU: whether it is up, and where it leads: to a "gpu", "cpu", "switch", or "" if unknown.

    peer: the number of the GPU at the other end, if that is known.
    """

    is_up: bool
    to: str = ""
    peer: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card and its links.

    nvlinks: a tuple of NvLink, empty if it has none. nvlink_generation: a number. nvlink_rate: of one link in one
    direction, in B/s. is_sliced: it is in MIG mode.
    """

    number: int
    name: str
    numa_node: Fact
    pcie: Pcie
    nvlinks: Fact
    nvlink_generation: Fact
    nvlink_rate: Fact
    is_sliced: bool = False

    @property
    def up(self) -> list[NvLink]:
        """The NVLinks that are up."""
        return [link for link in self.nvlinks.value or () if link.is_up]

    @property
    def why_unknown(self) -> str:
        """Why it is not known which NVLinks are up and where they lead; "" if it is."""
        if any(not link.to for link in self.up):
            return "the driver does not tell where each NVLink leads"
        return self.nvlinks.reason

    @property
    def to_switch(self) -> int:
        """The number of NVLinks to NVSwitch."""
        return sum(link.to == _SWITCH for link in self.up)

    def facts(self) -> Facts:
        """Return what is known of it, as JSON values."""
        links = self.nvlinks
        return {
            "numa_node": self.numa_node,
            "pcie_generation": self.pcie.generation,
            "pcie_generation_max": self.pcie.generation_max,
            "pcie_width": self.pcie.width,
            "pcie_width_max": self.pcie.width_max,
            "pcie_lanes_of_card": self.pcie.lanes_of_card,
            "nvlinks": links if links.value is None else Fact(len(links.value), links.source),
            "nvlinks_up": links if links.value is None else Fact(len(self.up), links.source),
            "nvlink_generation": self.nvlink_generation,
            "nvlink_rate": self.nvlink_rate,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two GPUs, by number. level: the nearest part that they share on the way over PCIe, in words.

    nvlinks: how many NVLinks connect them, through NVSwitch if through_switch; None if unknown. p2p: whether each can
    read and write the memory of the other; refusal: why not.
    """

    first: int
    second: int
    level: Fact
    nvlinks: int | None
    through_switch: bool
    p2p: Fact
    refusal: str = ""

    @property
    def how(self) -> str:
        """How they are connected, in words."""
        if self.nvlinks:
            return f"NVLink x{self.nvlinks}" + " through NVSwitch" * self.through_switch
        return self.level.value or "unknown"

    @property
    def exchanges_by_nvlink(self) -> bool:
        """Whether NVLinks connect them that can be used."""
        return bool(self.nvlinks) and self.p2p.value is not False

    def __str__(self) -> str:
        return f"{self.first}/{self.second}"


@dataclass(frozen=True, slots=True)
class Topology:
    """The GPUs, each two of them, and the GPUs of which the driver tells nothing."""

    gpus: Sequence[Gpu] = ()
    pairs: Sequence[Pair] = ()
    silent: Sequence[Silent] = ()


def read(cards: Sequence[tuple[int, Any]] | None = None) -> Topology:
    """Return how cards are connected: those given (number and NVML's handle), or all; raises NotTold."""
    silent = nvml.silent() if cards is None else []
    cards = nvml.numbered() if cards is None else cards
    addresses = {number: _address("nvmlDeviceGetPciInfo", card) for number, card in cards}
    numbers = {address: number for number, address in addresses.items() if address}
    gpus = [_gpu(number, card, addresses[number], numbers) for number, card in cards]
    both = [((gpus[i], cards[i][1]), (gpus[j], cards[j][1])) for j in range(len(gpus)) for i in range(j)]
    pairs = [_pair(*first, *second) for first, second in both]
    return Topology(gpus, sorted(pairs, key=lambda pair: (pair.first, pair.second)), silent)


def link_facts(uuids: Sequence[str | None]) -> Facts:
    """Return the link between the GPUs with these UUIDs, in words, and what it carries by the driver and datasheets.

    `ranks.link_bandwidth` is of one GPU in one direction, in B/s; of unlike GPUs it is the lowest.
    """
    try:
        found = read([nvml.whole_card(uuid) for uuid in uuids])
    except NotTold as error:
        return _named(*[Fact(reason=str(error))] * 2)
    if len(found.gpus) < 2:
        return _named(*[Fact(reason="there is no other GPU")] * 2)
    return _named(*(_nvlink(found) or _over_pcie(found)))


def lines(found: Topology) -> Iterator[tuple[str, str]]:
    """Yield the GPUs, and the pairs of GPUs, as two columns of text; those that are alike share a line."""
    of_gpus = [(gpu.number, _words(gpu)) for gpu in found.gpus] + [(gpu.number, gpu.reason) for gpu in found.silent]
    for numbers, words in _alike((str(number), words) for number, words in sorted(of_gpus)):
        yield f"{'GPUs' if len(numbers) > 1 else 'GPU'} {kernel_files.ranges(map(int, numbers))}", words
    for names, words in _alike((str(pair), _between(pair)) for pair in found.pairs):
        yield f"between {named(names, len(found.pairs))}", words


def named(pairs: Sequence[str], total: int) -> str:
    """Return the names of pairs as text: "0/1, 2/3", "each two" if these are all of several, else the first few."""
    if len(pairs) == total > 1:
        return "each two"
    return ", ".join(pairs[:_LISTED]) + (f", ... ({len(pairs)} pairs)" if len(pairs) > _LISTED else "")


def _alike(named_words: Iterable[tuple[str, str]]) -> Iterator[tuple[list[str], str]]:
    groups: dict[str, list[str]] = {}
    for name, words in named_words:
        groups.setdefault(words, []).append(name)
    return ((names, words) for words, names in groups.items())


def _words(gpu: Gpu) -> str:
    node = gpu.numa_node
    said = [f"NUMA node {node.value}" if node.value is not None else f"NUMA node unknown ({node.reason})"]
    said.append(str(gpu.pcie.link or "PCIe link unknown"))
    if gpu.nvlinks.value:
        generation = gpu.nvlink_generation.value
        kind = f"NVLink {generation}" if generation else "NVLink"
        said.append(f"{kind}: {len(gpu.up)} of {counted(len(gpu.nvlinks.value), 'link')} up")
    if gpu.why_unknown:
        said.append(f"NVLink unknown ({gpu.why_unknown})")
    return ", ".join(said)


def _between(pair: Pair) -> str:
    p2p = pair.p2p
    if p2p.value is None:
        return f"{pair.how}, P2P unknown ({p2p.reason})"
    return f"{pair.how}, " + ("P2P" if p2p.value else f"no P2P: {pair.refusal}")


def _gpu(number: int, card: Any, address: _Address | None, numbers: dict[_Address, int]) -> Gpu:
    architecture = ask("nvmlDeviceGetArchitecture", card)
    generation = Fact(_GENERATIONS.get(architecture.value), architecture.source)
    if generation.value is None:
        generation = Fact(reason=architecture.reason or "the architecture is none with a known NVLink")
    links = _nvlinks(card, numbers)
    facts = nvml.pcie(card)
    told = {name: facts[f"gpu.pcie_{name}"] for name in ("generation", "generation_max", "width", "width_max")}
    pcie = Pcie(**told, lanes_of_card=_lanes_of_card(address))
    name = ask("nvmlDeviceGetName", card).value or "GPU"
    return Gpu(
        number,
        name.decode() if isinstance(name, bytes) else name,
        _numa_node(card, address),
        pcie,
        links,
        generation if links.value else Fact(reason="no NVLink"),
        _rate(card, links.value or (), generation.value),
        nvml.is_sliced(card),
    )


def _address(function: str, *arguments: Any) -> _Address | None:
    """Return the PCI address that a function of NVML tells."""
    info = ask(function, *arguments).value
    return None if info is None else (info.domain, info.bus, info.device)


def _in_kernel(pattern: str, address: _Address | None) -> str | None:
    """Return the file of a card: the pattern with its address for the asterisk."""
    return pattern.replace("*", "{:04x}:{:02x}:{:02x}.0".format(*address)) if address else None


def _numa_node(card: Any, address: _Address | None) -> Fact:
    """Return the node whose memory and cores are nearest to a card: by the kernel, else by the driver."""
    file = _in_kernel(_NUMA_NODE, address)
    node = kernel_files.read_number(file) if file else None
    if node is not None and node >= 0:
        return Fact(node, _NUMA_NODE)
    masks = ask("nvmlDeviceGetMemoryAffinity", card, _MASKS, 0)
    nodes = [64 * i + bit for i, mask in enumerate(masks.value or ()) for bit in range(64) if mask >> bit & 1]
    if len(nodes) == 1:
        return Fact(nodes[0], masks.source)
    return Fact(reason="the firmware does not tell it" if node is not None else f"no {_NUMA_NODE}")


def _lanes_of_card(address: _Address | None) -> Fact:
    file = _in_kernel(_LANES, address)
    lanes = kernel_files.read_number(file) if file else None
    return Fact(lanes, _LANES) if lanes and 0 < lanes <= _MOST_LANES else Fact(reason=f"no {_LANES}")


def _nvlinks(card: Any, numbers: dict[_Address, int]) -> Fact:
    """Return the NVLinks of a card; numbers: of the GPUs by their PCI addresses."""
    told = nvml.field(card, *_LINK_COUNT)
    links: list[NvLink] = []
    source = "nvmlDeviceGetNvLinkState"
    for number in range(min(int(told.value), _MOST_LINKS) if told.value is not None else _MOST_LINKS):
        state = ask(source, card, number)
        if state.value is None:
            if links or nvml.is_unsupported(state):  # beyond the last, or a card without NVLink
                break
            return state
        links.append(_far_end(card, number, numbers) if state.value else NvLink(is_up=False))
    return Fact(tuple(links), source)


def _far_end(card: Any, link: int, numbers: dict[_Address, int]) -> NvLink:
    address = _address("nvmlDeviceGetNvLinkRemotePciInfo", card, link)
    peer = numbers.get(address) if address else None
    to = _FAR_ENDS.get(ask("nvmlDeviceGetNvLinkRemoteDeviceType", card, link).value, "")
    return NvLink(True, _GPU if peer is not None else to, peer)  # drivers before 470 do not tell the type


def _rate(card: Any, links: Sequence[NvLink], generation: int | None) -> Fact:
    """Return the rate of one NVLink in one direction: by the driver, else by the datasheet."""
    first = next((number for number, link in enumerate(links) if link.is_up), None)
    if first is None:
        return Fact(reason="no NVLink is up")
    for name, number, scope in ((*_COMMON_SPEED, 0), (*_SPEED, first)):
        speed = nvml.field(card, name, number, scope)
        if speed.value:
            return Fact(speed.value * 1e6, speed.source)
    rate = _NVLINK.get(generation or 0)
    return Fact(rate, _NVLINK_SOURCE) if rate else Fact(reason=speed.reason or f"{speed.source} gives no value")


def _pair(first: Gpu, card: Any, second: Gpu, other: Any) -> Pair:
    common = ask("nvmlDeviceGetTopologyCommonAncestor", card, other)
    level = Fact(_LEVELS.get(common.value), common.source)
    if level.value is None:
        level = Fact(reason=common.reason or f"{common.source} gives {common.value}")
    switched = min(first.to_switch, second.to_switch)
    direct = sum(link.peer == second.number for link in first.up)
    if first.is_sliced or second.is_sliced:
        p2p = Fact(reason="MIG is on")
        return Pair(first.number, second.number, level, None, through_switch=False, p2p=p2p)
    is_unknown = first.why_unknown or second.why_unknown
    nvlinks = direct or switched or (None if is_unknown else 0)
    p2p, refusal = _p2p(card, other)
    return Pair(first.number, second.number, level, nvlinks, bool(nvlinks and not direct), p2p, refusal)


def _p2p(card: Any, other: Any) -> tuple[Fact, str]:
    """Return whether two cards can read and write each other's memory, and why not."""
    source = "nvmlDeviceGetP2PStatus"
    for index in (_READ, _WRITE):
        status = ask(source, card, other, index)
        if status.value in _REFUSALS:
            return Fact(value=False, source=source), _REFUSALS[status.value]
        if status.value != 0:
            return Fact(reason=status.reason or f"{source} does not know it"), ""
    return Fact(value=True, source=source), ""


def _named(link: Fact, bandwidth: Fact) -> Facts:
    return {"ranks.link": link, "ranks.link_bandwidth": bandwidth}


def _nvlink(found: Topology) -> tuple[Fact, Fact] | None:
    """Return the NVLinks between GPUs, and what one GPU's carry; None unless they connect all of the GPUs."""
    joined = [pair for pair in found.pairs if pair.exchanges_by_nvlink]
    numbers = {gpu.number for gpu in found.gpus}
    reached, beyond = set(), {min(numbers)}
    while beyond:
        reached |= beyond
        beyond = {n for p in joined if {p.first, p.second} & beyond for n in (p.first, p.second)} - reached
    if reached != numbers:
        return None
    counts = [sum(link.to == _SWITCH or link.peer in numbers for link in gpu.up) for gpu in found.gpus]
    generations = {gpu.nvlink_generation.value for gpu in found.gpus}
    said = f"NVLink {min(generations)}" if None not in generations else "NVLink"
    said += f" x{min(counts)}"
    if all(pair.through_switch for pair in joined):
        said += " through NVSwitch"
    if len(joined) < len(found.pairs):
        said += f", between {len(joined)} of {len(found.pairs)} pairs"
    rates = [gpu.nvlink_rate for gpu in found.gpus]
    source = found.gpus[0].nvlinks.source
    if unknown := next((rate for rate in rates if rate.value is None), None):
        return Fact(said, source), Fact(reason=unknown.reason)
    carried, by = min((rate.value * count, rate.source) for rate, count in zip(rates, counts, strict=True))
    return Fact(said, source), Fact(carried, f"{by}, times the links that are up")


def _over_pcie(found: Topology) -> tuple[Fact, Fact]:
    """Return the slowest PCIe link of the GPUs, and what it carries."""
    links: list[tuple[Link, str]] = []
    for gpu in found.gpus:
        pcie, link = gpu.pcie, gpu.pcie.link
        if gpu.why_unknown or link is None:
            why = gpu.why_unknown or pcie.generation_max.reason or pcie.width.reason or "no PCIe link"
            return Fact(reason=why), Fact(reason=why)
        links.append((link, pcie.source))
    slowest, source = min(links, key=lambda each: each[0].rate or 0.0)
    without = [pair for pair in found.pairs if pair.p2p.value is False]
    said = str(slowest)
    if any(pair.exchanges_by_nvlink for pair in found.pairs):
        said += ", NVLink between some pairs"
    if without:
        said += ", without P2P" if len(without) == len(found.pairs) else ", P2P between some pairs"
    if slowest.rate is None:
        return Fact(said, source), Fact(reason=f"the rate of PCIe {slowest.generation}.0 is not known here")
    return Fact(said, source), Fact(slowest.rate, f"PCI-SIG, PCI Express Base Specification; {source}")
