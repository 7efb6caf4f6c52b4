"""`bench-core compare` from outside: exit codes, output, errors on one line."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import bench_core
from bench_core.cli import app
from tests.support.tables import measured, on_host, processes, work, write

FIVE = (1.0, 1.01, 0.99, 1.02, 0.98)


def run(*arguments):
    """Run the command line; any exception other than an exit fails the test."""
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def runs(tmp_path):
    """Two machines, b half as fast; c on the same work without any value in common; s with one run."""
    return {
        "a": write(tmp_path, processes(FIVE), "a"),
        "b": write(tmp_path, processes([2 * t for t in FIVE]), "b"),
        "c": write(tmp_path, processes(FIVE, of=work("32")), "c"),
        "s": write(tmp_path, [measured([5.0, 5.1])], "s"),
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("{a} {b}", 0),
        ("{a} {b} --fail-on regression --threshold 150%", 0),
        ("{b} {a} --fail-on regression,missing,invalid", 0),
        ("{a} {b} --fail-on regression", 1),
        ("{a} {s} --fail-on regression", 5),
        ("{a} {s} --fail-on regression,missing", 5),
        ("{a} {s} {c} --fail-on regression,missing", 1),
        ("{a} {b} {c} --fail-on missing", 1),
        ("{a} {b} --baseline z", 2),
        ("{a} {b} --fail-on=", 2),
        ("{a} {b} --require-same=", 2),
        ("before= {b}", 2),
        ("{a} {b} -o", 2),
        ("{a} {b} -o {a}/x.pdf", 2),
        ("{a} {b} --filter wrkload=='x'", 2),
        ("{a} {b} --metric speed", 2),
        ("{a} {b} --metric time,gpu_temperature", 2),
        ("{a} {b} --col colour", 2),
        ("{a} {b} --col device_type", 2),
        ("{a} {b} --row colour", 2),
        ("{a} {b} --fail-on slow", 2),
        ("{a} {b} --min-effect lots", 2),
        ("{a} {b} --min-effect 5", 2),
        ("{a} {b} --fail-on regression --threshold 10", 2),
        ("{a} {b} --fail-on regression --threshold 2%", 2),
        ("{a} {b} --fail-on regression --threshold 2% --min-effect 2%", 1),
        ("{a} {b} --confidence 95", 2),
        ("{a} {b} --confidence x", 2),
        ("{a} {b} --format pdf", 2),
        ("{a} {b} --frobnicate", 2),
        ("x={a} x={b}", 2),
        ("x/y={a} {b}", 3),
        ("x;y={a} {b}", 2),
        ("{a} {b} -o {a}/no/such/folder.md", 2),
        ("", 2),
        ("{a} nothing.csv", 3),
        ("{a}", 3),
        ("{a} {c}", 3),
        ("{a} {b}/samples.csv", 3),
        ("{a} {c} --fail-on regression", 3),
        ("{a} {b} --require-same library", 0),
        ("{a} {b} --require-same driver", 4),
    ],
)
def test_each_command_line_ends_with_its_exit_code(runs, arguments, code):
    """0 compared, 1 a gate is breached, 2 usage, 3 unreadable or nothing compared, 4 incompatible, 5 undecided."""
    done = run(*arguments.format(**runs).split())
    assert done.exit_code == code, done.output
    if code == 5:
        assert "UNDECIDED regression: no case supports a claim: " in " ".join(done.stdout.split())
    if code not in {0, 1, 5}:
        assert done.stdout == ""
    if code in {3, 4}:
        assert done.stderr.startswith("bench-core: ")
        assert done.stderr.count("\n") == 1


def test_256_regressions_are_still_exit_code_one(tmp_path):
    """An exit code of 256 would become 0, which means success."""
    sizes = [str(n) for n in range(1, 257)]
    a = write(tmp_path, [m for s in sizes for m in processes(FIVE, of=work(s))], "a")
    b = write(tmp_path, [m for s in sizes for m in processes([2 * t for t in FIVE], of=work(s))], "b")
    done = subprocess.run(
        [sys.executable, "-c", "from bench_core.cli import app; app()", "compare", a, b, "--fail-on", "regression"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "256 cases slower by 10 % or more" in " ".join(done.stdout.split())
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["out.md", "out.csv", "out.json", "out.txt"])
def test_the_file_name_says_the_format_and_breaches_are_still_told(runs, tmp_path, name):
    done = run(runs["a"], runs["b"], "-o", tmp_path / name, "--fail-on", "regression")
    starts = {"md": "### Verdict", "csv": "comparison_version,", "json": "{", "txt": "Verdict\n"}
    assert (tmp_path / name).read_text().startswith(starts[name.rpartition(".")[2]])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("bench-core: FAILED regression: 1 case slower by 10 % or more: matmul 64 float32")


@pytest.mark.parametrize("options", ["-o {}/page.html", "-o {}/page.HTM", "--format html", "-o {}/x.md --format html"])
def test_html_is_refused_and_report_is_named_instead(runs, tmp_path, options):
    """The HTML report has no baseline and no smallest effect, so compare does not write HTML."""
    done = run(runs["a"], runs["b"], "--baseline", "b", *options.format(tmp_path).split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "bench-core: compare writes no HTML; for a page with charts: bench-core report PATH... -o report.html\n"
    )


def test_the_format_that_is_named_wins_over_the_name_of_the_file(runs, tmp_path):
    assert run(runs["a"], runs["b"], "-o", tmp_path / "x.html", "--format", "md").exit_code == 0
    assert (tmp_path / "x.html").read_text().startswith("### Verdict")


def test_the_version_is_told():
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"bench-core {bench_core.__version__}\n")


def test_a_pipe_gets_no_colour_and_no_line_beside_the_csv(runs):
    assert "\x1b" not in run(runs["a"], runs["b"]).stdout
    done = run(runs["a"], runs["b"], "--format", "csv")
    assert done.stdout.count("\n") == 2


def test_labels_compare_two_runs_of_one_machine(tmp_path):
    runs = [write(tmp_path, processes([f * t for t in FIVE]), "m", run_id=f"r{f}") for f in (1, 2)]
    plain = run(*runs)
    assert plain.exit_code == 3
    assert "give them labels: before=A after=B" in plain.stderr
    labelled = run(f"before={runs[0]}", f"after={runs[1]}", "--format", "json")
    (c,) = json.loads(labelled.stdout)["comparisons"]
    assert (c["against"], c["side"], c["change"], c["verdict"]) == ("before", "after", "2.00x slower", "unclear")
    assert "measure in turns" in c["reason"], "labels do not make two machines of one"


def test_a_lone_table_is_compared_with_a_note(runs, tmp_path):
    lone = shutil.copy(runs["b"] / "results.csv", tmp_path / "mailed.csv")
    done = run(runs["a"], lone)
    assert done.exit_code == 0
    assert "a single table without samples: its intervals are used" in " ".join(done.stdout.split())


@pytest.mark.parametrize("form", ["table", "md", "json"])
def test_two_computers_with_one_name_are_two_sides_and_the_fact_that_differs_is_named(tmp_path, form):
    for day, (memory, factor) in enumerate([(25e9, 1), (135e9, 1.47)], start=1):
        about = on_host(cpu__model="AMD EPYC", memory__total=memory)
        seconds = processes([factor * t for t in FIVE])
        write(tmp_path, seconds, "box", about, run_id=f"r{day}", started_at=f"2001-01-0{day}")
    done = run(tmp_path, *(["--format", form] if form != "table" else []))
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    said = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"
    assert said in text
    assert "1.47x slower" in text
    if form == "json":
        (c,) = json.loads(done.stdout)["comparisons"]
        assert (c["against"], c["side"], c["verdict"]) == ("box", "box:2", "slower")


def test_an_error_about_a_file_is_one_line_without_escapes(tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("\x1b[31mred\x1b[0m,b\n1,2\n")
    done = run(bad)
    assert (done.exit_code, done.stderr.count("\n"), "\x1b" in done.stderr) == (3, 1, False)


def test_comparing_imports_no_array_library_and_no_frame():
    """Every call pays the start-up time, so torch, cupy, pandas and scipy.stats must not be imported."""
    code = (
        "import sys; import bench_core.compare, bench_core.render, bench_core.cli.compare; "
        "print([m for m in ('torch', 'cupy', 'pandas', 'scipy.stats', 'altair') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_backends_of_a_single_machine_are_its_sides(tmp_path):
    """`bench-core compare results`, which a new user types first, compares the backends."""
    path = write(tmp_path, [*processes(FIVE), *processes([2 * t for t in FIVE], backend="torch")])
    done = run(path)
    assert done.exit_code == 0, done.output
    assert "Baseline: numpy" in done.stdout
    assert "2.00x slower" in done.stdout
