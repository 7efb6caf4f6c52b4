"""Units of bytes, and the sizes of elements."""

import pytest

from benchmarks.sizes import KIB, MIB, itemsize, size_label


@pytest.mark.parametrize(("size", "label"), [(4 * KIB, "4KiB"), (MIB, "1MiB"), (256 * MIB, "256MiB")])
def test_sizes_are_labelled_in_binary_units(size, label):
    assert size_label(size) == label


@pytest.mark.parametrize(
    ("dtype", "size"), [("float64", 8), ("float32", 4), ("bfloat16", 2), ("float8_e5m2", 1), ("int8", 1)]
)
def test_an_element_has_a_size_in_formats_that_numpy_lacks_too(dtype, size):
    assert itemsize(dtype) == size
