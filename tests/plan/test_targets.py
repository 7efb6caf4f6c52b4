"""Who takes part: devices present and expected, those required, and why others are absent."""

import pytest

from bench_core.errors import UsageError
from bench_core.plan import targets as targets_of
from bench_core.plan.discovery import Device, Probe, probe_all
from bench_core.plan.targets import Absent, Targets, matches, require_known
from tests.support.probes import PROBES

NO_GPU = Probe("torch", "2", (Device("cpu"),))


def places(targets):
    return [(target.backend, target.device) for target in targets.taking_part]


def test_the_first_device_of_each_type_and_every_type_expected_is_a_target():
    targets = Targets(("numpy", "torch", "cupy"), PROBES)
    assert places(targets) == [("numpy", "cpu"), ("torch", "cpu"), ("torch", "cuda:0"), ("cupy", "cuda")]
    assert targets.absent["cupy", "cuda"].reason == "cupy is not installed"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("torch:cpu", [("torch", "cpu")]),
        ("torch:cuda", [("torch", "cuda:0"), ("torch", "cuda:1")]),
        ("torch:cuda:1", [("torch", "cuda:1")]),
        ("torch:xpu", [("torch", "xpu")]),
    ],
)
def test_a_backend_may_be_narrowed_to_devices(asked, expected):
    assert places(Targets((asked,), PROBES)) == expected


def test_devices_that_are_left_out_are_told_with_the_option_that_takes_them():
    targets = Targets(("numpy", "torch", "cupy"), PROBES)
    everything = "numpy,torch:cpu,torch:cuda,cupy"
    assert targets.left_out() == [f"left out: torch cuda:1; --bench-backends={everything} measures every device"]
    again = Targets(everything.split(","), PROBES)
    assert places(again) == [*places(targets)[:3], ("torch", "cuda:1"), ("cupy", "cuda")]
    assert again.left_out() == []


@pytest.mark.parametrize("asked", [("numpy",), ("torch:cuda:0",), ("torch", "torch:cuda:1")])
def test_nothing_is_said_of_devices_that_nobody_asked_for_or_that_are_measured(asked):
    assert Targets(asked, PROBES).left_out() == []


LONE = Probe("torch", "2", (Device("cpu"),), broken={"cuda:0": "cuda:0 cannot run a kernel: old"})


def test_a_type_whose_only_device_is_broken_is_skipped_for_that_reason():
    targets = Targets(("torch",), {"torch": LONE})
    assert targets.absent == {("torch", "cuda"): Absent("kernel_failed", "cuda:0 cannot run a kernel: old")}
    assert targets.left_out() == []
    with pytest.raises(UsageError, match="not available: cuda:0 cannot run a kernel: old"):
        targets.require(["torch:cuda"])


BROKEN = Probe(
    "torch", "2", (Device("cpu"), Device("cuda:1", "GPU B")), broken={"cuda:0": "cuda:0 cannot run a kernel: old"}
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("torch", [("torch", "cpu"), ("torch", "cuda:1")]),
        ("torch:cuda", [("torch", "cuda:1"), ("torch", "cuda:0")]),
        ("torch:cuda:0", [("torch", "cuda:0")]),
        ("torch:cpu", [("torch", "cpu")]),
    ],
)
def test_a_broken_device_that_was_asked_for_has_rows_with_its_reason_and_any_other_is_told(asked, expected):
    targets = Targets((asked,), {"torch": BROKEN})
    assert places(targets) == expected
    measured = ("torch", "cuda:0") in expected
    told = asked == "torch"
    assert targets.absent == (
        {("torch", "cuda:0"): Absent("kernel_failed", "cuda:0 cannot run a kernel: old")} if measured else {}
    )
    assert ("left out: torch cuda:0 cannot run a kernel: old" in targets.left_out()) is told


def test_an_absent_device_type_is_a_target_with_its_reason():
    targets = Targets(("torch",), {"torch": NO_GPU})
    assert places(targets) == [("torch", "cpu"), ("torch", "cuda")]
    assert targets.absent["torch", "cuda"].code == "no_device"
    assert targets.absent["torch", "cuda"].reason == "torch finds no cuda device"


def test_required_backends_that_are_there_pass():
    assert Targets(("numpy",), PROBES).require(("numpy", "torch:cuda", "torch:cuda:1")) is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [("cupy", "cupy is not installed"), ("torch:xpu", "it finds cpu, cuda:0, cuda:1"), ("torch:cuda:7", "it finds")],
)
def test_a_required_backend_that_is_absent_is_named(entry, message):
    with pytest.raises(UsageError, match=f"--bench-require={entry}: not available: .*{message}"):
        Targets(("numpy",), PROBES).require((entry,))


