"""What test_scaling.py asks of two real ranks: `two_ranks FOLDER`, in each of the processes that a launcher starts.

Rank 0 writes a pickle of all that the workloads of the suite `scaling` answered. One launch serves all tests: it takes
longer than they do.
"""

import os
import pickle
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_core.backends import torch_ranks
from bench_core.records import Case, Preset
from bench_core.timing.case import generator, run_case
from bench_core.timing.sampling import Durations
from benchmarks.bench_scaling import IMPLEMENTATIONS, CnnTrainParallel, GptTrainParallel
from tests.support.kernels import CHECK

ADDRESS, RANKS, STEPS = "cpu:x2", 2, 10
WORKLOADS = {workload.name: workload for workload in (GptTrainParallel(), CnnTrainParallel())}
LONGEST = 120  # seconds
SHORT = Durations(budget=0.8, least=0.8, warmup=0.05, warmup_cap=0.1)


def work_of(workload, dtype):
    """Return the smallest work of strong scaling: both ranks get a half of the batch."""
    return workload.variant(*workload.model.presets[Preset.SMOKE], "strong", RANKS, dtype=dtype)


def inputs_of(workload, work):
    return workload.inputs(work, generator(work.case_id, 0))


def asked(folder):
    """Start the ranks and return what they found, by the name of the workload, the implementation and the question."""
    command = torch_ranks.launch(__name__, [str(folder)], RANKS, str(folder), os.getpid())
    environ = {**os.environ, **torch_ranks.environ(str(folder)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, timeout=LONGEST, check=False, capture_output=True, text=True)
    logs = [Path(torch_ranks.log_of(str(folder), rank) or os.devnull).read_text() for rank in range(RANKS)]
    assert done.returncode == 0, "\n".join([done.stderr, *logs])
    return pickle.loads((Path(folder) / "found").read_bytes())


def main(folder):
    backend = torch_ranks.connect(ADDRESS)
    backend.team(RANKS)
    backend.set_threads(1)
    found = {}
    for name, workload in WORKLOADS.items():
        for implementation in IMPLEMENTATIONS:

            def outcome():
                case = Case(work_of(workload, "float32"), "torch", ADDRESS, implementation)  # noqa: B023 - called at once
                done = run_case(case, workload, backend, CHECK)  # noqa: B023
                return done.status.value, done.reason

            found[name, implementation, "checked"] = outcome()
            for fault, planted in FAULTS[implementation].items():
                with planted() as calls:
                    found[name, implementation, fault] = (*outcome(), len(calls))
            (outputs,) = steps(workload, "float32", backend, implementation, 1)
            found[name, implementation, "float32"] = outputs
            many = steps(workload, "float64", backend, implementation, STEPS, ["loss"])
            found[name, implementation, "losses"] = [float(each["loss"]) for each in many]
    for question, changed in (("lazy", exchanging_twice), ("slow", late_rank)):
        with changed():
            found[question] = timed(backend)
    everyone = backend.ranks.every(found["gpt_train_parallel", "ddp", "losses"])
    found["ranks agree"] = all(each == everyone[0] for each in everyone)
    if backend.ranks.rank == 0:
        (Path(folder) / "found").write_bytes(pickle.dumps(found))


def timed(backend):
    """Return status, reason code and flags of a case of DDP that is timed."""
    workload = WORKLOADS["gpt_train_parallel"]
    case = Case(work_of(workload, "float32"), "torch", ADDRESS, "ddp")
    done = run_case(case, workload, backend, replace(CHECK, check_only=False, durations=SHORT))
    return done.status.value, done.reason_code, done.flags


def steps(workload, dtype, backend, implementation, count, names=None):
    """Return what each step answers, from the initial weights on; all of it, or what is named."""
    work = work_of(workload, dtype)
    own = workload.on_rank(work, inputs_of(workload, work), backend.ranks.rank)
    kernel = workload.build(backend, Case(work, "torch", ADDRESS, implementation), own)
    found = []
    for _ in range(count):
        outputs = kernel.outputs(kernel.run())
        found.append({name: np.array(backend.to_host(outputs[name])) for name in names or outputs})
    return found


def silent_ddp(left):
    """Return a fault of DDP. left: what an all_reduce leaves of the gradients of this rank.

    The reducer calls the process group in C++, so no function of Python is in its way but a hook.
    """

    @contextmanager
    def planted():
        import torch

        from benchmarks.nn.modules import parallel

        calls = []

        def hook(state, bucket):
            calls.append(bucket.index())
            future = torch.futures.Future()
            future.set_result(left(bucket.buffer()))
            return future

        class Silent(parallel.DistributedDataParallel):
            def __init__(self, *given, **named):
                super().__init__(*given, **named)
                self.register_comm_hook(None, hook)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel, "DistributedDataParallel", Silent)
            yield calls

    return planted


