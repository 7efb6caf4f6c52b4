import numpy as np

import bench_core


def gelu(x, xp):
    return 0.5 * x * (1 + xp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


if __name__ == "__main__":
    x = np.random.default_rng(0).standard_normal(1_000_000, dtype="float32")
    print(bench_core.measure(gelu, x, reference=gelu, bytes=2 * x.nbytes))
