"""Rows of the writers of shared uploads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time

_table = schema.shared_writers


@dataclass(frozen=True, slots=True)
class RecordedWriter:
    """A writer of a shared upload, as recorded at its last declaration."""

    name: str
    is_ready: bool
    active_at: datetime


class SharedWriterRows:
    """Writers of shared uploads within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_upload(self, upload_id: str) -> Sequence[RecordedWriter]:
        """Return the writers of an upload by name."""
        rows = self._connection.execute(
            select(_table.c.writer, _table.c.is_ready, _table.c.active_at)
            .where(_table.c.upload_id == upload_id)
            .order_by(_table.c.writer)
        )
        return [RecordedWriter(name, is_ready, to_time(active_at)) for name, is_ready, active_at in rows]

    def put(self, upload_id: str, writer: str, *, is_ready: bool, at: datetime) -> None:
        """Store whether a writer is ready, and that it was active."""
        self._connection.execute(delete(_table).where(_table.c.upload_id == upload_id, _table.c.writer == writer))
        row = {"upload_id": upload_id, "writer": writer, "is_ready": is_ready, "active_at": to_text(at)}
        self._connection.execute(insert(_table), row)

    def clear(self, upload_id: str) -> None:
        """Delete the writers of an upload, as a new attempt begins."""
        self._connection.execute(delete(_table).where(_table.c.upload_id == upload_id))
