"""torchrun: by which command it starts ranks, that nothing of it reaches another host, and what is read from it."""

import os
import sys
from types import SimpleNamespace

import pytest

from bench_core.backends import torch_ranks
from bench_core.backends.base import Launches
from bench_core.backends.numpy import NumpyBackend
from bench_core.backends.torch import TorchBackend

HIP, CUDA = SimpleNamespace(hip="6.4"), SimpleNamespace(hip=None)


def test_torch_alone_computes_on_several_devices():
    assert isinstance(TorchBackend, Launches)
    assert not isinstance(NumpyBackend, Launches)
    assert TorchBackend.launcher() is torch_ranks


def test_ranks_meet_by_files_and_end_with_the_launcher_and_that_with_the_parent():
    command = torch_ranks.launch("a.module", ("torch", "cpu:x2"), 2, "/folder", 4711)
    at = command.index("torch.distributed.run")
    assert command[:1] + command[3:at] == [sys.executable, "4711"]
    assert {"--rdzv-conf=store_type=file", "--rdzv-endpoint=/folder/meet", "--nproc-per-node=2"} <= set(command)
    assert {"--local-addr=127.0.0.1", "--max-restarts=0", "--redirects=2", "--log-dir=/folder/logs"} <= set(command)
    assert "--standalone" not in command
    rank = command[command.index("--no-python") + 1 :]
    assert rank[0] == sys.executable
    assert rank[-4:] == ["-4711", "a.module", "torch", "cpu:x2"]


