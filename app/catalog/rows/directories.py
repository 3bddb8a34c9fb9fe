"""Rows of directories: policies, counters, and the names they occupy."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.errors import DiskFailed
from app.core.models import LIMITS, Directory, Policy
from app.core.retention import Boundaries

logger = logging.getLogger("holdfast")

_table = schema.directories
USED = or_(_table.c.sequence > 0, _table.c.mode.is_not(None), _table.c.operator != "[]")
"""Selects the directories that were ever used."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Totals:
    """The number of live checkpoints of a directory, and their bytes."""

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SaveCounter:
    """The counter of a directory, and the time of its last save in ns since 1970; -1 for never."""

    sequence: int
    last_write_ns: int


_BY_NAME = select(_table).where(_table.c.name == bindparam("name"))
_SETTINGS = ("created_at", "sequence", "mode", *LIMITS, "operator", "last_writer", "last_write_at", "judged")
_CHANGE = update(_table).where(_table.c.name == bindparam("of")).values({name: bindparam(name) for name in _SETTINGS})
_ADD = insert(_table)
_AT_OR_BELOW = (
    select(_table.c.name)
    .where(
        (_table.c.name == bindparam("name"))
        | ((_table.c.name > bindparam("after")) & (_table.c.name < bindparam("before")))
    )
    .limit(1)
)
"""See `within`."""


