"""A model of one directory in memory: a second implementation of order, ranking, retention and replacement.

It is written from the documents and imports nothing of the server, so that a mistake would have to be made twice.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

LIMITS = ("max_checkpoints", "max_best_checkpoints", "keep_every_epochs", "keep_every_steps")
FACTS = ("kind", "epoch", "step", "metric", "is_best", "pinned", "tags", "retention", "metadata")

Reasons = set[tuple[str, int | None, int | None]]


@dataclass(frozen=True)
class Content:
    """The files of a checkpoint; one that bears the checkpoint's own name has an empty path."""

    files: tuple[tuple[str, bytes], ...]

    def __repr__(self) -> str:
        return f"Content({', '.join(f'{path!r}: {len(data)} bytes' for path, data in self.files)})"

    @property
    def size_bytes(self) -> int:
        return sum(len(data) for _, data in self.files)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A save, as its writer asks for it; ``known`` is the last sequence that the writer knew, and once the save has
    been reserved, the last that there was at its reservation, if it knew of no earlier one."""

    content: Content
    name: str | None = None
    kind: str = "regular"
    epoch: int | None = None
    step: int | None = None
    metric: float | None = None
    is_best: bool = False
    pinned: bool = False
    tags: tuple[str, ...] = ()
    retention: str = "policy"
    metadata: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None
    limits: dict[str, int | None] = field(default_factory=dict)
    save_id: str | None = None
    known: int | None = None
    only_if_improved: bool = False

    def called(self) -> str | None:
        """The name that it gets; None where the time of the save becomes part of it."""
        if self.name is not None or (self.epoch is None and self.step is None):
            return self.name
        epoch = "" if self.epoch is None else f"_epoch_{self.epoch:04d}"
        step = "" if self.step is None else f"_step_{self.step:08d}"
        return f"{'best' if self.kind == 'best' else 'checkpoint'}{epoch}{step}.pt"


@dataclass
class Row:
    """A checkpoint."""

    id: str
    name: str
    save_id: str
    sequence: int
    saved_after: int
    content: Content
    kind: str
    epoch: int | None
    step: int | None
    metric: float | None
    is_best: bool
    pinned: bool
    tags: tuple[str, ...]
    retention: str
    metadata: dict[str, Any]
    removed_because: str | None = None

    @property
    def position(self) -> tuple[int, int]:
        return self.saved_after, self.sequence

    def shown(self) -> dict[str, Any]:
        """Return the server's expected answer, without times and digests."""
        shown = {name: getattr(self, name) for name in (*FACTS, "id", "name", "save_id", "sequence", "saved_after")}
        return {
            **shown,
            "metric": on_the_wire(self.metric),
            "tags": list(self.tags),
            "size_bytes": self.content.size_bytes,
            "removed_because": self.removed_because,
        }


