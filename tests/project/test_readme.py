"""README.md is true: its table and its picture are what the committed run measured, its samples and those of the rooms'
READMEs are real output, and every command runs as it stands, on less work (a smoke run of one workload on NumPy)."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

import bench_core
from bench_core import units
from bench_core.compare import Verdict, compare, read
from bench_core.records import Clock
from tests.support import ROOT
from tests.support.documents import README as PATH
from tests.support.documents import TOLD
from tests.support.planned import HEADLINE
from tests.support.readme_table import TABLE
from tests.support.tables import processes, write

README = PATH.read_text(encoding="utf-8")
REFERENCE = "amd-epyc-2c"  # whose results the samples of commands show
WITH_GPU = "nvidia-h100-80gb-hbm3_intel-xeon-16c"  # whose results the table shows
MARKS = re.compile(r"(?<=\(UPDATE_GOLDEN=1\) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
FORMS = {(case.work.workload, case.implementation) for case in HEADLINE}
VERSIONS = {case.work.workload: case.work.version for case in HEADLINE}
MOST = 0.15  # of a value that is shown, to either end of its interval
FEWER = {
    "--runs 5 --against": "--runs 1 --against",
    "--runs 5": "--runs 2",
    "--precision 3% --time 20m": "--precision 3% --time 1s",  # one round tells that there is no time for a second
    "bench-core noise": "bench-core noise --runs 4",
    "fleet run --on local": "fleet run --on local --runs 1",
}
ONE = "triad and float64 and not tuned or cases.py and multiply"
LESS = f"--bench-preset=smoke --bench-backends=numpy --bench-budget=0.01 -p no:cacheprovider -k '{ONE}'"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TOLD, re.DOTALL | re.MULTILINE)


def commands():
    """Yield every command that the READMEs show: in a block, at a prompt, or inline."""
    for line in "".join(blocks("bash")).splitlines():
        yield from line.split("  #")[0].strip().split(" && ")
    inline = re.findall(r"`((?:bench-core|pytest|tox|srun|python -m pip)\b[^`]*)`", TOLD)
    yield from [*re.findall(r"^\$ (.*)$", TOLD, re.MULTILINE), *inline]


def commands_of(*programs):
    return sorted({command for command in commands() if command.split()[0] in programs})


def longest(given):
    """Return commands without those that another one has with one more option of the plugin: it runs them too."""
    shorter = {command.rpartition(" --bench-")[0] for command in given}
    return [command for command in given if command not in shorter]


def link_or_copy(source, target):
    """Link if possible: samples are megabytes, and no test writes to these files."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture
