"""Tables made of what other benchmark programs have written: `bench-core import`.

formats.py reads a file of any known format with the module of that format (pytest_benchmark.py, google_benchmark.py,
nvbench.py, babelstream.py, nvbandwidth.py; fields.py reads JSON and numbers for them) into an Imported (entries.py), of
which tables.py makes the folder of a run. What a format lacks stays empty.
"""
