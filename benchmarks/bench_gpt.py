"""A decoder language model of GPT-2's kind: trained, read a prompt, asked for more word by word.

gpt_train    one training step: forward, backward, AdamW
gpt_prefill  reading a prompt as long as the context: fills the KV cache, says the next token
gpt_decode   the loop behind every chat: one token after another, each from the KV cache of all before; no prefill

Serving terms as vLLM uses them: time to first token (TTFT) is prefill plus one token; time per output token
(TPOT) is (latency - TTFT) / (new tokens - 1). `gpt_decode` times exactly the loop that runs between the first
token and the last, so its time is latency - TTFT and prefill is never mixed in. `time_per_output_token` is that
time divided by the steps. Two further series are measured by themselves:

time_to_first_token  prefill and the first token, by the eager form alone: only steps are compiled or captured
inter_token_latency  one step of the loop. Steps shorter than a sample (100 us) are timed in blocks, and a sample is
                     then the mean of its block: percentiles of single steps are seen only above that
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core.workload import Backend, Costs, HostArrays, Kernel, Kernels, Preset, Unsupported, Work, WrongAnswer
from benchmarks.nn.batches import Samples, affordable, batch_of, distinct, order_of
from benchmarks.nn.generation import ArrayGeneration, generation_kernel
from benchmarks.nn.gpt import Gpt
from benchmarks.nn.names import named
from benchmarks.nn.optimisers import AdamW
from benchmarks.nn.training import STEPS, Trained, largest_error, least_bytes, train_step, trained, training_kernel
from benchmarks.nn.weights import device_weights, wide_weights
from benchmarks.nn.workloads import ModelWorkload, by_implementation, itemsize

RATE = 3e-4  # AdamW moves every weight by about this much a step: thousands of timed steps stay tame

# layers, heads, width, context, vocabulary; batch
PRESETS = {
    Preset.SMOKE: (Gpt(2, 2, 64, 32, 256), 4),
    Preset.QUICK: (Gpt(4, 4, 128, 64, 256), 12),
    Preset.STANDARD: (Gpt(6, 6, 384, 256, 256), 64),
    Preset.FULL: (Gpt(12, 12, 768, 1024, 50304), 16),
}
MOST_TEXTS = 4  # that may come from one prompt: where two tokens are about as likely, rounding decides
PROMPTS = {32: (16, 16), 64: (32, 32), 256: (128, 128), 1024: (512, 128)}  # context: prompt, new tokens


def network(work: Work) -> Gpt:
    """Return the network that a work names."""
    return Gpt(**{field.name: work[field.name] for field in fields(Gpt)})


def samples(work: Work) -> int:
    """Return how many sequences a check of the training tells apart."""
    net = network(work)
    return affordable(work["batch"], STEPS * net.train_flops(net.context))


def array_train(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Forward, backward and AdamW, by hand."""
    optimiser = AdamW(backend.xp, device_weights(backend, host, work.dtype), RATE)
    step = partial(train_step, backend.xp, network(work), optimiser)
    return training_kernel(
        step, optimiser.reset, batch_of(backend, work, host), lambda: optimiser.params, samples(work)
    )


def torch_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """nn.Module, autograd, fused torch.optim.AdamW; attention is scaled_dot_product_attention unless `explicit`."""
    from benchmarks.nn.modules import sdpa
    from benchmarks.nn.modules.gpt import GptModule
    from benchmarks.nn.modules.training import adamw, train_kernel

    net, explicit = network(work), implementation == "explicit"
    module = GptModule(net, explicit=explicit)
    kernel = train_kernel(backend, work, host, module, adamw(RATE, implementation), samples(work), implementation)
    if explicit:
        return kernel
    attention = sdpa.chosen_for_itself(backend, work, net, net.context, causal=True, grad=True)
    return sdpa.told(kernel, backend, work, [attention])


