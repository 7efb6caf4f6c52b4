"""PyTorch in several processes (ranks), each with its own device, which torchrun starts and torch.distributed connects.

Nothing here listens on an address that other hosts reach. torchrun and the ranks find each other through files in a
folder of this user, and gloo and NCCL are told to use the loopback interface, unless the user names another one by
GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench_core import child_process
from bench_core.backends.base import ALONE, Memory, Ranks, imported
from bench_core.backends.torch import TorchBackend
from bench_core.errors import Unavailable
from bench_core.machine import allotment, kernel_files, topology
from bench_core.records import Fact, Facts, count_of_devices, type_of

FOLDER = "BENCH_CORE_RANKS"  # the environment variable with the folder in which the ranks find each other
_LONGEST = timedelta(days=7)  # of a wait for other ranks: the parent of all knows better when it is too long
_COLLECTIVES = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_UNDIVIDED = Fact(reason="the cores are not divided among the ranks here")
# What torchrun says of the first process that failed: torch/distributed/elastic/multiprocessing/api.py.
_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+) ")


def launch(module: str, arguments: Sequence[str], ranks: int, folder: str, parent: int) -> list[str]:
    """Return the command of torchrun; see base.Launcher."""
    # By files: a TCPStore, which torchrun would make for --standalone, listens on all addresses of the host.
    meet = ("--rdzv-backend=c10d", f"--rdzv-endpoint={folder}/meet", "--rdzv-conf=store_type=file", "--rdzv-id=ranks")
    here = ("--local-addr=127.0.0.1",)  # or torchrun asks the network for the name of this host
    logs = (f"--log-dir={folder}/logs", "--redirects=2")
    many = ("--nnodes=1", f"--nproc-per-node={ranks}", "--max-restarts=0", "--monitor-interval=0.1")
    rank = child_process.command(module, *arguments, parent=-parent)  # with torchrun, which has no id yet
    options = (*meet, *here, *logs, *many, "--no-python")
    return child_process.command("torch.distributed.run", *options, *rank, parent=parent)


def environ(folder: str) -> dict[str, str]:
    """Return the environment of torchrun and its ranks; see base.Launcher."""
    here = {FOLDER: folder, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # or the agent opens a port for the ranks
    if loopback := _LOOPBACK.get(sys.platform):
        here |= {name: os.environ.get(name, loopback) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    return here


def first_to_fail(said: str) -> tuple[int, int] | None:
    """Return the rank and the exit code of the first that failed; see base.Launcher."""
    found = _FAILED.search(said)
    return (int(found[2]), int(found[1])) if found else None


def connect(device: str) -> RankedTorch:
    """Connect this process with the others; see base.Launcher."""
    return RankedTorch(device)


def log_of(folder: str, rank: int) -> str:
    """Return the file of a rank's standard error; see base.Launcher."""
    return next((str(path) for path in Path(folder).glob(f"logs/*/attempt_0/{rank}/stderr.log")), "")


def is_waiting(file: str, function: str) -> bool:
    """Return whether who is in this function waits for other ranks, or for its device; see base.Launcher."""
    return "/torch/distributed/" in Path(file).as_posix() or function == "synchronize"


def rank_in(environ: Mapping[str, str]) -> int | None:
    """Return the rank that torchrun has given a process; see base.Launcher."""
    return int(environ["RANK"]) if FOLDER in environ and environ.get("RANK", "").isdecimal() else None


class TorchRanks:
    """Some of the processes, as one of them sees them. control: their group for messages, of gloo."""

    def __init__(self, dist: Any, group: Any, control: Any) -> None:
        self._torch, self._dist, self._control, self.group = imported("torch"), dist, control, group
        self.rank, self.size = dist.get_rank(control), dist.get_world_size(control)
        self.has_one_clock = int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1

    def every(self, value: Any) -> list[Any]:
        data = self._torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=self._torch.uint8)
        lengths = [int(length) for (length,) in self.numbers([float(len(data))])]
        longest = max(lengths)
        padded = self._torch.zeros(longest, dtype=self._torch.uint8, device="cpu")
        padded[: len(data)] = data
        found = [self._torch.empty_like(padded) for _ in range(self.size)]
        self._dist.all_gather(found, padded, group=self._control)
        return [json.loads(bytes(each[:length].tolist())) for each, length in zip(found, lengths, strict=True)]

    def numbers(self, values: Sequence[float]) -> list[list[float]]:
        mine = self._torch.tensor(values, dtype=self._torch.float64, device="cpu")
        found = [self._torch.empty_like(mine) for _ in range(self.size)]
        self._dist.all_gather(found, mine, group=self._control)
        return [each.tolist() for each in found]


