"""A decoder-only language model like GPT-2: training, prefill and decoding.

gpt_train    one training step: forward, backward, AdamW
gpt_prefill  reading a prompt as long as the context: fills the KV cache and computes the logits of the next token
gpt_decode   the loop of text generation, without prefill: one token after another, with the KV cache of earlier ones

Terms are those of vLLM. Time to first token (TTFT) is prefill plus one token. Time per output token (TPOT) is
(latency - TTFT) / (new tokens - 1). `gpt_decode` times the loop from the first token to the last, so its time is
latency - TTFT and contains no prefill. `time_per_output_token` is that time divided by the number of steps. Two more
metrics are measured separately:

time_to_first_token  prefill and the first token; `default` only: other forms read the prompt as `default` does
inter_token_latency  one step of the loop. Steps shorter than 100 us are timed in blocks, and a sample is the mean of a
                     block: percentiles are those of single steps only if steps take longer. Not where the loop is one
                     program
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core.workload import (
    Backend,
    Claim,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Preset,
    Traits,
    Unsupported,
    Work,
    WrongAnswer,
)

from .nn.batches import Samples, affordable, batch_of, distinct, order_of
from .nn.generation import ArrayGeneration, generation_kernel
from .nn.gpt import Gpt
from .nn.names import named
from .nn.optimisers import AdamW
from .nn.training import STEPS, Trained, largest_error, least_bytes, train_step, trained, training_kernel
from .nn.tuned import array_module
from .nn.weights import device_weights, wide_weights
from .nn.workloads import (
    TORCH,
    TORCH_CUDA,
    ModelWorkload,
    array_kernels,
    by_implementation,
    torch_cpu_kernels,
)
from .sizes import itemsize

RATE = 3e-4  # learning rate: AdamW changes each weight by about this per step; thousands of timed steps do not diverge

# layers, heads, width, context, vocabulary; batch
PRESETS = {
    Preset.SMOKE: (Gpt(2, 2, 64, 32, 256), 4),
    Preset.QUICK: (Gpt(4, 4, 128, 64, 256), 12),
    Preset.STANDARD: (Gpt(6, 6, 384, 256, 256), 64),
    Preset.FULL: (Gpt(12, 12, 768, 1024, 50304), 16),
}
MOST_TEXTS = 4  # largest number of texts from one prompt: where two tokens are about equally likely, rounding decides
PROMPTS = {32: (16, 16), 64: (32, 32), 256: (128, 128), 1024: (512, 128)}  # prompt and new tokens, by context


def network(work: Work) -> Gpt:
    """Return the network of a work."""
    return Gpt(**{field.name: work[field.name] for field in fields(Gpt)})


def samples(work: Work) -> int:
    """Return the number of distinct sequences in a training check."""
    net = network(work)
    return affordable(work["batch"], STEPS * net.train_flops(net.context))


def array_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in array code: forward, hand-written backward, AdamW."""
    xp = array_module(backend, implementation)
    optimiser = AdamW(xp, device_weights(backend, host, work.dtype), RATE)
    step = partial(train_step, xp, network(work), optimiser)
    return training_kernel(
        step, optimiser.reset, batch_of(backend, work, host), lambda: optimiser.params, samples(work)
    )


def torch_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in torch: nn.Module, autograd, fused torch.optim.AdamW.

    Attention is scaled_dot_product_attention, or products and a softmax for the implementation "explicit".
    """
    from .nn.modules import sdpa
    from .nn.modules.gpt import GptModule
    from .nn.modules.training import adamw, train_kernel

    net, explicit = network(work), implementation == "explicit"
    module = GptModule(net, explicit=explicit)
    kernel = train_kernel(backend, work, host, module, adamw(RATE, implementation), samples(work), implementation)
    if explicit:
        return kernel
    attention = sdpa.chosen_for_itself(backend, work, net, net.context, causal=True, grad=True)
    return sdpa.told(kernel, backend, work, [attention])


def array_prefill(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that fills an empty KV cache with a whole context, in array code."""
    _require_wide(backend, work)
    net, xp = network(work), array_module(backend, implementation)
    params, batch = device_weights(backend, host, work.dtype), batch_of(backend, work, host, ["x"])
    kv_cache = net.kv_cache(xp, work["batch"], net.context, work.dtype)
    return Kernel(lambda: net.extend(xp, params, kv_cache, *batch(), 0), inputs=batch.arrays)


