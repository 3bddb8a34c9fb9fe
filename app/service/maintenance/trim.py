"""Trimming: rows past their horizon are deleted, oldest first, in transactions so short that no save waits long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from app.catalog import Session
from app.catalog.rows.horizons import Journal
from app.service.state.context import Context, Rules

Step = Callable[[datetime, int], int]
"""Deletes so many rows from before a time; returns how many it deleted."""

BUDGET_S = 10.0
"""The longest that one pass works; the next one goes on."""
FIRST_BATCH, LARGEST_BATCH = 50, 500
TARGET_S = 0.05
"""The time that the statements of a transaction should take: batches grow and shrink with what the last one took."""
REST_SHARE = 1
"""The time between two transactions, in which saves that wait for the catalog come in: so many times the last one."""


class Trim:
    """Deletes events, lines of the audit, saves and removed checkpoints by their age.

    Each transaction leaves the catalog consistent, so a pass that is cut off is continued by the next one.
    """

    def __init__(self, context: Context, rules: Rules, stop: threading.Event | None = None) -> None:
        self._context = context
        self._stop = stop or threading.Event()
        self._held_s = 0.0  # by the last transaction, without its waits for other writers and for the disk
        self._kept: tuple[tuple[timedelta | None, Step], ...] = (
            (rules.keep_events, partial(self._trim_journal, "events")),
            (rules.keep_audit, partial(self._trim_journal, "audit")),
            (rules.keep_removed, self._trim_saves),  # before their checkpoints, each of which may have many
            (rules.keep_removed, self._trim_checkpoints),
        )

    def run(self, budget_s: float = BUDGET_S) -> None:
        """Delete the rows that are due, for at most about this time, or until the server stops.

        Space that they leave, beyond what the next saves need, goes back to the disk.
        """
        now, ends_at = self._context.clock(), time.monotonic() + budget_s
        for kept, step in self._kept:
            if kept is not None:
                self._repeat(partial(step, now - kept), ends_at)
        self._repeat(lambda batch: batch if self._context.catalog.release_space() else 0, ends_at)

    def _repeat(self, work: Callable[[int], int], ends_at: float) -> None:
        """Work batch by batch until one is not full."""
        batch = FIRST_BATCH
        while not self._stop.is_set():
            began = time.monotonic()
            if work(batch) < batch:
                return
            took_s = time.monotonic() - began
            if self._held_s > TARGET_S:
                batch = max(1, batch // 2)
            elif self._held_s < TARGET_S / 2:
                batch = min(LARGEST_BATCH, batch * 2)
            if time.monotonic() >= ends_at:
                return
            self._stop.wait(took_s * REST_SHARE)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._context.catalog.writing() as session:
            began = time.monotonic()
            yield session
            self._held_s = time.monotonic() - began

    def _trim_journal(self, journal: Journal, before: datetime, limit: int) -> int:
        with self._context.catalog.reading() as session:
            last_id, count = session.horizons.due_in(journal, before, limit)
        if count:
            with self._writing() as session:
                session.horizons.trim_journal(journal, last_id)
        return count

    def _trim_saves(self, before: datetime, limit: int) -> int:
        with self._context.catalog.reading() as session:
            due = session.horizons.due_saves(before, limit)
        if due:
            with self._writing() as session:
                session.horizons.trim_saves(due)
        return len(due)

    def _trim_checkpoints(self, before: datetime, limit: int) -> int:
        """Trim removed checkpoints, except those whose sealed upload a start would find, and publish without a row."""
        left = self._context.storage.content.uploads()
        with self._context.catalog.reading() as session:
            due = session.horizons.due_checkpoints(before, limit + len(left))
        going = [checkpoint_id for checkpoint_id in due if checkpoint_id not in left][:limit]
        if going:
            with self._writing() as session:
                session.horizons.keep_of(going)
                session.checkpoints.forget_freed(going)
        return len(going)