class RankedTorch(TorchBackend):
    """PyTorch in one of several processes. `device` is its own ("cuda:3"); on a CPU each has its share of the cores."""

    def __init__(self, device: str) -> None:
        """Connect with the other processes; raises Unavailable where PyTorch cannot.

        device: the address of all devices together ("cuda:x8").
        """
        kind, number = type_of(device), int(os.environ["LOCAL_RANK"])
        self._on_host = int(os.environ["LOCAL_WORLD_SIZE"])
        # That of a GPU needs a core near it, whatever its number is.
        self._cores = _take_own_cores(number, self._on_host) if kind == "cpu" else None
        super().__init__(kind if kind == "cpu" else f"{kind}:{number}")
        dist = self._dist = imported("torch.distributed")
        self._collectives = _COLLECTIVES.get(kind, "")
        if not dist.is_available() or not dist.is_backend_available(self._collectives or "none"):
            raise Unavailable("no_collectives", f"torch {self.version} has no collectives for several {kind} devices")
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        assert size == count_of_devices(device)  # noqa: S101 - torchrun was told so
        store = dist.FileStore(os.path.join(os.environ[FOLDER], "store"), size)  # noqa: PTH118 - a str is asked for
        bound = {} if kind == "cpu" else {"device_id": self.torch.device(self.device)}
        dist.init_process_group(self._collectives, store=store, rank=rank, world_size=size, timeout=_LONGEST, **bound)
        atexit.register(dist.destroy_process_group)  # else one of its threads may abort the process as it ends
        # Its messages are not those of any team: a rank that has left a case early must not be heard in it.
        self.world: Ranks = TorchRanks(dist, dist.group.WORLD, self._group(size, "gloo"))
        self._teams: dict[int, Ranks | None] = {}
        self.ranks: Ranks = ALONE

    def _group(self, size: int, collectives: str) -> Any:
        """Make a group of the first ranks. All ranks make all groups, in the same order."""
        return self._dist.new_group(list(range(size)), timeout=_LONGEST, backend=collectives)

    def team(self, size: int) -> bool:
        if size not in self._teams:
            is_all = size == self.world.size
            group = self.world.group if is_all else self._group(size, self._collectives)
            control = self._group(size, "gloo")
            self._teams[size] = TorchRanks(self._dist, group, control) if self.world.rank < size else None
        ranks = self._teams[size]
        self.ranks = ranks or ALONE
        return ranks is not None

    @property
    def has_device_clock(self) -> bool:
        return False  # the collectives of a GPU run in streams of their own, and wait for other GPUs

    def memory(self) -> Memory:
        """Return the memory of this rank: on a CPU, its share of what is free."""
        found = super().memory()
        if self._kind != "cpu" or found.free is None:
            return found
        return Memory(found.free // self._on_host, found.used, found.peak)

    def facts(self) -> Facts:
        """Return the facts of all ranks, which must all call this."""
        source = "torch.distributed"
        every = self.world.every(kernel_files.ranges(os.sched_getaffinity(0)) if self._cores else "")
        said = self._collectives
        if said == "nccl":
            said += " " + ".".join(map(str, self.torch.cuda.nccl.version()))
        return {
            **super().facts(),
            "ranks": Fact(self._dist.get_world_size(), source),
            "ranks.collectives": Fact(said, source),
            "ranks.cores": Fact(self._cores, "os.sched_setaffinity") if self._cores else _UNDIVIDED,
            "ranks.affinity": Fact(" | ".join(every), "os.sched_getaffinity") if self._cores else _UNDIVIDED,
            **(_link_facts(self.torch, self._on_host) if self._kind == "cuda" and self.world.has_one_clock else {}),
        }


def _link_facts(torch: Any, devices: int) -> Facts:
    """Return the facts of the links between the first devices, as far as NVIDIA's driver tells them."""
    if torch.version.hip:
        return {}
    return topology.link_facts([str(torch.cuda.get_device_properties(number).uuid) for number in range(devices)])


def _take_own_cores(rank: int, ranks: int) -> int | None:
    """Leave this process its share of the cores; return the number of its hardware threads, None if all are left."""
    own = allotment.share_of_cpus(rank, ranks)
    if not own or not hasattr(os, "sched_setaffinity"):
        return None
    os.sched_setaffinity(0, own)
    return len(own)
