"""Rows of events, numbered by one counter for all directories."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from app.catalog.rows.audit import AuditRows
from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.models import Event

_table = schema.events


class EventRows:
    """Events within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, kind: str, *, at: datetime, directory: str, checkpoint_id: str | None = None, **data: Any) -> None:
        """Add an event and a line of the audit about it; both become visible when the transaction commits."""
        self._connection.execute(
            insert(_table).values(
                at=to_text(at), type=kind, directory=directory, checkpoint_id=checkpoint_id, data=_json(data)
            )
        )
        AuditRows(self._connection).add(kind, at=at, directory=directory, checkpoint_id=checkpoint_id, **data)

    def after(self, event_id: int, *, prefix: str = "", limit: int) -> Sequence[Event]:
        """Return the next events of directories at or below a prefix, oldest first."""
        query = select(_table).where(_table.c.id > event_id, within(_table.c.directory, prefix))
        rows = self._connection.execute(query.order_by(_table.c.id).limit(limit)).mappings()
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

    def last_id(self) -> int:
        """Return the id of the newest event; 0 before the first."""
        return self._connection.execute(select(func.max(_table.c.id))).scalar() or 0


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)
