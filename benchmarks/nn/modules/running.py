"""Ways in which torch runs a model: under autocast, compiled, captured as a CUDA graph, with searched convolutions.

An implementation of a model in torch is one of these, or two of them together:

compile            torch.compile (Inductor) generates kernels that each do several operations, so intermediate results
                   stay in registers. One launch replaces several. The products are still those of the library.
max_autotune       the same, and where Inductor knows several kernels for an operation, above all for products, it times
                   all of them while it compiles and keeps the fastest. It wins where the library's choice is poor for a
                   shape, and takes minutes; large square products gain nothing.
cudagraph          all kernels of a call are captured once and launched together, so the host needs no time per kernel.
                   It wins where kernels are shorter than their launch, and cannot make any kernel faster.
compile_cudagraph  both: fewer kernels, and one launch for those that remain. A training step is one graph with its
                   backward pass and its optimiser.
cudnn_benchmark    cuDNN times its algorithms for each convolution once and keeps the fastest, instead of predicting it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bench_core.workload import Backend, Call, Kernel, Scope, Unsupported, Work

from ..batches import Batch
from ..workloads import autocast_format

# The mode of torch.compile, by implementation that compiles. max-autotune without Inductor's own CUDA graphs: those
# capture the forward and the backward pass, not the optimiser, and their price would hide what the kernels gain.
COMPILED: Mapping[str, str] = {
    "compile": "default",
    "compile_cudagraph": "default",
    "max_autotune": "max-autotune-no-cudagraphs",
}
CAPTURED = frozenset({"cudagraph", "compile_cudagraph"})  # implementations that `Graphed` captures
SEARCHED = "cudnn_benchmark"
PREPARED = frozenset({*COMPILED, *CAPTURED, SEARCHED})  # implementations whose first call takes long
_OLDEST_CAPABILITY = (7, 0)  # lowest compute capability for which torch.compile generates Triton kernels
_caches: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends
_WARM_UPS = 3  # calls on a side stream before a capture, as PyTorch's documentation of CUDA graphs asks for


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context manager for a precision: torch.autocast for "autocast_*", else one that does nothing."""
    dtype = autocast_dtype(precision)
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the dtype of an autocast precision: torch.bfloat16 for "autocast_bfloat16"; None without autocast."""
    name = autocast_format(precision)
    dtype: torch.dtype | None = getattr(torch, name) if name else None
    return dtype


def inference(call: Callable[..., Any], device: torch.device, precision: str) -> Callable[..., Any]:
    """Return a function that runs `call` in inference mode, under the autocast of `precision`."""

    def run(*args: Any) -> Any:
        with torch.inference_mode(), autocast(device, precision):
            return call(*args)

    return run


def compiled(function: Callable[..., Any], device: torch.device, implementation: str) -> Callable[..., Any]:
    """Return a function as an implementation calls it: see `all_compiled`, for one function."""
    return all_compiled([function], device, implementation)[0]


def all_compiled(
    functions: Sequence[Callable[..., Any]], device: torch.device, implementation: str
) -> Sequence[Callable[..., Any]]:
    """Return functions as an implementation calls them: by torch.compile if it is one of COMPILED, else as they are.

    There is one program per shape, compiled with empty caches. torch keeps at most eight programs per piece of code in
    the whole process; a ninth would run eagerly without a warning. So all earlier programs are discarded first.
    `fullgraph` turns code that cannot be compiled into an error.

    Raise Unsupported if no compiler is available.
    """
    if implementation not in COMPILED:
        return functions
    require_compiler(device)
    torch.compiler.reset()
    torch.compiler.set_stance("default")
    _empty_disk_caches()
    mode = COMPILED[implementation]
    return [torch.compile(function, mode=mode, dynamic=False, fullgraph=True) for function in functions]


def set_search(implementation: str) -> None:
    """Let cuDNN search for the fastest algorithms in the implementation "cudnn_benchmark", and in no other.

    The switch is torch's, for the whole process. `TorchBackend.free` turns it off after every case. The algorithms that
    were found stay in torch's cache of cuDNN plans, where a case without a search would find them as well. So
    `TorchBackend.environ` gives this implementation a process of its own.
    """
    torch.backends.cudnn.benchmark = implementation == SEARCHED


def prepared(run: Call) -> Call:
    """Return a function that calls `run` once, which compiles, captures or searches, and forbids later compilation."""

    def prepare() -> None:
        run()
        torch.compiler.set_stance("fail_on_recompile")

    return prepare


def _empty_disk_caches() -> None:
    """Give Inductor and Triton a new, empty cache folder, so that compile_time does not depend on earlier runs."""
    _caches.append(tempfile.TemporaryDirectory(prefix="bench-core-compile-", ignore_cleanup_errors=True))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = _caches[-1].name
    os.environ["TRITON_CACHE_DIR"] = os.path.join(_caches[-1].name, "triton")  # noqa: PTH118 - a string


def require_compiler(device: torch.device) -> None:
    """Raise Unsupported unless the requirements of torch.compile are met.

    CPU: a C++ compiler. GPU: Triton, a C compiler for Triton's launchers, and compute capability 7.0 or newer.
    """
    on = f"torch.compile needs {{}} on {device.type}"
    if device.type == "cpu":
        if not _finds(os.environ.get("CXX", ""), "g++", "clang++", "cl"):
            raise Unsupported("no_compiler", f"{on.format('a C++ compiler')}, and none was found")
    elif device.type in {"cuda", "xpu"}:
        if importlib.util.find_spec("triton") is None:
            raise Unsupported("no_compiler", f"{on.format('Triton')}, and it is not installed")
        if not _finds(os.environ.get("CC", ""), "gcc", "clang", "cl"):
            raise Unsupported("no_compiler", f"{on.format('a C compiler')}, and none was found")
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < _OLDEST_CAPABILITY:
            raise Unsupported("no_compiler", f"{on.format('compute capability 7.0 or newer')}")


def _finds(*commands: str) -> bool:
    return any(shutil.which(command) for command in commands if command)


def infer_kernel(
    backend: Backend,
    work: Work,
    module: nn.Module,
    weights: dict[str, Any],
    batch: Batch,
    implementation: str = "default",
) -> Kernel:
    """Return the kernel that runs the forward pass of a module in an implementation."""
    first = next(iter(weights.values()))
    load_weights(module.to(first.device, first.dtype).eval(), weights)
    if implementation == "channels_last":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = channels_last(batch, work)
    call = inference(compiled(module, first.device, implementation), first.device, work.precision)
    return forward_kernel(call, batch, implementation, fixed=is_fixed(work))


def forward_kernel(call: Callable[..., Any], batch: Batch, implementation: str, *, fixed: bool) -> Kernel:
    """Return the kernel that calls `call` on a batch; those in CAPTURED capture it. fixed: as in `Graphed`."""
    set_search(implementation)
    captured = implementation in CAPTURED
    if captured:
        call = Graphed(call, fixed=fixed)

    def run() -> Any:
        return call(*batch())

    prepare = prepared(run) if implementation in PREPARED else None
    return Kernel(run, inputs=batch.arrays, prepare=prepare, hides_memory=captured)


def is_fixed(work: Work) -> bool:
    """Whether the batch of a work is in the same device memory at every call."""
    return work.scope is Scope.RESIDENT


def load_weights(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a module; raise KeyError unless the names match (batch counters may be missing)."""
    result = module.load_state_dict(dict(weights), strict=False)
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or result.unexpected_keys:
        raise KeyError(f"weights missing: {missing}, unknown: {result.unexpected_keys}")


