"""Files are read and written whole: one too large is refused, and a write that fails changes nothing."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from bench_core.errors import TableError
from bench_core.files import read_text, write_atomically


def test_a_file_too_large_to_be_a_table_is_not_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a" * 100)
    with pytest.raises(TableError, match="100 bytes: more than the 10 that are read"):
        read_text(path, most_bytes=10)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (bytes(range(256)), "a binary file of an unknown kind"),
        (b"\x83\xa1a\x01\xa1b\x02" * 9, "a binary file of an unknown kind"),  # MessagePack
        (b"abc\x00\x01\x02\x03\x00" * 9, "a binary file of an unknown kind"),  # valid UTF-8
        (bytes(99), "holds only NUL bytes: damaged, perhaps by a power cut"),
        (b"a,b\n" * 300 + b"\xe9\n", "is not UTF-8 text: save it as UTF-8"),
        ("\u0416\n".encode("cp1251") * 99, "is not UTF-8 text: save it as UTF-8"),
        (b"a,b\n" * 300 + bytes(99), "holds a NUL byte: damaged, or not text"),
        ("a,b\n".encode("utf-16-le"), "looks like UTF-16 without a byte order mark: save it as UTF-8"),
        ("a,b\n".encode("utf-32-le"), "looks like UTF-32 without a byte order mark: save it as UTF-8"),
        ("a,\u00e9\n".encode("utf-16-be"), "looks like UTF-16 without a byte order mark: save it as UTF-8"),
    ],
)
def test_only_a_text_is_advised_to_be_saved_in_another_encoding(tmp_path, raw, said):
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    with pytest.raises(TableError) as caught:
        read_text(path)
    assert str(caught.value).endswith(f": {said}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes("a,\u00e9\n".encode(encoding))
    assert read_text(path) == "a,\u00e9\n"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in Path(tmp_path).iterdir()] == ["t.csv"]


def test_a_link_stays_and_what_it_names_is_written(tmp_path):
    for name, there in [("old", True), ("new", False)]:
        (tmp_path / "far").mkdir(exist_ok=True)
        target, link = tmp_path / "far" / name, tmp_path / f"{name}-link"
        if there:
            target.write_text("before")
        link.symlink_to(target)
        write_atomically(link, "after")
        assert (link.is_symlink(), target.read_text()) == (True, "after")
    assert sorted(p.name for p in (tmp_path / "far").iterdir()) == ["new", "old"]


def test_a_device_stays_a_device():
    before = Path(os.devnull).stat()
    write_atomically(Path(os.devnull), "text")
    after = Path(os.devnull).stat()
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)


def test_a_fifo_gets_the_content_and_stays(tmp_path):
    path, read = tmp_path / "fifo", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    write_atomically(path, "text" * 50_000)
    reader.join(10)
    assert (read, stat.S_ISFIFO(path.stat().st_mode)) == (["text" * 50_000], True)


def test_neither_a_folder_nor_a_disk_nor_a_file_without_permission_is_replaced(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, "text")
    path = tmp_path / "t.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        write_atomically(path, "new")
    monkeypatch.setattr(stat, "S_ISREG", lambda _: False)
    monkeypatch.setattr(stat, "S_ISBLK", lambda _: True)
    with pytest.raises(OSError, match="it is a block device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_a_file_keeps_its_mode_and_a_new_one_gets_that_of_the_process(tmp_path):
    old, new, plain = (tmp_path / name for name in ("old", "new", "plain"))
    old.write_text("")
    old.chmod(0o640)
    plain.write_text("")
    for path in (old, new):
        write_atomically(path, "text")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (old, new)] == [0o640, stat.S_IMODE(plain.stat().st_mode)]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("whole")
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".bench-core-known.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "t.csv", "text")
    assert victim.read_text() == "whole"


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path):
    write_atomically(tmp_path / "t.txt", "a\ud800b")
    assert (tmp_path / "t.txt").read_text() == "a\\ud800b"


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="open files have no names here")  # noqa: PTH110
@pytest.mark.parametrize("through", ["descriptor", "link to it"])
def test_an_open_file_gets_the_content_where_the_redirection_of_a_shell_stands(tmp_path, through):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    with log.open("ab") as redirected:
        path = Path(f"/dev/fd/{redirected.fileno()}")
        if through == "link to it":
            path = tmp_path / "link"
            path.symlink_to(f"/dev/fd/{redirected.fileno()}")
        inode = log.stat().st_ino
        write_atomically(path, "text\n")
        redirected.write(b"after\n")
    assert log.read_text() == "before\ntext\nafter\n"
    assert log.stat().st_ino == inode
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        write_atomically(Path("/dev/fd/987"), "text")


def test_a_loop_of_links_is_refused_and_stays(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        write_atomically(loop, "text")
    assert loop.is_symlink()


@pytest.fixture
def replace_fails(tmp_path, monkeypatch):
    """Return an old file, and a function that lets renames onto it fail, and the first renames of any kind."""
    path = tmp_path / "t.csv"
    path.write_text("old")
    rename = Path.rename

    def fail(number, *renames):
        def give_up(*_):
            raise OSError(number, os.strerror(number))

        def next_one(*two):
            return (pending.pop(0) if pending else rename)(*two)

        pending = list(renames)
        monkeypatch.setattr(Path, "replace", give_up)
        monkeypatch.setattr(Path, "rename", next_one)
        return path

    fail.works, fail.error = rename, lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO)))
    return fail


def test_a_file_system_that_cannot_rename_onto_a_file_gets_the_new_one(replace_fails, tmp_path):
    write_atomically(replace_fails(errno.EEXIST), "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"t.csv": "new"}


def test_a_rename_that_fails_leaves_the_old_file_and_nothing_else(replace_fails, tmp_path):
    for fail in (
        lambda: replace_fails(errno.EIO),
        lambda: replace_fails(errno.EEXIST, replace_fails.error),
        lambda: replace_fails(errno.EEXIST, replace_fails.works, replace_fails.error),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_atomically(fail(), "new")
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"t.csv": "old"}


def test_an_old_file_that_cannot_be_put_back_is_named(replace_fails, tmp_path):
    path = replace_fails(errno.EEXIST, replace_fails.works, replace_fails.error, replace_fails.error)
    with pytest.raises(OSError, match="what was there is now") as caught:
        write_atomically(path, "new")
    (left,) = tmp_path.iterdir()
    assert (left.read_text(), left.name) == ("old", caught.value.strerror.split()[-1])
