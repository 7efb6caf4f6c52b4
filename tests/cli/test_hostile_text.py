"""No text from elsewhere reaches an output of any command raw: of a file, of a path, of the command line.

A text that does harm is planted in every column of text and in every text of run.json, the names of facts too; before
and behind what stands there; and in paths and options. What a terminal, a page, a spreadsheet or GitHub would take for
more than text must not be in any output.
"""

import csv
import io
import json
import re
import unicodedata

import pytest
from typer.testing import CliRunner

import bench_core
from bench_core.cli import app
from bench_core.errors import TableError
from bench_core.files import digest
from bench_core.records import Traits, to_json
from bench_core.results.reader import read_rows
from bench_core.results.schema import COLUMNS, KINDS
from tests.support.tables import processes, tokens, write

# A title of the terminal, an override of the direction, markup of a page, a mention, a link, a verdict, a formula.
EVIL = "\x1b]0;owned\x07\u202e<img src=x onerror=alert(1)>@everyone [l](https://evil.example) | `c`\r\n## Verdict\r=1+1"
FORMULA = "=1+1|"  # to a spreadsheet, at the beginning of a cell
PATH = "\x1b]0;owned\x07\u202e<img src=x onerror=alert(1)>@everyone `c` \udcff"
CLOSED = {"better", "clock", "scope", "cache", "status", "unit"}  # only known words are read
# They say what a row is of: with another text before it, no device is a CPU; with another metric, nothing has a price.
STRUCTURE = {"metric", "device"}
PRICED = {"time", "token_rate"}
OPEN = [name for name in COLUMNS if KINDS[name] is str and name not in CLOSED]


def planted(folder, table=("results.csv", "samples.csv")):
    """Plant harmful text in every open column of the tables of a run, and in every text of its run.json."""
    digests = {}
    for name in table:
        lines = list(csv.DictReader(io.StringIO((folder / name).read_text())))
        for line in lines:
            mine = [name for name in line if name in OPEN and not (name == "metric" and line[name] in PRICED)]
            line |= {name: f"{FORMULA * (name not in STRUCTURE)}{line[name]}{EVIL}" for name in mine}
        out = io.StringIO()
        writer = csv.DictWriter(out, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        (folder / name).write_text(out.getvalue(), newline="")
        digests[name] = {"sha256": digest(out.getvalue()), "rows": len(lines)}
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(spoilt(about) | {"files": digests}))
    return folder


