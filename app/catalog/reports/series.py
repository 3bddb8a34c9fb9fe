"""Metric series: a value over the commits of a directory, removed checkpoints included."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, false, literal, select

from app.catalog.rows.checkpoint_loader import batches
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
    query = select(found.saved_after, found.sequence, value.label("value"), found.id)
    query = query.where(found.directory == directory, value.is_not(None))
    if by is not None:
        query = query.join(_numbers, and_(_numbers.c.checkpoint_id == found.id, _numbers.c.key == by))
    query = query.order_by(found.saved_after.desc(), found.sequence.desc()).limit(limit)
    rows = [
        _Value(*row)  # there is an index by position for each of them, and none for both
        for are_listed in (found.removed_at.is_(None), found.removed_at.is_not(None))
        for row in connection.execute(query.where(are_listed))
    ]
    past = {row[:2]: row for row in connection.execute(_past(directory, limit))} if by is None else {}
    rows += [_Value(row.saved_after, row.sequence, row.value, "") for row in past.values()]
    rows = sorted(rows)[-limit:]
    chosen = [rows[position] for position in choose([row.value for row in rows])]
    return _points(connection, chosen, past), len(rows)


class _Value(NamedTuple):
    """A value by its position. Those of deleted rows have no id."""

    saved_after: int
    sequence: int
    value: float
    id: str


def _points(connection: Connection, values: Sequence[_Value], past: Mapping[Any, Any]) -> list[Point]:
    """Return the points of values: what else there is to say of them is read of those alone that were chosen."""
    found = _table.c
    columns = (found.id, found.name, found.epoch, found.step, found.created_at, found.pinned, found.removed_at)
    told: dict[str, Any] = {}
    for batch in batches(value.id for value in values if value.id):
        told |= {row.id: row for row in connection.execute(select(*columns).where(found.id.in_(batch)))}
    result = []
    for value in values:
        row = told[value.id] if value.id else past[value[:2]]
        about = (row.id, row.name, value.sequence, row.epoch, row.step, to_time(row.created_at), value.value)
        result.append(Point(*about, is_pinned=row.pinned, is_removed=row.removed_at is not None))
    return result


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
    columns = (past.epoch, past.step, past.created_at, past.metric.label("value"))
    flags = (false().label("pinned"), past.created_at.label("removed_at"))
    query = select(past.saved_after, past.sequence, *nothing, *columns, *flags).where(past.directory == directory)
    return query.order_by(past.saved_after.desc(), past.sequence.desc()).limit(limit)
