"""A run that can be published has no problem, and each thing that prevents it is named."""

import json

import pytest

import bench_core
from bench_core.analysis.validation import Problem, validate
from bench_core.errors import TableError
from bench_core.files import digest
from tests.support import ROOT
from tests.support.contributions import BOX, contribute
from tests.support.tables import measured, on_host, processes


def problems(folder):
    return [(problem.place, problem.text) for problem in validate(folder).problems]


def change(path, old, new):
    """Change a file of a run and its sha256 in run.json, as one who knows what he does."""
    path.write_text(path.read_text().replace(old, new))
    if path.name != "run.json":
        about = json.loads(path.with_name("run.json").read_text())
        about["files"][path.name]["sha256"] = digest(path.read_bytes())
        path.with_name("run.json").write_text(json.dumps(about))


def test_a_run_of_this_suite_has_no_problem(tmp_path):
    contribute(tmp_path)
    contribute(tmp_path, run_id="another")
    found = validate(tmp_path)
    assert (found.runs, found.problems, found.notes) == (2, (), ())


def test_the_committed_runs_have_no_problem():
    assert validate(ROOT / "results").problems == ()


def test_what_a_reader_should_know_is_noted(tmp_path):
    run = contribute(tmp_path, git_dirty=True)
    assert validate(tmp_path).notes == (Problem("box/run-box", "measured with changes that are not committed"),)
    change(run / "results.csv", ",ok,", ",interrupted,")
    change(run / "run.json", '"ok": 1', '"interrupted": 1')
    assert Problem("box/run-box", "1 case interrupted") in validate(tmp_path).notes
    contribute(tmp_path, machine="other", about=on_host(cpu__model="Example CPU 1"))
    unknown = "what its CPU can do at most is not known, so that its rates could not be judged"
    assert Problem("other/run-other", unknown) in validate(tmp_path).notes


@pytest.mark.parametrize("name", ["results.csv", "samples.csv"])
def test_a_table_that_was_changed_is_named(tmp_path, name):
    run = contribute(tmp_path)
    (run / name).write_text((run / name).read_text() + "\n")
    ((place, text),) = problems(tmp_path)
    assert place == "box/run-box"
    assert text.startswith(f"{name} has not the sha256 that run.json says")


def test_a_folder_with_another_name_than_the_machine_or_the_run_is_named(tmp_path):
    contribute(tmp_path).parent.rename(tmp_path / "other")
    assert problems(tmp_path) == [("other/run-box", "the machine in its files is box, its folder is other")]
    (tmp_path / "other" / "run-box").rename(tmp_path / "other" / "renamed")
    assert problems(tmp_path) == [("other/renamed", "run.json is that of the run 'run-box'")]


def test_files_that_are_none_of_a_run_are_named_and_pictures_beside_runs_are_not(tmp_path):
    run = contribute(tmp_path)
    for name in ("report.svg", "README.md"):
        (run.parent / name).write_text("{}")
    (run.parent / "noise.json").write_text('{"machine": "box"}')
    (tmp_path / "README.md").write_text("/home/someone")
    (tmp_path / ".bench-core-history").mkdir()
    (tmp_path / "pytest.xml").write_text("")
    (tmp_path / "link").symlink_to(run.parent)
    (tmp_path / "fleet" / ".fleet").mkdir(parents=True)
    (run / "pytest.json").write_text("{}")
    (run.parent / "log.txt").write_text("")
    (tmp_path / "unfinished" / "series" / "000-this").mkdir(parents=True)
    (run / "deep").mkdir()
    (run / "deep" / "file").write_text("")
    (run.parent / "link.svg").symlink_to(run / "run.json")
    assert dict(problems(tmp_path)) == {
        "pytest.xml": "no file of a run (results.csv, samples.csv, run.json)",
        "link": "a symbolic link",
        "fleet": "a fleet: its machines are labelled by numbers, which other fleets have as well",
        "box/link.svg": "a symbolic link",
        "box/log.txt": "no file of a run (results.csv, samples.csv, run.json)",
        "box/run-box/deep": "no file of a run (results.csv, samples.csv, run.json)",
        "box/run-box/pytest.json": "no file of a run (results.csv, samples.csv, run.json)",
        "unfinished": "parts of a measurement that is not finished",
    }


PRIVATE = [
    ("(/home/someone/weights.bin)", "a path"),
    ("-I/home/someone", "a path"),
    ("someone@example.org", "an address"),
    ("fe80::1ff:fe23:4567:890a", "an address"),
    ("00-1A-2B-3C-4D-5E", "an address"),
    ("/home/someone/weights.bin", "a path"),
    ("C:\\Users\\someone\\weights.bin", "a path"),
    ("node 10.1.2.3 is lost", "an address"),
    ("02:42:ac:11:00:02", "an address"),
    ("GPU-01020304-0506-0708-090a-0b0c0d0e0f10", "a UUID"),
]


