"""`python -m bench_core`: the command line, for use if the script `bench-core` is not on the PATH."""

from bench_core.cli import app

if __name__ == "__main__":
    app(prog_name="bench-core")
