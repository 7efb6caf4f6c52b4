"""The suite's torch GPT train step against a plain nn.Module script of the same shape, turn by turn in one process.

    python -m tests.native.plain_gpt [--rounds 15]

The script below is what a PyTorch user writes without this suite: torch's own layers, its own initial weights,
a fused AdamW, no harness. Both are timed by the suite's algorithm.
"""

from __future__ import annotations

import argparse
import random
from statistics import median

import torch
from torch import nn

from bench_core.backends import registry
from bench_core.records import Machine, Preset
from bench_core.timing.case import generator
from bench_core.timing.sampling import Durations, WallTimer, sample_series
from bench_core.timing.watch import Watch
from benchmarks.bench_gpt import GptTrain

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY, BATCH = 4, 4, 128, 64, 256, 12  # the quick preset


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, HEADS, c // HEADS).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, dim=2))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


def plain():
    """Return one training step of the script."""
    torch.manual_seed(0)
    model = Plain()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    ids = torch.randint(0, VOCABULARY, (BATCH, CONTEXT + 1))
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        optimiser.step()

    return step


def suite():
    """Return one training step of the suite."""
    backend, workload = registry.load("torch")("cpu"), GptTrain()
    work = next(
        work
        for work in workload.works(Preset.QUICK, Machine(last_level_cache=32 << 20, cores=1))
        if work.dtype == "float32" and work.precision == "ieee" and work["batch"] == BATCH
    )
    host = workload.inputs(work, generator(work.case_id, 0))
    return workload.kernels["torch"]["default"](backend, work, host).run


def seconds(run):
    return median(
        sample_series("time", run, WallTimer(lambda: None), Durations(budget=1.0), Watch.of("cpu", None)).calm
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    contenders = {"suite": suite(), "plain": plain()}
    ratios, times = [], {name: [] for name in contenders}
    for _ in range(rounds):
        for name in random.sample(sorted(contenders), 2):
            times[name].append(seconds(contenders[name]))
        ratios.append(times["plain"][-1] / times["suite"][-1])
    for name, taken in times.items():
        print(f"{name}: {BATCH * CONTEXT / median(taken):,.0f} tokens/s (median of {rounds})")
    print(f"suite / plain, tokens/s: median {median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
