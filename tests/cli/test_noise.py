"""`bench-core noise` from outside: bad targets, a run that fails, and the name that it once had."""

import tempfile

import pytest
from typer.testing import CliRunner

from bench_core.cli import app


@pytest.mark.parametrize("target", ["0%", "-5%", "100%", "5"])
def test_a_target_that_is_no_change_is_refused_before_anything_runs(target):
    done = CliRunner().invoke(app, ["noise", f"--target={target}"])
    assert done.exit_code == 2
    assert "--target" in done.stderr


def test_the_log_of_a_failed_run_is_where_the_message_says(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = CliRunner().invoke(app, ["noise", "--runs", "4", "--", str(tmp_path / "bench_none.py")])
    assert done.exit_code == 4
    (log,) = tmp_path.rglob("log.txt")
    assert done.stderr.splitlines()[-1].endswith(f"(full log: {log})")


def test_aa_is_still_understood_as_noise_and_is_not_listed():
    old, new = (CliRunner().invoke(app, [name, "--help"]) for name in ("aa", "noise"))
    assert (old.exit_code, old.stdout.replace(" aa ", " noise ")) == (0, new.stdout)
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0, done.exception
    listed = done.stdout
    assert "  noise " in listed
    assert "  aa " not in listed
