"""Listings: ids and keys of rows in an order. Each segment is read by seeks in its index, and no further than asked."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement, Select

from app.catalog.tables.filters import ListFilter, Source, sources
from app.catalog.tables.order import Segment

_ROWS_AT_ONCE = 1000


class Entry(NamedTuple):
    """A row of a listing: its id, and the key after which the listing goes on."""

    id: str
    key: tuple[Any, ...]


class _Row(NamedTuple):
    id: str
    place: tuple[Any, ...]
    """Its value, if the segment has one, and its position."""


def entries(connection: Connection, wanted: ListFilter, *, after: tuple[Any, ...] | None, limit: int) -> list[Entry]:
    """Return the first entries of a listing that come after a key.

    Raises
    ------
    InvalidRequest
        No row of the listing can have such a key.
    """
    segments, place = wanted.ordering.resume(after)
    found: list[Entry] = []
    for segment in segments:
        of_sources = [_Reader(connection, source, segment, wanted) for source in sources(wanted)]
        rows = _merged(segment, [reader.read(place, limit - len(found)) for reader in of_sources])
        found += [Entry(row.id, segment.key(row.place)) for row in rows[: limit - len(found)]]
        if len(found) == limit:
            break
        place = None
    return found


def all_entries(
    connection: Connection, wanted: ListFilter, *, after: tuple[Any, ...] | None = None, limit: int | None = None
) -> Iterator[Entry]:
    """Iterate over the entries of a listing, up to a limit; in bounded memory, and without an open cursor."""
    left, at_once = limit, 1
    while left is None or left > 0:
        at_once = min(at_once * 10, _ROWS_AT_ONCE)  # many callers need a few alone
        count = at_once if left is None else min(left, at_once)
        found = entries(connection, wanted, after=after, limit=count)
        yield from found
        if len(found) < count:
            return
        after, left = found[-1].key, None if left is None else left - count


def nth_key(connection: Connection, wanted: ListFilter, number: int) -> tuple[Any, ...] | None:
    """Return the key of the entry with this number, from 1; None if there are fewer. Only the index is read."""
    (source,) = sources(wanted)
    for segment in wanted.ordering.segments:
        reader = _Reader(connection, source, segment, wanted)
        count = reader.count(None, number)
        if count == number:
            return segment.key(reader.nth(number))
        number -= count
    return None


def _merged(segment: Segment, parts: Sequence[list[_Row]]) -> list[_Row]:
    if len(parts) == 1:
        return parts[0]
    return sorted((row for part in parts for row in part), key=lambda row: row.place, reverse=segment.position_descends)


class _Reader:
    """Reads the rows of one segment from one source."""

    def __init__(self, connection: Connection, source: Source, segment: Segment, wanted: ListFilter) -> None:
        self._connection = connection
        self._id, self._position = source.id, source.position
        self._segment = segment
        self._query = source.query.where(*segment.conditions)
        self._is_sorted = wanted.include_removed  # no index to follow

    def read(self, place: tuple[Any, ...] | None, limit: int) -> list[_Row]:
        """Return the first rows that come after a place."""
        segment, value = self._segment, self._segment.value
        if value is None:
            beyond = _beyond(tuple_(*self._position), place, down=segment.position_descends)
            return self._rows((), beyond, segment.position_descends, segment.position_descends, limit)
        if segment.value_descends == segment.position_descends:
            beyond = _beyond(tuple_(value, *self._position), place, down=segment.value_descends)
            return self._rows((value,), beyond, segment.value_descends, segment.position_descends, limit)
        if self._is_sorted:
            return self._rows((value,), self._mixed_beyond(value, place), True, False, limit)
        return self._largest_first(value, place, limit)

    def count(self, condition: ColumnElement[bool] | None, limit: int) -> int:
        """Return the number of rows, up to a limit."""
        query = self._query if condition is None else self._query.where(condition)
        some = query.with_only_columns(self._position[0]).limit(limit).subquery()
        return self._connection.execute(select(func.count()).select_from(some)).scalar_one()

    def nth(self, number: int) -> tuple[Any, ...]:
        """Return the place of the row with this number, which there is."""
        segment, value = self._segment, self._segment.value
        down, position_down = segment.value_descends, segment.position_descends
        if value is None or down == position_down:
            values = () if value is None else (value,)
            rows = self._rows(values, None, down, position_down, 1, offset=number - 1)
        else:
            (least,) = self._rows((value,), None, True, True, 1, offset=number - 1)
            above = self.count(value > least.place[0], number)
            is_equal = and_(value <= least.place[0], value >= least.place[0])
            rows = self._rows((value,), is_equal, False, False, 1, offset=number - 1 - above)
        return rows[0].place

    def _largest_first(self, value: ColumnElement[Any], place: tuple[Any, ...] | None, limit: int) -> list[_Row]:
        """Return rows with the largest values first, of equal ones the oldest first, which no index holds in order.

        The smallest value of the answer is found first. Then those above it are read backwards, and of those that are
        equal to it, which may be all rows, only as many as fit.
        """
        found: list[_Row] = []
        below: ColumnElement[bool] | None = None
        if place is not None:
            found = self._equal(value, place, limit)
            below = value < place[0]
        missing = limit - len(found)
        if not missing:
            return found
        last = self._ordered(self._query.with_only_columns(value), (value,), below, True, True)
        least = self._connection.execute(last.limit(1).offset(missing - 1)).scalar()
        above = below if least is None else value > least if below is None else and_(below, value > least)
        larger = self._rows((value,), above, True, True, missing)
        for _, equals in groupby(larger, key=lambda row: row.place[0]):
            found += reversed(list(equals))
        if least is not None:
            found += self._equal(value, (least,), limit - len(found))
        return found

    def _equal(self, value: ColumnElement[Any], place: tuple[Any, ...], limit: int) -> list[_Row]:
        """Return the rows with the value of a place, oldest first; after its position, if it has one."""
        later = tuple_(value, *self._position) > place if len(place) > 1 else value >= place[0]
        # Not by equality: SQLite would sort what it believes to be one row.
        return self._rows((value,), and_(value <= place[0], later), False, False, limit)

    def _mixed_beyond(self, value: ColumnElement[Any], place: tuple[Any, ...] | None) -> ColumnElement[bool] | None:
        if place is None:
            return None
        return or_(value < place[0], and_(value == place[0], tuple_(*self._position) > place[1:]))

    def _rows(
        self,
        values: tuple[ColumnElement[Any], ...],
        condition: ColumnElement[bool] | None,
        value_descends: bool,
        position_descends: bool,
        limit: int,
        offset: int = 0,
    ) -> list[_Row]:
        query = self._query.with_only_columns(self._id, *values, *self._position)
        ordered = self._ordered(query, values, condition, value_descends, position_descends)
        limited = ordered.limit(limit).offset(offset)
        return [_Row(owner, tuple(place)) for owner, *place in self._connection.execute(limited)]

    def _ordered(
        self,
        query: Select[Any],
        values: tuple[ColumnElement[Any], ...],
        condition: ColumnElement[bool] | None,
        value_descends: bool,
        position_descends: bool,
    ) -> Select[Any]:
        terms = [each.desc() if value_descends else each.asc() for each in values]
        terms += [each.desc() if position_descends else each.asc() for each in self._position]
        return (query if condition is None else query.where(condition)).order_by(*terms)


def _beyond(columns: Any, place: tuple[Any, ...] | None, *, down: bool) -> ColumnElement[bool] | None:
    if place is None:
        return None
    found: ColumnElement[bool] = columns < place if down else columns > place
    return found
