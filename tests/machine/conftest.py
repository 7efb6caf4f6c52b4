"""A kernel whose files a test plants."""

import pytest

from bench_core.machine import kernel_files
from tests.support.kernel import forget


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that writes a file of the kernel, text or bytes; bench_core sees these files only."""
    monkeypatch.setattr(kernel_files, "ROOT", tmp_path)

    def write(path, contents):
        forget()
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(contents if isinstance(contents, bytes) else contents.encode())

    forget()
    yield write
    monkeypatch.undo()
    forget()
