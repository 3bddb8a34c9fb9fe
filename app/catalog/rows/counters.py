"""Counters of each directory: numbers and bytes of its checkpoints, kept in the transaction of each change of a row.

`CheckpointRows` counts every row that it inserts, updates or deletes. Nothing that is shown of a directory, a prefix
or the server has to visit the rows of checkpoints.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, get_args

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    not_,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.checkpoint_loader import batches
from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.core.models import RemovedBecause
from app.core.quotas import Usage

K = TypeVar("K", bound=Hashable)

_table = schema.directory_counters
_found = schema.checkpoints.c
REASONS: Final[tuple[RemovedBecause, ...]] = get_args(RemovedBecause)
COUNTED: Final = (
    *("size_bytes", "pinned", "created_at", "removed_at", "removed_because"),
    *("freed", "verified_at", "damage"),
)
"""The columns that counters and rollups depend on, beside the directory, which never changes."""
NAMES: Final = tuple(column.name for column in _table.c if column.name != "directory")

_is_live = _found.removed_at.is_(None)
_is_unfreed = and_(_found.removed_at.is_not(None), not_(_found.freed))
_CONDITIONS: Final[Mapping[str, ColumnElement[bool]]] = {
    "live": _is_live,
    "pinned": and_(_is_live, _found.pinned),
    "unverified": and_(_is_live, _found.verified_at.is_(None)),
    "damaged": and_(_is_live, _found.damage.is_not(None)),
    "unfreed": _is_unfreed,
    **{because: and_(_found.removed_at.is_not(None), _found.removed_because == because) for because in REASONS},
}
"""The checkpoints that each counter counts, by the first part of its name; `_groups` says the same of one row."""
_UPDATE: Final = (
    update(_table)
    .where(_table.c.directory == bindparam("of_directory"))
    .values({name: _table.c[name] + bindparam(f"more_{name}") for name in NAMES})
)
_DELETE_EMPTY: Final = delete(_table).where(
    _table.c.directory == bindparam("of_directory"), *(_table.c[name] == 0 for name in NAMES)
)


class SumRows(ABC, Generic[K]):
    """Sums of checkpoints by a key, within one transaction.

    Changes are gathered, and written before a read and before the commit.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes: dict[K, Counter[str]] = {}
        self._is_stale = False

    @abstractmethod
    def count(self, row: Any, times: int) -> None:
        """Count a row of a checkpoint once more, or with ``times=-1`` once less."""

    def count_all_anew(self) -> None:
        """Count all rows before the commit; for a change of most of them."""
        self._is_stale = True

    def write(self) -> None:
        """Write the changes so far."""
        changes, self._changes = self._changes, {}
        if self._is_stale:
            self._is_stale = False
            self._rebuild()
        elif changes:
            self._add(changes)

    @abstractmethod
    def _rebuild(self) -> None:
        """Make all sums anew from the rows of checkpoints."""

    @abstractmethod
    def _add(self, changes: Mapping[K, Counter[str]]) -> None:
        """Add changes to the rows of their keys."""