@pytest.mark.parametrize(("text", "what"), PRIVATE, ids=[what + text[:5] for text, what in PRIVATE])
def test_private_data_is_found_in_run_json_and_in_results_csv(tmp_path, text, what):
    run = contribute(tmp_path / "a")
    about = json.loads((run / "run.json").read_text())
    about["environment"]["host"]["env.SOMETHING"] = {"value": ["fine", text], "source": "/proc/cpuinfo"}
    (run / "run.json").write_text(json.dumps(about))
    ((_, told),) = problems(tmp_path / "a")
    assert told.startswith(f"run.json: environment.host.env.SOMETHING.value contains {what}: ")
    contribute(tmp_path / "b", processes([1.0, 1.1, 1.2], device_name=text))
    assert [told for _, told in problems(tmp_path / "b")] == [f"results.csv: device_name contains {what}: {text}"]
    run = contribute(tmp_path / "c")
    (run.parent / "noise.json").write_text(json.dumps({"machine": "box", "host": {"a": text}}))
    assert problems(tmp_path / "c") == [("box/noise.json", f"host.a contains {what}: {text}")]


def test_files_of_the_system_and_versions_of_four_numbers_are_not_private(tmp_path):
    run = contribute(tmp_path, processes([1.0, 1.1, 1.2], library="SomeBLAS 9.19.0.56"))
    about = json.loads((run / "run.json").read_text())
    about["environment"]["host"] |= {
        "system.container": {"value": "none", "source": "/proc/1/cgroup, /.dockerenv, /run/.containerenv"},
        "cpu.governor": {"value": None, "reason": "no /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"},
        "package.nvidia-cublas": {"value": "13.1.0.3", "source": "importlib.metadata"},
    }
    (run / "run.json").write_text(json.dumps(about))
    assert problems(tmp_path) == []


@pytest.mark.parametrize("path", ["/dev-home/jane/x", "/dev/null:/home/jane", "C:/dev/jane/x", "~/proc/x"])
def test_a_path_that_begins_like_one_of_the_system_is_private(tmp_path, path):
    contribute(tmp_path, processes([1.0, 1.1, 1.2], device_name=path))
    assert any("device_name contains a path" in text for _, text in problems(tmp_path))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("samples.csv", ",1.25,", ",1.24,"),
        ("samples.csv", ",0,1,1.25,", ",1,1,1.25,"),
        ("results.csv", ",3,1,", ",4,1,"),
        ("results.csv", ",1.5,", ",1.51,"),
    ],
    ids=["sample", "process", "n", "maximum"],
)
def test_a_time_that_is_not_that_of_its_samples_is_named_though_the_sha256_is_right(tmp_path, name, old, new):
    run = contribute(tmp_path, [measured([1.0, 1.25, 1.5])])
    assert old in (run / name).read_text()
    change(run / name, old, new)
    ((place, text),) = problems(tmp_path)
    assert place == "box/run-box"
    assert text.startswith("matmul 64 float32 numpy cpu time: not that of its samples: ")


def test_a_time_without_samples_and_a_rate_without_a_time_are_named(tmp_path):
    run = contribute(tmp_path / "a")
    table = (run / "samples.csv").read_text()
    change(run / "samples.csv", table, table.splitlines(keepends=True)[0])
    assert problems(tmp_path / "a") == [("box/run-box", "matmul 64 float32 numpy cpu time: a value without samples")]
    run = contribute(tmp_path / "b")
    change(run / "results.csv", ",time,s,lower,", ",first_call,s,lower,")
    told = [text for _, text in problems(tmp_path / "b")]
    assert "matmul 64 float32 numpy cpu flop_rate: ok without a time" in told


def test_samples_of_no_row_are_named(tmp_path):
    run = contribute(tmp_path)
    table = (run / "samples.csv").read_text()
    line = table.splitlines()[1].replace("numpy", "someone")
    change(run / "samples.csv", table, f"{table}{line}\n")
    ((_, text),) = problems(tmp_path)
    assert text.startswith("samples.csv has samples of no row: ")
    assert "someone" in text


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (",time,s,lower,", ",time,s,higher,", "time: in s (better higher), and not in s (better lower)"),
        ("k=64;", "k=65;", "stands for several works"),
    ],
)
def test_rows_that_this_suite_does_not_write_are_named(tmp_path, old, new, text):
    run = contribute(tmp_path)
    lines = (run / "results.csv").read_text().splitlines(keepends=True)
    changed = next(line for line in lines if old in line)
    change(run / "results.csv", changed, changed.replace(old, new))
    assert any(text in told for _, told in problems(tmp_path)), problems(tmp_path)


@pytest.mark.parametrize(
    ("name", "change_it"),
    [
        ("samples.csv", lambda text: "\n".join(f"{line},note" for line in text.splitlines())),
        ("results.csv", lambda text: "\n".join(f"{line},note" for line in text.splitlines())),
        ("results.csv", lambda text: text.replace(",", "\t")),
    ],
    ids=["samples", "results", "tabs"],
)
def test_tables_of_another_form_are_named_since_a_reader_skips_what_they_add(tmp_path, name, change_it):
    run = contribute(tmp_path)
    text = (run / name).read_text()
    change(run / name, text, change_it(text))
    assert f"{name}: other columns, or another format, than this suite writes" in [t for _, t in problems(tmp_path)]


