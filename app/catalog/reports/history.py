"""The history of the bytes that directories hold: additions and removals by time, summed in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Connection,
    Select,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.catalog.tables.times import to_text, to_time
from app.core.models import RemovedBecause

OTHERS = ""
"""Stands for all directories that are not listed by name."""

_found = schema.checkpoints.c
_REST = "0000-01-01T00:00:00.000000Z"
"""Completes a time that was cut off."""
# A clock may have been set back: without this, bytes removed before they were added would never be subtracted.
_removed_at = case((_found.removed_at < _found.created_at, _found.created_at), else_=_found.removed_at)


@dataclass(frozen=True, slots=True)
class Change:
    """The growth of a directory in bytes during one bucket of time; negative if it shrank."""

    directory: str
    since: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Trash:
    """The removed checkpoints that still occupy bytes: those that can be restored, and those about to be purged."""

    kept: Totals
    first_removed_at: datetime | None
    last_removed_at: datetime | None
    going: Totals


def first_at(connection: Connection, prefix: str) -> datetime | None:
    """Return the creation time of the oldest known checkpoint within a prefix."""
    return to_time(connection.execute(select(func.min(_found.created_at)).where(_within(prefix))).scalar())


def largest(connection: Connection, prefix: str, start: datetime, limit: int) -> list[str]:
    """Return the directories that hold most bytes, then those that held most at some time since ``start``."""
    live = func.sum(case((_found.removed_at.is_(None), _found.size_bytes), else_=0))
    query = select(_found.directory).where(_within(prefix), _existed_at(start)).group_by(_found.directory)
    ordered = query.order_by(live.desc(), func.sum(_found.size_bytes).desc(), _found.directory)
    return list(connection.execute(ordered.limit(limit)).scalars())


def held_at(connection: Connection, prefix: str, at: datetime, names: Sequence[str]) -> Mapping[str, int]:
    """Return the bytes that each of these directories held at a time, and the `OTHERS` together."""
    there = and_(_found.created_at < to_text(at), _existed_at(at))
    rows = select(_by_name(names), _found.size_bytes).where(_within(prefix), there).subquery()
    query = select(rows.c.directory, total(rows.c.size_bytes)).group_by(rows.c.directory)
    return {name: size_bytes for name, size_bytes in connection.execute(query)}  # noqa: C416


def changes(
    connection: Connection, prefix: str, start: datetime, names: Sequence[str], characters: int
) -> list[Change]:
    """Return the growth since ``start`` in buckets of time, which share their first ``characters``."""

    def moved(at: ColumnElement[str], size_bytes: ColumnElement[int]) -> Select[tuple[str, str, int]]:
        bucket = func.substr(at, 1, characters).label("bucket")
        query = select(_by_name(names), bucket, size_bytes.label("size_bytes"))
        return query.where(_within(prefix), at >= to_text(start))

    # Grouped outside, as PostgreSQL does not see that the parameters of two equal expressions are equal.
    rows = union_all(moved(_found.created_at, _found.size_bytes), moved(_removed_at, -_found.size_bytes)).subquery()
    query = select(rows.c.directory, rows.c.bucket, total(rows.c.size_bytes))
    grouped = connection.execute(query.group_by(rows.c.directory, rows.c.bucket))
    return [Change(name, to_time(bucket + _REST[characters:]), size_bytes) for name, bucket, size_bytes in grouped]


def held(connection: Connection, prefix: str, limit: int) -> list[tuple[str, Totals]]:
    """Return the directories that hold most bytes with their totals, largest first."""
    size_bytes = total(_found.size_bytes)
    query = select(_found.directory, func.count(), size_bytes).where(_within(prefix), _found.removed_at.is_(None))
    ordered = query.group_by(_found.directory).order_by(size_bytes.desc(), _found.directory).limit(limit)
    return [(name, Totals(count, of)) for name, count, of in connection.execute(ordered)]


def removed(
    connection: Connection, prefix: str, since: Sequence[datetime]
) -> Mapping[RemovedBecause, Sequence[Totals]]:
    """Return the removed checkpoints by reason: the totals of all, then of those since each of these times."""
    columns = [func.count(), total(_found.size_bytes)]
    for at in map(to_text, since):
        columns += [total(case((_found.removed_at >= at, value), else_=0)) for value in (1, _found.size_bytes)]
    query = select(_found.removed_because, *columns).where(_within(prefix), _found.removed_at.is_not(None))
    rows = connection.execute(query.group_by(_found.removed_because))
    return {
        because: [Totals(count, of) for count, of in zip(figures[::2], figures[1::2], strict=True)]
        for because, *figures in rows
    }


def trash(connection: Connection, prefix: str, undo_begins: datetime | None) -> Trash:
    """Return the content of the trash. A removal before ``undo_begins`` can no longer be undone."""
    totals = (func.count(), total(_found.size_bytes))
    there = and_(_within(prefix), _found.removed_at.is_not(None), schema.UNFREED)
    is_kept = _found.removed_at > to_text(undo_begins) if undo_begins is not None else false()
    query = select(*totals, func.min(_found.removed_at), func.max(_found.removed_at))
    count, size_bytes, first, last = connection.execute(query.where(there, is_kept)).one()
    going = connection.execute(select(*totals).where(there, not_(is_kept))).one()
    return Trash(Totals(count, size_bytes), to_time(first), to_time(last), Totals(going[0], going[1]))


def _within(prefix: str) -> ColumnElement[bool]:
    return within(_found.directory, prefix)


def _existed_at(since: datetime) -> ColumnElement[bool]:
    """Select checkpoints that were not removed before a time."""
    return or_(_found.removed_at.is_(None), _removed_at >= to_text(since))


def _by_name(names: Sequence[str]) -> ColumnElement[str]:
    return case((_found.directory.in_(names), _found.directory), else_=literal(OTHERS)).label("directory")
