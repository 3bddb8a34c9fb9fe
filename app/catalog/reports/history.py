"""The history of held bytes and of removals: from rollups, or from rows where ten minutes are too coarse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    case,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql import ColumnElement

from app.catalog.rows import rollups
from app.catalog.rows.counters import REASONS
from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.catalog.tables.times import to_text, to_time
from app.core.models import RemovedBecause

OTHERS = ""
"""Stands for all directories that are not listed by name."""

_found = schema.checkpoints.c
_counters = schema.directory_counters.c
_rollups = schema.usage_rollups.c
_REST = "0000-01-01T00:00:00.000000Z"
"""Completes a time that was cut off."""
_EVER = reduce(add, (_counters[f"{group}_bytes"] for group in ("live", *REASONS)))
_REMOVED = (
    (schema.FREED,),
    (_found.removed_at.is_not(None), schema.UNFREED, _found.trashed.in_((False, True))),
)
"""The removed checkpoints in two parts, each of which has an index by the time of the removal."""


@dataclass(frozen=True, slots=True)
class Change:
    """The growth of a directory in bytes during one bucket of time; negative if it shrank."""

    directory: str
    since: datetime
    size_bytes: int


def first_at(connection: Connection, prefix: str) -> datetime | None:
    """Return the creation time of the oldest known checkpoint within a prefix."""
    query = select(_found.created_at).where(*_unindexed_within(prefix)).order_by(_found.created_at).limit(1)
    return to_time(connection.execute(query).scalar())


def largest(connection: Connection, prefix: str, start: datetime, limit: int) -> Mapping[str, int]:
    """Return the directories that hold most bytes, and how many; then those that held most ever.

    A directory that holds nothing is among them only if something was removed there since ``start``.
    """
    since = (_rollups.directory == _counters.directory, _rollups.bucket >= rollups.bucket_of(start))
    is_shown = or_(_counters.live_count > 0, select(literal(1)).where(*since).exists())
    query = select(_counters.directory, _counters.live_bytes).where(within(_counters.directory, prefix), is_shown)
    ordered = query.order_by(_counters.live_bytes.desc(), _EVER.desc(), _counters.directory)
    return {name: size_bytes for name, size_bytes in connection.execute(ordered.limit(limit))}  # noqa: C416


def changes(
    connection: Connection, prefix: str, start: datetime, names: Sequence[str], characters: int
) -> list[Change]:
    """Return the growth of these directories and of all `OTHERS` since ``start``, in buckets of time.

    The times of a bucket share their first ``characters``; ``start`` is the beginning of one.
    """
    if characters > rollups.CHARACTERS:
        return _changes_of_rows(connection, prefix, start, names, characters)
    bucket = func.substr(_rollups.bucket, 1, characters).label("bucket")
    figures = (bucket, total(_rollups.growth_bytes))
    since = _rollups.bucket >= rollups.bucket_of(start)
    of_all = select(literal(OTHERS), *figures).where(*_rollups_of(prefix), since).group_by(bucket)
    by_name = select(_rollups.directory, *figures).where(_rollups.directory.in_(names), since)
    named = _changes(connection, by_name.group_by(_rollups.directory, bucket))
    less = [Change(OTHERS, each.since, -each.size_bytes) for each in named]
    return [*named, *_changes(connection, of_all), *less]


def removed(
    connection: Connection, sums: Mapping[str, int], prefix: str, since: Sequence[datetime]
) -> Mapping[RemovedBecause, Sequence[Totals]]:
    """Return the removed checkpoints by reason: the totals of all, then of those since each of these times.

    ``sums`` are the counters of the prefix. The rows of the oldest may be deleted; they count in the totals of all.
    """
    lately = [_removed_since(connection, prefix, at) for at in since]
    gone = trimmed(connection, prefix)
    found: dict[RemovedBecause, Sequence[Totals]] = {}
    for because in REASONS:
        of_all = sums[f"{because}_count"] + gone[because].count, sums[f"{because}_bytes"] + gone[because].size_bytes
        if of_all[0]:
            found[because] = [Totals(*of_all), *(totals[because] for totals in lately)]
    return found


def trimmed(connection: Connection, prefix: str) -> Mapping[RemovedBecause, Totals]:
    """Return the totals of the removed checkpoints whose rows were deleted for their age, by each reason."""
    table = schema.trimmed_totals.c
    query = select(table.removed_because, total(table.checkpoints), total(table.size_bytes))
    rows = connection.execute(query.where(within(table.directory, prefix)).group_by(table.removed_because))
    found = {because: Totals(count, size_bytes) for because, count, size_bytes in rows}
    return {because: found.get(because, Totals(0, 0)) for because in REASONS}


def _changes(connection: Connection, query: Select[Any]) -> list[Change]:
    rows = connection.execute(query).all()
    return [Change(name, to_time(bucket + _REST[len(bucket) :]), size_bytes) for name, bucket, size_bytes in rows]


def _changes_of_rows(
    connection: Connection, prefix: str, start: datetime, names: Sequence[str], characters: int
) -> list[Change]:
    """Return changes from the rows of checkpoints, those of less than half a day, by the indexes of their times."""
    name = case((_found.directory.in_(names), _found.directory), else_=literal(OTHERS)).label("directory")
    was_there = or_(_found.removed_at.is_(None), _found.removed_at >= _found.created_at)

    def moved(
        at: ColumnElement[str], size_bytes: ColumnElement[int], *of: ColumnElement[bool]
    ) -> Select[tuple[str, str, int]]:
        query = select(name, func.substr(at, 1, characters).label("bucket"), size_bytes.label("size_bytes"))
        return query.where(*of, at >= to_text(start), was_there, *_unindexed_within(prefix))

    # Grouped outside, as PostgreSQL does not see that the parameters of two equal expressions are equal.
    removals = (moved(_found.removed_at, -_found.size_bytes, *part) for part in _REMOVED)
    rows = union_all(moved(_found.created_at, _found.size_bytes), *removals).subquery()
    query = select(rows.c.directory, rows.c.bucket, total(rows.c.size_bytes))
    return _changes(connection, query.group_by(rows.c.directory, rows.c.bucket))


def _removed_since(connection: Connection, prefix: str, at: datetime) -> Mapping[RemovedBecause, Totals]:
    """Return the totals of removals since a time, by each reason: from its bucket's rows, and from later rollups."""
    bucket = rollups.bucket_of(at)
    names = [f"{because}_{of}" for because in REASONS for of in ("count", "bytes")]
    query = select(*(total(_rollups[name]).label(name) for name in names))
    of_later = connection.execute(query.where(*_rollups_of(prefix), _rollups.bucket > bucket)).mappings().one()
    within_bucket = (_found.removed_at >= to_text(at), _found.removed_at < to_text(rollups.end_of(bucket)))
    columns = (_found.removed_because, _found.size_bytes)
    parts = (select(*columns).where(*part, *within_bucket, *_unindexed_within(prefix)) for part in _REMOVED)
    rows = union_all(*parts).subquery().c
    first = select(rows.removed_because, func.count(), total(rows.size_bytes)).group_by(rows.removed_because)
    of_first = {because: (count, size_bytes) for because, count, size_bytes in connection.execute(first)}
    found: dict[RemovedBecause, Totals] = {}
    for because in REASONS:
        count, size_bytes = of_first.get(because, (0, 0))
        found[because] = Totals(count + of_later[f"{because}_count"], size_bytes + of_later[f"{because}_bytes"])
    return found


def _rollups_of(prefix: str) -> Sequence[ColumnElement[bool]]:
    """Select the rollups of a prefix: those of each of its directories, or those that all directories have together.

    The directories are taken from the counters, so that of each one only the buckets that are asked for are read.
    """
    if not prefix:
        return [_rollups.directory == rollups.EVERYWHERE]
    return [_rollups.directory == _counters.directory, within(_counters.directory, prefix)]


def _unindexed_within(prefix: str) -> Sequence[ColumnElement[bool]]:
    """Select checkpoints within a prefix in a form that suits no index, as those by time read fewer rows."""
    return [within(_found.directory.concat(""), prefix)] if prefix else []
