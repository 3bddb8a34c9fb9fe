"""All groups of measures at scale by name, in the order in which they run."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from benchmarks.scale.measures import connections, kept, reads, saves, throughput
from benchmarks.scale.plan import ScalePlan
from benchmarks.scale.readings import Result

Group = Callable[[ScalePlan], Iterator[Result]]

GROUPS: Final[dict[str, Group]] = {
    "reads": partial(reads.measure, "one"),
    "directories": partial(reads.measure, "many"),
    "jobs": partial(reads.measure, "jobs"),
    "saves": saves.measure,
    "throughput": throughput.measure,
    "fsyncs": throughput.measure_syncs,
    "connections": connections.measure,
    "kept": kept.measure,
}
