"""The benchmarks: one file per family of workloads, found by pytest as `bench_*.py`.

A file declares workloads (axes, inputs, costs, kernels, check) and one test for each. bench_core measures them.
README.md explains how to add one. The kernels of most dialects are in these files; those in JAX are added to them.
"""

from bench_core.backends import kernels

kernels.add("jax", f"{__name__}.jax_kernels:KERNELS")
kernels.add("jax:cpu", f"{__name__}.jax_kernels:ON_CPU")