def clone(installed, tmp_path):
    """Create a clone with the benchmarks, some results, and a fake srun that runs its command locally."""
    for name in ("benchmarks", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    copies = {REFERENCE: REFERENCE, WITH_GPU: WITH_GPU, "h100": REFERENCE, "laptop": REFERENCE}
    for name, source in copies.items():
        shutil.copytree(ROOT / "results" / source, tmp_path / "results" / name, copy_function=link_or_copy)
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    srun.chmod(0o755)
    return tmp_path


def gates():
    return [c for c in commands_of("bench-core") if "--fail-on" in c]


def measure_in_turns(clone, slower, runs):
    """Write two sides of one series, as `--against` writes them, and nothing else of this machine."""
    shutil.rmtree(clone / "gate", ignore_errors=True)
    for name, times in (("against", (1.0, 1.01, 0.99, 1.02, 0.98)), ("this", (1.0, 1.0, 1.0, 1.01, 0.99))):
        done = processes([t * (slower if name == "this" else 1.0) for t in times[:runs]])
        write(clone / "gate", done, REFERENCE, {"series": "s"}, run_id=f"s-{name}")


def play(command, clone, code=0, slower=1.0, runs=5):
    """Run a command of the README in a clone, which must exit with this code; return what it printed.

    slower: the times of this side, relative to those of the other; runs: of each.
    """
    for long, short in FEWER.items():
        command = command.replace(long, short)
    if gates()[0] in command:
        measure_in_turns(clone, slower, runs)
    command = command.replace("PYTHON", sys.executable).replace("LABEL", "node7").replace("MACHINE", REFERENCE)
    path = os.pathsep.join([str(clone / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COLUMNS"))}
    home = clone / "home"  # `--install-completion` writes into it
    home.mkdir(exist_ok=True)
    environment = clean | {"PATH": path, "PYTEST_ADDOPTS": LESS, "HOME": str(home)}
    done = subprocess.run(
        shlex.split(command), cwd=clone, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_gate_is_breached_by_a_slowdown_and_not_by_a_speed_up(clone):
    (command,) = gates()
    assert "FAILED regression" in play(command, clone, code=1, slower=2.0)
    assert "PASSED regression" in play(command, clone, slower=0.5)
    assert "UNDECIDED regression" in play(command, clone, code=5, runs=4)


def test_the_workflow_of_the_gate_fails_for_a_regression_and_shows_the_comparison(clone):
    """Its last step is run as GitHub does; its other commands are those of the recipe."""
    (workflow,) = blocks("yaml")
    (command,) = gates()
    assert "bench-core run --runs 5 --against env/old/bin/python --bench-output=gate new/speed" in workflow
    *_, step = (textwrap.dedent(text) for text in workflow.split("- run: |\n"))
    assert step.startswith(command)
    (clone / "step.sh").write_text(step.replace("$GITHUB_STEP_SUMMARY", "summary.md"))
    for slower, runs, code in ((2.0, 5, 1), (1.0, 5, 0), (1.0, 4, 0)):
        measure_in_turns(clone, slower, runs)
        play("bash -e step.sh", clone, code=code)
    said = (clone / "summary.md").read_text()
    assert [said.count(f"{word} regression") for word in ("FAILED", "PASSED", "UNDECIDED")] == [1, 1, 1]


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in longest(commands_of("bench-core", "pytest", "srun"))
        if not {"RUN", "results/FLEET", "FLEET", "check", "--bench-require=cupy,torch:cuda"} & set(c.split())
    ],
)
def test_a_command_runs(command, clone):
    assert play(command, clone) or (clone / "report.html").stat().st_size > 100_000


def test_the_check_measures_and_judges(clone):
    """Only launches, which have no known range: other limits could be low on a busy machine."""
    printed = play("bench-core check -k launch", clone, code=3)
    assert re.search(r"nothing known +one launch +numpy +[\d.]+ [nµm]s", printed)
    assert "No range is known for this device" in printed


def test_a_killed_run_is_finished_by_the_command_that_the_readme_gives(clone):
    play("pytest --benchmark-only --bench-machine=m --bench-keep-journal", clone)
    (folder,) = (clone / "results" / "m").iterdir()
    (folder / "run.json").unlink()
    (command,) = [c for c in commands_of("bench-core", "srun") if "RUN" in c]
    assert f"results: {folder.relative_to(clone)}" in play(
        command.replace("RUN", str(folder.relative_to(clone))), clone
    )


def test_what_is_to_be_installed_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = [command for command in commands_of("python") if "pip install" in command]
    extras = {
        extra for command in installs for part in re.findall(r"\[([\w,]+)\]", command) for extra in part.split(",")
    }
    assert {"torch", "report", "cuda12", "cuda13"} <= extras <= set(project["optional-dependencies"])
    assert {file for command in installs for file in re.findall(r"-c (\S+)", command)} == {"constraints.txt"}
    assert sum("tox" in command for command in installs) == 1  # followed by tox: the gate runs both


@pytest.mark.parametrize(
    ("extra", "version"), [("cuda12", "2.10.0"), ("cuda13", "2.13.0"), ("torch", "2.10.0"), ("torch", "2.13.0")]
)
def test_the_constraints_leave_each_extra_the_pytorch_that_it_needs(extra, version):
    """PyPI's 2.10 is built for CUDA 12.8, those after it for CUDA 13: one pin would contradict one of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    requirements = [Requirement(line) for line in [*filter(None, lines), *project["optional-dependencies"][extra]]]
    about = [requirement.specifier for requirement in requirements if requirement.name == "torch"]
    assert len(about) == 2
    assert all(version in specifier for specifier in about)


def test_the_extras_for_cuda_exclude_each_others_pytorch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [Requirement(line) for name in ("cuda12", "cuda13") for line in project["optional-dependencies"][name]]
    older, newer = (pin.specifier for pin in pins if pin.name == "torch")
    assert not any(version in older and version in newer for version in ("2.9.0", "2.10.0", "2.11.0", "2.13.0"))


def fastest(rows):
    """Return the row with the highest median, by which `bench-core compare` ranks too."""
    return rows.loc[rows["value"].idxmax()]


def why_not_shown(rows):
    """Return why the table shows no value of some rows: there is none, or its interval is unknown or too wide."""
    if (rows["status"] == "unsupported").any():
        return "unsupported"
    if rows.empty:
        return "not measured"
    row = fastest(rows)
    return "" if row.certain else "one call" if row.n == 1 else "uncertain"


def shown(rows):
    """Return the fastest of some rows as the table shows it: at the p10 of its times, of which compare's ratios are."""
    if why := why_not_shown(rows):
        return why
    row = fastest(rows)
    amount = {"sample_rate": " samples/s", "token_rate": " tokens/s"}.get(row.metric, "")
    rate = units.show(row.compared, row.unit)
    return rate.removesuffix("/s").rstrip() + amount if amount else rate


def shown_with_doer(rows):
    """Return the same with backend and implementation, if there is a value."""
    if why_not_shown(rows):
        return shown(rows)
    row = fastest(rows)
    doer = f"{row.backend} {row.implementation}".removesuffix(" default")
    return f"{doer}, {shown(rows)}"


def shown_speed_up(gpu, cpu):
    """Return the interval of the ratio of what is shown of the two, with two digits; only if it is indicated."""
    if why_not_shown(gpu) or why_not_shown(cpu):
        return ""
    (found,) = [comparisons()[case_id] for case_id in set(gpu["case_id"]) if case_id in comparisons()]
    return interval(found) if found.verdict is Verdict.INDICATED else "unclear"


def interval(comparison):
    return f"{two_digits(comparison.ci_low)} to {two_digits(comparison.ci_high)} x"


def two_digits(ratio):
    return f"{float(f'{ratio:.2g}'):g}"


@functools.cache
def comparisons():
    """Return what `bench-core compare` says of GPU against CPU by case_id, of the machine that the table shows."""
    best = compare(read([str(ROOT / "results" / WITH_GPU)])).best
    return {b.comparison.key.case_id: b.comparison for b in best if b.comparison.key.clock == Clock.WALL}


def with_compared(rows):
    """Return rows with the columns `compared` and `certain`.

    compared: the value at the p10 of the times, as compare takes it. Over several runs it is the geometric mean, and
    `value` the median. certain: whether the interval of a row is known and within MOST.
    """
    result = ["case_id", "backend", "implementation", "device", "threads", "clock"]
    times = rows[rows["metric"] == "time"].assign(share=lambda of: of["value"] / of["p10"])
    both = rows.merge(times[["run_id", *result, "share"]], "left", ["run_id", *result])
    widest = pd.concat([both["ci_high"] / both["value"], both["value"] / both["ci_low"]], axis=1).max(
        axis=1, skipna=False
    )
    both = both.assign(certain=(widest <= 1 + MOST).fillna(value=False))
    runs = both.assign(logs=np.log(both["value"] * both["share"])).groupby([*result, "metric"], dropna=False)
    return both.assign(value=runs["value"].transform("median"), compared=np.exp(runs["logs"].transform("mean")))


def table(rows):
    """Return the table of README.md: for the GPU and all CPU cores of one machine.

    All its work and implementations are in the preset `headline` (tests/benchmarks/test_headline.py). Rows of an
    earlier version of a workload are left out, because they are of different work.
    """
    rows = with_compared(rows[rows["machine"] == WITH_GPU]).sort_values("run_id")
    cores = rows["threads"].max()
    lines = [
        f"| work | NumPy, {cores} cores | PyTorch, {cores} cores | GPU | speed-up, 95 % (indicated) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, workload, size, dtype, precision, metric in TABLE:
        keys = {"workload": workload, "size": size, "dtype": dtype, "precision": precision}
        keys |= {"scope": "resident", "cache": "hot", "workload_version": VERSIONS[workload]}
        every = rows[(rows[list(keys)] == pd.Series(keys)).all(axis=1)]
        every = every[(every["status"] == "unsupported") | ((every["metric"] == metric) & (every["clock"] == "wall"))]
        forms = zip(every["workload"], every["implementation"], strict=True)
        every = every[pd.Series([form in FORMS for form in forms], index=every.index, dtype=bool)]
        every = every.drop_duplicates(["backend", "implementation", "device", "threads"], keep="last")
        every = every[(every["status"] == "ok") | ~every["backend"].isin(every["backend"][every["status"] == "ok"])]
        cpu, gpu = every[every["threads"] == cores], every[every["device_type"] == "cuda"]
        numpy, torch = (shown(cpu[cpu["backend"] == backend]) for backend in ("numpy", "torch"))
        cells = (label, numpy, torch, shown_with_doer(gpu), shown_speed_up(gpu, cpu[cpu["status"] == "ok"]))
        if any("/s" in cell for cell in cells):
            lines.append(f"| {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def test_the_table_is_what_the_committed_run_measured():
    made = table(bench_core.load(ROOT / "results"))
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(MARKS.sub(lambda _: made, README), encoding="utf-8")
    else:
        assert MARKS.search(README)[0] == made


def test_every_speed_up_of_the_table_is_the_interval_of_compare_and_contains_the_ratio_of_the_values_shown():
    """One run a side indicates and claims nothing. Digits that are not shown make up to 5 % of a value."""
    ranges = re.findall(r"\| ([\d.]+) to ([\d.]+) x \|$", MARKS.search(README)[0], re.MULTILINE)
    rates = [re.findall(r"([\d.]+ (?:[kMGTP] )?\S+/s)", line) for line in MARKS.search(README)[0].splitlines()]
    ratios = [amount(gpu) / max(map(amount, cpu)) for *cpu, gpu in filter(None, rates) if cpu]
    assert len(ranges) == len(ratios) >= 8
    assert [
        (low, high) for (low, high), r in zip(ranges, ratios, strict=True) if not float(low) < r < float(high)
    ] == []
    made = {interval(c) for c in comparisons().values() if c.verdict is Verdict.INDICATED}
    assert {f"{low} to {high} x" for low, high in ranges} <= made
    assert "speed-up, 95 % (indicated)" in README


def amount(shown):
    """Return a rate of the table as a number."""
    number, unit = shown.split(" ", 1)
    return float(number) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.get(unit[0], 1.0)


def test_the_work_that_the_table_leaves_out_is_named_below_it():
    left_out = [label for label, *_ in TABLE if f"| {label} |" not in README]
    below = " ".join(README.partition("<!-- end of table -->")[2].split())
    assert left_out
    assert [label for label in left_out if label.partition(" (")[0] not in below] == []


PICTURE = ROOT / "results" / WITH_GPU / "speedup.svg"


def test_the_picture_is_what_plot_draws_of_the_work_with_a_speed_up_in_the_table_and_of_a_launch(installed, tmp_path):
    """Its texts are compared, which hold all numbers: where they stand depends on fonts."""
    pytest.importorskip("vl_convert", reason="charts need the extra `report`")
    shown_here = [line.split(" | ")[0].removeprefix("| ") for line in README.splitlines() if line.endswith(" x |")]
    workloads = sorted({workload for label, workload, *_ in TABLE if label in shown_here} | {"launch"})
    drawn = PICTURE if os.environ.get("UPDATE_GOLDEN") else tmp_path / "drawn.svg"
    where = f"workload in {tuple(workloads)} and status == 'ok'"
    command = ["bench-core", "plot", f"results/{WITH_GPU}", "--chart", "speedup", "--filter", where, "-o", str(drawn)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, check=True, capture_output=True)
    texts = [re.findall(r"<text[^>]*>([^<]+)<", file.read_text(encoding="utf-8")) for file in (drawn, PICTURE)]
    assert texts[0] == texts[1]
    assert sum("faster, indicated" in text for text in texts[0]) == len(shown_here)
    assert PICTURE.relative_to(ROOT).as_posix() in README


def of_version(rows, versions):
    """Return rows as if their workloads had had these versions."""
    return rows.assign(workload_version=rows["workload"].map(versions).fillna(rows["workload_version"]))


def test_what_was_measured_of_an_earlier_version_of_the_work_is_not_shown():
    rows = bench_core.load(ROOT / "results")
    older = table(of_version(rows, VERSIONS | {"triad": VERSIONS["triad"] - 1}))
    now = table(rows)
    assert [line for line in now.splitlines() if line not in older.splitlines()] == [
        line for line in now.splitlines() if line.startswith("| triad")
    ]


def test_a_value_whose_interval_is_wide_or_unknown_is_not_shown():
    rows = of_version(bench_core.load(ROOT / "results"), VERSIONS)
    triad = rows["workload"] == "triad"
    for ends, n, word in ((1.16, 9, "uncertain"), (pd.NA, 1, "one call")):
        wide = rows.assign(ci_high=rows["ci_high"].mask(triad, rows["value"] * ends), n=rows["n"].mask(triad, n))
        assert "| triad" not in table(wide)  # neither on the CPU nor on the GPU
        wide = rows.assign(ci_high=wide["ci_high"].where(rows["threads"].notna(), rows["ci_high"]), n=wide["n"])
        (line,) = [line for line in table(wide).splitlines() if line.startswith("| triad")]
        assert line.split(" | ")[1:3] == [word, word]
        assert line.endswith("/s |  |")  # no speed-up over a value that is not shown


def test_the_runs_of_a_case_are_pooled_as_by_compare():
    rows = of_version(bench_core.load(ROOT / "results"), VERSIONS)
    later = rows[rows["machine"] == WITH_GPU].assign(run_id="99991231T000000Z-ffff")
    later[["value", "ci_low", "ci_high", "p10"]] /= 10
    assert "torch compile, 163 k tokens/s" in table(pd.concat([later, rows]))


SAMPLES = [block for block in (*blocks("text"), *blocks("console")) if block.startswith("$ bench-core ")]


@pytest.mark.parametrize("shown", SAMPLES, ids=lambda shown: shown.split()[2])
def test_a_sample_of_output_is_real_and_in_its_order(clone, shown):
    first, *sample = shown.splitlines()
    printed = iter(play(first.removeprefix("$ "), clone).splitlines())
    # `in` goes on in the iterator where the line before was found, so that the order is compared too.
    assert [line for line in sample if line != "..." and line not in printed] == []