def torch_prefill(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that fills an empty KV cache with a whole context, in torch's inference mode."""
    from .nn.modules.generation import prefill_kernel

    return prefill_kernel(
        backend,
        work,
        network(work),
        device_weights(backend, host, work.dtype),
        batch_of(backend, work, host, ["x"]),
        implementation,
    )


def array_decode(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that generates tokens greedily, one at a time, in array code."""
    _require_wide(backend, work)
    net, params = network(work), device_weights(backend, host, work.dtype)
    prompt = backend.from_host(host["x"])
    xp = array_module(backend, implementation)
    return generation_kernel(ArrayGeneration(xp, net, params, prompt, work["new"]))


def torch_decode(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that generates tokens greedily in torch: nn.Module in inference mode.

    Compiled and captured steps have static shapes.
    """
    from .nn.modules import sdpa
    from .nn.modules.generation import generation
    from .nn.modules.running import CAPTURED, prepared

    net = network(work)
    prompt, params = backend.from_host(host["x"]), device_weights(backend, host, work.dtype)
    loop = generation(work, net, params, prompt, implementation)
    kernel = generation_kernel(loop, None if implementation == "default" else prepared)
    query, _, _ = sdpa.projected(backend, work, net, 1)
    kernel = sdpa.told(kernel, backend, work, loop.attention_backends(query))
    return replace(kernel, hides_memory=implementation in CAPTURED)


def _require_wide(backend: Backend, work: Work) -> None:
    if work.dtype not in {"float32", "float64"}:
        raise Unsupported(
            "dtype_unsupported",
            f"the array code of {backend.name} accumulates in {work.dtype} (no float32 accumulation)",
        )


class GptWorkload(ModelWorkload):
    """Base class of training, prefill and decoding: sizes and weights."""

    traits = Traits(order=7, claims=(Claim.TOKENS,))
    presets = PRESETS
    per_sample: ClassVar[tuple[str, ...]] = ("x", "targets")

    def variant(self, network: Gpt, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        size = f"{network.layers}L{network.heads}H{network.width}-t{network.context}-b{batch}"
        return self.work(size, dtype, **asdict(network), batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return random tokens and weights; the cost of a step does not depend on the text."""
        net = network(work)
        text = rng.integers(net.vocabulary, size=(work["batch"], net.context + 1))
        weights = named("weights", net.initial(rng, work.dtype))
        return {"x": np.ascontiguousarray(text[:, :-1]), "targets": np.ascontiguousarray(text[:, 1:]), **weights}


class GptTrain(GptWorkload):
    """One training step: forward, backward, AdamW at rate 3e-4, decay 0.01."""

    name = "gpt_train"
    traits = replace(GptWorkload.traits, claims=(Claim.TRAINING, Claim.NETWORKS), sold_as="tokens trained")
    quick_forms = ("tuned",)
    headline_forms = ("default", "compile")
    doubled = True
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_train, "numpy", "cupy"),
        "torch": by_implementation(torch_train, *TORCH, "explicit"),
        "torch:cpu": torch_cpu_kernels(torch_train, "explicit"),
        "torch:cuda": by_implementation(torch_train, *TORCH_CUDA, "explicit"),
    }

    def costs(self, work: Work) -> Costs:
        """Return `Gpt.train_flops` per sequence: `flops` with full attention, `causal_flops` with causal attention."""
        net, batch = network(work), work["batch"]
        tokens = float(batch * net.context)
        causal = batch * net.train_flops(net.context, causal=True)
        amounts = {"samples": float(batch), "tokens": tokens, "causal_flops": causal}
        least = least_bytes(net.parameters(), itemsize(work.dtype), averages=2)
        return Costs(batch * net.train_flops(net.context), least_bytes=least, amounts=amounts)

    def footprint(self, work: Work) -> float:
        """Return the bytes of 7 copies of all weights; per token: 40 C values per layer, scores (2 x), logits (3 x)."""
        net, item = network(work), itemsize(work.dtype)
        token = net.layers * (40 * net.width + 2 * net.heads * net.context) + 3 * net.vocabulary
        return float(item * (7 * net.parameters() + work["batch"] * net.context * token))

    def samples(self, work: Work) -> int:
        return samples(work)

    def reference(self, work: Work, host: HostArrays) -> Trained:
        return trained(network(work), partial(AdamW, rate=RATE), host)

    def error(self, work: Work, expected: Trained, answer: HostArrays) -> float:
        return largest_error(answer, expected, work.precision)


class GptPrefill(GptWorkload):
    """Read a prompt that fills the context: keys and values of every token, logits of the last."""

    name = "gpt_prefill"
    precisions = ("tf32",)  # no autocast: models are served with weights in the narrow format, see `formats`
    formats = ("bfloat16",)
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_prefill, "numpy", "cupy"),
        "torch": by_implementation(torch_prefill, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_prefill),
        "torch:cuda": by_implementation(torch_prefill, *TORCH_CUDA),
    }

    def costs(self, work: Work) -> Costs:
        """Return the FLOPs of the blocks for every token and of the head for the last token only.

        `flops` with full attention, `causal_flops` with causal attention.
        """
        net, batch = network(work), work["batch"]
        heads = batch * (net.context - 1) * 2 * net.width * net.vocabulary  # forward_flops counts a head per token
        flops, causal = (batch * net.forward_flops(net.context, causal=c) - heads for c in (False, True))
        amounts = {"samples": float(batch), "tokens": float(batch * net.context), "causal_flops": causal}
        return Costs(flops, least_bytes=float(net.parameters() * itemsize(work.dtype)), amounts=amounts)

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights (2 copies), KV cache, 16 C values per token, and one block's scores (2 copies).

        The next block reuses the memory of the scores.
        """
        net = network(work)
        token = 2 * net.layers * net.width + 16 * net.width + 2 * net.heads * net.context
        return float(itemsize(work.dtype) * (2 * net.parameters() + work["batch"] * net.context * token))

    def samples(self, work: Work) -> int:
        net = network(work)
        return affordable(work["batch"], net.forward_flops(net.context))

    def reference(self, work: Work, host: HostArrays) -> Samples:
        logits, _ = network(work).forward(np, wide_weights(host), distinct(host, "x"))
        return Samples(logits[:, -1], order_of(host, "x"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        """Return the relative error of the logits after the last token of every sequence."""
        return expected.error(answer["out"])


class GptDecode(GptWorkload):
    """Greedy generation of all new tokens after the first, with a KV cache: `new` - 1 steps, without prefill."""

    name = "gpt_decode"
    traits = replace(GptWorkload.traits, sold_as="tokens generated")
    per_sample = ("x",)
    uploaded = False  # the prompt is read before the first token, outside of the timed call
    quick_forms = ("cudagraph",)
    headline_forms = ("default", "cudagraph", "scan")
    precisions = ("tf32",)  # no autocast: models are served with weights in the narrow format, see `formats`
    formats = ("bfloat16",)
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_decode, "cupy"),
        "torch": by_implementation(torch_decode, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_decode),
        "torch:cuda": by_implementation(torch_decode, *TORCH_CUDA),
    }

    def variant(self, network: Gpt, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        prompt, new = PROMPTS[network.context]
        size = f"{network.layers}L{network.heads}H{network.width}-p{prompt}n{new}-b{batch}"
        return self.work(size, dtype, **asdict(network), prompt=prompt, new=new, batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net = network(work)
        prompt = rng.integers(net.vocabulary, size=(work["batch"], work["prompt"]))
        return {"x": prompt, **named("weights", net.initial(rng, work.dtype))}

    def costs(self, work: Work) -> Costs:
        """Return `Gpt.extend_flops` and `Gpt.extend_bytes`, summed over the steps.

        The bytes are those of weights and KV cache. bytes / time / peak bandwidth is the memory bandwidth utilisation
        (MBU), which is meaningful only if the weights do not fit in a cache.
        """
        net, batch = network(work), work["batch"]
        starts = range(work["prompt"], work["prompt"] + work["new"] - 1)
        moved = sum(net.extend_bytes(batch, start, itemsize(work.dtype)) for start in starts)
        flops = sum(batch * net.extend_flops(1, start) for start in starts)
        return Costs(flops, moved, moved, amounts={"tokens": float(batch * len(starts)), "steps": float(len(starts))})

    def touched(self, work: Work) -> float:
        """Return the bytes that one step reads on average: weights and KV cache."""
        costs = self.costs(work)
        return (costs.bytes or 0.0) / costs.amounts["steps"]

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights (2 copies), KV cache, and what reading the prompt holds: see `GptPrefill`."""
        net, prompt = network(work), work["prompt"]
        kv_cache = (prompt + work["new"]) * 2 * net.layers * net.width
        reading = prompt * (16 * net.width + 2 * net.heads * prompt)
        return float(itemsize(work.dtype) * (2 * net.parameters() + work["batch"] * (kv_cache + reading)))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], network(work).forward_flops(work["prompt"] + work["new"]))

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:
        """Compare every generated token with a forward pass over prompt and generated tokens, without a cache.

        A token is accepted if its logit in the reference is the largest, or below the largest by at most 10 tolerances,
        since rounding may then choose it. Return the relative error of the logits after the last token. Equal sequences
        are compared once. `expected` are the inputs.
        """
        tokens = answer["first"] if "first" in answer else answer["tokens"]
        new = 1 if "first" in answer else work["new"]
        if tokens.shape != (work["batch"], new) or tokens.min() < 0 or tokens.max() >= work["vocabulary"]:
            raise WrongAnswer(f"tokens {tokens.shape} from {tokens.min()} to {tokens.max()}", code="wrong_shape")
        text = np.concatenate([expected["x"], tokens], axis=1)
        texts, order = np.unique(text, axis=0, return_inverse=True)
        if len(texts) > MOST_TEXTS * self.samples(work):
            raise WrongAnswer(f"{self.samples(work)} prompts led to {len(texts)} texts")
        logits, _ = network(work).forward(np, wide_weights(expected), texts[:, :-1])
        logits = logits[:, work["prompt"] - 1 :]
        chosen = np.take_along_axis(logits, texts[:, work["prompt"] :, None], axis=-1)[..., 0]
        regret = float((logits.max(axis=-1) - chosen).max() / np.abs(logits).max())
        if regret > 10 * self.tolerance(work).high:
            raise WrongAnswer(f"a generated token's logit is {regret:.2g} (relative) below the best one's", regret)
        return Samples(logits[:, -1], order.reshape(-1)).error(answer["logits"])


@pytest.mark.workload(GptTrain())
def test_gpt_train(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(GptPrefill())
def test_gpt_prefill(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(GptDecode())
def test_gpt_decode(measure: Callable[[], None]) -> None:
    measure()
