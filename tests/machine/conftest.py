"""A kernel whose files a test plants."""

import pytest

from bench_core.machine import host

_CACHED = (host.usable_cores, host.cpu_model, host.cpu_flags, host.cache_sizes)


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that writes a file of the kernel, text or bytes; host sees these files only."""
    monkeypatch.setattr(host, "ROOT", tmp_path)

    def forget():
        for function in _CACHED:
            function.cache_clear()

    def write(path, contents):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(contents if isinstance(contents, bytes) else contents.encode())

    forget()
    yield write
    monkeypatch.undo()
    forget()
