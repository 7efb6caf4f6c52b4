"""The engine `ray`: one task on each node of a Ray cluster that is running, which it never starts or ends.

A task takes all CPUs and GPUs that its node offers, so Ray runs nothing else there meanwhile. It is a generator: first
it says that it has begun, at last it gives the files of its node, so the node and this computer need share no folder.
Ray carries over only a small function, which imports bench_core on the node, and says so if it cannot.

A task is not ended by ray.cancel, which has been tried with Ray 2.60: it does not wake a task that waits, and what the
task gives afterwards is lost. A second task on the node sends it a SIGTERM, as a scheduler would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import psutil

from bench_core import __version__
from bench_core.errors import BenchError
from bench_core.files import write_atomically
from bench_core.fleet.engine import EngineError, JobState, Place, Places
from bench_core.fleet.plan import Order
from bench_core.fleet.task import perform
from bench_core.results.schema import RUN
from bench_core.text import no_such, printable

_SETTINGS = ("address",)
_ANSWER_S = 5.0  # for an answer at an address
_BEGUN, _REFUSED, _FILES = "begun", "refused", "files"
_LAST = (RUN, "state.json")
_OMP, _DEBUGGER = "OMP_NUM_THREADS", "PYTHONBREAKPOINT"
# Ray replaces the name by the value that the node has, "" if none; if there were none, Ray would set it for the task.
_AS_ON_THE_NODE = {"env_vars": {_OMP: f"${{{_OMP}}}"}}
_ON_PURPOSE = {1, 4}  # EXPECTED_TERMINATION and AUTOSCALER_DRAIN_IDLE of gcs.proto: the node was taken out
_Node = Mapping[str, Any]  # as ray.nodes() describes it


class Ray:
    """Runs tasks on the nodes of a Ray cluster, of which this computer is one.

    settings: address=HOST:PORT of the cluster; without it that of RAY_ADDRESS, else of the cluster on this computer.
    """

    name = "ray"
    poll_s = 1.0

    def __init__(self, private: Path, settings: Mapping[str, str]) -> None:  # noqa: ARG002 - as all engines
        for key in settings:
            if key not in _SETTINGS:
                raise EngineError(f"--set: {no_such('setting of ray', key, _SETTINGS)}")
        self._address = settings.get("address") or os.environ.get("RAY_ADDRESS") or "auto"
        self._ray: Any = None
        self._is_ours = False  # the connection
        self._nodes: dict[str, _Node] = {}  # by the names of the places
        self._jobs: list[RayJob] = []

    def places(self) -> Places:
        """Return the nodes that offer CPUs or GPUs to tasks; raises EngineError.

        A head node that offers none is no place to measure. Absent are nodes that have died and have not come back.
        """
        every = self._connected().nodes()
        alive = [node for node in every if node["Alive"]]
        self._nodes = {name: node for name, node in _named(alive).items() if _offers(node, "CPU", "GPU")}
        there = {node["NodeManagerHostname"] for node in alive}
        gone = [node for node in every if not node["Alive"] and node.get("DeathReason") not in _ON_PURPOSE]
        dead = {node["NodeManagerHostname"]: _death(node) for node in gone}
        usable = tuple(Place(name, _offers(node, "GPU")) for name, node in self._nodes.items())
        return Places(usable, tuple((printable(host), why) for host, why in dead.items() if host not in there))

    def start(self, order: Order, place: Place) -> RayJob:
        """Give a task to a node; it waits there until Ray has nothing else to run on it. Raises EngineError."""
        ray = self._connected()
        if place.name not in self._nodes:
            raise EngineError(f"Ray has no node {place.name}")
        job = RayJob(ray, self._nodes[place.name], order, __version__)
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """End the tasks that have not ended, and leave the cluster."""
        for job in self._jobs:
            job.leave()
        if self._is_ours:
            self._ray.shutdown()
            self._is_ours = False
        self._ray = None

    def _connected(self) -> Any:
        """Return the module ray, connected to the cluster; raises EngineError."""
        if self._ray is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                import ray  # noqa: PLC0415 - large, and optional
            except ImportError:
                raise EngineError("--on ray needs a missing package: python -m pip install ray") from None
            if not ray.is_initialized():
                _connect(ray, self._address)
                self._is_ours = True
            self._ray = ray
        return self._ray


class RayJob:
    """The task of a node."""

    def __init__(self, ray: Any, node: _Node, order: Order, version: str) -> None:
        self._ray, self._node, self._folder = ray, node, Path(order.folder)
        self._state = JobState.WAITING
        self._process: Sequence[float] = ()  # that runs the task: its id, and when it was created
        self._is_cancelled = False
        self.why = ""
        carried = self._on_node(_carried(), num_cpus=_offers(node, "CPU"), num_gpus=_offers(node, "GPU"))
        self._given: Any = carried.remote(order.to_text(), version)

    def state(self) -> JobState:
        """Return how far the task is, after the files that it has given were written; raises nothing."""
        while self._state is not JobState.ENDED and self._take():
            pass
        return self._state

    def cancel(self) -> None:
        """Have the task end, which writes what it has; at the second time, end it at once. Raises nothing."""
        if self._is_cancelled:
            self.kill()
        elif self.state() is JobState.RUNNING:
            told = self._on_node(_told_to_end, num_cpus=0, num_gpus=0)
            self._told = told.remote(*self._process)  # kept, because Ray cancels what nobody refers to
        elif self._state is JobState.WAITING:
            self._cancel(force=False)
        self._is_cancelled = True

    def kill(self) -> None:
        """End the task at once, and with it all processes of its runs. Raises nothing."""
        if self.state() is not JobState.ENDED:
            self._cancel(force=True)

    def leave(self) -> None:
        """End the task at once if it has not ended. After that, Ray is asked for it no more: it would crash."""
        self.kill()
        if self._state is not JobState.ENDED:
            self._end("cancelled")
        self._given = None

    def _cancel(self, *, force: bool) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.cancel(self._given, force=force)

    def _on_node(self, function: Callable[..., Any], **needs: int) -> Any:
        """Return a function as a Ray task of this node only, which is never retried."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - optional

        here = NodeAffinitySchedulingStrategy(self._node["NodeID"], soft=False)
        options = {"max_retries": 0, "scheduling_strategy": here, "runtime_env": _AS_ON_THE_NODE}
        return self._ray.remote(function).options(**needs, **options)

    def _take(self) -> bool:
        """Take what the task gives next; return False if there is nothing yet."""
        try:
            if not self._ray.wait([self._given], timeout=0)[0]:
                return False
            kind, content = self._ray.get(next(self._given))
        except StopIteration:
            self._end("cancelled" if self._is_cancelled else "the task ended without an answer")
        except self._ray.exceptions.RayError as error:
            self._end(self._reason(error))
        else:
            if kind == _BEGUN:
                self._process, self._state = content, JobState.RUNNING
            else:
                self._end(printable(content) if kind == _REFUSED else _written(content, self._folder))
        return True

    def _end(self, why: str) -> None:
        self._state, self.why = JobState.ENDED, why

    def _reason(self, error: Exception) -> str:
        """Return in a few words why Ray has no answer of the task."""
        known = self._ray.exceptions
        if isinstance(error, known.RayTaskError):
            return printable(f"the task failed: {type(error.cause).__name__}: {error.cause}")
        if isinstance(error, known.OutOfMemoryError):
            return "Ray's memory monitor ended the task: the node had too little memory"
        if isinstance(error, known.TaskCancelledError) or (self._is_cancelled and _is_end(known, error)):
            return "cancelled"
        now = next((node for node in self._ray.nodes() if node["NodeID"] == self._node["NodeID"]), None)
        if now is not None and not now["Alive"]:
            return _death(now)
        if _is_end(known, error):  # Ray finds that a node is dead some seconds after its processes
            return "the process of the task died, or the whole node"
        return printable(f"{type(error).__name__}: {error}")


