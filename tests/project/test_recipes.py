"""The recipes for pandas in results/README.md print what stands below them, and what it says of columns is so."""

import contextlib
import io
import os
import re

import pandas as pd

import bench_core
from bench_core.results.schema import COLUMNS
from tests.support import ROOT

PATH = ROOT / "results" / "README.md"
README = PATH.read_text(encoding="utf-8")
MACHINES = ("amd-epyc-2c", "nvidia-h100-80gb-hbm3_intel-xeon-16c")  # whose results are committed
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def played(folder):
    """Return README with each output replaced by what the code before it prints. The blocks are run in order."""
    _, begin, rest = README.partition("### In pandas")
    recipes, end, after = rest.partition("\n### ")
    said, names = io.StringIO(), {}

    def replayed(block):
        if block[1] == "text":
            shown = f"```text\n{re.sub(r' +$', '', said.getvalue(), flags=re.MULTILINE)}```"
            said.seek(said.truncate(0))
            return shown
        exec(block[2], names)
        return block[0]

    for path in (path for machine in MACHINES for path in ROOT.glob(f"results/{machine}/*/results.csv")):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(path.read_bytes())
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        return README.partition("### In pandas")[0] + begin + BLOCK.sub(replayed, recipes) + end + after


def test_the_recipes_print_what_is_shown(tmp_path):
    made = played(tmp_path)
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(made, encoding="utf-8")
    else:
        assert made == README
    assert made.count("```text") == 5


def test_the_columns_that_shadow_attributes_are_those_named():
    shadows = set(COLUMNS) & set(dir(pd.DataFrame))
    sentence = re.search(r"have the name of an attribute that any frame has: (.*?)\.", README, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", sentence)) == shadows
    assert {name for name in shadows if f"`{name}`" in bench_core.load.__doc__} == shadows


def test_columns_that_shadow_attributes_are_reached_by_brackets_and_in_a_query():
    rows = bench_core.load(ROOT / "results" / "amd-epyc-2c")
    for name in ("size", "flags"):
        one = rows[name].iloc[0]
        assert rows.query(f"{name} == @one").equals(rows[rows[name] == one])
    for name in ("min", "max", "mean", "std"):
        assert 0 < len(rows.query(f"{name} > 1")) == (rows[name] > 1).sum()