def channels_last(batch: Batch, work: Work) -> Batch:
    """Return the batch with its images (the first array) in the memory format channels_last (NHWC)."""

    def convert() -> tuple[Any, ...]:
        x, *rest = batch()
        return x.contiguous(memory_format=torch.channels_last), *rest

    if not is_fixed(work):
        return Batch(batch.arrays, convert)
    once = dict(zip(batch.arrays, convert(), strict=True))
    return Batch(once, lambda: tuple(once.values()))


class Graphed:
    """A function captured as a CUDA graph, with one graph per shape of its arguments.

    A replay launches all kernels at once. They use the memory addresses of the capture, so arguments are first copied
    there. `fixed` arguments are always in the same memory and need no copy. Every replay writes its results to the same
    memory. The function runs a few times before its capture, with all side effects (such as updates of weights). A
    compiled function compiles in the first of these runs, its backward pass too: nothing can be compiled in a capture.
    """

    def __init__(self, function: Callable[..., Any], *, fixed: bool = False) -> None:
        self._function, self._fixed = function, fixed
        self._captured: dict[Any, tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...], Any]] = {}

    def __call__(self, *args: torch.Tensor) -> Any:
        """Replay the graph for these arguments; capture it first if their shapes or dtypes are new."""
        key = tuple((arg.shape, arg.dtype) for arg in args)
        if key not in self._captured:
            self._captured[key] = self._capture(args if self._fixed else tuple(arg.clone() for arg in args))
        graph, static, result = self._captured[key]
        if not self._fixed:
            for target, source in zip(static, args, strict=True):
                target.copy_(source)
        graph.replay()
        return result

    def _capture(self, args: tuple[torch.Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...], Any]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(*args)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            result = self._function(*args)
        return graph, args, result
