"""All measures by name, in the order in which they run."""

from collections.abc import Callable
from typing import Final

from benchmarks.figures import Outcome
from benchmarks.measures import client_memory, delta, event_loop, folder, load, mlflow, partial, save, server_memory
from benchmarks.plan import Plan

Measure = Callable[[Plan], Outcome]

MEASURES: Final[dict[str, Measure]] = {
    "save": save.measure,
    "load": load.measure,
    "mlflow": mlflow.measure,
    "delta_xfs": delta.measure_on_xfs,
    "delta_ext4": delta.measure_on_the_disk,
    "partial": partial.measure,
    "folder": folder.measure,
    "server_memory": server_memory.measure,
    "client_memory": client_memory.measure,
    "event_loop": event_loop.measure,
}
