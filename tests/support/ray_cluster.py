"""A real Ray cluster on this machine: its nodes are processes that declare how many CPUs and GPUs they have."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

# In which folder Ray writes is in the names of its sockets, which the system limits to about 100 characters.
_SHORT = "/tmp" if Path("/tmp").is_dir() else None


class Cluster:
    """A cluster whose first node, the head, and second node have a CPU and two GPUs each."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.head = cluster.add_node(node_name="head", num_cpus=1, num_gpus=2, include_dashboard=False)
        self.second = self.add("second")

    @property
    def address(self):
        return self._cluster.address

    def add(self, name):
        """Add a node, and return it."""
        return self._cluster.add_node(node_name=name, num_cpus=1, num_gpus=2)

    def lose(self, node):
        """Kill all processes of a node at once, as a power cut does, those of tasks included."""
        every = [psutil.Process(each.process.pid) for group in node.all_processes.values() for each in group]
        for process in [*every, *(child for parent in every for child in parent.children(recursive=True))]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def end(self):
        self._cluster.shutdown()


@contextlib.contextmanager
def running():
    """Run a cluster, which leaves nothing in the home folder of the user, and nothing anywhere when it ends."""
    folder = tempfile.mkdtemp(prefix="ray-", dir=_SHORT)
    home = Path(folder, "home")
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        # Of a token, the file is in the home folder. Without the last, Ray would tell its makers of this cluster.
        own = {"HOME": str(home), "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        for name, value in own.items():
            patch.setenv(name, value)
        for name in ("RAY_ADDRESS", "OMP_NUM_THREADS"):
            patch.delenv(name, raising=False)
        from ray.cluster_utils import Cluster as Nodes

        cluster = Cluster(Nodes())
        try:
            yield cluster
            assert list(home.iterdir()) == []
        finally:
            cluster.end()
            shutil.rmtree(folder, ignore_errors=True)