class Model:
    """One directory."""

    def __init__(self) -> None:
        self.sequence = 0
        self.mode: str | None = None
        self.limits: dict[str, int | None] = dict.fromkeys(LIMITS)
        self.operator: set[str] = set()
        self.rows: dict[str, Row] = {}
        self.saves: dict[str, tuple[str, Wanted]] = {}

    # queries

    @property
    def is_known(self) -> bool:
        """True if anything was saved to it, or an operator's policy for it stands."""
        spoken_of = self.mode is not None or self.operator or any(v is not None for v in self.limits.values())
        return self.sequence > 0 or bool(spoken_of)

    def live(self) -> list[Row]:
        """The oldest first."""
        return sorted((r for r in self.rows.values() if r.removed_because is None), key=lambda r: r.position)

    def everything(self) -> list[Row]:
        """Also what was removed, the oldest first."""
        return sorted(self.rows.values(), key=lambda r: r.position)

    def named(self, name: str | None) -> Row | None:
        return next((row for row in self.live() if row.name == name), None)

    def policy(self) -> dict[str, Any]:
        """As the server shows it."""
        return {"mode": self.mode, **self.limits, "set_by_operator": sorted(self.operator)}

    def ranked(self, mode: str | None = None, by: str | None = None) -> list[Row]:
        """The best first, without those that are never best."""
        smaller = (mode or self.mode or "min") == "min"
        values = {r.id: r.metric if by is None else r.metadata.get(by) for r in self.live()}
        measured = [row for row in self.live() if is_number(values[row.id])]
        measured.sort(key=lambda row: values[row.id], reverse=not smaller)  # both ways, equals stay oldest first
        flagged = [row for row in self.live() if row.is_best and row.metric is None] if by is None else []
        return measured + flagged[::-1]

    def reasons(self) -> dict[str, Reasons]:
        """Why each live checkpoint stays, by its id."""
        live = self.live()
        why: dict[str, Reasons] = {row.id: set() for row in live}
        counted = [row for row in live if row.retention == "policy"]
        if counted:
            why[counted[-1].id].add(("newest", None, None))
        last, best, *intervals = (self.limits[name] for name in LIMITS)
        regular = [row for row in reversed(counted) if row.kind == "regular"]
        ranked = [row for row in self.ranked() if row.retention == "policy"]
        for code, rows, limit in (("last", regular, last), ("best", ranked, best)):
            for place, row in enumerate(rows, 1):
                if limit is None or place <= limit:
                    why[row.id].add((code, place, limit))
        for row in live:
            if last is None and best is None:
                why[row.id].add(("unlimited", None, None))
            if row.pinned:
                why[row.id].add(("pinned", None, None))
            if row.retention == "manual":
                why[row.id].add(("manual", None, None))
            for code, every, at in zip(("every", "every_steps"), intervals, (row.epoch, row.step), strict=True):
                is_due = every is not None and at is not None and at % every == 0
                if is_due and row.kind == "regular" and row.retention == "policy":
                    why[row.id].add((code, None, every))
        return why

    # admission

    def refusals(self, wanted: Wanted, name: str | None) -> set[str]:
        """The codes with which a save may be refused; none if it is to be taken."""
        found = set()
        if self.mode not in {None, wanted.mode} and wanted.mode is not None and not self._is_emptied:
            found.add("mode_conflict")
        standing = self.named(name)
        if standing is not None and standing.pinned and standing.content != wanted.content:
            found.add("pinned")
        if standing is not None and wanted.known is not None and wanted.known < standing.saved_after:
            found.add("superseded")
        if wanted.only_if_improved and not self._improves(wanted):
            found.add("not_improved")
        return found

    @property
    def _is_emptied(self) -> bool:
        """True if the directory was saved to and holds nothing any more: the next save brings its own mode."""
        return self.sequence > 0 and not self.live()

    def _improves(self, wanted: Wanted) -> bool:
        if not is_number(wanted.metric):
            return False
        mode = self.mode or wanted.mode or "min"
        others = [row.metric for row in self.live() if is_number(row.metric)]
        return all(wanted.metric < other if mode == "min" else wanted.metric > other for other in others)

    # changes

    def place(self, known: int | None, taken: list[int]) -> int:
        """The place of a save that begins while others, which have these places, are under way."""
        if known is not None:
            return min(known, self.sequence)
        return max([self.sequence, *(place + 1 for place in taken)])

    def commit(self, wanted: Wanted, *, id: str, name: str, save_id: str) -> list[str]:
        """Save; the names of what the save removes. ``id`` is the one that the server gave."""
        was_emptied = self._is_emptied
        self.sequence = max(self.sequence, wanted.known or 0) + 1
        saved_after = self.sequence - 1 if wanted.known is None else wanted.known
        is_late = any(saved_after < row.saved_after for row in self.live())
        self.mode = (wanted.mode or self.mode) if was_emptied else (self.mode or wanted.mode)
        removed: list[str] = []
        row = Row(id, name, save_id, self.sequence, saved_after, wanted.content, *(getattr(wanted, n) for n in FACTS))
        standing = self.named(name)
        if standing is not None and standing.content == wanted.content:
            assert id == standing.id, "the same content under the same name is the same checkpoint"
            row.pinned |= standing.pinned
            row.retention = "manual" if standing.retention == "manual" else wanted.retention
            row.tags = tuple(dict.fromkeys(standing.tags + wanted.tags))
        else:
            assert id not in self.rows, "new content is a new checkpoint"
            if standing is not None:
                standing.removed_because = "replaced"
                removed.append(name)
        self.rows[id] = row
        self.saves[save_id] = (id, replace(wanted, name=name, save_id=save_id))
        if not is_late:
            self.limits |= {key: value for key, value in wanted.limits.items() if key not in self.operator}
        return removed + self.prune()

    def prune(self) -> list[str]:
        """Remove the checkpoints without a reason to stay; return their names."""
        going = [self.rows[id] for id, why in self.reasons().items() if not why]
        return self._remove(going, "pruned")

    def delete(self, row: Row) -> None:
        self._remove([row], "deleted")

    def clear(self, *, include_pinned: bool) -> tuple[list[str], list[str]]:
        """The names of what goes, and of what stays because it is pinned."""
        pinned = [row.name for row in self.live() if row.pinned and not include_pinned]
        return self._remove([row for row in self.live() if include_pinned or not row.pinned], "deleted"), pinned

    def order(self, mode: str | None, limits: dict[str, int | None]) -> None:
        """An operator speaks: what they name is theirs, the rest goes back to saves."""
        self.mode = mode or self.mode
        self.limits |= limits
        self.operator = set(limits)

    def _remove(self, rows: list[Row], because: str) -> list[str]:
        for row in rows:
            row.removed_because = because
        return [row.name for row in rows]


def is_number(value: object) -> bool:
    """Tell if values can be ranked by it."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def on_the_wire(number: float | None) -> float | str | None:
    """A number as JSON has it."""
    if number is None or math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
