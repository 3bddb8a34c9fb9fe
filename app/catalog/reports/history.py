"""What came and went, and what that left: bytes by directory and by time, summed up in SQL however many there were."""

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
from app.catalog.tables.times import to_text, to_time
from app.core.models import RemovedBecause

OTHERS = ""
"""Stands for all directories that are not told apart."""

_found = schema.checkpoints.c
_REST = "0000-01-01T00:00:00.000000Z"
"""What a time that was cut off lacks to be one again."""
# Clocks are set back now and then: nothing goes before it came, or its bytes would never be taken away again.
_gone_at = case((_found.removed_at < _found.created_at, _found.created_at), else_=_found.removed_at)


@dataclass(frozen=True, slots=True)
class Change:
    """By how many bytes a directory grew in a bucket of time that began then; negative where it shrank."""

    directory: str
    since: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Trash:
    """What of the removed is there yet: what can be restored, between which removals, and what is about to go."""

    kept: Totals
    first_removed_at: datetime | None
    last_removed_at: datetime | None
    going: Totals


def first_at(connection: Connection, prefix: str) -> datetime | None:
    """When the first checkpoint within a prefix was made, of those that are known."""
    return to_time(connection.execute(select(func.min(_found.created_at)).where(_within(prefix))).scalar())


def largest(connection: Connection, prefix: str, start: datetime, limit: int) -> list[str]:
    """The directories that hold most, and then those that held most at some time since ``start``."""
    live = func.sum(case((_found.removed_at.is_(None), _found.size_bytes), else_=0))
    query = select(_found.directory).where(_within(prefix), _was_there(start)).group_by(_found.directory)
    ordered = query.order_by(live.desc(), func.sum(_found.size_bytes).desc(), _found.directory)
    return list(connection.execute(ordered.limit(limit)).scalars())


def held_at(connection: Connection, prefix: str, at: datetime, names: Sequence[str]) -> Mapping[str, int]:
    """How many bytes each of some directories held at a time, and the `OTHERS` together."""
    there = and_(_found.created_at < to_text(at), _was_there(at))
    rows = select(_told_apart(names), _found.size_bytes).where(_within(prefix), there).subquery()
    query = select(rows.c.directory, func.sum(rows.c.size_bytes)).group_by(rows.c.directory)
    return {name: int(size_bytes) for name, size_bytes in connection.execute(query)}


def changes(
    connection: Connection, prefix: str, start: datetime, names: Sequence[str], characters: int
) -> list[Change]:
    """What came and went since ``start``, in buckets of time: as many characters of it are told apart."""

    def moved(at: ColumnElement[str], size_bytes: ColumnElement[int]) -> Select[tuple[str, str, int]]:
        bucket = func.substr(at, 1, characters).label("bucket")
        query = select(_told_apart(names), bucket, size_bytes.label("size_bytes"))
        return query.where(_within(prefix), at >= to_text(start))

    # Grouped outside: PostgreSQL takes equal parameters, as those of these columns, for different ones.
    rows = union_all(moved(_found.created_at, _found.size_bytes), moved(_gone_at, -_found.size_bytes)).subquery()
    query = select(rows.c.directory, rows.c.bucket, func.sum(rows.c.size_bytes))
    grouped = connection.execute(query.group_by(rows.c.directory, rows.c.bucket))
    return [Change(name, to_time(bucket + _REST[characters:]), int(size_bytes)) for name, bucket, size_bytes in grouped]


def held(connection: Connection, prefix: str, limit: int) -> list[tuple[str, Totals]]:
    """The directories that hold most bytes, and what they hold, the largest first."""
    size_bytes = func.sum(_found.size_bytes)
    query = select(_found.directory, func.count(), size_bytes).where(_within(prefix), _found.removed_at.is_(None))
    ordered = query.group_by(_found.directory).order_by(size_bytes.desc(), _found.directory).limit(limit)
    return [(name, Totals(count, int(of))) for name, count, of in connection.execute(ordered)]


def removed(
    connection: Connection, prefix: str, since: Sequence[datetime]
) -> Mapping[RemovedBecause, Sequence[Totals]]:
    """What was removed, by why: in all, then since each of some times."""
    columns = [func.count(), func.sum(_found.size_bytes)]
    for at in map(to_text, since):
        columns += [func.sum(case((_found.removed_at >= at, value), else_=0)) for value in (1, _found.size_bytes)]
    query = select(_found.removed_because, *columns).where(_within(prefix), _found.removed_at.is_not(None))
    rows = connection.execute(query.group_by(_found.removed_because))
    return {
        because: [Totals(int(count), int(of)) for count, of in zip(figures[::2], figures[1::2], strict=True)]
        for because, *figures in rows
    }


def trash(connection: Connection, prefix: str, undo_begins: datetime | None) -> Trash:
    """What of the removed is there yet; what was removed before ``undo_begins`` cannot be restored any more."""
    totals = (func.count(), func.coalesce(func.sum(_found.size_bytes), 0))
    there = and_(_within(prefix), _found.removed_at.is_not(None), schema.UNFREED)
    is_kept = _found.removed_at > to_text(undo_begins) if undo_begins is not None else false()
    query = select(*totals, func.min(_found.removed_at), func.max(_found.removed_at))
    count, size_bytes, first, last = connection.execute(query.where(there, is_kept)).one()
    going = connection.execute(select(*totals).where(there, not_(is_kept))).one()
    return Trash(Totals(count, int(size_bytes)), to_time(first), to_time(last), Totals(going[0], int(going[1])))


def _within(prefix: str) -> ColumnElement[bool]:
    return within(_found.directory, prefix)


def _was_there(since: datetime) -> ColumnElement[bool]:
    """Not removed before a time."""
    return or_(_found.removed_at.is_(None), _gone_at >= to_text(since))


def _told_apart(names: Sequence[str]) -> ColumnElement[str]:
    return case((_found.directory.in_(names), _found.directory), else_=literal(OTHERS)).label("directory")
