"""Usage of the disk, for people: by directory, over time, by removals, in the trash, and by open uploads."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, cast

from app.catalog import Session
from app.catalog.reports import history, trash
from app.catalog.rows.directories import Totals
from app.core.models import RemovedBecause
from app.service.query import timeline
from app.service.query.timeline import Span
from app.service.query.upload_status import UploadLists, UploadStatus
from app.service.state.caches import Caches, Report
from app.service.state.context import Context, Rules

T = TypeVar("T")

MOST_LINES = 8
"""The number of directories that have a line of their own over time."""
WINDOWS: Mapping[str, timedelta] = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
"""The periods for which removals are summed."""
CACHED_S = 60.0
"""The time for which a report over the whole catalog is reused if no event occurs, in seconds."""


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """The bytes of the largest directories at some times, and the sum of all ``others``."""

    at: Sequence[datetime]
    directories: Sequence[tuple[str, Sequence[int]]]
    others: Sequence[int]


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the root, in bytes: ``held`` by live checkpoints, in the ``trash`` by removed ones.

    Each checkpoint counts fully, even if it shares blocks: the sum of these two may exceed the used space.
    """

    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    held_bytes: int
    trash_bytes: int


@dataclass(frozen=True, slots=True)
class Trash:
    """Removed checkpoints that can be restored, with the first and the last deadline; and those about to be purged."""

    totals: Totals
    first_until: datetime | None
    last_until: datetime | None
    window: timedelta
    going: Totals


class UsageReports:
    """Reports on space, always within a prefix. Changes nothing."""

    def __init__(self, context: Context, rules: Rules, upload_lists: UploadLists, caches: Caches) -> None:
        self._context = context
        self._rules = rules
        self._upload_lists = upload_lists
        self._caches = caches

    def history(self, prefix: str, span: Span) -> UsageHistory:
        """Give the bytes of directories over time, including checkpoints that were removed since."""
        return self._cached(("history", prefix, span), lambda session: self._history(session, prefix, span))

    def largest(self, prefix: str, limit: int) -> tuple[list[tuple[str, Totals]], Totals]:
        """List the directories that hold most bytes, largest first; and the totals of all directories."""
        with self._context.catalog.reading() as session:
            usage = session.counters.usage(prefix)
            return session.counters.largest(prefix, limit), Totals(usage.checkpoints, usage.size_bytes)

    def removed(self, prefix: str) -> Mapping[RemovedBecause, Sequence[Totals]]:
        """Sum removals by their reason: in all, then within each of the `WINDOWS`."""
        since = [self._context.clock() - window for window in WINDOWS.values()]
        return self._cached(
            ("removed", prefix),
            lambda session: history.removed(session.connection, session.counters.sums(prefix), prefix, since),
        )

    def trash(self, prefix: str) -> Trash:
        """Sum the removed checkpoints whose bytes are not purged."""
        window = self._rules.undo_window
        begins, first, last = self._rules.restorable_since(self._context.clock()), None, None
        with self._context.catalog.reading() as session:
            sums = session.counters.sums(prefix, ("unfreed_count", "unfreed_bytes"))
            found = trash.held(session.connection, sums, begins, prefix)
            if begins is not None and found.kept.count:
                first, last = trash.deadlines(session.connection, begins, prefix)
        return Trash(found.kept, first and first + window, last and last + window, window, found.going)

    def disk(self, held: Totals, trash: Trash) -> Disk | None:
        """Describe the disk of the root, if it has one; only for a token that reaches all of it."""
        volume, trash_bytes = self._context.storage.volume, trash.totals.size_bytes + trash.going.size_bytes
        if volume is None:
            return None
        return Disk(
            volume.capacity_bytes(), volume.free_bytes(), self._rules.reserve_bytes, held.size_bytes, trash_bytes
        )

    def uploads(self, prefix: str, limit: int) -> tuple[list[UploadStatus], int]:
        """List the open uploads, latest first, and count all of them. Never blocks.

        If there are more than the limit, those whose leases end last are listed.
        """
        with self._context.catalog.reading() as session:
            count = session.uploads.count_within(prefix)
            found = self._upload_lists.statuses(session, session.uploads.leases(prefix, limit))
        return sorted(found, key=lambda status: (status.upload.created_at, status.upload.id), reverse=True), count

    def _history(self, session: Session, prefix: str, span: Span) -> UsageHistory:
        connection = session.connection
        first_at = history.first_at(connection, prefix) if span == "all" else None
        horizon = session.horizons.of("removed")
        known_since = horizon.until if horizon is not None else None
        times = timeline.steps(span, first_at, self._context.clock(), known_since=known_since)
        held = dict(history.largest(connection, prefix, times.start, MOST_LINES))
        names = list(held)
        held[history.OTHERS] = session.counters.usage(prefix).size_bytes - sum(held.values())
        changes: dict[str, list[tuple[datetime, int]]] = {name: [] for name in held}
        for change in history.changes(connection, prefix, times.start, names, times.characters):
            changes[change.directory].append((change.since, change.size_bytes))
        of = {name: timeline.line(times, held[name], changes[name]) for name in held}
        return UsageHistory(times.at, [(name, of[name]) for name in names], of[history.OTHERS])

    def _cached(self, key: tuple[str, ...], compute: Callable[[Session], T]) -> T:
        """Reuse a report for a short time, unless an event shows that it may have changed."""
        with self._context.catalog.reading() as session:
            event_id = session.events.last_id()
            known = self._caches.reports.get(key)
            if known is None or known.event_id != event_id or known.computed_at < time.monotonic() - CACHED_S:
                known = Report(event_id, time.monotonic(), compute(session))
                self._caches.reports.put(key, known)
        return cast(T, known.answer)
