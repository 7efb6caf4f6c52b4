"""What is measured: one file per family of work, found by pytest as `bench_*.py`.

A file declares workloads (axes, inputs, costs, kernel bodies, check) and one test for each; how they are
measured is bench_core's part. See README.md for how to add one.
"""
