"""Each device is given to one process at a time, with cores of its own, and nothing that is written tells its UUID."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from bench_core import child_process
from bench_core.errors import BenchError, UsageError
from bench_core.fleet import devices
from bench_core.fleet.devices import Device, Lock
from bench_core.machine import allotment, kernel_files, nvml
from tests.support import kernel

FIRST = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"
SECOND = "GPU-aaaaaaaa-0506-0708-090a-0b0c0d0e0f10"
SLICES = "MIG-bbbbbbbb-0506-0708-090a-0b0c0d0e0f10", "MIG-cccccccc-0506-0708-090a-0b0c0d0e0f10"
# Another process takes the lock of a device, says so, and has it until its standard input ends.
HOLDER = """
import sys
from bench_core.fleet.devices import Device
lock = Device(0, sys.argv[1]).lock()
print("has it" if lock.acquire(lambda: False) else "others have it", flush=True)
sys.stdin.read()
"""
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="no flock on Windows")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own, for this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("BENCH_CORE_LOCKS", str(folder))
    return folder


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a machine of some cores and NUMA nodes, siblings numbered after all cores."""

    def make(cores, threads=1, nodes=()):
        root = tmp_path / "root"
        monkeypatch.setattr(kernel_files, "ROOT", root)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores * threads)), raising=False)
        files = {f"devices/system/node/node{number}/cpulist": cpus for number, cpus in enumerate(nodes)}
        for cpu in range(cores * threads):
            siblings = ",".join(str(cpu % cores + cores * thread) for thread in range(threads))
            files[f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = siblings
        for name, text in files.items():
            file = root / "sys" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        kernel.forget()

    yield make
    kernel.forget()


def two(pynvml, **changes):
    pynvml.devices[:] = [pynvml.h100(FIRST), pynvml.h100(SECOND, **changes)]


def uuids(environ):
    return [device.uuid for device in devices.usable(environ)]


# ---------------------------------------------------------------- which devices


def test_without_a_variable_every_device_is_usable_in_the_order_of_the_driver(pynvml):
    two(pynvml)
    assert [(d.number, d.uuid) for d in devices.usable({})] == [(0, FIRST), (1, SECOND)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 1 , 0 ", [SECOND, FIRST]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,-1,1", [FIRST]),  # CUDA shows nothing after what it cannot find
        ("0,2,1", [FIRST]),
        ("0,0,1", [FIRST]),
        (SECOND, [SECOND]),
        (SECOND.lower(), [SECOND]),
        ("GPU-aaaa", [SECOND]),
        (f"{SECOND},0", [SECOND, FIRST]),
        ("GPU-", []),  # of both
        ("GPU-99999999", []),
    ],
)
def test_the_variable_chooses_devices_as_cuda_does(pynvml, value, expected):
    two(pynvml)
    assert uuids({"CUDA_VISIBLE_DEVICES": value}) == expected


def test_a_card_in_slices_is_its_slices(pynvml):
    card = pynvml.h100(FIRST, MigMode=[1, 1])
    card.slices = [pynvml.Device(uuid) for uuid in SLICES]
    pynvml.devices[:] = [card, pynvml.h100(SECOND)]
    assert uuids({}) == [*SLICES, SECOND]
    assert uuids({"CUDA_VISIBLE_DEVICES": SLICES[1]}) == [SLICES[1]]
    assert uuids({"CUDA_VISIBLE_DEVICES": "0,1"}) == [SLICES[0], SECOND]  # of a card CUDA shows the first
    assert uuids({"CUDA_VISIBLE_DEVICES": FIRST}) == [SLICES[0]]


def test_a_card_in_mig_mode_without_slices_is_no_device(pynvml):
    pynvml.devices[:] = [pynvml.h100(FIRST, MigMode=[1, 1]), pynvml.h100(SECOND)]
    assert uuids({}) == [SECOND]
    assert uuids({"CUDA_VISIBLE_DEVICES": "0,1"}) == []


def test_cards_that_this_process_may_not_use_are_not_counted(pynvml):
    """As in a container: CUDA numbers those that it sees."""
    two(pynvml)
    pynvml.devices[0].withheld = True
    assert uuids({"CUDA_VISIBLE_DEVICES": "0"}) == [SECOND]


