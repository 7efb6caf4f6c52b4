"""The queries in results/QUERIES.md answer what stands below them, and what it says of the views is so."""

import os
import re

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support import ROOT
from tests.support.planted_history import write_history

PATH = ROOT / "results" / "QUERIES.md"
TEXT = PATH.read_text(encoding="utf-8") if PATH.is_file() else ""
QUERY = re.compile(r"^```sql\n(.*?)^```\n\n```text\n.*?^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("duckdb", reason="needs the extra `history`")
    pytest.importorskip("pyarrow", reason="needs the extra `history`")
    path = tmp_path_factory.mktemp("history")
    write_history(path)
    return path


def asked(folder, sql):
    given = ["history", "query", sql, str(folder), "--limit", "20"]
    done = CliRunner().invoke(app, given, env={"COLUMNS": "110"})
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return done.stdout


def test_the_queries_answer_what_is_shown(folder):
    def replayed(block):
        return f"```sql\n{block[1]}```\n\n```text\n{asked(folder, block[1])}```"

    made = QUERY.sub(replayed, TEXT)
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(made, encoding="utf-8")
    else:
        assert made == TEXT
    assert len(QUERY.findall(made)) == 10


def test_the_columns_of_runs_are_those_named(folder):
    (cell,) = re.findall(r"^\| `runs` \| one row a run: (.*) \|$", TEXT, re.MULTILINE)
    told = re.findall(r"`(\w+)`(?! \))", re.sub(r"by `env_id`", "", cell))
    names = re.findall(r"^(\S+)", asked(folder, "SELECT column_name FROM (DESCRIBE runs)"), re.MULTILINE)[2:]
    assert told == names
