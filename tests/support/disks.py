"""File systems of their own, where this user may mount one."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, options):
    """Have a file system in memory at an existing folder for a while; skip the test where none may be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
