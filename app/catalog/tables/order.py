"""Orders of listings, as segments that follow one another; an index holds the rows of each in its order."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from sqlalchemy.sql import ColumnElement

from app.catalog.tables import schema
from app.core.errors import InvalidRequest
from app.core.models import Mode

Order = Literal[
    "position",
    "-position",
    "best",
    "epoch",
    "-epoch",
    "step",
    "-step",
    "metric",
    "-metric",
    "created_at",
    "-created_at",
    "name",
    "-name",
    "size_bytes",
    "-size_bytes",
]
ORDERS: tuple[str, ...] = get_args(Order)

_table = schema.checkpoints


@dataclass(frozen=True)
class Segment:
    """Rows that follow one another by a value, if there is one, and then by position.

    ``begins`` is how the keys of its rows begin, which tells the segments of an order apart. The rest of a key is the
    value and the position; numbers of which larger ones come first are negated, so that keys ascend.
    """

    begins: tuple[int | float, ...] = ()
    conditions: tuple[ColumnElement[bool], ...] = ()
    value: ColumnElement[Any] | None = None
    value_descends: bool = False
    position_descends: bool = False
    negates_value: bool = False
    negates_position: bool = False

    def key(self, place: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the key of a row from its value and its position."""
        *value, saved_after, sequence = place
        value = [_negated(each) for each in value] if self.negates_value else value
        position = (saved_after, sequence)
        return (*self.begins, *value, *(map(_negated, position) if self.negates_position else position))

    def place(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the value and the position of the row that has this key."""
        *value, saved_after, sequence = key[len(self.begins) :]
        value = [_negated(each) for each in value] if self.negates_value else value
        return (*value, *((-saved_after, -sequence) if self.negates_position else (saved_after, sequence)))


@dataclass(frozen=True)
class Ordering:
    """A total order: segments one after another. Rows that meet the conditions of none of them are left out.

    ``ranks_by`` is the key of the numbers that are its values, if it goes by metadata.
    """

    segments: tuple[Segment, ...]
    ranks_by: str | None = None

    @property
    def key_length(self) -> int:
        """The number of values in the key of a row."""
        first = self.segments[0]
        return len(first.begins) + (first.value is not None) + 2

    @property
    def is_by_position(self) -> bool:
        """True if the order goes by position alone."""
        return len(self.segments) == 1 and self.segments[0].value is None

    def resume(self, key: tuple[Any, ...] | None) -> tuple[tuple[Segment, ...], tuple[Any, ...] | None]:
        """Return the segments from the one of a key on, and the place of the key in the first of them.

        Raises
        ------
        InvalidRequest
            No row of this order can have such a key.
        """
        if key is None:
            return self.segments, None
        for number, segment in enumerate(self.segments):
            if key[: len(segment.begins)] == segment.begins and all(type(each) is int for each in key[-2:]):
                return self.segments[number:], segment.place(key)
        raise InvalidRequest("page_token belongs to another listing or is corrupt.")


def ordering(order: Order) -> Ordering:
    """Return the order by one fact. Rows without it come last, and ties are broken by position."""
    name, down = order.removeprefix("-"), order.startswith("-")
    if name == "position":
        return Ordering((Segment(position_descends=down),))
    column = _table.c[name]
    known = Segment((), (), column, down, down)
    if not column.nullable:
        return Ordering((known,))
    known = Segment((0,), (column.is_not(None),), column, down, down)
    return Ordering((known, Segment((1, 0), (column.is_(None),), position_descends=down)))


@lru_cache(maxsize=64)
def ranking_order(mode: Mode, by: str | None) -> Ordering:
    """Return the order of `ranking.ranked`, without checkpoints that have no rank. A test compares the two."""
    down = mode == "max"
    if by is not None:
        ranked = Segment(value=schema.numbers.c.value, value_descends=down, negates_value=down)
        return Ordering((ranked,), ranks_by=by)
    metric = _table.c.metric
    return Ordering(
        (
            Segment((0,), (metric.is_not(None),), metric, value_descends=down, negates_value=down),
            Segment((1, 0.0), schema.FLAGGED, position_descends=True, negates_position=True),
        )
    )


def _negated(value: Any) -> Any:
    """Negate a number; SQLite may hold text in any column."""
    return -value if isinstance(value, int | float) else value
