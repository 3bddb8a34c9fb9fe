"""Lines of the audit, each written in the transaction of the change that it records."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.runtime import actor

_table = schema.audit
_ADD = insert(_table)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One change: its time, action, token, peer, request and subject."""

    id: int
    at: datetime
    action: str
    token_id: str
    peer: str
    request_id: str
    directory: str | None
    checkpoint_id: str | None
    data: dict[str, Any]


class AuditRows:
    """The audit within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self, action: str, *, at: datetime, directory: str | None = None, checkpoint_id: str | None = None, **data: Any
    ) -> None:
        """Add a line about what the current actor does."""
        who = actor.current()
        line = {
            "at": to_text(at),
            "action": action,
            "token_id": who.token_id,
            "peer": who.peer,
            "request_id": who.request_id,
            "directory": directory,
            "checkpoint_id": checkpoint_id,
            "data": json.dumps(data, ensure_ascii=False, allow_nan=False),
        }
        self._connection.execute(_ADD, line)

    def before(self, line_id: int, *, prefix: str, token_id: str | None, limit: int) -> Sequence[AuditLine]:
        """Return the lines before this one, newest first; with a prefix, only those about directories within it."""
        query = select(_table).where(_table.c.id < line_id).order_by(_table.c.id.desc()).limit(limit)
        if prefix:
            query = query.where(within(_table.c.directory, prefix))
        if token_id is not None:
            query = query.where(_table.c.token_id == token_id)
        return [_line(row) for row in self._connection.execute(query).mappings()]


def _line(row: Any) -> AuditLine:
    return AuditLine(**{**row, "at": to_time(row["at"]), "data": json.loads(row["data"])})
