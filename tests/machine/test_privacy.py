"""Nothing that names the machine or its user passes, and ordinary text does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench_core.machine import privacy
from tests.support.properties import given, st


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    """A host and a user with names that must never come out."""
    monkeypatch.setattr(socket, "gethostname", lambda: "zeus-17.lab.example")
    monkeypatch.setattr(privacy.getpass, "getuser", lambda: "mmustermann")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/mmustermann"))
    privacy._names.cache_clear()
    yield
    privacy._names.cache_clear()


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("no such file: /home/mmustermann/venv/lib/libcuda.so.1", "no such file: libcuda.so.1"),
        (r"C:\Users\mmustermann\torch\lib\c10.dll is missing", "c10.dll is missing"),
        ("'~/data/x.csv'", "'x.csv'"),
        ("zeus-17.lab.example refused mmustermann", "<host> refused <user>"),
        ("on zeus-17: out of memory", "on <host>: out of memory"),
        ("GPU-8f6d1b2c-0123-4567-89ab-cdef01234567 is lost", "<uuid> is lost"),
        ("MIG-8f6d1b2c-0123-4567-89ab-cdef01234567", "<uuid>"),
        ("MIG-GPU-8f6d1b2c-0123-4567-89ab-cdef01234567/1/0", "<uuid>"),
        ("connect to 10.1.2.3 failed", "connect to <address> failed"),
        ("device 00:1b:44:11:3a:b7", "device <address>"),
        ("device 00-1b-44-11-3a-b7 or 001b.4411.3ab7", "device <address> or <address>"),
        ("fe80::1ff:fe23:4567:890a and ::1, at 12:34:56", "<address> and <address>, at 12:34:56"),
        ("written by a.person+x@mail.example.org", "written by <address>"),
        ("No space left on device: '/scratch'", "No space left on device: 'scratch'"),
        ("-I/usr/include (/opt/x/y.h)", "-Iinclude (y.h)"),
        ("see https://example.org/a, (a)/b and \\x1b[0m", "see https://example.org/a, (a)/b and \\x1b[0m"),
        ("CUDA 13.0 / driver 580.65.06, 3/4 of the memory", "CUDA 13.0 / driver 580.65.06, 3/4 of the memory"),
        ("relative error 1e-3 is above 2/3 of a and/or b", "relative error 1e-3 is above 2/3 of a and/or b"),
    ],
)
def test_scrub_masks_names_uuids_and_addresses_and_cuts_paths(text, scrubbed):
    assert privacy.scrub(text) == scrubbed


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("4", None),
        ("cub,cutensor", None),
        ("max_split_size_mb:128", None),
        ("Debian GNU/Linux 12 (bookworm)", None),
        ("/scratch/cache", "a path"),
        ("(/scratch/cache)", "a path"),
        ("-L/scratch", "a path"),
        ("1 / 2 of the rows", None),
        ("https://example.org/a", None),
        ("std::x", None),
        ("~/cache", "a path"),
        ("cache:/scratch", "a path"),
        (r"C:\cache", "a path"),
        ("GPU-8f6d1b2c-0123-4567-89ab-cdef01234567", "a UUID"),
        ("192.168.0.7", "an address"),
        ("zeus-17", "a host or user name"),
    ],
)
def test_why_private_says_what_must_not_leave_the_machine(value, why):
    assert privacy.why_private(value) == why


@given(st.text(), st.sampled_from(["zeus-17", "mmustermann"]), st.text())
def test_names_never_survive_between_other_words(before, name, after):
    assert name not in privacy.scrub(f"{before} {name} {after}")


def test_names_of_everyday_use_stay(monkeypatch):
    """A container's user is often called root: masking that word would only spoil messages."""
    monkeypatch.setattr(privacy.getpass, "getuser", lambda: "root")
    privacy._names.cache_clear()
    assert privacy.scrub("the root cause") == "the root cause"


@pytest.mark.parametrize(("user", "said"), [("ada", "<user> was here"), ("al", "al was here")])
def test_a_name_of_three_letters_is_masked_and_a_shorter_one_is_any_word(monkeypatch, user, said):
    monkeypatch.setattr(privacy.getpass, "getuser", lambda: user)
    privacy._names.cache_clear()
    assert privacy.scrub(f"{user} was here") == said


@given(st.text(alphabet="/~\\ab.:-_ C1'()@0", max_size=40))
def test_what_is_scrubbed_may_be_published(text):
    """So that no error message of a case keeps its run from being published."""
    assert privacy.why_private(privacy.scrub(text)) is None


def test_a_version_of_four_numbers_is_no_address_where_a_version_is_meant():
    assert privacy.why_private("9.19.0.56") == "an address"
    assert privacy.why_private("cuDNN 9.19.0.56", of_version=True) is None
    assert privacy.why_private("9.19.0.56 on 10.1.2.3 of /home/x", of_version=True) == "a path"
