"""The load of a machine is watched without counting anything twice."""

import pytest

from bench_core.plan import doctor, findings


def test_busy_share_leaves_out_what_is_counted_twice(monkeypatch):
    """Of 10 s of CPU time 4 s were idle, 1 s waited for disks, 1 s went to neighbours; guests are in `user`."""
    fields = ("user", "system", "idle", "iowait", "steal", "guest")
    times = iter([(0, 0, 0, 0, 0, 0), (3, 1, 4, 1, 1, 2)])

    def cpu_times():
        return dict(zip(fields, next(times), strict=True))

    monkeypatch.setattr(findings.host, "cpu_times", cpu_times)
    watched = findings.watch(0.0)
    assert watched["load.busy"].value == pytest.approx(0.4)
    assert watched["load.steal"].value == pytest.approx(0.1)
    assert doctor.load_facts(0.5, 0.1).keys() == watched.keys()
