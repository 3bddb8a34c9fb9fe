"""Horizons: rows that are deleted for their age, oldest first, and how far that has come."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from app.catalog.rows.metric_history import HistoryPoint, MetricHistoryRows
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time

Journal = Literal["events", "audit"]
Subject = Literal["events", "audit", "removed"]

_table = schema.horizons
_checkpoints = schema.checkpoints
_saves = schema.saves
_totals = schema.trimmed_totals
_JOURNALS = {"events": schema.events, "audit": schema.audit}


@dataclass(frozen=True, slots=True)
class Horizon:
    """The newest row that was deleted for its age, or may have been lost with an earlier catalog.

    Attributes
    ----------
    last_id : int
        Its id; 0 for removed checkpoints, whose ids have no order.
    until : datetime
        Its time: of later times every row is there.
    """

    last_id: int
    until: datetime


class HorizonRows:
    """Horizons within one transaction. Rows are looked for in one transaction, and deleted in another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, subject: Subject) -> Horizon | None:
        """Return the horizon of a kind of rows; None if all that there were are kept."""
        query = select(_table.c.last_id, _table.c.until).where(_table.c.subject == subject)
        row = self._connection.execute(query).one_or_none()
        return Horizon(row.last_id, to_time(row.until)) if row is not None else None

    # events and the audit

    def due_in(self, journal: Journal, before: datetime, limit: int) -> tuple[int, int]:
        """Return the last id of the oldest lines of a journal that are older than a time, and how many there are.

        The newest line of all is never due, so that the numbers of lines never begin again.
        """
        lines = _JOURNALS[journal].c
        rows = self._connection.execute(select(lines.id, lines.at).order_by(lines.id).limit(limit + 1)).all()
        old = [number for number, row in enumerate(rows[:-1], 1) if row.at < to_text(before)]
        return (rows[old[-1] - 1].id, old[-1]) if old else (0, 0)  # lines before an older one are older, too

    def note_lost(self, journal: Journal, last_id: int, at: datetime) -> None:
        """Note that lines of a journal up to an id may have been lost with an earlier catalog."""
        self._put(journal, last_id, to_text(at))

    def trim_journal(self, journal: Journal, last_id: int) -> None:
        """Delete the lines of a journal up to an id."""
        lines = _JOURNALS[journal]
        at = self._connection.execute(select(lines.c.at).where(lines.c.id == last_id)).scalar_one()
        self._connection.execute(delete(lines).where(lines.c.id <= last_id))
        self._put(journal, last_id, at)

    # saves that later ones of the same content have superseded

    def due_saves(self, before: datetime, limit: int) -> Sequence[str]:
        """Return the uploads of the saves that were superseded before a time, the oldest first."""
        query = select(_saves.c.upload_id).where(_saves.c.superseded_at < to_text(before))
        return self._connection.execute(query.order_by(_saves.c.superseded_at).limit(limit)).scalars().all()

    def trim_saves(self, upload_ids: Collection[str]) -> None:
        """Delete saves by their uploads."""
        self._connection.execute(delete(_saves).where(_saves.c.upload_id.in_(upload_ids)))

    # removed checkpoints

    def due_checkpoints(self, before: datetime, limit: int) -> Sequence[str]:
        """Return checkpoints that were removed before a time and whose bytes are freed, the oldest removal first."""
        query = select(_checkpoints.c.id).where(schema.FREED, _checkpoints.c.removed_at < to_text(before))
        return self._connection.execute(query.order_by(_checkpoints.c.removed_at).limit(limit)).scalars().all()

    def keep_of(self, ids: Collection[str]) -> None:
        """Keep the metrics and totals of removed checkpoints whose rows are deleted in the same transaction."""
        names = ("directory", "saved_after", "sequence", "epoch", "metric", "created_at", "step")
        about = (_checkpoints.c.removed_at, _checkpoints.c.removed_because, _checkpoints.c.size_bytes)
        query = select(*(_checkpoints.c[name] for name in names), *about)
        rows = self._connection.execute(query.where(_checkpoints.c.id.in_(ids))).all()
        shown = self._known({row.directory for row in rows})
        points = [HistoryPoint(*row[: len(names)]) for row in rows if row.directory in shown]
        MetricHistoryRows(self._connection).add([point for point in points if isinstance(point.metric, float)])
        self._add_totals(rows)
        self._put("removed", 0, max(row.removed_at for row in rows))

    def _known(self, directories: Collection[str]) -> set[str]:
        names = schema.directories.c.name
        return set(self._connection.execute(select(names).where(names.in_(directories))).scalars())

    def _add_totals(self, rows: Sequence[Any]) -> None:
        counts: Counter[tuple[str, str]] = Counter((row.directory, row.removed_because) for row in rows)
        sizes: Counter[tuple[str, str]] = Counter()
        for row in rows:
            sizes[row.directory, row.removed_because] += row.size_bytes
        for (directory, because), count in counts.items():
            size_bytes = sizes[directory, because]
            of_these = (_totals.c.directory == directory, _totals.c.removed_because == because)
            values: dict[str, Any] = {
                "checkpoints": _totals.c.checkpoints + count,
                "size_bytes": _totals.c.size_bytes + size_bytes,
            }
            if self._connection.execute(update(_totals).where(*of_these).values(values)).rowcount == 0:
                new = {"directory": directory, "removed_because": because}
                new_values = {"checkpoints": count, "size_bytes": size_bytes}
                self._connection.execute(insert(_totals).values(**new, **new_values))

    def _put(self, subject: Subject, last_id: int, until: str) -> None:
        """Move a horizon, which only goes on: a clock may have been set back."""
        query = select(_table.c.last_id, _table.c.until).where(_table.c.subject == subject)
        if (before := self._connection.execute(query).one_or_none()) is None:
            self._connection.execute(insert(_table).values(subject=subject, last_id=last_id, until=until))
            return
        values = {"last_id": max(last_id, before.last_id), "until": max(until, before.until)}
        self._connection.execute(update(_table).where(_table.c.subject == subject).values(values))
