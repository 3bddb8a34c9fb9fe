"""Writers that keep a server busy until its end, and know what it has acknowledged.

Each has a directory to itself, or the names that begin with its own in a directory that several share. So at most one
operation of each is under way when the server ends.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from app.core.models import Mode, PolicyRequest
from tests.crash.harness.acknowledged import Contents, Kept, State
from tests.crash.harness.deeds import (
    RANGE_BYTES,
    Abandon,
    Answer,
    Change,
    Clear,
    Delete,
    Operation,
    Order,
    Prune,
    Refused,
    Restore,
    Save,
    Way,
    resumed,
)
from tests.support.deadlines import DEADLINE_S

RESTORED_WITHIN_S = 30
MOST_KEPT = 7  # so that many rounds on one disk do not fill it


@dataclass(frozen=True)
class Unfinished:
    """An upload that waits to be brought to its end."""

    upload_id: str
    save: Save

    @property
    def save_id(self) -> str:
        return self.save.save_id


@dataclass
class Area:
    """The area of one writer: its acknowledged saves, and the request that was under way when the server ended.

    ``numbers`` are the sequences that its directory has given, and to which saves. ``gone`` was deleted the last, at
    ``gone_at``, and can be brought back where the server has an undo window (``undo``).
    """

    directory: str
    prefix: str
    rng: random.Random
    state: State = field(default_factory=State)
    before: State = field(default_factory=State)
    under_way: Operation | None = None
    unfinished: Unfinished | None = None
    numbers: dict[int, str] = field(default_factory=dict)
    past: deque[tuple[Save, str]] = field(default_factory=lambda: deque(maxlen=5))
    count: int = 0
    undo: bool = False
    gone: Kept | None = None
    gone_at: float = 0

    @property
    def is_shared(self) -> bool:
        return self.state.sequence is None

    @property
    def mode(self) -> Mode | None:
        return None if self.is_shared else "max" if self.directory.endswith("max") else "min"

    def acknowledge(self, operation: Operation, answer: Answer | None) -> None:
        """Record an acknowledged request."""
        self.state = operation.after(self.state)
        if isinstance(operation, Save) and answer is not None:
            if operation.halted:
                self.unfinished = Unfinished(answer["id"], operation)
                return
            self.past.append((operation, answer["id"]))
            there = self.state.kept.get(operation.kept.name)
            kept = there or operation.kept  # a late delivery may be pruned at once
            if differences := kept.differences(answer):
                raise Refused(f"the server acknowledged something else: {differences}")
            if self.numbers.setdefault(answer["sequence"], operation.save_id) != operation.save_id:
                raise Refused(f"the number {answer['sequence']} of {self.directory} was given twice")
            if there is not None:
                self.state = replace(self.state, kept={**self.state.kept, kept.name: kept.as_told(answer)})
        if isinstance(operation, Delete):
            self.gone, self.gone_at = operation.kept, time.monotonic()
        if isinstance(operation, Restore):
            self.gone = None
            if differences := self.state.kept[operation.kept.name].differences(answer or {}):
                raise Refused(f"the server brought something else back: {differences}")
        if self.unfinished is not None and self.unfinished.save_id == getattr(operation, "save_id", None):
            self.unfinished = None

    def adopt(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take from the server what only it can know of what was under way."""
        kept = {name: kept.as_told(rows[name]) for name, kept in self.state.kept.items()}
        self.state = replace(self.state, kept=kept)


class Workload:
    """One writer for each area, on threads of their own, until the server answers no more."""

    def __init__(self, http: httpx.Client, areas: list[Area]) -> None:
        self._http = http
        self._lights_out = threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [threading.Thread(target=self._write, args=(area,), daemon=True) for area in areas]

    def run(self, seconds: float, end: Callable[[], None]) -> None:
        """Let all writers write for some time, then end the server."""
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._lights_out.set()
        end()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a writer was never answered"
        if self._faults:
            raise self._faults[0]

    def _write(self, area: Area) -> None:
        while True:
            area.under_way = next_operation(area)
            try:
                answer = area.under_way.send(self._http)
                area.acknowledge(area.under_way, answer)
            except (httpx.TransportError, Refused) as error:
                if not self._lights_out.is_set():
                    self._faults.append(error)
                return
            except BaseException as error:
                self._faults.append(error)
                return
            area.under_way = None