def test_numbers_of_unlike_cards_are_refused_unless_they_are_those_of_the_addresses(pynvml):
    """CUDA numbers them by speed, which the driver does not tell."""
    two(pynvml, Name="NVIDIA L4")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=1,<GPU id>: unlike GPUs are numbered by speed"):
        devices.usable({"CUDA_VISIBLE_DEVICES": f"1,{FIRST}"})
    assert uuids({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == [SECOND]
    assert uuids({"CUDA_VISIBLE_DEVICES": SECOND}) == [SECOND]
    assert uuids({}) == [FIRST, SECOND]


def test_without_a_driver_the_reason_is_raised(pynvml, monkeypatch):
    monkeypatch.setattr(pynvml, "driver", None)
    with pytest.raises(nvml.NotTold, match="no NVIDIA driver"):
        devices.usable({})


def test_the_variables_show_one_device_and_no_text_shows_its_uuid():
    device = Device(1, SECOND, frozenset({1}))
    assert device.environ == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": SECOND}
    assert "aaaa" not in f"{device!r}{device}"


# ---------------------------------------------------------------- which cores


def shares(pynvml, gpus):
    pynvml.devices[:] = pynvml.connected(gpus, "PCIe")  # each four at one node
    return [set(device.cpus) for device in devices.usable({})]


def test_each_device_has_a_part_of_the_cores_of_its_numa_node(pynvml, machine):
    machine(16, nodes=("0-3,8-11", "4-7,12-15"))
    assert shares(pynvml, 8) == [{0, 1}, {2, 3}, {8, 9}, {10, 11}, {4, 5}, {6, 7}, {12, 13}, {14, 15}]


def test_the_hardware_threads_of_a_core_are_given_to_one_device(pynvml, machine):
    machine(4, threads=2, nodes=("0-7",))
    assert shares(pynvml, 2) == [{0, 4, 1, 5}, {2, 6, 3, 7}]


def test_where_a_node_has_too_few_cores_all_are_parted_equally(pynvml, machine):
    """Five devices: four at the first node, of whose cores this process may use two, as in a job."""
    machine(6, nodes=("0-1", "2-5"))
    assert shares(pynvml, 5) == [{0}, {1}, {2}, {3}, {4}]


def test_where_no_node_is_told_all_cores_are_parted_equally(pynvml, machine):
    machine(4)
    assert shares(pynvml, 2) == [{0, 1}, {2, 3}]


def test_where_there_are_fewer_cores_than_devices_none_has_its_own(pynvml, machine):
    machine(3, nodes=("0-2",))
    assert shares(pynvml, 4) == [set()] * 4


@pytest.mark.parametrize("cores", range(1, 20))
@pytest.mark.parametrize("gpus", [1, 2, 3, 5, 8])
def test_no_core_is_of_two_devices(pynvml, machine, cores, gpus):
    half = cores // 2
    machine(cores, nodes=(f"0-{half}", f"{half + 1}-{cores - 1}") if half + 1 < cores else (f"0-{half}",))
    found = shares(pynvml, gpus)
    assert len(set().union(*found)) == sum(map(len, found))
    assert len({bool(cpus) for cpus in found}) == 1, "some have cores of their own, and others may use them"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity of a thread")
def test_processes_that_a_pinned_thread_starts_are_pinned_and_those_of_other_threads_are_not():
    mine = sorted(allotment.cpus())
    command = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]

    def told():
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def pinned():
        devices.pin(frozenset(mine[-1:]))
        said.append(told())

    said = []
    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join()
    assert [*said, told()] == [str(mine[-1:]), str(mine)]


# ---------------------------------------------------------------- the lock


@pytest.fixture
def holder(tmp_path):
    """Return a function that starts a process which takes the lock of a device, and returns it and what it said."""
    script = tmp_path / "holder.py"
    script.write_text(HOLDER)
    started = []

    def start(uuid=FIRST, command=(sys.executable, "-P")):
        environ = {**os.environ, "PYTHONPATH": str(Path(child_process.__file__).parents[1])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, str(script), uuid], env=environ, **pipes))
        return started[-1], started[-1].stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()


def never():
    return False


@needs_locks
def test_one_process_at_a_time_has_a_device_whatever_its_case(holder):
    process, said = holder()
    assert said == "has it"
    assert not Device(3, FIRST.lower()).lock().acquire(never)
    assert holder()[1] == "others have it"
    process.stdin.close()
    process.wait()
    assert Device(3, FIRST).lock().acquire(never)


