"""Filters of listings, as SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.sql import ColumnElement, Select

from app.catalog.tables import schema
from app.catalog.tables.order import Order, Ordering, ordering, ranking_order
from app.core.models import Checkpoint, Kind, Mode, Retention

_table = schema.checkpoints
_numbers = schema.numbers


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The checkpoints of a directory to list, and their order. A filter that is None selects everything."""

    directory: str
    order_by: Order = "position"
    mode: Mode = "min"
    by: str | None = None
    name: str | None = None
    kind: Kind | None = None
    retention: Retention | None = None
    pinned: bool | None = None
    is_best: bool | None = None
    tag: str | None = None
    epoch_min: int | None = None
    epoch_max: int | None = None
    step_min: int | None = None
    step_max: int | None = None
    metric_min: float | None = None
    metric_max: float | None = None
    include_removed: bool = False

    @property
    def ordering(self) -> Ordering:
        return ranking_order(self.mode, self.by) if self.order_by == "best" else ordering(self.order_by)

    @property
    def key_length(self) -> int:
        """The number of values in the key of a page."""
        return self.ordering.key_length


@dataclass(frozen=True, slots=True)
class Page:
    """A page of checkpoints, and the key after which the next page begins; None for the last page."""

    checkpoints: Sequence[Checkpoint]
    next_key: tuple[Any, ...] | None


@dataclass(frozen=True)
class Source:
    """The rows that a listing selects from, and the columns of their ids and positions."""

    id: ColumnElement[str]
    position: tuple[ColumnElement[int], ColumnElement[int]]
    query: Select[Any]


def sources(wanted: ListFilter) -> tuple[Source, ...]:
    """Return the rows that meet the conditions of a listing; all of it is in one source or in the other."""
    found, filters = _table.c, _filters(wanted)
    ids = select(found.id).where(*filters)
    if (by := wanted.ordering.ranks_by) is not None:
        return (_of_numbers(wanted, by, filters),)
    by_position = (found.saved_after, found.sequence)
    here = ids.where(found.directory == wanted.directory)
    live, removed = here.where(found.removed_at.is_(None)), here.where(found.removed_at.is_not(None))
    if not wanted.include_removed:
        queries: tuple[Select[Any], ...] = (live,)
    else:  # each of them has an index by position, and no other index holds both
        queries = (live, removed) if wanted.ordering.is_by_position else (here,)
    return tuple(Source(found.id, by_position, query) for query in queries)


def _of_numbers(wanted: ListFilter, by: str, filters: Sequence[ColumnElement[bool]]) -> Source:
    """Return the source of a listing by a number of the metadata, whose index holds live checkpoints alone."""
    number = _numbers.c
    query = select(number.checkpoint_id).where(number.key == by, *filters)
    if filters or wanted.include_removed:
        query = query.join(_table, _table.c.id == number.checkpoint_id)
    if wanted.include_removed:
        query = query.where(_table.c.directory == wanted.directory)
    else:
        query = query.where(number.directory == wanted.directory, schema.OF_LIVE)
    return Source(number.checkpoint_id, (number.saved_after, number.sequence), query)


def _filters(wanted: ListFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on the facts of a listed row."""
    found: list[ColumnElement[bool]] = []
    for name in ("name", "kind", "retention", "pinned", "is_best"):
        if (value := getattr(wanted, name)) is not None:
            found.append(_table.c[name] == value)
    if wanted.tag is not None:
        tags = schema.tags.c
        found.append(exists().where(tags.checkpoint_id == _table.c.id, tags.tag == wanted.tag))
    # As sums, as no index serves those: SQLite would take that of the filter, and sort all rows that it selects.
    for value, least, most in (
        (_table.c.epoch + 0, wanted.epoch_min, wanted.epoch_max),
        (_table.c.step + 0, wanted.step_min, wanted.step_max),
        (_table.c.metric + 0, wanted.metric_min, wanted.metric_max),
    ):
        if least is not None:
            found.append(value >= least)
        if most is not None:
            found.append(value <= most)
    return found