def array_prefill(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Extend an empty KV cache by a whole context."""
    _require_wide(backend, work)
    net, xp = network(work), backend.xp
    params, batch = device_weights(backend, host, work.dtype), batch_of(backend, work, host, ["x"])
    kv_cache = net.kv_cache(xp, work["batch"], net.context, work.dtype)
    return Kernel(lambda: net.extend(xp, params, kv_cache, *batch(), 0), inputs=batch.arrays)


def torch_prefill(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Extend an empty KV cache by a whole context, in inference mode."""
    from benchmarks.nn.modules.generation import prefill_kernel

    return prefill_kernel(
        backend,
        work,
        network(work),
        device_weights(backend, host, work.dtype),
        batch_of(backend, work, host, ["x"]),
        implementation,
    )


def array_decode(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Extend the KV cache by one greedily chosen token at a time."""
    _require_wide(backend, work)
    net, params = network(work), device_weights(backend, host, work.dtype)
    prompt = backend.from_host(host["x"])
    return generation_kernel(ArrayGeneration(backend.xp, net, params, prompt, work["new"]))


def torch_decode(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Do the same with nn.Module in inference mode; compiled and captured steps keep all shapes static."""
    from benchmarks.nn.modules import sdpa
    from benchmarks.nn.modules.generation import generation
    from benchmarks.nn.modules.running import prepared

    net = network(work)
    prompt, params = backend.from_host(host["x"]), device_weights(backend, host, work.dtype)
    loop = generation(work, net, params, prompt, implementation)
    kernel = generation_kernel(loop, None if implementation == "default" else prepared)
    query, _, _ = sdpa.projected(backend, work, net, 1)
    kernel = sdpa.told(kernel, backend, work, loop.attention_backends(query))
    return replace(kernel, hides_memory=implementation == "cudagraph")


def _require_wide(backend: Backend, work: Work) -> None:
    if work.dtype not in {"float32", "float64"}:
        raise Unsupported(
            "dtype_unsupported",
            f"the array code of {backend.name} accumulates in {work.dtype} (no float32 accumulation)",
        )


class GptWorkload(ModelWorkload):
    """What all three share: sizes and weights."""

    presets = PRESETS
    per_sample: ClassVar[tuple[str, ...]] = ("x", "targets")

    def variant(self, network: Gpt, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        size = f"{network.layers}L{network.heads}H{network.width}-t{network.context}-b{batch}"
        return self.work(size, dtype, **asdict(network), batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Tokens are drawn at random: a step costs the same on any text."""
        net = network(work)
        text = rng.integers(net.vocabulary, size=(work["batch"], net.context + 1))
        weights = named("weights", net.initial(rng, work.dtype))
        return {"x": np.ascontiguousarray(text[:, :-1]), "targets": np.ascontiguousarray(text[:, 1:]), **weights}


class GptTrain(GptWorkload):
    """One training step: forward, backward, AdamW at rate 3e-4, decay 0.01."""

    name = "gpt_train"
    headline = ("default", "compile")
    doubled = True
    kernels: ClassVar[Kernels] = {
        "array": {"default": array_train},
        "torch": by_implementation(torch_train, "default", "explicit", "compile"),
        "torch:cuda": by_implementation(torch_train, "default", "explicit", "compile", "cudagraph"),
    }

    def costs(self, work: Work) -> Costs:
        """`Gpt.train_flops` with full attention as `flops`, with causal attention as `causal_flops`."""
        net, batch = network(work), work["batch"]
        tokens = float(batch * net.context)
        causal = batch * net.train_flops(net.context, causal=True)
        amounts = {"samples": float(batch), "tokens": tokens, "causal_flops": causal}
        least = least_bytes(net.parameters(), itemsize(work), averages=2)
        return Costs(batch * net.train_flops(net.context), least_bytes=least, amounts=amounts)

    def footprint(self, work: Work) -> float:
        """Seven vectors of all weights; of each token 40 C a layer, its attention twice, and its logits three times."""
        net, itemsize = network(work), np.dtype(work.dtype).itemsize
        token = net.layers * (40 * net.width + 2 * net.heads * net.context) + 3 * net.vocabulary
        return float(itemsize * (7 * net.parameters() + work["batch"] * net.context * token))

    def samples(self, work: Work) -> int:
        return samples(work)

    def reference(self, work: Work, host: HostArrays) -> Trained:
        return trained(network(work), partial(AdamW, rate=RATE), host)

    def error(self, work: Work, expected: Trained, answer: HostArrays) -> float:
        return largest_error(answer, expected, work.precision)


class GptPrefill(GptWorkload):
    """Read a prompt that fills the context: keys and values of every token, logits of the last."""

    name = "gpt_prefill"
    precisions = ("tf32",)  # models are served with weights in the narrow format itself
    formats = ("bfloat16",)
    kernels: ClassVar[Kernels] = {
        "array": {"default": array_prefill},
        "torch": by_implementation(torch_prefill, "default", "compile"),
        "torch:cuda": by_implementation(torch_prefill, "default", "compile", "cudagraph"),
    }

    def costs(self, work: Work) -> Costs:
        """Blocks for every token, the head for the last: full attention as `flops`, causal as `causal_flops`."""
        net, batch = network(work), work["batch"]
        heads = batch * (net.context - 1) * 2 * net.width * net.vocabulary  # what forward_flops counts too much
        flops, causal = (batch * net.forward_flops(net.context, causal=c) - heads for c in (False, True))
        amounts = {"samples": float(batch), "tokens": float(batch * net.context), "causal_flops": causal}
        return Costs(flops, least_bytes=float(net.parameters() * itemsize(work)), amounts=amounts)

    def footprint(self, work: Work) -> float:
        """Weights; keys and values of every token; 16 C a token and the scores of one block, reused by the next."""
        net = network(work)
        token = 2 * net.layers * net.width + 16 * net.width + 2 * net.heads * net.context
        return float(itemsize(work) * (net.parameters() + work["batch"] * net.context * token))

    def samples(self, work: Work) -> int:
        net = network(work)
        return affordable(work["batch"], net.forward_flops(net.context))

    def reference(self, work: Work, host: HostArrays) -> Samples:
        logits, _ = network(work).forward(np, wide_weights(host), distinct(host, "x"))
        return Samples(logits[:, -1], order_of(host, "x"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - the reference says all
        """Compare the logits after the last token of every sequence."""
        return expected.error(answer["out"])


class GptDecode(GptWorkload):
    """New tokens after the first, greedily, each from the KV cache: `new` - 1 steps. Prefill is not in it."""

    name = "gpt_decode"
    per_sample = ("x",)
    uploaded = False  # prompts are read before the first token, and that is not in it
    quick = ("cudagraph",)
    headline = ("default", "cudagraph")
    precisions = ("tf32",)  # models are served with weights in the narrow format itself
    formats = ("bfloat16",)
    kernels: ClassVar[Kernels] = {
        "array": {"default": array_decode},
        "torch": by_implementation(torch_decode, "default", "compile"),
        "torch:cuda": by_implementation(torch_decode, "default", "compile", "cudagraph"),
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
        """Sum `Gpt.extend_flops` and `Gpt.extend_bytes` over the steps.

        The bytes are the weights and the KV cache: bytes / time / peak bandwidth is the memory bandwidth
        utilisation (MBU), which means something only where the weights do not fit into a cache.
        """
        net, batch = network(work), work["batch"]
        starts = range(work["prompt"], work["prompt"] + work["new"] - 1)
        moved = sum(net.extend_bytes(batch, start, itemsize(work)) for start in starts)
        flops = sum(batch * net.extend_flops(1, start) for start in starts)
        return Costs(flops, moved, moved, amounts={"tokens": float(batch * len(starts)), "steps": float(len(starts))})

    def touched(self, work: Work) -> float:
        """Return what one step reads: weights and cache."""
        costs = self.costs(work)
        return (costs.bytes or 0.0) / costs.amounts["steps"]

    def footprint(self, work: Work) -> float:
        """Weights, and keys and values of every token."""
        net = network(work)
        kv_cache = work["batch"] * (work["prompt"] + work["new"]) * 2 * net.layers * net.width
        return float(itemsize(work) * (net.parameters() + kv_cache))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], network(work).forward_flops(work["prompt"] + work["new"]))

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:
        """Compare every token with a full forward pass over prompt and generated tokens, without a cache.

        Each token must be the reference's own choice, or one that rounding may prefer: its logit is hardly below the
        best one's. The error is that of the logits after the last token. Sequences that are alike are compared once.
        """
        tokens = answer["first"] if "first" in answer else answer["tokens"]
        new = 1 if "first" in answer else work["new"]
        if tokens.shape != (work["batch"], new) or tokens.min() < 0 or tokens.max() >= work["vocabulary"]:
            raise WrongAnswer(f"tokens {tokens.shape} from {tokens.min()} to {tokens.max()}", code="wrong_shape")
        text = np.concatenate([expected["x"], tokens], axis=1)
        texts, order = np.unique(text, axis=0, return_inverse=True)
        if len(texts) > MOST_TEXTS * self.samples(work):
            raise WrongAnswer(f"from {self.samples(work)} prompts came {len(texts)} texts")
        logits, _ = network(work).forward(np, wide_weights(expected), texts[:, :-1])
        logits = logits[:, work["prompt"] - 1 :]
        chosen = np.take_along_axis(logits, texts[:, work["prompt"] :, None], axis=-1)[..., 0]
        regret = float((logits.max(axis=-1) - chosen).max() / np.abs(logits).max())
        if regret > 10 * self.tolerance(work).high:
            raise WrongAnswer(f"a generated token's logit is {regret:.2g} of the largest below the best one's", regret)
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
