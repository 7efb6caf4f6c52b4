"""Peaks come from the table alone, are dense, and never from a name that only looks alike."""

import pytest

from bench_core.machine import datasheets

FORMATS = {"float64", "float32", "tf32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8"}


@pytest.mark.parametrize("name", datasheets.SHEETS)
def test_every_sheet_names_its_source_and_known_formats(name):
    sheet = datasheets.SHEETS[name]
    assert len(sheet.source) > 20
    assert set(sheet.flops) <= FORMATS
    assert 0.1 < sheet.bandwidth < 20  # TB/s: a figure in GB/s would show
    assert all(1 < peak < 10_000 for peak in sheet.flops.values())


@pytest.mark.parametrize("name", datasheets.SHEETS)
def test_narrower_formats_are_never_slower(name):
    flops = datasheets.SHEETS[name].flops
    order = [flops[f] for f in ("float32", "tf32", "bfloat16", "float8_e4m3fn") if f in flops]
    assert order == sorted(order)
    assert len({flops[f] for f in ("bfloat16", "float16") if f in flops}) == 1


def test_h100_is_dense_where_the_sheet_prints_sparse():
    assert datasheets.peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == pytest.approx(989.5e12)
    assert datasheets.peak_flops("NVIDIA H100 80GB HBM3", "float32", "tf32") == pytest.approx(494.5e12)


def test_a_device_of_a_tpu_is_what_jax_counts_as_one():
    """Two to a chip of TPU7x. By default float32 is multiplied in bfloat16, which is a precision of its own."""
    assert datasheets.peak_flops("TPU7x", "bfloat16") == pytest.approx(2307e12 / 2)
    assert datasheets.peak_flops("TPU v6 lite", "float32", "bfloat16_products") == pytest.approx(918e12)
    assert datasheets.peak_flops("TPU v6 lite", "float32") is None
    assert datasheets.SHEETS["TPU v5 lite"] is datasheets.SHEETS["TPU v5e"]


def test_three_tf32_products_make_one_of_float32_where_that_is_faster():
    assert datasheets.peak_flops("NVIDIA H100 80GB HBM3", "float32", "3xtf32") == pytest.approx(494.75e12 / 3, rel=1e-3)
    assert datasheets.peak_flops("NVIDIA L40S", "float32", "3xtf32") == pytest.approx(91.6e12)
    assert datasheets.peak_flops("Tesla T4", "float32", "3xtf32") == pytest.approx(8.1e12)
    assert datasheets.peak_flops("Some GPU", "float32", "3xtf32") is None


def test_boards_of_one_chip_are_told_apart():
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL")
    assert len({datasheets.peak_flops(name, "bfloat16") for name in names}) == 3
    assert len({datasheets.peak_bandwidth(name) for name in names}) == 3


@pytest.mark.parametrize(
    "name",
    ["", "NVIDIA H100", "nvidia h100 pcie", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA H100 PCIe ", "AMD EPYC 9654"],
)
def test_an_unknown_device_has_no_peak(name):
    assert datasheets.peak_flops(name, "float32") is None
    assert datasheets.peak_bandwidth(name) is None


def test_a_format_that_is_not_printed_has_no_peak():
    assert datasheets.peak_flops("NVIDIA A100-SXM4-80GB", "float8_e4m3fn") is None


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        datasheets.SHEETS["NVIDIA H100 80GB HBM3"].flops["float32"] = 1.0