class DirectoryRows:
    """Directories within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Directory | None:
        """Return the directory of this name.

        Raises
        ------
        DiskFailed
            Its row is corrupt.
        """
        row = self._connection.execute(_BY_NAME, {"name": name}).mappings().one_or_none()
        if row is None:
            return None
        if (found := _readable(row)) is not None:
            return found
        raise DiskFailed(f"The catalog's record of {name} cannot be read; `holdfast-server fsck` repairs it.")

    def put(self, directory: Directory) -> None:
        """Store a directory, new or changed. Its last judgement ends, as checkpoints or a policy may come with it."""
        values = {
            "created_at": to_text(directory.created_at),
            "sequence": directory.sequence,
            "mode": directory.policy.mode,
            **{name: getattr(directory.policy, name) for name in LIMITS},
            "operator": json.dumps(sorted(directory.policy.operator)),
            "last_writer": directory.last_writer,
            "last_write_at": to_text(directory.last_write_at),
            "judged": None,
        }
        changed = self._connection.execute(_CHANGE, {"of": directory.name, **values})
        if changed.rowcount == 0:
            self._connection.execute(_ADD, {"name": directory.name, **values})

    def judged(self, name: str) -> Boundaries | None:
        """Return the boundaries of the last judgement of a directory; None if there is none that counts."""
        text = self._connection.execute(select(_table.c.judged).where(_table.c.name == name)).scalar()
        try:
            settings, newest, last, best = json.loads(text or "")
            return Boundaries(tuple(settings), newest, _tuple(last), _tuple(best))
        except (ValueError, TypeError):
            return None

    def put_judged(self, name: str, found: Boundaries) -> None:
        """Store the boundaries of a judgement that left no checkpoint without a reason to stay."""
        text = json.dumps([found.settings, found.newest, found.last, found.best])
        self._connection.execute(update(_table).where(_table.c.name == name).values(judged=text))

    def mark_record_stale(self, name: str, is_stale: bool) -> None:
        """Record if the file that describes the directory is older than its row."""
        self._connection.execute(update(_table).where(_table.c.name == name).values(record_stale=is_stale))

    def with_stale_record(self) -> Sequence[Directory]:
        """Return the directories whose record on the storage is older than their row."""
        rows = self._connection.execute(select(_table).where(_table.c.record_stale)).mappings()
        return [directory for row in rows if (directory := _readable(row)) is not None]

    def names(self) -> set[str]:
        """Return the names of all directories that were ever used, also of those whose rows are corrupt."""
        return set(self._connection.execute(select(_table.c.name).where(USED)).scalars())

    def readable(self, name: str) -> Directory | None:
        """Return the directory of this name; None also if its row is corrupt."""
        row = self._connection.execute(select(_table).where(_table.c.name == name)).mappings().one_or_none()
        return _readable(row) if row is not None else None

    def is_known(self, name: str) -> bool:
        """Tell if there is a row of this name, corrupt or not."""
        return self._connection.execute(select(_table.c.name).where(_table.c.name == name)).first() is not None

    def counter(self, name: str) -> int:
        """Return the counter of a directory, also if the rest of its row is corrupt; 0 if it has no row."""
        found = self._connection.execute(select(_table.c.sequence).where(_table.c.name == name)).scalar()
        return found if isinstance(found, int) else 0

    def remove(self, name: str) -> None:
        """Delete a directory, with the metrics of its checkpoints that were deleted for their age."""
        self._connection.execute(delete(_table).where(_table.c.name == name))
        history = schema.metric_history
        self._connection.execute(delete(history).where(history.c.directory == name))

    def below(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[Directory]:
        """Return directories that were ever used, at or below a prefix by whole components, sorted by name."""
        query = select(_table).where(USED, within(_table.c.name, prefix)).order_by(_table.c.name)
        found: list[Directory] = []
        while True:
            rows = self._connection.execute(query.where(_table.c.name > after).limit(limit)).mappings().all()
            found += [directory for row in rows if (directory := _readable(row)) is not None]
            if limit is None or len(rows) < limit or len(found) >= limit:
                return found[:limit]
            after = rows[-1]["name"]

    def some(self, names: Sequence[str]) -> Sequence[Directory]:
        """Return directories by their names, sorted by name; without those whose rows are corrupt."""
        found: list[Directory] = []
        for batch in batches(sorted(names)):
            rows = self._connection.execute(select(_table).where(_table.c.name.in_(batch)).order_by(_table.c.name))
            found += [directory for row in rows.mappings() if (directory := _readable(row)) is not None]
        return found

    def save_counters(self) -> dict[str, SaveCounter]:
        """Return the counter and the last save of each directory, by name."""
        rows = self._connection.execute(select(_table.c.name, _table.c.sequence, _table.c.last_write_at))
        return {name: SaveCounter(sequence, _ns(last_write_at)) for name, sequence, last_write_at in rows}

    def anything_below(self, name: str) -> bool:
        """Tell if a directory has this name, or begins with its components."""
        return (
            self._connection.execute(_AT_OR_BELOW, {"name": name, "after": f"{name}/", "before": f"{name}0"}).first()
            is not None
        )

    def taken_by_checkpoint(self, name: str) -> str | None:
        """Return the path of a live or reserved checkpoint that this directory would have to lie in."""
        parts = name.split("/")
        for length in range(1, len(parts)):
            parent, child = "/".join(parts[:length]), parts[length]
            for table in (schema.checkpoints, schema.uploads):
                query = select(table.c.name).where(table.c.directory == parent, table.c.name == child)
                if table is schema.checkpoints:
                    query = query.where(table.c.removed_at.is_(None))
                if self._connection.execute(query).first() is not None:
                    return f"{parent}/{child}"
        return None


def within(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Select names that are the prefix or begin with its components. ``0`` is the character after ``/``."""
    if not prefix:
        return column.is_not(None)
    return or_(column == prefix, (column > f"{prefix}/") & (column < f"{prefix}0"))


def _readable(row: Any) -> Directory | None:
    try:
        return _directory(row)
    except (ValueError, TypeError, KeyError):
        logger.exception("the catalog's row of the directory %s cannot be read", row["name"])
        return None


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return tuple(values) if values is not None else None


def _ns(text: str | None) -> int:
    try:
        since = to_time(text or "") - _EPOCH
    except (ValueError, TypeError):  # any record on the storage is newer
        return -1
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _directory(row: Any) -> Directory:
    policy = Policy(
        mode=row["mode"],
        **{name: row[name] for name in LIMITS},
        operator=frozenset(json.loads(row["operator"])),
    )
    return Directory(
        name=row["name"],
        created_at=to_time(row["created_at"]),
        sequence=row["sequence"],
        policy=policy,
        last_writer=row["last_writer"],
        last_write_at=to_time(row["last_write_at"]),
    )