def spoilt(value):
    """Plant harmful text around every text of a value of JSON, and add a name that is it."""
    if isinstance(value, str):
        return FORMULA + value + EVIL
    if isinstance(value, dict):
        return {name: spoilt(item) for name, item in value.items()} | {EVIL: EVIL}
    return [spoilt(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    fact = {"value": "1.0", "source": "uname", "reason": ""}
    about = {
        "environment": {"host": {"os": fact, "cpu.model": fact}, "workers": {"e": {"torch.version": fact}}},
        "options": {"preset": "quick", "backends": ["numpy"]},
        "traits": {f"{FORMULA}model{EVIL}": {f"{FORMULA}gpt_decode{EVIL}": to_json(Traits(sold_as="tokens"))}},
        "seed": "1",
        "run": {"machine": "a"},
    }
    found = []
    for name in "ab":
        rows = [*processes([1.0, 1.1]), *tokens([0.5, 0.6]), *processes([0.1], backend="cupy", device="cuda:0")]
        found.append(write(tmp_path_factory.mktemp("t") / PATH, rows, name, about=about))
    planted(found[0])
    return found


COMMANDS = {
    "compare": ["compare", "a={a}", "b={b}"],
    "compare-devices": ["compare", "{a}", "--col", "backend,device"],
    "compare-md": ["compare", "a={a}", "b={b}", "--format", "md"],
    "compare-github": ["compare", "a={a}", "b={b}", "--format", "github", "--fail-on", "missing,invalid"],
    "compare-csv": ["compare", "a={a}", "b={b}", "--format", "csv"],
    "compare-json": ["compare", "a={a}", "b={b}", "--format", "json"],
    "cost": ["cost", "a={a}", "--price", "a=1", "--kwh", "1"],
    "cost-csv": ["cost", "a={a}", "b={b}", "--price", "a=1", "--price", "b=2", "--format", "csv"],
    "cost-json": ["cost", "a={a}", "--price", "a=1", "--format", "json"],
    "report": ["report", "{a}", "{b}", "-o", "{out}.html", "--title", EVIL],
    "plot": ["plot", "{a}", "{b}", "--chart", "heatmap", "-o", "{out}.svg"],
    "plot-speedup": ["plot", "{a}", "--chart", "speedup", "-o", "{out}.svg"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_text_of_a_file_reaches_an_output_raw(runs, tmp_path, name):
    out = tmp_path / PATH
    words = {"a": runs[0], "b": runs[1], "out": out}
    done = CliRunner().invoke(app, [word.format(**words) for word in COMMANDS[name]], env={"COLUMNS": "100"})
    assert done.exit_code in {0, 1}, done.output
    written = "".join(path.read_text() for path in sorted(tmp_path.iterdir()))
    shown = done.output + written
    assert "owned" in shown, "the text is not in this output at all: this proves nothing"
    assert not {unicodedata.name(c, hex(ord(c))) for c in shown if not c.isprintable() and c != "\n"}
    assert "<img" not in written
    if name in {"compare-md", "compare-github"}:
        plain = re.sub(r"`[^`\n]*`", "", done.stdout)
        assert not re.search(r"@everyone|<img|https:|^## ", plain, re.MULTILINE)
    if name.endswith("-csv"):
        assert not [cell for line in csv.reader(io.StringIO(shown)) for cell in line if cell.startswith(("=", "@"))]


REFUSED = {
    "command": [PATH],
    "option": ["compare", f"--{PATH}"],
    "argument": ["doctor", PATH],
    "choice": ["plot", "x", "-o", "x.svg", "--chart", PATH],
    "compare": ["compare", PATH],
    "label": ["compare", f"{PATH}=x"],
    "baseline": ["compare", "{a}", "{b}", "--baseline", PATH],
    "filter": ["compare", "{a}", "--filter", PATH],
    "fail-on": ["compare", "{a}", "{b}", "--fail-on", PATH],
    "format": ["compare", "{a}", "--format", PATH],
    "output": ["compare", "{a}", "{b}", "-o", "{out}/x.csv"],
    "extension": ["report", "{a}", "-o", f"{PATH}.txt"],
    "price": ["cost", "{a}", "--price", PATH],
    "check": ["check", "--from", PATH],
    "noise": ["noise", "--target", PATH],
    "run": ["run", "--against", PATH],
    "list": ["list", PATH],
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_text_of_the_command_line_is_shown_raw_where_it_is_refused(runs, tmp_path, name):
    words = {"a": runs[0], "b": runs[1], "out": tmp_path / PATH}
    done = CliRunner().invoke(app, [word.format(**words) for word in REFUSED[name]], env={"COLUMNS": "100"})
    assert done.exit_code in {2, 3}, done.output
    assert "owned" in done.output
    assert not {unicodedata.name(c, hex(ord(c))) for c in done.output if not c.isprintable() and c != "\n"}


def test_a_frame_holds_no_raw_text(runs):
    rows = bench_core.load(runs[0])
    texts = {str(cell) for name in rows for cell in rows[name].unique()}
    assert any("owned" in text for text in texts)
    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize("column", sorted(CLOSED))
def test_a_closed_column_takes_only_its_words_and_the_error_is_harmless(tmp_path, column):
    path = write(tmp_path, processes([1.0])) / "results.csv"
    lines = list(csv.DictReader(io.StringIO(path.read_text())))
    out = io.StringIO()
    writer = csv.DictWriter(out, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(line | {column: line[column] + EVIL} for line in lines)
    path.write_text(out.getvalue(), newline="")
    with pytest.raises(TableError, match=f"column '{column}' holds"):
        read_rows(path)
    done = CliRunner().invoke(app, ["compare", str(path)])
    assert (done.exit_code, done.stderr.count("\n")) == (3, 1)
    assert done.stderr.strip().isprintable()
