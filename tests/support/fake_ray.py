"""What the engine uses of Ray, on one thread: tasks are generators that this process runs when they are waited for."""

import sys
from types import ModuleType, SimpleNamespace


def node(host, number=1, gpus=0, cpus=4, **others):
    """Return a node as ray.nodes() describes one."""
    resources = {"CPU": float(cpus), "GPU": float(gpus), "memory": 1e9}
    return {
        "NodeID": f"{number:056x}",
        "Alive": True,
        "NodeManagerHostname": host,
        "NodeManagerAddress": f"10.0.0.{number}",
        "NodeName": f"10.0.0.{number}",
        "DeathReason": 0,
        "DeathReasonMessage": "",
        "Resources": {kind: count for kind, count in resources.items() if count},
        **others,
    }


def dead(host, number, reason, message):
    return node(host, number, Alive=False, DeathReason=reason, DeathReasonMessage=message, Resources={})


class RayError(Exception):
    """The base of what Ray raises."""


class RayTaskError(RayError):
    """What a task has raised."""

    def __init__(self, cause):
        super().__init__(f"Traceback\n  File ray.py\n{cause}")
        self.cause = cause


_OTHERS = ("OutOfMemoryError", "TaskCancelledError", "WorkerCrashedError", "NodeDiedError", "TaskUnschedulableError")
EXCEPTIONS = SimpleNamespace(
    RayError=RayError, RayTaskError=RayTaskError, **{name: type(name, (RayError,), {}) for name in _OTHERS}
)


class FakeRay(ModuleType):
    """A cluster. script: what the task of a node gives, by the id of the node: values, exceptions, None for "not yet".

    asked: each task that was started, with its options. cancelled: each cancel, and whether it was by force.
    """

    def __init__(self, *nodes):
        super().__init__("ray")
        self.__path__ = []
        self.exceptions, self.cluster = EXCEPTIONS, list(nodes)
        self.script, self.asked, self.cancelled, self.connected = {}, [], [], []
        self.refuses = None  # what init raises

    def install(self, monkeypatch):
        strategies = ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda node_id, soft: (node_id, soft)
        for name, module in {"ray": self, "ray.util": ModuleType("ray.util"), strategies.__name__: strategies}.items():
            monkeypatch.setitem(sys.modules, name, module)
        return self

    def is_initialized(self):
        return bool(self.connected)

    def init(self, **options):
        if self.refuses:
            raise self.refuses
        self.connected.append(options)

    def shutdown(self):
        self.connected.clear()

    def nodes(self):
        return self.cluster

    def remote(self, function):
        def options(**options):
            def start(*arguments):
                self.asked.append((function, arguments, options))
                return _Given(self.script.get(options["scheduling_strategy"][0], []))

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, given, timeout):
        assert timeout == 0
        first = given[0]
        if first.values and first.values[0] is None:
            del first.values[0]
            return [], given
        return given, []

    def get(self, value):
        if isinstance(value, Exception):
            raise value
        return value

    def cancel(self, given, force):
        self.cancelled.append(force)
        given.values[:] = [EXCEPTIONS.TaskCancelledError()]


class _Given:
    """What a task gives, one after another."""

    def __init__(self, values):
        self.values = list(values)

    def __next__(self):
        if not self.values:
            raise StopIteration
        return self.values.pop(0)
