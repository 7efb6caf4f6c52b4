"""The C ruler compiles without a warning and its answers are right; the race asks it and the libraries alike."""

import subprocess
import sys

import pytest

from tests.native import compare

KERNELS = ("copy", "scale", "add", "triad")
KIB = 1 << 10


@pytest.fixture(scope="module", name="program")
def compiled(tmp_path_factory):
    if compare.compiler() is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("native")
    probe = folder / "probe.c"
    probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
    command = [compare.compiler(), "-fopenmp", "-march=native", str(probe), "-o", str(folder / "probe")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the C compiler here has no OpenMP, or does not know this CPU")
    return compare.build(folder)


@pytest.fixture(name="c", params=[1, 2], ids=["one-thread", "two-threads"])
def server(program, request):
    c = compare.Server([str(program), str(100 * KIB), str(request.param)])
    yield c
    c.close()


@pytest.mark.parametrize("name", KERNELS)
def test_plain_stores_are_right_and_counted_as_stream_counts_them(c, name):
    amount, error, *seconds = map(float, c.ask(f"{name} 3").split())
    assert amount == (2 if name in {"copy", "scale"} else 3) * 100 * KIB
    assert error < 1e-15
    assert len(seconds) == 3
    assert min(seconds) > 0


@pytest.mark.parametrize("name", KERNELS)
def test_non_temporal_stores_are_right_where_the_cpu_has_them(c, name):
    answer = c.ask(f"{name}_nt 1")
    if answer == "none":
        pytest.skip("no non-temporal stores for this CPU")
    assert float(answer.split()[1]) < 1e-15


@pytest.mark.parametrize("name", ["fma64", "fma32"])
def test_the_multiply_adds_really_happen(c, name):
    """Every chain runs to the fixed point of x = 0.999 x + 0.001, which a loop that was left out never reaches."""
    amount, error, _ = map(float, c.ask(f"{name} 1").split())
    assert amount > 1e6
    assert error < 1e-4


def test_an_unknown_kernel_is_answered_and_the_next_one_served(c):
    assert c.ask("scan 3") == "none"
    assert c.ask("copy 0") == "none"
    assert c.ask("copy 1") != "none"


@pytest.mark.parametrize("arguments", [[], ["1024"], ["0", "1"], ["1024", "0"]])
def test_wrong_arguments_are_refused(program, arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_library_answers_the_same_request_as_the_c_program():
    with compare.library("numpy", "tuned", 1, 256 * KIB) as numpy:
        amount, error, seconds = map(float, numpy.ask("triad 1").split())
    assert amount == 3 * 256 * KIB
    assert error < 1e-14
    assert seconds > 0


def test_a_race_gives_everyone_a_turn_in_every_round(program):
    c = compare.Server([str(program), str(64 * KIB), "1"])
    contenders = [compare.Contender("a", c, "copy 1"), compare.Contender("b", c, "triad 1")]
    rates = compare.race(contenders, 4)
    c.close()
    assert {name: len(values) for name, values in rates.items()} == {"a": 4, "b": 4}


def test_a_server_that_dies_raises_with_its_exit_status():
    server = compare.Server([sys.executable, "-c", "input()"])
    with pytest.raises(RuntimeError, match="ended with status 0"):
        server.ask("copy 1")
