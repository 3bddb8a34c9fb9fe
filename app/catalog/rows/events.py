"""Rows of events, numbered by one counter for all directories."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, union_all
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.audit import AuditRows
from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.models import Event

_table = schema.events
_ADD = insert(_table)

FEW = 10_000
"""The number of events below a directory up to which they are sorted for each page, rather than found by scanning."""


class EventRows:
    """Events within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self,
        kind: str,
        *,
        at: datetime,
        directory: str,
        checkpoint_id: str | None = None,
        event_id: int | None = None,
        **data: Any,
    ) -> None:
        """Add an event and a line of the audit about it; both become visible when the transaction commits.

        Parameters
        ----------
        directory : str
            The directory that has changed; empty if all may have.
        event_id : int, optional
            Its id, beyond all others. Default: the next one.
        """
        row = {"at": to_text(at), "type": kind, "directory": directory, "checkpoint_id": checkpoint_id}
        number = {} if event_id is None else {"id": event_id}
        self._connection.execute(_ADD, {**row, "data": _json(data), **number})
        AuditRows(self._connection).add(kind, at=at, directory=directory or None, checkpoint_id=checkpoint_id, **data)

    def id_after_a_loss(self, at: datetime) -> int:
        """Return an id beyond all that a lost catalog can have given: the number of microseconds since 1970.

        No server records a million changes in each second of its life.
        """
        return max(self.last_id() + 1, int(at.timestamp() * 1_000_000))

    def after(self, event_id: int, *, prefix: str = "", until: int | None = None, limit: int) -> Sequence[Event]:
        """Return the next events of directories at or below a prefix, oldest first, up to and including an id."""
        span = _span(_table.c.id, event_id, until)
        query = select(_table).order_by(_table.c.id).limit(limit)
        if not prefix:
            query = query.where(span)
        elif self._are_few_below(prefix):
            query = query.where(_table.c.id.in_(_ids_within(prefix, event_id, until, limit)))
        else:
            query = query.where(span, within(_table.c.directory, prefix))
        rows = self._connection.execute(query).mappings()
        return [
            Event(
                id=row["id"],
                at=to_time(row["at"]),
                type=row["type"],
                directory=row["directory"],
                checkpoint_id=row["checkpoint_id"],
                data=json.loads(row["data"]),
            )
            for row in rows
        ]

    def _are_few_below(self, prefix: str) -> bool:
        """Tell if the events below a directory, without its own, are few enough to be sorted for each page."""
        below = select(_table.c.id).where(_below(prefix)).limit(FEW + 1).subquery()
        return (self._connection.execute(select(func.count()).select_from(below)).scalar() or 0) <= FEW

    def last_id(self) -> int:
        """Return the id of the newest event; 0 before the first."""
        return self._connection.execute(select(func.max(_table.c.id))).scalar() or 0


def _below(prefix: str) -> ColumnElement[bool]:
    return (_table.c.directory > f"{prefix}/") & (_table.c.directory < f"{prefix}0")  # 0 comes after /


def _span(number: ColumnElement[int], after: int, until: int | None) -> ColumnElement[bool]:
    return number > after if until is None else (number > after) & (number <= until)


def _ids_within(prefix: str, after: int, until: int | None, limit: int) -> Select[int]:
    """Select the first ids within a prefix through the index of directories, without a look at other events."""
    number = _table.c.id + 0  # an expression, as SQLite would scan all events by their bare id
    own = select(_table.c.id).where(_table.c.directory == prefix, _span(_table.c.id, after, until))
    below = select(_table.c.id).where(_below(prefix), _span(number, after, until))
    first_own = own.order_by(_table.c.id).limit(limit).subquery()
    first_below = below.order_by(number).limit(limit).subquery()
    return select(union_all(select(first_own.c.id), select(first_below.c.id)).subquery().c.id)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
