"""A workload becomes its works times targets times implementations and thread counts, and nothing is left out."""

from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Target
from tests.support.workloads import Sum

MACHINE = Machine(last_level_cache=32 << 20, cores=4)
CPU, GPU, TORCH = Target("numpy", "array", "cpu"), Target("cupy", "array", "cuda:0"), Target("torch", "torch", "cpu")


def cases(workload, *targets):
    return [
        (c.backend, c.device, c.implementation, c.work.size, c.threads)
        for c in expand(workload, Preset.QUICK, targets, lambda _: MACHINE)
    ]


def test_cases_are_works_times_targets_times_implementations():
    assert cases(Sum(), CPU, GPU) == [
        (backend, device, implementation, size, None)
        for backend, device in (("numpy", "cpu"), ("cupy", "cuda:0"))
        for size in "89"
        for implementation in ("default", "tuned")
    ]


class Featured(Sum):
    """Measured with one and all threads by standard; its second size, in the usual form, says most."""

    counts = (1, None)

    def works(self, preset, machine):
        assert preset is not Preset.HEADLINE, "the headline is chosen from what standard holds"
        return super().works(preset, machine)

    def is_headline(self, work, implementation, machine):
        return work["n"] == 9 and implementation == "default"


def test_the_headline_is_some_of_the_very_cases_of_standard():
    headline, standard = (
        list(expand(Featured(), preset, [CPU, GPU], lambda _: MACHINE)) for preset in (Preset.HEADLINE, Preset.STANDARD)
    )
    assert [c.label for c in headline] == ["numpy-cpu-float64-9", "cupy-cuda:0-float64-9"]
    assert set(headline) < set(standard)


def test_a_workload_that_names_no_headline_has_no_case_in_it():
    assert not list(expand(Sum(), Preset.HEADLINE, [CPU, GPU], lambda _: MACHINE))


def test_the_cache_of_each_device_sizes_its_own_arrays():
    """A virtual machine that shows 300 MiB of cache to the CPU must not make the GPU's arrays eight times as large."""

    class Sized(Sum):
        def works(self, preset, machine):
            return [self.work(f"{machine.last_level_cache >> 20}MiB", "float64", n=8)]

    caches = {"cpu": 300 << 20, "cuda:0": 50 << 20}
    planned = expand(Sized(), Preset.QUICK, [CPU, GPU], lambda target: Machine(caches[target.device], 4))
    assert {(c.device, c.work.size) for c in planned} == {("cpu", "300MiB"), ("cuda:0", "50MiB")}


def test_a_dialect_without_a_kernel_still_has_its_cases():
    assert cases(Sum(), TORCH) == [("torch", "cpu", "default", size, None) for size in "89"]


def test_more_threads_than_cores_are_a_case_of_their_own():
    class Crowded(Sum):
        counts = (2, 4, 8)

    assert [case[-1] for case in cases(Crowded(), CPU) if case[2:4] == ("default", "8")] == [2, None, 8]


def test_thread_counts_are_for_cpus_and_asking_for_every_core_is_the_default_case():
    class Threaded(Sum):
        counts = (1, None, 4)

    threads = [case[-1] for case in cases(Threaded(), CPU) if case[2:4] == ("default", "8")]
    assert threads == [1, None]
    assert {case[-1] for case in cases(Threaded(), GPU)} == {None}


class Together(Sum):
    """Work for several devices, whatever counts of threads its base asks for."""

    across_ranks = True
    counts = (1, None)


SEVERAL = Target("numpy", "array", "cpu:x2"), Target("cupy", "array", "cuda:x8")


def planned(workload, *targets):
    machine = lambda target: Machine(32 << 20, 4, target.device_type, target.ranks)  # noqa: E731
    return {(c.device, c.threads) for c in expand(workload, Preset.QUICK, targets, machine)}


def test_work_for_several_devices_has_cases_there_alone_and_other_work_elsewhere():
    assert planned(Together(), CPU, GPU, *SEVERAL) == {("cpu:x2", None), ("cuda:x8", None)}
    assert planned(Sum(), CPU, GPU, *SEVERAL) == {("cpu", None), ("cuda:0", None)}
    assert planned(Together(), CPU, GPU, TORCH) == set()