@pytest.mark.parametrize(("system", "loopback"), [("linux", "lo"), ("darwin", "lo0")])
def test_collectives_stay_on_the_loopback_interface_unless_the_user_names_one(monkeypatch, system, loopback):
    monkeypatch.setattr(torch_ranks.sys, "platform", system)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    here = torch_ranks.environ("/folder")
    assert (here["GLOO_SOCKET_IFNAME"], here["NCCL_SOCKET_IFNAME"]) == (loopback, "eth7")
    assert here["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"


def test_where_loopback_has_no_known_name_none_is_made_up(monkeypatch):
    monkeypatch.setattr(torch_ranks.sys, "platform", "win32")
    assert not {name for name in torch_ranks.environ("/folder") if "IFNAME" in name}


SAID = """W1129 00:09:34.901000 10001 torch/distributed/elastic/api.py:963] Sending process 10020 closing signal SIGTERM
E1129 00:09:35.017000 10001 api.py:937] failed (exitcode: {}) local_rank: 1 (pid: 10021) of binary: /v/python
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 10020)
"""


@pytest.mark.parametrize("code", [-9, 3, 1])
def test_the_first_rank_that_failed_is_read_from_what_torchrun_says(code):
    assert torch_ranks.first_to_fail(SAID.format(code)) == (1, code)
    assert torch_ranks.first_to_fail("nothing of the kind") is None


def test_a_rank_is_known_by_its_environment_and_its_log_by_its_number(tmp_path):
    ours = {torch_ranks.FOLDER: "/folder"}
    assert torch_ranks.rank_in({**ours, "RANK": "3"}) == 3
    assert torch_ranks.rank_in(ours) is None, "the launcher is no rank"
    assert torch_ranks.rank_in({"RANK": "3"}) is None, "a rank of somebody else's torchrun"
    log = tmp_path / "logs" / "ranks_ab12" / "attempt_0" / "1" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    assert torch_ranks.log_of(str(tmp_path), 1) == str(log)
    assert torch_ranks.log_of(str(tmp_path), 0) == ""


@pytest.mark.parametrize(
    ("file", "function", "expected"),
    [
        ("/v/site-packages/torch/distributed/distributed_c10d.py", "all_reduce", True),
        ("/v/site-packages/torch/cuda/__init__.py", "synchronize", True),
        ("/v/site-packages/torch/nn/functional.py", "linear", False),
        ("/home/me/bench_own.py", "all_reduce", False),
    ],
)
def test_a_rank_in_a_collective_waits_for_others(file, function, expected):
    assert torch_ranks.is_waiting(file, function) is expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_rank_takes_its_share_of_the_cores(monkeypatch):
    taken = []
    monkeypatch.setattr(torch_ranks.os, "sched_setaffinity", lambda who, cpus: taken.append((who, cpus)))
    monkeypatch.setattr(torch_ranks.allotment, "share_of_cpus", lambda part, parts: frozenset({part, part + parts}))
    assert torch_ranks._take_own_cores(1, 4) == 2
    assert taken == [(0, frozenset({1, 5}))]


def test_cores_that_are_too_few_are_left_to_all(monkeypatch):
    monkeypatch.setattr(torch_ranks.allotment, "share_of_cpus", lambda part, parts: frozenset())
    assert torch_ranks._take_own_cores(1, 4) is None


class Distributed:
    """torch.distributed as one rank sees it: groups are lists of ranks, in the order in which they are made."""

    def __init__(self, rank, size):
        self.rank, self.group, self.made = rank, SimpleNamespace(WORLD=list(range(size))), []
        self.at_exit = []

    def is_available(self):
        return True

    def is_backend_available(self, name):
        return name in {"gloo", "nccl"}

    def FileStore(self, path, size):  # noqa: N802 - torch's name
        return path

    def init_process_group(self, backend, **_):
        self.made.append((backend, self.group.WORLD))

    def destroy_process_group(self):
        self.made.clear()

    def new_group(self, ranks, timeout, backend):
        self.made.append((backend, ranks))
        return ranks

    def get_rank(self, group):
        return group.index(self.rank)

    def get_world_size(self, group):
        return len(group)


@pytest.fixture
def ranked(monkeypatch):
    """Return a function that makes the backend of a rank, and what it has made groups of."""
    pytest.importorskip("torch")

    def make(rank, size):
        distributed = Distributed(rank, size)
        monkeypatch.setattr(torch_ranks, "imported", lambda name: distributed)
        monkeypatch.setattr(torch_ranks.atexit, "register", distributed.at_exit.append)
        monkeypatch.setattr(torch_ranks, "_take_own_cores", lambda rank, ranks: 1)
        known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        for name, value in known.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv(torch_ranks.FOLDER, "/folder")
        return torch_ranks.connect(f"cpu:x{size}"), distributed

    return make


def test_what_ranks_say_of_a_case_is_not_heard_in_it(ranked):
    """A rank that has failed tells so while others still compare times: messages of one group would be mixed up."""
    backend, _ = ranked(1, 2)
    assert backend.team(2)
    assert (backend.ranks.rank, backend.ranks.size, backend.world.size) == (1, 2, 2)
    assert backend.ranks._control is not backend.world._control
    assert backend.ranks.group is backend.world.group, "NCCL's buffers are hundreds of MB for each group"


def test_a_rank_leaves_the_others_before_its_interpreter_ends(ranked):
    """Else a thread of gloo may outlive what it uses: SIGABRT at 3 of 15 ends after training by DDP and FSDP."""
    _, distributed = ranked(1, 2)
    assert distributed.at_exit == [distributed.destroy_process_group]


def test_a_team_has_the_first_ranks_and_the_others_are_alone(ranked):
    made = []
    for rank in range(3):
        backend, distributed = ranked(rank, 3)
        assert backend.team(2) is (rank < 2)
        assert (backend.ranks.size, backend.world.size) == (2 if rank < 2 else 1, 3)
        groups = len(distributed.made)
        backend.team(2)
        assert len(distributed.made) == groups, "groups are made once"
        made.append(distributed.made)
    assert made[0] == made[1] == made[2], "every rank makes every group, in the same order"


def test_each_rank_of_a_cpu_has_its_share_of_the_memory_that_is_free(ranked):
    backend, _ = ranked(0, 2)
    whole = TorchBackend("cpu").memory().free
    assert backend.memory().free == pytest.approx(whole / 2, rel=0.2)


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
