"""No command overwrites what it has read."""

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.cli.common import write
from bench_core.compare import read
from bench_core.errors import UsageError
from tests.support.tables import processes
from tests.support.tables import write as write_table


@pytest.fixture
def run(tmp_path):
    return write_table(tmp_path, processes([1.0, 1.0]), "a")


@pytest.mark.parametrize("name", ["results.csv", "samples.csv", "run.json", "../noise.json", "link"])
def test_a_file_that_was_read_is_not_overwritten_under_any_name(run, name):
    (run.parent / "noise.json").write_text("{}")
    (run / "link").symlink_to("results.csv")
    before = (run / name).read_bytes()
    with pytest.raises(UsageError, match=r"^--output .*: is one of the files to read: "):
        write(run / name, "text", read([str(run)]))
    assert (run / name).read_bytes() == before
    write(run / "other.csv", "text", read([str(run)]))
    assert (run / "other.csv").read_text() == "text"


def test_compare_refuses_to_overwrite_its_second_table(run):
    table = run / "results.csv"
    before = table.read_bytes()
    done = CliRunner().invoke(app, ["compare", f"a={table}", f"b={table}", "-o", str(table)])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert f"--output {table}: is one of the files to read" in done.stderr
    assert table.read_bytes() == before