def on_node(order: str) -> tuple[str, Any]:
    """Carry out an order in a worker of Ray, and return what the task gives at last.

    The runs are not to inherit what Ray sets for its tasks: a number of threads, a low priority, a debugger.
    CUDA_VISIBLE_DEVICES stays: these are the GPUs that Ray gives.
    """
    try:
        with _as_on_the_node():
            return _FILES, perform(order)
    except BenchError as error:
        return _REFUSED, str(error)


@contextlib.contextmanager
def _as_on_the_node() -> Iterator[None]:
    """Remove for a while what Ray has set in this process."""
    before, process = dict(os.environ), psutil.Process()
    if not before.get(_OMP):  # else the user has set it on this node
        os.environ.pop(_OMP, None)
    if before.get(_DEBUGGER, "").startswith("ray."):
        del os.environ[_DEBUGGER]
    nice = process.nice()
    with contextlib.suppress(psutil.Error, OSError):  # only root may
        process.nice(0)
    try:
        yield
    finally:
        process.nice(nice)
        os.environ.clear()
        os.environ.update(before)


def _carried() -> Callable[..., Iterator[tuple[str, Any]]]:
    """Return the function that Ray carries to the node, where bench_core may be missing.

    Ray carries a function of a module as its name, and one that was made in a function as its code.
    """
    begun, refused, name = _BEGUN, _REFUSED, __name__

    def carried(order: str, version: str) -> Iterator[tuple[str, Any]]:
        try:
            import psutil  # noqa: PLC0415 - on the node

            from bench_core import __version__ as here  # noqa: PLC0415

            of_the_node = import_module(name)
        except ImportError as error:
            yield refused, f"bench_core cannot be imported in the workers of Ray on this node: {error}"
            return
        if here != version:
            yield refused, f"this node has bench_core {here}, and not {version}"
            return
        process = psutil.Process()
        yield begun, (process.pid, process.create_time())
        yield of_the_node.on_node(order)

    return carried


