"""Filters of listings, as SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists
from sqlalchemy.sql import ColumnElement

from app.catalog.tables import schema
from app.catalog.tables.order import Order, Ordering, ordering, ranking_order
from app.core.models import Checkpoint, Kind, Mode

_table = schema.checkpoints


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The checkpoints of a directory to list, and their order. A filter that is None selects everything."""

    directory: str
    order_by: Order = "position"
    mode: Mode = "min"
    by: str | None = None
    name: str | None = None
    kind: Kind | None = None
    pinned: bool | None = None
    is_best: bool | None = None
    tag: str | None = None
    epoch_min: int | None = None
    epoch_max: int | None = None
    metric_min: float | None = None
    metric_max: float | None = None
    include_removed: bool = False

    @property
    def ordering(self) -> Ordering:
        return ranking_order(self.mode, self.by) if self.order_by == "best" else ordering(self.order_by)

    @property
    def key_length(self) -> int:
        """The number of values in the key of a page."""
        return len(self.ordering.expressions)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of checkpoints, and the key after which the next page begins; None for the last page."""

    checkpoints: Sequence[Checkpoint]
    next_key: tuple[Any, ...] | None


def conditions(wanted: ListFilter) -> list[ColumnElement[bool]]:
    """Return the conditions that a listed row meets."""
    found = [_table.c.directory == wanted.directory]
    if not wanted.include_removed:
        found.append(_table.c.removed_at.is_(None))
    for name in ("name", "kind", "pinned", "is_best"):
        if (value := getattr(wanted, name)) is not None:
            found.append(_table.c[name] == value)
    if wanted.tag is not None:
        tags = schema.tags.c
        found.append(exists().where(tags.checkpoint_id == _table.c.id, tags.tag == wanted.tag))
    for column, least, most in (
        ("epoch", wanted.epoch_min, wanted.epoch_max),
        ("metric", wanted.metric_min, wanted.metric_max),
    ):
        if least is not None:
            found.append(_table.c[column] >= least)
        if most is not None:
            found.append(_table.c[column] <= most)
    return found