def silent(names, instead):
    """Return a fault: the function of torch.distributed with the first of the names that it has does `instead`."""

    @contextmanager
    def planted():
        from torch import distributed as dist

        calls = []

        def replaced(*given, **named):
            calls.append(named)
            return instead(*given, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, next(name for name in names if hasattr(dist, name)), replaced)
            yield calls

    return planted


def nothing(*given, **named):
    """Leave the tensor as it was."""


def nothing_arrives(output, input, *given, **named):  # noqa: A002 - of torch
    """Leave the output as if its memory were fresh, but the input, which may be a part of it, as it was.

    Memory that FSDP has used before may hold the right numbers by chance: those of the case before.
    """
    own = input.clone()
    output.zero_()
    input.copy_(own)


def own_part(output, input, op=None, group=None, async_op=False):  # noqa: A002 - of torch
    """Scatter the gradients of this rank, as if they were the mean of all."""
    from torch import distributed as dist

    size = dist.get_world_size(group)
    same = input.chunk(size)[dist.get_rank(group)] * (1 if op == dist.ReduceOp.AVG else size)
    output.copy_(same.view_as(output))


# Names before PyTorch 2.13 come second. FSDP calls these functions of Python; what the checks gather, they gather by
# others: the loss by all_reduce, shards by DTensor.
REDUCE_SCATTER = ("reduce_scatter_single", "reduce_scatter_tensor")
ALL_GATHER = ("all_gather_single", "all_gather_into_tensor")
# By implementation: faults of the exchange of training, and one of the gather of the loss, which is checked as well.
FAULTS = {
    "ddp": {
        "all_reduce does nothing": silent_ddp(lambda gradients: gradients / RANKS),  # DDP divides before it
        "gradients are those of the rank": silent_ddp(lambda gradients: gradients),
        "the loss is that of the rank": silent(("all_reduce",), nothing),
    },
    "fsdp": {
        "reduce_scatter does nothing": silent(REDUCE_SCATTER, nothing_arrives),
        "all_gather does nothing": silent(ALL_GATHER, nothing_arrives),
        "gradients are those of the rank": silent(REDUCE_SCATTER, own_part),
        "the loss is that of the rank": silent(("all_reduce",), nothing),
    },
}


@contextmanager
def exchanging_twice():
    """Let DDP exchange gradients in the two steps after a restart alone, which are those that are checked."""
    from benchmarks.nn.modules.parallel import Replicated

    step, alone, reset = Replicated.step, Replicated.step_alone, Replicated.reset

    def restarted(trainer):
        trainer.calls = 0
        reset(trainer)

    def lazy(trainer, *batch):
        trainer.calls = getattr(trainer, "calls", 0) + 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Replicated, "step", step)
            return step(trainer, *batch) if trainer.calls <= 2 else alone(trainer, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replicated, "reset", restarted)
        patch.setattr(Replicated, "step", lazy)
        yield


@contextmanager
def late_rank():
    """Let rank 1 take 30 ms longer for every step, with an exchange and without one."""
    from benchmarks.nn.modules.parallel import Replicated

    step = Replicated.step

    def late(trainer, *batch):
        time.sleep(0.03 * (torch_ranks.rank_in(os.environ) == 1))
        return step(trainer, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replicated, "step", late)
        yield


if __name__ == "__main__":
    main(sys.argv[1])
