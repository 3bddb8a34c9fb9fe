"""Metric series: a value over the commits of a directory, removed checkpoints included."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, false, literal, select

from app.catalog.tables import schema
from app.catalog.tables.times import to_time

_table = schema.checkpoints
_numbers = schema.numbers
_history = schema.metric_history

MOST_KEYS = 50


class Point(NamedTuple):
    """One checkpoint and its value. Of one whose row was deleted for its age, id and name are empty."""

    id: str
    name: str
    sequence: int
    epoch: int | None
    step: int | None
    created_at: datetime
    value: float
    is_pinned: bool
    is_removed: bool


Choose = Callable[[Sequence[float]], Sequence[int]]
"""Chooses from values in order: returns the positions of those that are wanted."""


def points(
    connection: Connection, directory: str, by: str | None, *, limit: int, choose: Choose
) -> tuple[Sequence[Point], int]:
    """Return points of the newest checkpoints that have the value, by position, and how many have it.

    Metrics of removed checkpoints whose rows were deleted are among them, thinned.

    Parameters
    ----------
    by : str or None
        The key of the value in the metadata; None for the metric.
    limit : int
        How many checkpoints to consider.
    choose : Choose
        Selects among their values.
    """
    found = _table.c
    value = found.metric if by is None else _numbers.c.value
    columns = (found.id, found.name, found.sequence, found.epoch, found.step, found.created_at, value.label("value"))
    query = select(*columns, found.pinned, found.removed_at, found.saved_after)
    query = query.where(found.directory == directory, value.is_not(None))
    if by is not None:
        query = query.join(_numbers, and_(_numbers.c.checkpoint_id == found.id, _numbers.c.key == by))
    query = query.order_by(found.saved_after.desc(), found.sequence.desc()).limit(limit)
    rows: list[Any] = [
        row  # there is an index by position for each of them, and none for both
        for are_listed in (found.removed_at.is_(None), found.removed_at.is_not(None))
        for row in connection.execute(query.where(are_listed))
    ]
    if by is None:
        rows += connection.execute(_past(directory, limit))
    rows = sorted(rows, key=lambda row: (row.saved_after, row.sequence))[-limit:]
    chosen = [rows[position] for position in choose([row.value for row in rows])]
    return [_point(row) for row in chosen], len(rows)


def keys(connection: Connection, directory: str, after_sequence: int) -> Sequence[str]:
    """Return the keys of numeric metadata of the commits after a sequence, sorted; at most `MOST_KEYS`."""
    found = _table.c
    query = select(_numbers.c.key).join(_table, found.id == _numbers.c.checkpoint_id)
    query = query.where(found.directory == directory, found.sequence > after_sequence)
    return connection.execute(query.distinct().order_by(_numbers.c.key).limit(MOST_KEYS)).scalars().all()


def _past(directory: str, limit: int) -> Select[Any]:
    """Select the metrics of deleted rows, with the columns of the others."""
    past = _history.c
    nothing = (literal("").label("id"), literal("").label("name"))
    columns = (past.sequence, past.epoch, past.step, past.created_at, past.metric.label("value"))
    flags = (false().label("pinned"), past.created_at.label("removed_at"), past.saved_after)
    query = select(*nothing, *columns, *flags).where(past.directory == directory)
    return query.order_by(past.saved_after.desc(), past.sequence.desc()).limit(limit)


def _point(row: Any) -> Point:
    about = (row.id, row.name, row.sequence, row.epoch, row.step, to_time(row.created_at), row.value)
    return Point(*about, is_pinned=row.pinned, is_removed=row.removed_at is not None)
