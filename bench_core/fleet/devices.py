"""The GPUs that this process may use, the cores for each, and a lock that one process of this computer can have.

CUDA and the driver count devices differently, so a device is named by its UUID. That is in the environment of the
process that measures, and in no file: the file of a lock is named by its hash, and is empty.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_core.errors import BenchError, UsageError
from bench_core.machine import allotment, kernel_files, nvml, topology
from bench_core.text import printable

LOCKS = "BENCH_CORE_LOCKS"  # the environment variable that names another folder for the locks
VISIBLE, ORDER, BY_ADDRESS = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
# Folders of a system that all users may write to. Those of one user, and TMPDIR, are not the same for all processes.
_FOR_ALL = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - a lock is opened with care, see _opened
_LOCKED = {errno.EWOULDBLOCK, errno.EACCES}  # flock(2), and fcntl(2), by which NFS does it


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a slice of one under MIG.

    number: among those that this process may use, from 0. uuid: as the driver tells it; no text shows it. cpus: the
    hardware threads for the process that uses it, which are those of no other device; empty if there are too few.
    """

    number: int
    uuid: str = field(repr=False)
    cpus: frozenset[int] = frozenset()

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables by which a process sees no other device."""
        return {ORDER: BY_ADDRESS, VISIBLE: self.uuid}

    def lock(self) -> Lock:
        """Return the lock that all processes of this host share, whatever number the device has for them."""
        name = hashlib.sha256(self.uuid.upper().encode()).hexdigest()[:32]
        return Lock(_folder_of_locks() / f"bench-core-gpu-{name}.lock")


@dataclass(frozen=True, slots=True)
class _Card:
    """A card of the driver. parts: the UUIDs of its slices if it is in MIG mode, else its own."""

    name: str
    uuid: str = field(repr=False)
    parts: tuple[str, ...] = field(repr=False)
    numa_node: int | None


def usable(environ: Mapping[str, str] = os.environ) -> tuple[Device, ...]:
    """Return the devices that CUDA shows to a process with these variables, in its order.

    A card in MIG mode is its slices. Raises NotTold without a driver, UsageError if it is unclear which are meant.
    """
    cards = _cards()
    every = [uuid for card in cards for uuid in card.parts]
    chosen = _chosen(cards, environ) if VISIBLE in environ else every
    nodes = {uuid: card.numa_node for card in cards for uuid in card.parts}
    shares = _shares([nodes[uuid] for uuid in chosen])
    return tuple(Device(n, uuid, cpus) for n, (uuid, cpus) in enumerate(zip(chosen, shares, strict=True)))


def pin(cpus: frozenset[int]) -> None:
    """Let the calling thread, and the processes that it starts, run on these hardware threads alone (Linux)."""
    if cpus and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # they were taken away: run.json has the affinity that holds
            os.sched_setaffinity(0, cpus)


class Lock:
    """A file that one process at a time can have, with the processes that it has started with `inherited`.

    The system ends it with the last of them, however that ends. The file is empty, other users may lock it too, and it
    stays. Where there are no locks (Windows, some network file systems), everybody gets it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def inherited(self) -> tuple[int, ...]:
        """What a child has to inherit in order to have the lock as well: `pass_fds` of Popen."""
        return () if self._descriptor is None else (self._descriptor,)

    def acquire(self, wait: Callable[[], bool]) -> bool:
        """Take the lock, and return whether it was given.

        wait: called again and again while others have it; it waits a moment, and returns False to give up. Raises
        BenchError if the file cannot be opened.
        """
        while not self._try():
            if not wait():
                return False
        return True

    def release(self) -> None:
        """Give the lock back; children that have inherited it keep it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> bool:
        try:
            import fcntl  # noqa: PLC0415 - not on Windows
        except ImportError:
            return True
        descriptor = self._opened()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _LOCKED:
                os.close(descriptor)
                return False
        # It may have been removed since, as old files in a temporary folder are: then another has a new one.
        if not self._is(descriptor):
            os.close(descriptor)
            return self._try()
        self._descriptor = descriptor
        return True

    def _opened(self) -> int:
        """Return a descriptor of the file, which is made if there is none."""
        # A file of another user in a folder for all may only be opened without O_CREAT (proc(5), protected_regular).
        kind = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for flags in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY):
            try:
                descriptor = os.open(self.path, flags | kind, 0o644)
            except (FileNotFoundError, FileExistsError, PermissionError) as error:
                why = error
            except OSError as error:
                raise self._unusable(error.strerror) from None
            else:
                return self._checked(descriptor, is_new=bool(flags & os.O_CREAT))
        raise self._unusable(why.strerror)

    def _checked(self, descriptor: int, *, is_new: bool) -> int:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._unusable("not a file")
        if is_new:
            with contextlib.suppress(OSError):  # whatever the mask of this user
                os.fchmod(descriptor, 0o644)
        return descriptor

    def _is(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.path))
        except OSError:
            return False

    def _unusable(self, why: str | None) -> BenchError:
        return BenchError(f"{self.path}: cannot be locked: {why}")


def _folder_of_locks() -> Path:
    """Return the folder of the locks, which is one for all users and processes of this host."""
    named = os.environ.get(LOCKS)
    if named:
        return Path(named)
    return next((folder for folder in _FOR_ALL if _is_for_all(folder)), Path(tempfile.gettempdir()))


def _is_for_all(folder: Path) -> bool:
    """Return whether every user can write to a folder: one that only this one can would be another for the others."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and bool(mode & stat.S_IWOTH) and os.access(folder, os.W_OK | os.X_OK)