@pytest.fixture
def for_all(tmp_path, monkeypatch):
    """Two folders that a system has for all users, and no variable that names another."""
    folders = tmp_path / "run", tmp_path / "tmp"
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o1777)
    monkeypatch.setattr(devices, "_FOR_ALL", folders)
    monkeypatch.delenv("BENCH_CORE_LOCKS")
    return folders


@needs_locks
def test_processes_with_different_temporary_folders_share_a_lock(for_all, monkeypatch, tmp_path):
    lock = Device(0, FIRST).lock()
    assert lock.acquire(never)
    (tmp_path / "of another user").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "of another user"))
    assert not Device(0, FIRST).lock().acquire(never)
    assert lock.path.parent == for_all[0]


@needs_locks
def test_a_folder_that_not_every_user_may_write_to_is_not_for_locks(for_all, temporary):
    for_all[0].chmod(0o755)
    assert Device(0, FIRST).lock().path.parent == for_all[1]
    for_all[1].rmdir()
    assert Device(0, FIRST).lock().path.parent == temporary


def test_the_folder_of_locks_can_be_named(for_all, monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CORE_LOCKS", str(tmp_path))
    assert Device(0, FIRST).lock().path.parent == tmp_path


@needs_locks
def test_devices_are_locked_one_by_one(holder):
    assert holder(FIRST)[1] == "has it"
    assert Device(1, SECOND).lock().acquire(never)


@needs_locks
def test_whoever_waits_has_the_device_as_soon_as_its_holder_was_killed(holder):
    process, _ = holder()
    waited = []

    def wait():
        if waited:
            process.send_signal(signal.SIGKILL)
            process.wait()
        waited.append(1)
        return True

    assert Device(0, FIRST).lock().acquire(wait)
    assert len(waited) == 2


@needs_locks
def test_a_child_that_has_inherited_a_lock_keeps_it_until_it_ends():
    lock = Device(0, FIRST).lock()
    assert lock.acquire(never)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=lock.inherited)
    lock.release()
    assert not Device(0, FIRST).lock().acquire(never)
    child.communicate()
    assert Device(0, FIRST).lock().acquire(never)


@needs_locks
def test_a_child_that_was_not_given_a_lock_does_not_keep_it():
    lock = Device(0, FIRST).lock()
    assert lock.acquire(never)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    lock.release()
    assert Device(0, FIRST).lock().acquire(never)
    child.communicate()


@needs_locks
def test_the_file_of_a_lock_is_empty_for_all_users_and_tells_no_uuid(temporary):
    before = os.umask(0o077)
    try:
        lock = Device(0, FIRST).lock()
        assert lock.acquire(never)
    finally:
        os.umask(before)
    (file,) = temporary.iterdir()
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"", 0o644)
    assert not any(part in file.name for part in FIRST.split("-")[1:])
    lock.release()
    assert list(temporary.iterdir()) == [file], "another process may be about to lock it"


@needs_locks
def test_a_file_that_may_only_be_read_can_be_locked(temporary, monkeypatch):
    """That of another user: there the system refuses every other way to open it."""
    path = temporary / "lock"
    path.touch()
    opened = os.open

    def only_to_read(name, flags, mode=0o777):
        if flags & (os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied")
        return opened(name, flags, mode)

    monkeypatch.setattr(os, "open", only_to_read)
    lock, other = Lock(path), Lock(path)
    assert lock.acquire(never)
    assert not other.acquire(never)


@needs_locks
def test_a_file_that_was_removed_while_it_was_locked_is_not_taken_for_the_lock(temporary, monkeypatch):
    """What cleans a temporary folder may come between the opening and the lock."""
    path = temporary / "lock"
    lock, opened = Lock(path), Lock._opened

    def removed(self):
        descriptor = opened(self)
        if not removals:
            removals.append(path.unlink())
        return descriptor

    removals = []
    monkeypatch.setattr(Lock, "_opened", removed)
    assert lock.acquire(never)
    assert removals
    assert not Lock(path).acquire(never)


@needs_locks
@pytest.mark.parametrize("kind", ["link", "link to nothing", "fifo", "folder"])
def test_what_others_have_put_in_the_place_of_a_lock_is_refused(tmp_path, temporary, kind):
    path, other = temporary / "lock", tmp_path / "other"
    if kind == "link":
        other.touch()
    make = {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir}
    make.get(kind, lambda: path.symlink_to(other))()
    with pytest.raises(BenchError, match="lock: cannot be locked: "):
        Lock(path).acquire(never)
    assert other.exists() == (kind == "link")