def _told_to_end(pid: int, created: float) -> None:
    """End a process of this node by SIGTERM, unless its id is another's by now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.create_time() == created:
            process.terminate()


def _connect(ray: Any, address: str) -> None:
    """Connect to the cluster at an address, "auto" for the one on this computer; raises EngineError."""
    none = f"no Ray cluster answers at {printable(address)}: start one with `ray start --head`"
    if "://" in address:
        raise EngineError(
            f"address={printable(address)}: must be HOST:PORT of a cluster of which this computer is a node"
        )
    if address != "auto" and not _answers(address):
        raise EngineError(none)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # for authors of tasks
            ray.init(address=address, log_to_driver=False, logging_level="error")
    except ConnectionError:
        if address == "auto":
            raise EngineError(none) from None
        wants = "it is no Ray cluster, or wants a token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN)"
        raise EngineError(f"Ray does not connect to {printable(address)}: {wants}") from None
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:  # other versions, no token
        raise EngineError(printable(f"Ray at {address}: {error}")) from None
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, where Ray has set no handler either
            signal.signal(signal.SIGTERM, handler)


def _answers(address: str) -> bool:
    """Return whether anything listens at HOST:PORT. Ray itself would try for much longer."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _named(nodes: Sequence[_Node]) -> dict[str, _Node]:
    """Return nodes by the names of their hosts; those with one name also by that in Ray, or numbered.

    In a container every node may have the same host name.
    """
    named: dict[str, _Node] = {}
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    for node in sorted(nodes, key=_order):
        host = node["NodeManagerHostname"]
        name = host if hosts[host] == 1 else f"{host}/{node.get('NodeName') or node['NodeManagerAddress']}"
        number = 1
        unique = name
        while printable(unique) in named:
            number += 1
            unique = f"{name}#{number}"
        named[printable(unique)] = node
    return named


def _order(node: _Node) -> tuple[str, ...]:
    return (node["NodeManagerHostname"], node.get("NodeName") or "", node["NodeManagerAddress"], node["NodeID"])


def _offers(node: _Node, *kinds: str) -> int:
    """Return how many CPUs and GPUs a node offers to tasks."""
    return sum(int(node["Resources"].get(kind, 0)) for kind in kinds)


def _death(node: _Node) -> str:
    return printable(f"the node died: {node.get('DeathReasonMessage') or 'Ray does not know why'}")


def _is_end(known: Any, error: Exception) -> bool:
    """Return whether an error says that the process of a task is gone, or its node. known: the exceptions of Ray."""
    return isinstance(error, known.WorkerCrashedError | known.NodeDiedError | known.TaskUnschedulableError)


def _written(files: Mapping[str, bytes], folder: Path) -> str:
    """Write the files that a node gave, by their paths in its folder; return what is wrong, "" if nothing."""
    outside = [name for name in files if not _is_inside(name)]
    if outside:
        return printable(f"the node gave a file outside its folder, so none was taken: {outside[0]}")
    try:
        for name in sorted(files, key=_turn):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, files[name])
    except OSError as error:
        return printable(f"what the node gave cannot be written: {error.strerror or error}")
    return ""


def _turn(name: str) -> int:
    """Return when a file is written: a folder that has run.json is a complete run, and the state speaks of all runs."""
    last = PurePosixPath(name).name
    return _LAST.index(last) if last in _LAST else -1


def _is_inside(name: str) -> bool:
    """Return whether a relative path leads to a file below the folder, on every system."""
    parts = PurePosixPath(name).parts
    plain = bool(parts) and ".." not in parts and "\0" not in name and not name.startswith("/")
    return plain and "\\" not in name and not PureWindowsPath(name).drive