def _cards() -> list[_Card]:
    """Return the cards that the driver lets this process see, in the order of their PCI addresses; raises NotTold."""
    handles = nvml.numbered()
    found = []
    for gpu, (_, handle) in zip(topology.read(handles).gpus, handles, strict=True):
        uuid = _uuid(handle)
        if uuid is not None:  # else it was lost just now
            parts = _slices(handle) if gpu.is_sliced else (uuid,)
            found.append(_Card(gpu.name, uuid, parts, gpu.numa_node.value))
    return found


def _uuid(handle: object) -> str | None:
    uuid = nvml.ask("nvmlDeviceGetUUID", handle).value
    return uuid.decode() if isinstance(uuid, bytes) else uuid


def _slices(card: object) -> tuple[str, ...]:
    most = nvml.ask("nvmlDeviceGetMaxMigDeviceCount", card).value or 0
    handles = (nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", card, number).value for number in range(most))
    return tuple(uuid for handle in handles if handle is not None and (uuid := _uuid(handle)))


def _chosen(cards: Sequence[_Card], environ: Mapping[str, str]) -> list[str]:
    """Return the UUIDs of the devices that CUDA_VISIBLE_DEVICES names.

    As CUDA does: what follows an entry that names nothing is not visible, and of a card in slices one is (NVIDIA, CUDA
    Programming Guide, Environment Variables; Multi-Instance GPU User Guide, CUDA_VISIBLE_DEVICES).
    """
    value = environ[VISIBLE]
    entries = [entry.strip() for entry in value.split(",")]
    if any(map(str.isdecimal, entries)) and len({c.name for c in cards}) > 1 and environ.get(ORDER) != BY_ADDRESS:
        shown = printable(str(nvml.visible_devices(value).value))  # without UUIDs
        raise UsageError(f"{VISIBLE}={shown}: unlike GPUs are numbered by speed: set {ORDER}={BY_ADDRESS} too")
    found: list[str] = []
    for entry in entries:
        uuid = _named(cards, entry)
        if uuid is None or uuid in found:
            break
        found.append(uuid)
    return found


def _named(cards: Sequence[_Card], entry: str) -> str | None:
    """Return the UUID of the device that an entry names: by a number, or by the unique beginning of a UUID."""
    if entry.isdecimal():
        named = [card.parts[:1] for card in cards[int(entry) :][:1]]
    elif entry.upper().startswith(("GPU-", "MIG-")):
        start = entry.upper()
        named = [card.parts[:1] for card in cards if card.uuid.upper().startswith(start)]
        named += [(u,) for card in cards for u in card.parts if u != card.uuid and u.upper().startswith(start)]
    else:
        named = []
    return named[0][0] if len(named) == 1 and named[0] else None


def _shares(nodes: Sequence[int | None]) -> list[frozenset[int]]:
    """Return the hardware threads for each device: a part of the cores of its NUMA node, else of all.

    No hardware thread is in two parts. nodes: the NUMA node of each device, None if unknown.
    """
    near = [_near(nodes, place) for place in range(len(nodes))]
    return near if all(near) else [allotment.share_of_cpus(place, len(nodes)) for place in range(len(nodes))]


def _near(nodes: Sequence[int | None], place: int) -> frozenset[int]:
    node = nodes[place]
    if node is None:
        return frozenset()
    cpus = kernel_files.numbers(kernel_files.read(f"/sys/devices/system/node/node{node}/cpulist") or "")
    alike = [other for other, its in enumerate(nodes) if its == node]
    return allotment.share_of_cpus(alike.index(place), len(alike), cpus)
