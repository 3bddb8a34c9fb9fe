"""The system calls of each operation at which it can be interrupted, as recorded from a server that was left alone."""

import fcntl
import os
import pickle
import random
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.crash.harness.operations import ELSEWHERE, OLD, Operation, Starting, state
from tests.crash.harness.tracing import Call, Tracer
from tests.support.live import LiveServer

SEED = os.environ.get("HOLDFAST_SEED") or str(random.SystemRandom().randrange(10**6))


@dataclass(frozen=True)
class Record:
    """The system calls of an operation, and its directory before and after."""

    calls: tuple[Call, ...]
    before: dict[str, Any]
    after: dict[str, Any]

    def points(self) -> list[tuple[str, int]]:
        """List the points at which it can be interrupted, by name and number of the call."""
        changing = (call for call in self.calls if call.changes)
        return sorted({(call.name, call.number) for call in changing})

    def hidden(self) -> list[tuple[str, int, int]]:
        """Those to which other threads come first, as each has its own numbers; the last says how many do."""
        counts = Counter((call.name, call.number) for call in self.calls if call.changes)
        return sorted((*point, rank) for point, count in counts.items() for rank in range(1, count))

    def opened(self) -> list[tuple[str, int]]:
        """The calls that take a descriptor."""
        return sorted({(call.name, call.number) for call in self.calls if call.name == "openat"})


def prepared(server: LiveServer, operation: Operation) -> str:
    """Bring a server to where the operation can be asked for, with something acknowledged before it."""
    server.save(ELSEWHERE, OLD, name="kept.pt")
    return operation.prepare(server)


shared: Path | None = None
"""The folder in which the workers of a test run share what they have recorded."""


@cache
def record(operation: Operation) -> Record:
    """Return the calls of an undisturbed server; one worker of a run records them for all."""
    if shared is None:
        return _recorded(operation)
    kept = shared / f"{operation.name}.record"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_recorded(operation)))
        found: Record = pickle.loads(kept.read_bytes())
    return found


def _recorded(operation: Operation) -> Record:
    with TemporaryDirectory() as folder, operation.server(Path(folder) / "root") as server:
        ready = prepared(server, operation)
        before = state(server) if not isinstance(operation, Starting) else {}
        tracer, answer = operation.run(server, ready, lambda pid: Tracer.recording(pid, Path(folder)))
        server.wait_until_freed()
        tracer.detach()
        assert answer is not None and answer.is_success, answer  # noqa: PT018
        return Record(tuple(tracer.calls(server.root)), before, state(server))


def sample(operation: Operation, points: list[Any], count: int) -> list[Any]:
    """So many of the points, by chance; set ``HOLDFAST_SEED`` to have the same ones again."""
    return random.Random(f"{SEED} {operation.name}").sample(points, min(count, len(points)))