def test_accelerators_are_named_once_each_and_the_cpu_is_none():
    assert Targets(("torch",), PROBES).accelerator_names() == ["GPU A", "GPU B"]


def test_an_address_matches_itself_its_type_and_nothing_more():
    assert matches("cuda:1", "cuda:1")
    assert matches("cuda:1", "cuda")
    assert matches("cuda:1", "")
    assert not matches("cuda:1", "cuda:11")
    assert not matches("cuda:1", "cpu")


@pytest.mark.parametrize("asked", ["torch:cuda:x2", "torch:cpu:x2"])
def test_several_devices_are_one_target(monkeypatch, asked):
    monkeypatch.setattr(targets_of.allotment, "usable_cores", lambda: 2)
    targets = Targets(("torch:cpu", asked), PROBES)
    assert places(targets) == [("torch", "cpu"), ("torch", asked.removeprefix("torch:"))]
    assert [target.ranks for target in targets.taking_part] == [1, 2]
    assert targets.taking_part[1].device_type == asked.split(":")[1]
    assert not targets.absent
    assert targets.require((asked,)) is None


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        ("torch:cuda:x8", "no_device", "torch finds 2 cuda devices where cuda:x8 needs 8"),
        ("torch:cpu:x999", "no_device", "torch finds 2 cores where cpu:x999 needs 999"),
        ("torch:mps:x2", "no_device", "torch finds 0 mps devices where mps:x2 needs 2"),
        ("numpy:cpu:x2", "one_device", "numpy computes on one device at a time"),
        ("cupy:cuda:x2", "not_installed", "cupy is not installed"),
    ],
)
def test_too_few_devices_are_a_target_with_its_reason(monkeypatch, asked, code, reason):
    monkeypatch.setattr(targets_of.allotment, "usable_cores", lambda: 2)
    targets = Targets((asked,), PROBES)
    backend, _, device = asked.partition(":")
    assert places(targets) == [(backend, device)]
    assert targets.absent == {(backend, device): Absent(code, reason)}
    with pytest.raises(UsageError, match=f"--bench-require={asked}: not available: {reason}"):
        targets.require((asked,))


@pytest.mark.parametrize("asked", ["torch:cpu:x1", "torch:cuda:x0"])
def test_several_devices_are_two_or_more(asked):
    with pytest.raises(UsageError, match=f"^--bench-backends: {asked}: several devices are two or more$"):
        require_known((asked,), "--bench-backends")


@pytest.mark.parametrize("which", ["x", "X2", "x02", "x\uff12", "x99999999999999999999"])
def test_a_number_of_devices_that_is_none_is_one_clear_line(which):
    message = f"--bench-backends: torch:cpu:{which}: several devices are x and their number, 2 to 99999, as in cpu:x2"
    with pytest.raises(UsageError) as caught:
        require_known(("torch:cpu", f"torch:cpu:{which}"), "--bench-backends")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["torch:cpu", "torch:cpu"], ["cpu"]),
        (["torch:cpu:x2", "torch:cpu:x2"], ["cpu:x2"]),
        (["torch", "torch:cpu", "torch:cuda"], ["cpu", "cuda:0", "cuda:1"]),
        (["torch:xpu", "torch:xpu"], ["xpu"]),
    ],
)
def test_a_device_that_several_entries_name_is_one_target(monkeypatch, asked, expected):
    monkeypatch.setattr(targets_of.allotment, "usable_cores", lambda: 2)
    assert places(Targets(asked, PROBES)) == [("torch", device) for device in expected]


def test_devices_beside_several_are_told_to_be_left_out_with_the_option_that_takes_them():
    targets = Targets(("torch", "torch:cuda:x2"), PROBES)
    every = "torch:cpu,torch:cuda,torch:cuda:x2"
    assert targets.left_out() == [f"left out: torch cuda:1; --bench-backends={every} measures every device"]


def test_each_backend_is_probed_once_whatever_its_entries():
    assert list(probe_all(("numpy", "numpy:cpu"))) == ["numpy"]


def test_an_unknown_backend_is_not_probed():
    with pytest.raises(UsageError, match="'mlx'"):
        probe_all(("mlx:cpu",))
