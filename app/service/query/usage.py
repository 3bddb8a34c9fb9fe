"""What people look at to see where the space went: who holds it, since when, what gave it back, what is on its way."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, cast

from app.catalog import Session
from app.catalog.reports import history
from app.catalog.rows.directories import Totals
from app.core.errors import DiskFailed
from app.core.models import RemovedBecause, Upload
from app.service.query import timeline
from app.service.query.timeline import Span
from app.service.state.context import Context, Rules
from app.service.state.lookup import is_known
from app.service.state.open_uploads import Transfers
from app.service.state.upload_progress import Transfer

T = TypeVar("T")

MOST_LINES = 8
"""How many directories are told apart over time."""
WINDOWS: Mapping[str, timedelta] = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
"""Over which last days it is told what was removed."""
REMEMBERED_S = 60.0
"""How long an answer for which the whole catalog is looked at is good for, where nothing happens, in seconds."""
MOST_REMEMBERED = 64
MOVING_S = 5.0
"""How long after its last bytes an upload is said to move, in seconds."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The bytes of the largest directories at some times, and those of all ``others`` together."""

    at: Sequence[datetime]
    directories: Sequence[tuple[str, Sequence[int]]]
    others: Sequence[int]


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the root, in bytes. ``held`` are those of live checkpoints, ``trash`` of removed ones not yet freed.

    Checkpoints whose blocks are shared count each for itself, so these two may be more than is used.
    """

    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    held_bytes: int
    trash_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Removed checkpoints that can be restored, until when the first and the last of them; and what is about to go."""

    totals: Totals
    first_until: datetime | None
    last_until: datetime | None
    window: timedelta
    going: Totals


@dataclass(frozen=True, slots=True)
class Arrival:
    """An upload under way. ``arrived_bytes`` is None where nobody has looked since the server started."""

    upload: Upload
    expires_at: datetime
    arrived_bytes: int | None
    declared_bytes: int | None
    is_moving: bool
    is_committing: bool
    is_directory_known: bool
    """Whether its directory is one already; that of a first save is not."""

    @property
    def share(self) -> float | None:
        """How much of it has arrived, from 0 to 1, where that can be said."""
        if self.arrived_bytes is None or not self.declared_bytes:
            return None
        return min(1.0, self.arrived_bytes / self.declared_bytes)


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer for which the whole catalog was looked at, and the last event that it has in it."""

    event_id: int
    found_at: float
    answer: object


class Holdings:
    """Answers about space, always within a prefix. Changes nothing."""

    def __init__(self, context: Context, rules: Rules, transfers: Transfers) -> None:
        self._context = context
        self._rules = rules
        self._transfers = transfers
        self._memory: dict[tuple[str, ...], Remembered] = {}

    def lines(self, prefix: str, span: Span) -> Lines:
        """The bytes of directories over time, also of what was removed since."""
        return self._remembered(("lines", prefix, span), lambda session: self._lines(session, prefix, span))

    def largest(self, prefix: str, limit: int) -> tuple[list[tuple[str, Totals]], Totals]:
        """The directories that hold most bytes, the largest first; and what all of them hold together."""
        with self._context.catalog.reading() as session:
            usage = session.directories.usage(prefix)
            return history.held(session.connection, prefix, limit), Totals(usage.checkpoints, usage.size_bytes)

    def removed(self, prefix: str) -> Mapping[RemovedBecause, Sequence[Totals]]:
        """What was removed, by why: in all, then within each of the `WINDOWS`."""
        since = [self._context.clock() - window for window in WINDOWS.values()]
        return self._remembered(("removed", prefix), lambda session: history.removed(session.connection, prefix, since))

    def kept(self, prefix: str) -> Kept:
        """What of the removed is there yet."""
        window = self._rules.undo_window
        with self._context.catalog.reading() as session:
            found = history.trash(session.connection, prefix, self._rules.restorable_since(self._context.clock()))
        first, last = found.first_removed_at, found.last_removed_at
        return Kept(found.kept, first and first + window, last and last + window, window, found.going)

    def disk(self, held: Totals, kept: Kept) -> Disk:
        """The disk of the root. It is for those to see who see everything that is on it."""
        storage, trash_bytes = self._context.storage, kept.totals.size_bytes + kept.going.size_bytes
        return Disk(
            storage.capacity_bytes(), storage.free_bytes(), self._rules.reserve_bytes, held.size_bytes, trash_bytes
        )

    def arrivals(self, prefix: str, limit: int) -> tuple[list[Arrival], int]:
        """Uploads under way, those that were begun last first; and how many there are in all. Waits for none of them.

        Where there are more than the limit, those whose leases end last.
        """
        found = []
        with self._context.catalog.reading() as session:
            count = session.uploads.count_within(prefix)
            for upload_id, expires_at in session.uploads.leases(prefix, limit):
                transfer = self._transfers.glance(upload_id)
                try:
                    upload = transfer.upload if transfer is not None else session.uploads.get(upload_id)
                except DiskFailed:  # its row cannot be read
                    continue
                if upload is not None:
                    found.append(_arrival(upload, transfer, expires_at, is_known(session, upload.directory)))
        return sorted(found, key=lambda arrival: (arrival.upload.created_at, arrival.upload.id), reverse=True), count

    def _lines(self, session: Session, prefix: str, span: Span) -> Lines:
        connection = session.connection
        first_at = history.first_at(connection, prefix) if span == "all" else None
        times = timeline.steps(span, first_at, self._context.clock())
        names = history.largest(connection, prefix, times.start, MOST_LINES)
        before = history.held_at(connection, prefix, times.start, names)
        changes: dict[str, list[tuple[datetime, int]]] = {}
        for change in history.changes(connection, prefix, times.start, names, times.characters):
            changes.setdefault(change.directory, []).append((change.since, change.size_bytes))
        of = {
            name: timeline.line(times, before.get(name, 0), changes.get(name, ())) for name in (*names, history.OTHERS)
        }
        return Lines(times.at, [(name, of[name]) for name in names], of[history.OTHERS])

    def _remembered(self, what: tuple[str, ...], find: Callable[[Session], T]) -> T:
        """What was found before, as long as no event says that it may have changed, and not for long."""
        with self._context.catalog.reading() as session:
            event_id = session.events.last_id()
            known = self._memory.get(what)
            if known is None or known.event_id != event_id or known.found_at < time.monotonic() - REMEMBERED_S:
                if len(self._memory) >= MOST_REMEMBERED:
                    self._memory.clear()
                known = self._memory[what] = Remembered(event_id, time.monotonic(), find(session))
        return cast(T, known.answer)


def _arrival(upload: Upload, transfer: Transfer | None, expires_at: datetime, is_directory_known: bool) -> Arrival:
    known = transfer or Transfer(upload)
    return Arrival(
        upload,
        expires_at,
        known.arrived_bytes if transfer is not None else None,
        known.declared_bytes,
        is_moving=transfer is not None and known.touched_at > time.monotonic() - MOVING_S,
        is_committing=known.is_closed,
        is_directory_known=is_directory_known,
    )