class CounterRows(SumRows[str]):
    """Counters by directory within one transaction."""

    # changes

    def count(self, row: Any, times: int) -> None:
        changes = self._changes.setdefault(row["directory"], Counter())
        size_bytes = row["size_bytes"] if isinstance(row["size_bytes"], int) else 0  # SQLite may hold text
        for name in _groups(row):
            changes[f"{name}_count"] += times
            changes[f"{name}_bytes"] += times * size_bytes

    def _rebuild(self) -> None:
        rebuild_from(self._connection)

    def _add(self, changes: Mapping[str, Counter[str]]) -> None:
        for directory, change in sorted(changes.items()):
            values = {f"more_{name}": change[name] for name in NAMES}
            if any(values.values()):
                written = self._connection.execute(_UPDATE, {"of_directory": directory, **values})
                if written.rowcount == 0:
                    first = {name: change[name] for name in NAMES}
                    self._connection.execute(insert(_table).values(directory=directory, **first))
                elif sum(values.values()) < 0:  # some of its checkpoints are forgotten, perhaps all
                    self._connection.execute(_DELETE_EMPTY, {"of_directory": directory})

    def repair(self, directory: str) -> None:
        """Count the rows of one directory anew."""
        self.write()
        self._connection.execute(delete(_table).where(_table.c.directory == directory))
        self._connection.execute(_insertion(_found.directory == directory))

    # queries

    def totals(self, directory: str) -> Totals:
        """Return count and bytes of the live checkpoints of a directory."""
        self.write()
        query = select(_table.c.live_count, _table.c.live_bytes).where(_table.c.directory == directory)
        found = self._connection.execute(query).one_or_none()
        return Totals(*found) if found is not None else Totals(0, 0)

    def totals_of(self, directories: Sequence[str]) -> Mapping[str, Totals]:
        """Return the totals of those of the directories that have counters, by name."""
        self.write()
        query = select(_table.c.directory, _table.c.live_count, _table.c.live_bytes)
        found: dict[str, Totals] = {}
        for names in batches(directories):
            rows = self._connection.execute(query.where(_table.c.directory.in_(names)))
            found |= {name: Totals(count, size_bytes) for name, count, size_bytes in rows}
        return found

    def usage(self, prefix: str) -> Usage:
        """Return count and bytes of the live checkpoints of all directories at or below a prefix; `""` for all."""
        found = self.sums(prefix, ("live_count", "live_bytes"))
        return Usage(found["live_count"], found["live_bytes"])

    def sums(self, prefix: str, names: Sequence[str] = NAMES) -> Mapping[str, int]:
        """Return the sum of each counter over the directories at or below a prefix; or of those of these names."""
        self.write()
        query = select(*(total(_table.c[name]).label(name) for name in names))
        return dict(self._connection.execute(query.where(within(_table.c.directory, prefix))).mappings().one())

    def held(self, prefix: str) -> Mapping[str, Totals]:
        """Return the totals of each directory within a prefix that holds a live checkpoint, by name."""
        self.write()
        query = select(_table.c.directory, _table.c.live_count, _table.c.live_bytes)
        rows = self._connection.execute(query.where(_table.c.live_count > 0, within(_table.c.directory, prefix)))
        return {name: Totals(count, size_bytes) for name, count, size_bytes in rows}

    def largest(self, prefix: str, limit: int) -> list[tuple[str, Totals]]:
        """Return the directories that hold most bytes with their totals, largest first."""
        self.write()
        query = select(_table.c.directory, _table.c.live_count, _table.c.live_bytes)
        query = query.where(_table.c.live_count > 0, within(_table.c.directory, prefix))
        rows = self._connection.execute(query.order_by(_table.c.live_bytes.desc(), _table.c.directory).limit(limit))
        return [(name, Totals(count, size_bytes)) for name, count, size_bytes in rows]

    def mismatches(self) -> list[tuple[str, list[str]]]:
        """Return the directories whose counters disagree with the rows, each with the names of the wrong ones.

        A directory without counters counts as zeros.
        """
        self.write()
        kept = {row["directory"]: row for row in self._connection.execute(select(_table)).mappings()}
        counted = {row["directory"]: row for row in self._connection.execute(_counting()).mappings()}
        found = []
        for directory in sorted(kept.keys() | counted.keys()):
            one, other = kept.get(directory), counted.get(directory)
            wrong = [name for name in NAMES if (one[name] if one else 0) != (other[name] if other else 0)]
            if wrong:
                found.append((directory, wrong))
        return found


def rebuild(session: Any) -> None:
    """Count the rows of all directories anew, within a session."""
    rebuild_from(session.connection)


def rebuild_from(connection: Connection) -> None:
    """Count the rows of all directories anew."""
    connection.execute(delete(_table))
    connection.execute(_insertion())


def _insertion(*conditions: ColumnElement[bool]) -> Any:
    return insert(_table).from_select(["directory", *NAMES], _counting(*conditions))


def _counting(*conditions: ColumnElement[bool]) -> Any:
    """Return the query that counts rows, by directory."""
    columns = []
    for name in NAMES:
        group, _, of = name.rpartition("_")
        value = _found.size_bytes if of == "bytes" else literal_column("1")
        columns.append(total(case((_CONDITIONS[group], value), else_=0)).label(name))
    return select(_found.directory, *columns).where(*conditions).group_by(_found.directory)


def _groups(row: Mapping[str, Any]) -> Iterable[str]:
    """Yield the groups that a row belongs to."""
    if row["removed_at"] is None:
        yield "live"
        if row["pinned"]:
            yield "pinned"
        if row["verified_at"] is None:
            yield "unverified"
        if row["damage"] is not None:
            yield "damaged"
        return
    if not row["freed"]:
        yield "unfreed"
    if row["removed_because"] in REASONS:
        yield row["removed_because"]
