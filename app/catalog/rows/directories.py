"""Rows of directories: policies, counters, and the names they occupy."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.errors import DiskFailed
from app.core.models import LIMITS, Directory, Policy
from app.core.quotas import Usage

logger = logging.getLogger("holdfast")

_table = schema.directories
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many live checkpoints a directory holds, and their bytes."""

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """The counter of a directory, and when it was last saved to, in ns; -1 for never."""

    sequence: int
    last_write_ns: int


class DirectoryRows:
    """Directories within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> Directory | None:
        """The directory of this name. `DiskFailed` where its row cannot be read."""
        row = self._connection.execute(select(_table).where(_table.c.name == name)).mappings().one_or_none()
        if row is None:
            return None
        if (found := _readable(row)) is not None:
            return found
        raise DiskFailed(f"What the catalog knows of {name} cannot be read; `holdfast-server fsck` repairs it.")

    def put(self, directory: Directory) -> None:
        """Keep a directory, new or changed."""
        values = {
            "created_at": to_text(directory.created_at),
            "sequence": directory.sequence,
            "mode": directory.policy.mode,
            **{name: getattr(directory.policy, name) for name in LIMITS},
            "operator": json.dumps(sorted(directory.policy.operator)),
            "last_writer": directory.last_writer,
            "last_write_at": to_text(directory.last_write_at),
        }
        changed = self._connection.execute(update(_table).where(_table.c.name == directory.name).values(values))
        if changed.rowcount == 0:
            self._connection.execute(insert(_table).values(name=directory.name, **values))

    def mark_dirty(self, name: str, dirty: bool) -> None:
        """Whether the record beside the checkpoints is behind what the row says."""
        self._connection.execute(update(_table).where(_table.c.name == name).values(dirty=dirty))

    def dirty(self) -> Sequence[Directory]:
        """The directories whose record is behind."""
        rows = self._connection.execute(select(_table).where(_table.c.dirty)).mappings()
        return [directory for row in rows if (directory := _readable(row)) is not None]

    def names(self) -> set[str]:
        """The names of all directories that were ever used, also of those whose rows cannot be read otherwise."""
        used = or_(_table.c.sequence > 0, _table.c.mode.is_not(None), _table.c.operator != "[]")
        return set(self._connection.execute(select(_table.c.name).where(used)).scalars())

    def readable(self, name: str) -> Directory | None:
        """The directory of this name; None also where its row cannot be read."""
        row = self._connection.execute(select(_table).where(_table.c.name == name)).mappings().one_or_none()
        return _readable(row) if row is not None else None

    def is_known(self, name: str) -> bool:
        """Tell if there is a row of this name, readable or not."""
        return self._connection.execute(select(_table.c.name).where(_table.c.name == name)).first() is not None

    def counter(self, name: str) -> int:
        """The counter of a directory, also where the rest of its row cannot be read; 0 where there is none."""
        found = self._connection.execute(select(_table.c.sequence).where(_table.c.name == name)).scalar()
        return found if isinstance(found, int) else 0

    def remove(self, name: str) -> None:
        """Forget a directory."""
        self._connection.execute(delete(_table).where(_table.c.name == name))

    def below(self, prefix: str, *, after: str = "", limit: int | None = None) -> Sequence[Directory]:
        """Directories that were ever used, equal to the prefix or below it by whole components, sorted by name."""
        used = or_(_table.c.sequence > 0, _table.c.mode.is_not(None), _table.c.operator != "[]")
        query = select(_table).where(used, within(_table.c.name, prefix)).order_by(_table.c.name)
        found: list[Directory] = []
        while True:
            rows = self._connection.execute(query.where(_table.c.name > after).limit(limit)).mappings().all()
            found += [directory for row in rows if (directory := _readable(row)) is not None]
            if limit is None or len(rows) < limit or len(found) >= limit:
                return found[:limit]
            after = rows[-1]["name"]

    def written(self) -> dict[str, Written]:
        """How far each directory has come, by name."""
        rows = self._connection.execute(select(_table.c.name, _table.c.sequence, _table.c.last_write_at))
        return {name: Written(sequence, _ns(last_write_at)) for name, sequence, last_write_at in rows}

    def totals(self, name: str) -> Totals:
        """Count and bytes of the live checkpoints of a directory."""
        found = schema.checkpoints.c
        query = select(func.count(), func.coalesce(func.sum(found.size_bytes), 0))
        query = query.where(found.directory == name, found.removed_at.is_(None))
        query = query.select_from(schema.checkpoints).with_hint(schema.checkpoints, "INDEXED BY live", "sqlite")
        return Totals(*self._connection.execute(query).one())

    def usage(self, prefix: str) -> Usage:
        """Count and bytes of the live checkpoints of all directories at and below a prefix; `""` for all."""
        found = schema.checkpoints.c
        query = select(func.count(), func.coalesce(func.sum(found.size_bytes), 0)).where(found.removed_at.is_(None))
        return Usage(*self._connection.execute(query.where(within(found.directory, prefix))).one())

    def anything_below(self, name: str) -> bool:
        """Whether a directory has this name, or has it as its first components."""
        query = select(_table.c.name).where(within(_table.c.name, name)).limit(1)
        return self._connection.execute(query).first() is not None

    def taken_by_checkpoint(self, name: str) -> str | None:
        """The live or promised checkpoint whose name this directory would have to pass through, as a path."""
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
    """The name is the prefix or begins with its components. ``0`` is the character after ``/``."""
    if not prefix:
        return column.is_not(None)
    return or_(column == prefix, (column > f"{prefix}/") & (column < f"{prefix}0"))


def _readable(row: Any) -> Directory | None:
    try:
        return _directory(row)
    except (ValueError, TypeError, KeyError):
        logger.exception("the catalog's row of the directory %s cannot be read", row["name"])
        return None


def _ns(text: str | None) -> int:
    try:
        since = to_time(text or "") - _EPOCH
    except (ValueError, TypeError):  # then every record there is newer
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
