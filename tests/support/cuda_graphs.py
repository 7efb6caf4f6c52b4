"""A stand-in for CUDA graphs of PyTorch, on a CPU: it captures as torch.cuda does, and fails where torch.cuda fails.

torch.compile is a stand-in too: it compiles nothing, and knows when it would compile. The real one gives way to the
mode that notes operators (it runs the function as it is), so the two cannot be tried together on a CPU.

A capture computes nothing: it notes every operator, and undoes what it did. Memory that is made during a capture lies
in the graph's private pool: it holds rubbish until the first replay, and every replay writes it anew. Memory from
elsewhere is known by its address alone, so it must outlive the graph. (PyTorch, "CUDA semantics", CUDA Graphs.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from bench_core.backends.torch import TorchBackend
from benchmarks.nn.modules import running

CPU = TorchBackend("cpu")
FORBIDDEN = ("_local_scalar_dense",)  # operators that ask the device for a number


@dataclass(frozen=True)
class Place:
    """A tensor as a graph knows it: where it lies in which memory."""

    memory: StorageWeakRef
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Place:
        memory = StorageWeakRef(tensor.untyped_storage())
        return cls(memory, tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())

    def tensor(self, memory: torch.UntypedStorage) -> torch.Tensor:
        return torch.empty(0, dtype=self.dtype).set_(memory, self.offset, self.size, self.stride)


def mapped(kind: type, change: Callable[[Any], Any], value: Any) -> Any:
    """Return arguments or results with what is of a kind changed: torch's own way takes most of a replay's time."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {name: mapped(kind, change, each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        items = [mapped(kind, change, each) for each in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def leaves(value: Any) -> list[Any]:
    """Return what lies in tuples, lists and dictionaries, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, (tuple, list)) else [value]


def alive(reference: StorageWeakRef) -> torch.UntypedStorage | None:
    """Return the memory if anybody still holds it."""
    return torch.UntypedStorage._new_with_weak_ptr(reference.cdata)


class Seen(TorchDispatchMode):
    """Notes which operators run."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._names.add(str(function))
        return function(*args, **(kwargs or {}))


