"""What a listing asks for, as SQL."""

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
class Query:
    """Which checkpoints of a directory to list, and in which order; None asks nothing."""

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
        """Of how many values the key of a page consists."""
        return len(self.ordering.expressions)


@dataclass(frozen=True, slots=True)
class Page:
    """Some checkpoints, and the key after which the next page begins; None where this is the last."""

    checkpoints: Sequence[Checkpoint]
    next_key: tuple[Any, ...] | None


def conditions(query: Query) -> list[ColumnElement[bool]]:
    """What rows must be like to be listed."""
    found = [_table.c.directory == query.directory]
    if not query.include_removed:
        found.append(_table.c.removed_at.is_(None))
    for name in ("name", "kind", "pinned", "is_best"):
        if (wanted := getattr(query, name)) is not None:
            found.append(_table.c[name] == wanted)
    if query.tag is not None:
        tags = schema.tags.c
        found.append(exists().where(tags.checkpoint_id == _table.c.id, tags.tag == query.tag))
    for column, least, most in (
        ("epoch", query.epoch_min, query.epoch_max),
        ("metric", query.metric_min, query.metric_max),
    ):
        if least is not None:
            found.append(_table.c[column] >= least)
        if most is not None:
            found.append(_table.c[column] <= most)
    return found
