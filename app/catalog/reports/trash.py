"""The trash: removed checkpoints whose bytes are not freed, from the counters and the few rows that are due."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from app.catalog.rows.directories import Totals, within
from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.catalog.tables.times import to_text, to_time

_found = schema.checkpoints.c
_IS_THERE = (_found.removed_at.is_not(None), schema.UNFREED)
_EITHER = _found.trashed.in_((False, True))
"""Selects all rows, by both values of the column that the index begins with."""


@dataclass(frozen=True, slots=True)
class Held:
    """The removed checkpoints that can be restored, and those about to be purged."""

    kept: Totals
    going: Totals


def held(connection: Connection, sums: Mapping[str, int], undo_begins: datetime | None, prefix: str) -> Held:
    """Return the content of the trash, given the counters of a prefix.

    A removal before ``undo_begins`` can no longer be undone. Only rows of such removals are read: a few, as the janitor
    purges them.
    """
    everything = Totals(sums["unfreed_count"], sums["unfreed_bytes"])
    if undo_begins is None or not everything.count:
        return Held(Totals(0, 0), everything)
    query = select(func.count(), total(_found.size_bytes)).where(
        *_IS_THERE, _EITHER, _found.removed_at <= to_text(undo_begins), within(_found.directory, prefix)
    )
    count, size_bytes = connection.execute(query).one()
    return Held(Totals(everything.count - count, everything.size_bytes - size_bytes), Totals(count, size_bytes))


def deadlines(connection: Connection, undo_begins: datetime, prefix: str) -> tuple[datetime | None, datetime | None]:
    """Return the times of the first and of the last removal that can be undone."""
    ends: list[list[str]] = [[], []]
    for is_trashed in (False, True):  # the index begins with it
        query = select(_found.removed_at).where(
            *_IS_THERE,
            _found.trashed.is_(is_trashed),
            _found.removed_at > to_text(undo_begins),
            within(_found.directory, prefix),
        )
        for found, order in zip(ends, (_found.removed_at.asc(), _found.removed_at.desc()), strict=True):
            found += connection.execute(query.order_by(order).limit(1)).scalars()
    return to_time(min(ends[0], default=None)), to_time(max(ends[1], default=None))
