"""`bench-core noise` from outside: bad targets, a run that fails, and the name that it once had."""

import json
import signal
import tempfile

import numpy as np
import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.run import replicate
from tests.support.tables import processes, write


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


def test_the_spread_of_the_runs_is_written_where_compare_finds_it(tmp_path, monkeypatch):
    """Ten runs with a known spread: single runs of this machine are compared with it, those of another are not."""
    logs = np.random.default_rng(0).normal(0, 0.02, 10)
    many = write(tmp_path / "temporary", processes(np.exp(logs).tolist()), "box")
    monkeypatch.setattr(replicate, "repeat", lambda *_, **__: [many])
    done = CliRunner().invoke(app, ["noise", f"--bench-output={tmp_path / 'results'}"])
    assert done.exit_code == 0, done.output
    file = tmp_path / "results" / "box" / "noise.json"
    assert str(file) in " ".join(done.stdout.split()).replace("- ", "-")
    found = json.loads(file.read_text())
    assert (found["machine"], found["runs"], found["noise_version"]) == ("box", 10, 1)
    (entry,) = found["spreads"]
    assert entry.pop("spread") == pytest.approx(0.02, rel=0.5)
    assert entry == {"backend": "numpy", "device_type": "cpu", "kind": "products"}
    runs = [write(tmp_path / "results", processes([t]), name) for name, t in (("box", 1.0), ("fox", 1.0))]
    told = " ".join(CliRunner().invoke(app, ["compare", *map(str, runs)]).stdout.split())
    assert "bench-core noise on box" in told
    assert "results/amd-epyc-2c, three runs" in told


def test_four_runs_are_too_few_to_write_a_spread(tmp_path, monkeypatch):
    many = write(tmp_path / "temporary", processes([1.0, 1.1, 0.9, 1.05]), "box")
    monkeypatch.setattr(replicate, "repeat", lambda *_, **__: [many])
    done = CliRunner().invoke(app, ["noise", "--runs=4", f"--bench-output={tmp_path / 'results'}"])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "results").exists()


@pytest.fixture
def signals():
    """Handlers of signals that do nothing, in the place of those that end the process; all are put back."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("complete", [0, 3])
def test_a_signal_ends_noise_with_130_and_leaves_no_folder_but_one_that_is_named(
    tmp_path, monkeypatch, signals, complete
):
    def interrupted(turn, output, arguments):
        write(output, processes([1.0]), "box")  # what the measurement has saved
        signal.raise_signal(signal.SIGTERM)
        return 0

    def repeat(sides, runs, arguments, output, **options):
        if complete:
            write(output, processes([1.0] * complete), "box")
        return real(sides, runs, arguments, output, run_one=interrupted, **options)

    real = replicate.repeat
    monkeypatch.setattr(replicate, "repeat", repeat)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = CliRunner().invoke(app, ["noise"])
    assert done.exit_code == 130, done.output
    assert [path.name.startswith("bench-core-noise-") for path in tmp_path.iterdir()] == [True] * bool(complete)
