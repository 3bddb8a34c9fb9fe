"""Orders of listings, as SQL that can also continue after a given row."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import and_, case, false, func, literal, or_
from sqlalchemy.sql import ColumnElement, Select

from app.catalog.tables import schema
from app.core.models import Mode

Order = Literal[
    "position",
    "-position",
    "best",
    "epoch",
    "-epoch",
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
class Ordering:
    """A total order: expressions that together differ for any two rows, each ascending or descending."""

    expressions: tuple[ColumnElement[Any], ...]
    descends: tuple[bool, ...]
    ranks_by: str | None = None
    only_ranked: ColumnElement[bool] | None = None

    @property
    def by(self) -> list[ColumnElement[Any]]:
        """The terms of ORDER BY."""
        return [e.desc() if down else e.asc() for e, down in zip(self.expressions, self.descends, strict=True)]

    def joined(self, statement: Select[Any]) -> Select[Any]:
        """Add the join that the expressions need, and leave out the rows that this order does not rank."""
        if self.ranks_by is not None:
            numbers = schema.numbers
            statement = statement.join(
                numbers, and_(numbers.c.checkpoint_id == _table.c.id, numbers.c.key == self.ranks_by)
            )
        return statement.where(self.only_ranked) if self.only_ranked is not None else statement

    def comes_after(self, key: tuple[Any, ...]) -> ColumnElement[bool]:
        """Select the rows after the one with this key."""
        condition: ColumnElement[bool] = false()
        for expression, down, value in reversed(list(zip(self.expressions, self.descends, key, strict=True))):
            beyond = expression < literal(value) if down else expression > literal(value)
            condition = or_(beyond, and_(expression == literal(value), condition))
        return condition


def ordering(order: Order) -> Ordering:
    """Return the order by one fact. Rows without it come last, and ties are broken by position."""
    name, down = order.removeprefix("-"), order.startswith("-")
    position = (_table.c.saved_after, _table.c.sequence)
    if name == "position":
        return Ordering(position, (down, down))
    column = _table.c[name]
    if name in {"epoch", "metric"}:
        absent = case((column.is_(None), 1), else_=0)
        return Ordering((absent, func.coalesce(column, 0), *position), (False, down, down, down))
    return Ordering((column, *position), (down, down, down))


def ranking_order(mode: Mode, by: str | None) -> Ordering:
    """Return the order of `ranking.ranked`, without checkpoints that have no rank. A test compares the two."""
    sign = 1 if mode == "min" else -1
    older_first = (_table.c.saved_after, _table.c.sequence)
    if by is not None:
        return Ordering((schema.numbers.c.value * sign, *older_first), (False, False, False), ranks_by=by)
    measured = _table.c.metric.is_not(None)
    flagged = and_(_table.c.metric.is_(None), _table.c.metric_text.is_(None), _table.c.is_best)
    position = tuple(case((measured, column), else_=-column) for column in older_first)
    value = case((measured, _table.c.metric * sign), else_=0.0)
    return Ordering((case((measured, 0), else_=1), value, *position), (False,) * 4, only_ranked=or_(measured, flagged))