def next_operation(area: Area) -> Operation:
    """Something that the server must not refuse."""
    rng, kept = area.rng, list(area.state.kept.values())
    if area.unfinished is not None and rng.random() < 0.3:
        waiting = area.unfinished
        return Abandon(waiting.upload_id, waiting.save_id) if rng.random() < 0.3 else resumed(waiting.save)
    if area.undo and area.gone is not None and rng.random() < 0.4:
        gone, area.gone = area.gone, None
        if time.monotonic() - area.gone_at < RESTORED_WITHIN_S:
            return Restore(gone)
    if len(kept) > MOST_KEPT:
        return Delete(unpinned[0]) if (unpinned := _unpinned(kept)) else Change(kept[0], {"pinned": False})
    choice = rng.random()
    if choice < 0.15 and _unpinned(kept):
        return Delete(rng.choice(_unpinned(kept)))
    if choice < 0.30 and kept:
        return _change(rng, kept)
    if choice < 0.40 and not area.is_shared and area.state.sequence:
        clearing: list[Operation] = [Clear(area.directory)] if _unpinned(kept) else []
        return rng.choice([Prune(area.directory), Prune(area.directory), _order(area), *clearing])
    return _save(area, kept)


def _change(rng: random.Random, kept: list[Kept]) -> Change:
    facts: dict[str, Any] = rng.choice(
        [
            {"pinned": sum(each.facts["pinned"] for each in kept) < 2 and rng.random() < 0.7},
            {"tags": rng.sample(["good", "late", "shown"], rng.randrange(3))},
            {"metric": rng.choice([round(rng.random(), 3), "NaN", None])},
            {"metadata": {rng.choice("ab"): rng.randrange(100)}},
        ]
    )
    return Change(rng.choice(kept), facts)


def _order(area: Area) -> Order:
    rng = area.rng
    limits = {"max_checkpoints": rng.randint(1, 4), "max_best_checkpoints": rng.randint(0, 3), "keep_every_epochs": 5}
    return Order(area.directory, dict(rng.sample(sorted(limits.items()), rng.randrange(4))))


def _save(area: Area, there: list[Kept]) -> Save:
    rng, unpinned = area.rng, _unpinned(there)
    area.count += 1
    name, halted = f"{area.prefix}{area.count}", False
    way: Way = rng.choice(["body", "body", "whole", "late", "hashed", "hashed"])
    contents = _contents(rng, name, way, there)
    choice = rng.random()
    if choice < 0.15 and (cut := [each for each in there if each.is_cut]):
        before = rng.choice(cut)
        name, contents = before.name, before.contents  # the same again is recognised where it is cut as it was
        way = rng.choice(["late", "hashed"])
    elif choice < 0.4 and unpinned:
        name = rng.choice(unpinned).name
        contents = _contents(rng, name, way, there)
    elif choice < 0.5 and area.unfinished is None and way != "body":
        halted = True
    facts = {
        "kind": rng.choice(["regular", "regular", "best"]),
        "epoch": area.count,
        "metric": rng.choice([round(rng.random(), 3), round(rng.random(), 1), None, "NaN"]),
        "is_best": rng.random() < 0.2,
        "pinned": sum(each.facts["pinned"] for each in there) < 2 and rng.random() < 0.1,
        "tags": rng.sample(["new", "good"], rng.randrange(3)),
        "metadata": {"step": rng.randrange(1000)} if rng.random() < 0.5 else {},
    }
    save_id = f"{area.prefix}{area.count}-{rng.getrandbits(64):016x}"
    is_cut = way != "whole" or all(len(piece) <= RANGE_BYTES for pieces in contents.values() for piece in pieces)
    kept = Kept(name, save_id, contents, facts, saved_after=area.state.sequence, is_cut=is_cut)
    return Save(area.directory, kept, _asked(area), way, halted)


def _asked(area: Area) -> PolicyRequest:
    if area.is_shared or area.rng.random() < 0.5:
        return PolicyRequest()
    return PolicyRequest(area.mode, {"max_checkpoints": area.rng.randint(2, 4), "max_best_checkpoints": 2})


def _contents(rng: random.Random, name: str, way: Way, kept: list[Kept]) -> Contents:
    """New bytes, or if digests are declared, some that the server has."""
    cut = [each for each in kept if each.is_cut and way == "hashed"]
    known = [piece for each in cut for pieces in each.contents.values() for piece in pieces]
    paths = [name] if way == "body" or rng.random() < 0.6 else ["model.bin", "optimizer/state.bin", "small.json"]
    contents = {}
    for path in paths:
        sizes = [rng.choice([1, 5_000, 40_000, 140_000, 300_000]) for _ in range(rng.randint(1, 3))]
        pieces = [rng.choice(known) if known and rng.random() < 0.6 else rng.randbytes(size) for size in sizes]
        contents[path] = tuple(pieces) if way in {"late", "hashed"} else (b"".join(pieces),)
    return contents


def _unpinned(kept: list[Kept]) -> list[Kept]:
    return [each for each in kept if not each.facts["pinned"]]