def test_a_copy_of_a_run_is_no_second_measurement(tmp_path):
    contribute(tmp_path, processes([1.0]))
    contribute(tmp_path, processes([1.0]), run_id="twin")
    ((place, text),) = problems(tmp_path)
    assert {place, text.split()[4].rstrip(":")} == {"box/run-box", "box/twin"}
    assert text.endswith("a copy is no second measurement")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{"machine": "other"}', "is that of other"),
        ("not JSON /home/someone", "not JSON"),
        ('{"machine": "box", "a": 1, "a": 2}', "a stands twice in an object"),
    ],
)
def test_a_noise_json_that_is_none_of_this_machine_is_named(tmp_path, content, text):
    run = contribute(tmp_path)
    (run.parent / "noise.json").write_text(content)
    ((place, told),) = problems(tmp_path)
    assert place == "box/noise.json"
    assert text in told


def test_statistics_that_contradict_each_other_are_named(tmp_path):
    run = contribute(tmp_path, [measured([1.0, 1.25, 1.5])])
    change(run / "results.csv", ",1.25,1.0,", ",1.25,1.3,")
    assert any("is outside its own interval" in text for _, text in problems(tmp_path))


@pytest.mark.parametrize(
    ("device", "name", "seconds", "is_possible"),
    [
        ("cpu", "Example CPU 9000", 1e-3, True),  # 2 cores x 6.5 GHz x 48 operations = 624 GFLOP/s
        ("cpu", "Example CPU 9000", 1e-6, False),
        ("cuda:0", "NVIDIA H100 80GB HBM3", 1e-5, True),  # 67 TFLOP/s by its datasheet
        ("cuda:0", "NVIDIA H100 80GB HBM3", 1e-6, False),
    ],
)
def test_a_product_that_its_device_cannot_compute_so_fast_is_named(tmp_path, device, name, seconds, is_possible):
    contribute(tmp_path, [measured([seconds] * 3, device=device, device_name=name, flops=2e8)])
    told = [text for _, text in problems(tmp_path)]
    assert told == [] if is_possible else "more than" in told[0] and name in told[0]


def test_no_table_can_say_of_a_known_work_that_it_measures_nothing_nor_flags_hide_a_rate(tmp_path):
    traits = {"traits": {"matmul": {"matmul": {"measures": "latency"}}}}
    contribute(tmp_path, [measured([1e-9] * 3, flops=2e8, flags=("fits_l2",))], about=BOX | traits)
    assert any("is more than" in text for _, text in problems(tmp_path))


def test_two_computers_with_one_label_are_named(tmp_path):
    contribute(tmp_path)
    contribute(tmp_path, run_id="another", about=on_host(cpu__model="Example CPU 1"))
    ((place, text),) = problems(tmp_path)
    assert set(place.split(", ")) == {"box/run-box", "box/another"}
    assert "box is the name of 2 computers (cpu.model" in text


def test_equal_computers_with_two_labels_are_noted(tmp_path):
    contribute(tmp_path)
    contribute(tmp_path, machine="same")
    assert validate(tmp_path).notes == (Problem("box, same", "equal in all that is known: one computer has one label"),)
    assert validate(tmp_path).problems == ()


def test_rows_of_another_program_are_no_contribution(tmp_path):
    contribute(tmp_path, processes([1.0, 1.1, 1.2], flags=("imported",)))
    assert [text for _, text in problems(tmp_path)] == [
        "imported: another program measured it, and nothing checked its answers"
    ]


def test_a_nested_table_is_no_run(tmp_path):
    run = contribute(tmp_path)
    (run / "copy").mkdir()
    (run / "copy" / "results.csv").write_bytes((run / "results.csv").read_bytes())
    assert problems(tmp_path) == [("box/run-box/copy", "no file of a run (results.csv, samples.csv, run.json)")]


def test_facts_of_any_shape_are_no_error(tmp_path):
    contribute(tmp_path, about=on_host(cpu__architecture=["x86_64"], cpu__vectors={"a": 1}, cpu__threads="8"))
    assert problems(tmp_path) == []


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(TableError, match="no run here"):
        validate(tmp_path)
    run = contribute(tmp_path / "results")
    with pytest.raises(TableError, match="two levels above"):
        validate(run)
    with pytest.raises(TableError, match="the folder of one machine: give the folder above it"):
        validate(run.parent)
    (tmp_path / "fleets" / "one" / ".fleet").mkdir(parents=True)
    with pytest.raises(TableError, match="one: a fleet"):
        validate(tmp_path / "fleets")
    with pytest.raises(TableError, match="No such file or directory"):
        validate(tmp_path / "absent")


def test_what_is_validated_can_be_loaded(tmp_path):
    contribute(tmp_path)
    assert set(bench_core.load(tmp_path)["machine"]) == {"box"}
