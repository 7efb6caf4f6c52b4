"""Other numbers are written over an array where it lies, however long it is, and by whatever means a backend has."""

import numpy as np
import pytest

from bench_core.backends.base import overwrite
from bench_core.backends.numpy import NumpyBackend


class DeviceArray:
    """An array that refuses the host's, as those of GPU libraries do; pieces of it are views."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return DeviceArray(self.array[key])

    def __setitem__(self, key, value):
        if not isinstance(value, DeviceArray):
            raise TypeError(f"Unsupported type {type(value)}")
        self.array[key] = value.array


class Assigning:
    """A backend of before there was `overwrite`: its arrays can be assigned to."""

    def from_host(self, array, dtype=None):
        return DeviceArray(np.array(array))


class Noting(NumpyBackend):
    """Notes what it writes."""

    def __init__(self):
        super().__init__("cpu")
        self.written = []

    def overwrite(self, target, values):
        self.written.append(np.array(values))
        super().overwrite(target, values)


@pytest.fixture(params=["its own way", "assignment", "assignment on the host"])
def written(request):
    """Return what writes values over an array and returns it as a host array; what lies elsewhere fails."""
    own = request.param == "its own way"
    backend = NumpyBackend("cpu") if own else Assigning()

    def write(array, values):
        target = DeviceArray(array) if request.param == "assignment" else array
        assert overwrite(backend, target, values) is target
        return array

    return write


def test_an_array_of_the_same_length_holds_the_values_where_it_lay(written):
    array, values = np.zeros((3, 2)), np.arange(6.0).reshape(3, 2)
    assert np.array_equal(written(array, values), values)
    values[:] = -1
    assert array[2, 1] == 5


@pytest.mark.parametrize("length", [4, 8, 9, 11, 3, 1, 1000])
def test_a_longer_array_holds_the_values_again_and_again_and_the_last_time_as_far_as_it_goes(written, length):
    """A shorter one the first of them."""
    for width in ((), (2,)):
        values = np.arange(1.0, 1 + 4 * np.prod(width, dtype=int)).reshape(4, *width)
        expected = np.concatenate([values] * (length // 4 + 1))[:length]
        assert np.array_equal(written(np.zeros((length, *width)), values), expected)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_one_number_is_written_over_every_element(written, shape):
    assert np.array_equal(written(np.zeros(shape), np.asarray(7.0)), np.full(shape, 7.0))


def test_an_array_without_elements_is_left_alone(written):
    """As the array is that says nothing but how many rows there are."""
    assert written(np.zeros((4, 0)), np.zeros((4, 0))).shape == (4, 0)


def test_a_view_of_the_first_element_is_a_part_of_the_array(written):
    array = np.ones((3, 2))
    written(array[:1], np.asarray(0.0))
    assert array.tolist() == [[0, 0], [1, 1], [1, 1]]


def test_values_of_another_shape_are_an_error(written):
    with pytest.raises(ValueError, match=r"could not|broadcast"):
        written(np.zeros((3, 2)), np.zeros((3, 4)))


def test_a_backend_that_knows_how_is_asked_once_for_each_repetition():
    backend, values = Noting(), np.arange(3)
    overwrite(backend, np.zeros(8), values)
    assert [part.tolist() for part in backend.written] == [[0, 1, 2], [0, 1, 2], [0, 1]]
