"""Transfers in JAX: every call moves all bytes to another memory. The CPU has the memories; the rest is pretended."""

import numpy as np
import pytest

from bench_core.errors import Unsupported
from bench_core.records import Preset, Status
from bench_core.timing.synchronisation import piece
from benchmarks import bench_transfer
from tests.support import kernels

jax = pytest.importorskip("jax")
from jax._src.array import ArrayImpl  # noqa: E402 - the class whose copies to the host are pretended

from benchmarks.jax_kernels import transfers  # noqa: E402

WORKLOADS = {w.name: w for w in (
    bench_transfer.HostToDevice(), bench_transfer.DeviceToHost(), bench_transfer.BothWays(), bench_transfer.OnDevice(),
)}  # fmt: skip
CASES = {
    f"{work.workload}-{work['memory']}": (workload, work)
    for workload in WORKLOADS.values()
    for work in workload.works(Preset.SMOKE, None)
}


@pytest.fixture
def on(monkeypatch):
    """A CPU that behaves as an accelerator: it shares no memory with NumPy, and an array keeps its host copy."""
    put, copied = jax.device_put, ArrayImpl._single_device_array_to_np_array_did_copy

    def apart(x, *where, **how):
        return put(x.copy() if isinstance(x, np.ndarray) else x, *where, **how)

    monkeypatch.setattr(jax, "device_put", apart)
    monkeypatch.setattr(
        ArrayImpl, "_single_device_array_to_np_array_did_copy", lambda self: (np.array(copied(self)[0]), True)
    )
    with kernels.backend("jax") as made:
        made.device = "cuda:0"
        yield made


def address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.unsafe_buffer_pointer()


@pytest.mark.parametrize("name", CASES)
def test_every_transfer_arrives_and_follows_its_source(on, name):
    assert kernels.error_of(*CASES[name], on) == 0.0


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("d2d")])
def test_no_call_is_free_though_its_source_has_not_changed(on, name):
    """Each lands in memory of its own, which is neither that of its source nor that of the call before."""
    built = kernels.kernel(*CASES[name], on)
    held = [dict(built.outputs(built.run())) for _ in range(3)]
    arrays = [array for made in held for array in made.values()] + list(built.inputs.values())
    assert len({address(array) for array in arrays}) == len(arrays)


def test_an_array_that_is_asked_twice_for_its_host_copy_makes_one(on):
    """What the test above would find in a kernel that asks the same array."""
    array = on.from_host(np.ones(3))
    assert address(jax.device_get(array)) == address(jax.device_get(array))


def test_a_copy_on_the_device_leaves_its_source_and_writes_into_the_array_of_the_call_before(on):
    built = kernels.kernel(*CASES["d2d-device"], on)
    places = {address(built.run()) for _ in range(3)}
    assert len(places) == 1
    assert address(built.inputs["x"]) not in places


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("h2d-pinned", ["pinned_host", "device"]),
        ("h2d-pageable", [None, "device"]),
        ("d2h-pinned", ["device", "pinned_host"]),
        ("d2h-pageable", ["device", None]),
        ("h2d_d2h-pinned", ["pinned_host", "device", "pinned_host", "device"]),
        ("d2d-device", ["device", "device"]),
    ],
)
def test_the_inputs_and_what_a_call_returns_lie_in_the_memories_that_the_work_names(on, name, kinds):
    """NumPy's arrays, in pageable memory, have no kind. What comes down stands before what goes up, by name."""
    built = kernels.kernel(*CASES[name], on)
    arrays = [*built.inputs.values(), *jax.tree.leaves(built.run())]
    assert [None if isinstance(array, np.ndarray) else array.sharding.memory_kind for array in arrays] == kinds


@pytest.mark.parametrize("name", CASES)
def test_all_that_arrives_is_waited_for_with_what_a_call_returns(on, name, monkeypatch):
    """And a piece of it can be read, though XLA may not be able to cut one out of what lies in pinned memory."""
    cut = ArrayImpl.__getitem__

    def cut_in(array, index):
        assert array.sharding.memory_kind == "device", "XLA computes in pinned memory"
        return cut(array, index)

    monkeypatch.setattr(ArrayImpl, "__getitem__", cut_in)
    built = kernels.kernel(*CASES[name], on)
    result = built.run()
    on.wait_for(result)
    arrays = jax.tree.leaves(result)
    assert all(array.is_ready() for array in arrays if isinstance(array, jax.Array))
    outputs = built.outputs(result)
    assert sorted(map(address, outputs.values())) == sorted(map(address, arrays))
    assert on.to_host(piece(outputs)).shape == (1,)


def test_both_directions_are_begun_before_either_is_awaited(on, monkeypatch):
    built = kernels.kernel(*CASES["h2d_d2h-pinned"], on)
    monkeypatch.setattr(ArrayImpl, "block_until_ready", None)
    monkeypatch.setattr(jax, "block_until_ready", None)
    assert len(built.run()) == 2


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("pinned")])
def test_a_device_without_pinned_memory_says_so(on, name, monkeypatch):
    monkeypatch.setattr(transfers, "PINNED", "some other kind")
    with pytest.raises(Unsupported, match="jax addresses no pinned host memory on cuda:0"):
        kernels.kernel(*CASES[name], on)


def test_a_process_that_opens_one_device_has_no_other_to_copy_to(on):
    workload = bench_transfer.Peer()
    done = kernels.looked_at(workload, next(iter(workload.works(Preset.SMOKE, None))), on)
    assert (done.status, done.reason_code) == (Status.UNSUPPORTED, "one_device")
    assert "a process of jax opens the device that it measures and no other to copy to" in done.reason