class Capture(TorchDispatchMode):
    """Notes the operators of a graph. warm: those that have run on a side stream before."""

    def __init__(self, warm: set[str]) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.pool: set[StorageWeakRef] = set()
        self._warm = warm
        self._before: dict[StorageWeakRef, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._require_allowed(str(function))
        kwargs = kwargs or {}
        given = mapped(torch.Tensor, Place.of, (args, kwargs))
        for tensor in written(function, args, kwargs):
            place = StorageWeakRef(tensor.untyped_storage())
            if place not in self.pool and place not in self._before:
                self._before[place] = tensor.untyped_storage().clone()
        result = function(*args, **kwargs)
        known = {place.memory for place in leaves(given) if isinstance(place, Place)}
        made = mapped(torch.Tensor, Place.of, result)
        self.pool |= {place.memory for place in leaves(made) if isinstance(place, Place)} - known
        self.calls.append((function, *given, made))
        return result

    def _require_allowed(self, name: str) -> None:
        if any(word in name for word in FORBIDDEN):
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        if name not in self._warm:
            raise RuntimeError(f"{name} runs for the first time, and what it loads cannot be loaded during a capture")

    def undo(self) -> None:
        """Make it so that nothing was computed: give other memory its contents back, and rubbish to the pool's."""
        for reference, before in self._before.items():
            if (memory := alive(reference)) is not None:
                memory.copy_(before)
        for reference in self.pool:
            if (memory := alive(reference)) is not None:
                memory.fill_(0xFF)  # NaN in every floating-point format, -1 in integers


def written(function: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors that an operator writes into, by its schema."""
    declared = function._schema.arguments
    for place, argument in enumerate(declared):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        yield from (leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor))


class Graph:
    """`torch.cuda.CUDAGraph`."""

    log: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.captured: Capture | None = None

    @torch.inference_mode()
    def replay(self) -> None:
        if self.captured is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        self.log.append("replay")
        scratch: dict[StorageWeakRef, torch.UntypedStorage] = {}  # the pool's memory that nobody holds

        def tensor(place: Place) -> torch.Tensor:
            memory = scratch.get(place.memory) or alive(place.memory)
            if memory is None:
                raise RuntimeError("an illegal memory access: the graph reads memory that was freed after its capture")
            return place.tensor(memory)

        for function, args, kwargs, made in self.captured.calls:
            given = mapped(Place, tensor, (args, kwargs))
            result = function(*given[0], **given[1])
            for place, new in zip(leaves(made), leaves(result), strict=True):
                if isinstance(place, Place) and place.memory in self.captured.pool:
                    _put(place.memory, new.untyped_storage(), scratch)


def _put(
    reference: StorageWeakRef, new: torch.UntypedStorage, scratch: dict[StorageWeakRef, torch.UntypedStorage]
) -> None:
    """Let a result be where the graph has it: at its old address if anybody holds that."""
    held = alive(reference)
    if held is None:
        scratch[reference] = new
    elif held.data_ptr() != new.data_ptr():
        held.copy_(new)


class Stream:
    """`torch.cuda.Stream`: which other streams it has waited for."""

    def __init__(self) -> None:
        self.waited: set[Stream] = set()

    def wait_stream(self, stream: Stream) -> None:
        self.waited.add(stream)


class Compiler:
    """torch.compile as far as a capture needs it: a program is compiled at its first call with arguments of a kind.

    Its backward pass is compiled at the first backward. What runs is the function itself.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._stance = cuda, "default"

    def set_stance(self, stance: str) -> None:
        self._stance = stance

    def compile(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        known: set[Any] = set()

        def require(program: Any, part: str) -> None:
            if program not in known:
                self._compile(part)
                known.add(program)

        def run(*args: Any) -> Any:
            program = kind(args)
            require(program, "compile forward")
            result = function(*args)
            for tensor in leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                    tensor.register_hook(lambda grad: require((program, "backward"), "compile backward"))
            return result

        return run

    def _compile(self, part: str) -> None:
        if self._cuda.capturing:
            raise RuntimeError(f"{part}: operation not permitted when stream is capturing")
        if self._stance == "fail_on_recompile":
            raise RuntimeError(f"{part}: detected recompile when torch.compile stance is 'fail_on_recompile'")
        self._cuda.log.append(part)


def kind(args: Any) -> Any:
    """Return what a compiled program depends on: of tensors all but their numbers, and the modes in which they are."""
    shown = [
        (leaf.shape, leaf.dtype, leaf.requires_grad, leaf.is_inference()) if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves(args)
    ]
    return (*shown, torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))


class Cuda:
    """torch.cuda as far as a capture needs it. log: what was compiled, captured and replayed, and where, in order."""

    CUDAGraph, Stream = Graph, Stream

    def __init__(self) -> None:
        self.log = Graph.log = []
        self._default = Stream()
        self._current = [self._default]
        self._warm: set[str] = set()
        self.capturing = False

    def current_stream(self) -> Stream:
        return self._current[-1]

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Make a stream the current one; RuntimeError if it may overtake the one it stands beside."""
        if self.current_stream() not in stream.waited | {stream}:
            raise RuntimeError("a race: the side stream does not wait for the current stream, which makes its inputs")
        self._current.append(stream)
        self.log.append("side stream")
        try:
            with Seen(self._warm):
                yield
        finally:
            self._current.pop()

    @contextmanager
    def graph(
        self, cuda_graph: Graph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        """Capture what is called; it counts once the graph is replayed."""
        if pool is not None:
            raise NotImplementedError("the stand-in gives every graph a pool of its own")
        capture = Capture(self._warm)
        self._current.append(stream or Stream())
        self.capturing = True
        self.log.append("capture")
        try:
            with capture:
                yield
        finally:
            self.capturing = False
            self._current.pop()
            capture.undo()
        cuda_graph.captured = capture

    def optimiser(self, original: type) -> type:
        """Return an optimiser that checks `capturable` as torch does on a GPU.

        On a CPU the fused optimisers are capturable as they are, and refuse to be told so.
        """
        cuda = self

        class Checked(original):
            def __init__(self, *args: Any, capturable: bool = False, **kwargs: Any) -> None:
                self._capturable = capturable
                super().__init__(*args, **kwargs)

            def step(self, closure: Any = None) -> Any:
                if cuda.capturing and not self._capturable:
                    raise RuntimeError(
                        "Attempting CUDA graph capture of step() for an instance of "
                        f"{original.__name__} but param_groups' capturable is False."
                    )
                return super().step(closure)

        return Checked

    def install(self, patch: Any) -> None:
        """Put all of it into torch, by pytest's monkeypatch."""
        for name in ("Stream", "CUDAGraph", "current_stream", "stream", "graph"):
            patch.setattr(torch.cuda, name, getattr(self, name))
        for name in ("Adam", "AdamW"):
            patch.setattr(torch.optim, name, self.optimiser(getattr(torch.optim, name)))
        compiler = Compiler(self)
        patch.setattr(torch, "compile", compiler.compile)
        patch.setattr(torch.compiler, "set_stance", compiler.set_stance)
        patch.setattr(running, "require_compiler", lambda device: None)


@pytest.fixture(name="cuda", autouse=True)
def captures_on_a_cpu(monkeypatch):
    """torch.cuda as far as a capture needs it."""
    stand_in = Cuda()
    stand_in.install(monkeypatch)
    return stand_in
