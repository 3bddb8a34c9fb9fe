"""The server and the clock that all examples of the state machine share, and what was done to them."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from hypothesis.stateful import rule

from tests.support.live import LiveServer

STEPS: set[str] = set()
"""The names of all steps."""

NEVER_S = "1e9"


@dataclass
class World:
    """The server of all examples, and its clock."""

    server: LiveServer
    clock: Path
    ahead_s: float = 0.0
    examples: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def set_clock(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s
        new = self.clock.with_suffix(".new")
        new.write_text(repr(ahead_s))
        new.replace(self.clock)


def step(**drawn: Any) -> Any:
    """A rule whose steps are counted."""

    def counting(function: Any) -> Any:
        STEPS.add(function.__name__)

        @wraps(function)
        def counted(machine: Any, **given: Any) -> None:
            machine.world.done[function.__name__] += 1
            function(machine, **given)

        return rule(**drawn)(counted)

    return counting


@contextmanager
def new_world(tmp_path: Path) -> Iterator[World]:
    """A server whose root is in memory where that is possible, as no power is cut here."""
    fast = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="holdfast-", dir=fast)) if fast.is_dir() else tmp_path
    clock = tmp_path / "clock"
    clock.write_text("0")
    try:
        with LiveServer(place / "root", clock=clock, janitor_every_s=NEVER_S) as server:
            yield World(server, clock)
    finally:
        if place != tmp_path:
            shutil.rmtree(place)
