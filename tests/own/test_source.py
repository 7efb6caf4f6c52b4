"""A worker process imports a function by name, also from a script; what it cannot import stays in this process."""

import functools
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from bench_core.errors import UsageError
from bench_core.own import source
from bench_core.own.function import workload_of
from bench_core.own.source import require_no_worker, source_of, why_only_here
from bench_core.timing import sources
from tests.own.functions import double

X = np.arange(9.0)
SCRIPT = 'def f(x):\n    return x + 1\n\nif __name__ == "__main__":\n    raise SystemExit("it runs")\n'
ABOVE = SCRIPT.replace("\nif", "\nif f(1):\n    print(bench_core.measure(f, 2))\nif")
RENAMED = SCRIPT.replace("\nif", "\nfrom bench_core import measure as m\nif f(1):\n    m(f, 2)\nif")
BY_MAIN = SCRIPT.replace("\nif", "\ndef run():\n    measure(f, 2)\nif f(1):\n    run()\nif")
ELSE = SCRIPT + "else:\n    measure(f, 2)\n"
WITHIN = SCRIPT.replace("\nif", "\ndef main():\n    bench_core.measure(f, 2)\n\nif")


def test_a_function_of_a_module_is_written_to_a_file_for_as_long_as_it_is_measured():
    with source_of(workload_of(double, (X,), reference=double)) as found:
        sent = sources.read_source(found.plain())
        assert sent == found
        workload = sent.workload()
        assert (workload.own_work.workload, workload.functions) == ("double", (double, double))
    with pytest.raises(FileNotFoundError):
        sent.workload()


@pytest.mark.parametrize("fn", [double, np.exp, functools.partial(double), "text".join])
def test_what_has_a_name_in_a_module_can_be_sent(fn):
    assert why_only_here(SimpleNamespace(functions=(fn, None))) == ""


def test_a_lambda_or_a_reference_without_a_name_stays_here():
    with source_of(workload_of(double, (X,), reference=lambda x: 2 * x)) as found:
        assert found.plain() is None
        assert found.why.startswith("a worker process cannot import ")
        assert found.why.endswith("<lambda>: define the function at the top level of a file")


def test_a_module_that_another_process_would_not_find_stays_here(monkeypatch):
    module = ModuleType("made_up")
    exec("def f(x): return x", module.__dict__)
    monkeypatch.setitem(sys.modules, "made_up", module)
    assert why_only_here(SimpleNamespace(functions=(module.f,))) == "a worker process cannot import the module made_up"


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Return a function that makes a script the running one, and returns its function f."""

    def make(text, file="script.py"):
        module = ModuleType("__main__")
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
            module.__file__ = str(tmp_path / file)
        module.__spec__ = None
        exec(text.partition("\nif")[0], module.__dict__)
        monkeypatch.setitem(sys.modules, "__main__", module)
        return module.f

    return make


def test_a_script_is_imported_without_what_it_guards(main, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "__bench_core_script__", raising=False)
    fn = main(SCRIPT)
    with source_of(workload_of(fn, (X,))) as found:
        assert b"__main__" in pickle.dumps(fn)
        (copy, _) = found.workload().functions
    assert copy is not fn
    assert copy.__module__ == "__bench_core_script__"
    assert (copy(X) == X + 1).all()


@pytest.mark.parametrize(
    ("text", "file", "why"),
    [
        (SCRIPT.partition("if")[0], "script.py", "only if it calls measure below `if __name__"),
        (ABOVE, "script.py", "only if it calls measure below `if __name__"),
        (ELSE, "script.py", "only if it calls measure below `if __name__"),
        (RENAMED, "script.py", "only if it calls measure below `if __name__"),
        (BY_MAIN, "script.py", "only if it calls measure below `if __name__"),
        (SCRIPT, "script", "only if it calls measure below `if __name__"),
        (SCRIPT, "", "cannot import from an interactive session"),
        (SCRIPT, "<stdin>", "cannot import from an interactive session"),
    ],
    ids=[
        "unguarded",
        "call above the guard",
        "call beside the guard",
        "by another name",
        "by a function",
        "no Python file",
        "session",
        "standard input",
    ],
)
def test_a_script_that_cannot_be_imported_stays_here(main, text, file, why):
    assert why in why_only_here(SimpleNamespace(functions=(main(text, file),)))


def test_a_call_within_a_function_is_not_run_by_an_import(main):
    assert why_only_here(SimpleNamespace(functions=(main(WITHIN),))) == ""


def test_a_session_is_told_by_its_prompt_even_if_it_has_a_file(main, monkeypatch):
    """As that of Python 3.13, whose `__main__` has the file of its own code."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert "cannot import from an interactive session" in why_only_here(SimpleNamespace(functions=(main(SCRIPT),)))


def test_a_module_that_runs_as_main_is_imported_by_its_name(monkeypatch):
    running = SimpleNamespace(__spec__=SimpleNamespace(name="tests.own.functions"))
    monkeypatch.setitem(sys.modules, "__main__", running)
    assert sources._import_script(source._main()) == "tests.own.functions"


def test_a_worker_that_imports_a_script_never_measures(monkeypatch):
    require_no_worker()
    worker = SimpleNamespace(__spec__=SimpleNamespace(name="bench_core.timing.worker_child"))
    monkeypatch.setitem(sys.modules, "__main__", worker)
    with pytest.raises(UsageError, match="put the call below `if __name__"):
        require_no_worker()
