"""`python -m bench_core`: the command line, for use if the script `bench-core` is not on the PATH."""

import sys


def main() -> None:
    """Run the command line. A file that hides a module of Python is named in one line, with exit code 2."""
    try:
        from bench_core.cli import app  # noqa: PLC0415 - the path is right only now

        app(prog_name="bench-core")  # which imports what the command needs
    except Exception as error:
        from bench_core.child_main import name_hiding  # noqa: PLC0415

        try:
            name_hiding(error)
        except ImportError as named:
            sys.stderr.write(f"bench-core: {named}\n")
            sys.exit(2)
        raise


if __name__ == "__main__":
    if not sys.flags.safe_path:  # Python has put the working folder first, where its files hide modules of Python
        sys.path.append(sys.path.pop(0))
    main()
