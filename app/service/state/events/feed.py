"""Event feed: one thread reads new events for all open streams, and hands them to the watchers they concern.

The thread reads the catalog, at a notification of this process at once and otherwise every second, so events that
another process wrote arrive, too. It runs only while streams are open. Events come in the order of their ids, as the
catalog lets one writer commit at a time: an id that is visible is never followed by a smaller one.
"""

import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress

from app.catalog import Catalog
from app.core.models import Event
from app.service.state.events.access_rechecks import AccessRechecks
from app.service.state.events.backlog import Backlog, BacklogPage
from app.service.state.events.event_format import EventFormat
from app.service.state.events.fan_out import Delivery, EncodedEvents, Payload, deliver
from app.service.state.events.notifier import Notifier
from app.service.state.events.prefix_index import PrefixIndex
from app.service.state.events.watcher import Watcher

logger = logging.getLogger("holdfast")

BURST = 200
"""The number of events that are read and handed on at a time."""
POLL_S = 1.0
"""Interval at which the catalog is read for events of other processes, and uploads for progress, in seconds."""
PING_S = 15.0
REST_S, REST_PER_EVENT_S, LONGEST_REST_S = 0.05, 0.0001, 0.5
REST_SHARE = 9
"""The time between two bursts: so many times the time that a burst took, so that a thousand streams leave the processor
to the requests, and at least as long as its events need on a slow line."""


class EventFeed:
    """Streams of events, past and new, without a thread, a query or a wake-up for each stream.

    Parameters
    ----------
    changed_uploads : callable
        Returns the directories of uploads that received bytes or ended after a time of `time.monotonic`.
    """

    def __init__(
        self, catalog: Catalog, notifier: Notifier, changed_uploads: Callable[[float], set[str]] = lambda _: set()
    ) -> None:
        self._catalog, self._notifier, self._changed_uploads = catalog, notifier, changed_uploads
        self.backlog = Backlog(catalog)
        self._guard = threading.Lock()
        self._watchers: set[Watcher] = set()
        self._live = PrefixIndex()
        self._rechecks = AccessRechecks()
        self._position: int | None = None  # the last event that went to the live watchers; None while there are none
        self._thread: threading.Thread | None = None
        self._validity: Sequence[int] = ()
        self._polled_at = self._pinged_at = 0.0
        self._has_more = False

    # for the streams, on their event loops

    @contextmanager
    def watching(
        self,
        prefix: str,
        form: EventFormat,
        *,
        key: Hashable,
        still_may: Callable[[], bool],
        follows: bool = True,
    ) -> Iterator[Watcher]:
        """Open a stream, for the current task.

        Parameters
        ----------
        key : hashable
            Names what the stream was authorised with. Streams of the same key are checked together.
        still_may : callable
            Tells if that is still valid. Called on a thread.
        """
        watcher = Watcher(prefix, form, still_may, follows=follows)
        with self._guard:
            self._watchers.add(watcher)
            self._rechecks.add(key, watcher)
            if self._notifier.closed:
                watcher.is_ending = True
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="holdfast-events", daemon=True)
                self._thread.start()
        try:
            yield watcher
        finally:
            with self._guard:
                self._watchers.discard(watcher)
                self._rechecks.discard(key, watcher)
                self._leave(watcher)

    async def stream(self, watcher: Watcher, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the events after an id, serialised, each exactly once: first the backlog, then the live ones."""
        while (page := await self._page(watcher, after)) is not None:
            if page.payload:
                yield page.payload
            after = page.after
            if page.is_last or (watcher.follows and watcher.is_ending):
                break
        if page is not None and watcher.follows:
            async for payload in self._live_stream(watcher, after, page.seen):
                yield payload

    async def _live_stream(self, watcher: Watcher, after: int, seen: int) -> AsyncGenerator[bytes, None]:
        joined_at = self._join(watcher, after, seen)
        while after < joined_at:  # events that went to the live watchers since the last page
            if (page := await self._page(watcher, after, until=joined_at)) is None:
                return
            if page.payload:
                yield page.payload
            after = page.after
        while (payload := await watcher.next()) is not None:
            yield payload

    async def _page(self, watcher: Watcher, after: int, *, until: int | None = None) -> BacklogPage | None:
        """Read a page of a watcher's backlog; None if it may not have it any more, or events of it were deleted."""
        page = await self.backlog.page(watcher.form, watcher.prefix, after, until=until)
        if page.validity != watcher.validity:
            watcher.validity = page.validity
            if not await self.backlog.on_thread(watcher.still_may):
                return None
        return None if watcher.is_cut or page.is_gone else page

    def _join(self, watcher: Watcher, after: int, seen: int) -> int:
        """Make a watcher live, and return the id after which it gets every event."""
        with self._guard:
            if self._position is None:
                self._position = seen
            watcher.after = after
            self._live.add(watcher)
            return self._position

    def _leave(self, watcher: Watcher) -> None:
        self._live.discard(watcher)
        if not self._live:
            self._position = None

    # the thread

    def close(self) -> None:
        """End all streams and the threads."""
        self._notifier.close()
        thread = self._thread
        if thread is not None:
            thread.join()
        self.backlog.close()

    def _run(self) -> None:
        self._polled_at = self._pinged_at = time.monotonic()
        while self._is_needed():
            is_closing = self._notifier.closed
            try:
                self._run_round()
            except Exception:  # such as a disk that fails: the streams stay open, and miss nothing once it works again
                logger.exception("events cannot be read at the moment")
                time.sleep(POLL_S)
            if is_closing and not self._has_more:
                self._end_all()
                return
            self._notifier.wait(0 if self._has_more else min(POLL_S, self._rechecks_in_s()))

    def _is_needed(self) -> bool:
        with self._guard:
            if not self._watchers:
                self._thread = None
            return bool(self._watchers)

    def _rechecks_in_s(self) -> float:
        with self._guard:
            return self._rechecks.next_in_s()

    def _run_round(self) -> None:
        self._recheck()
        self._read_burst()
        now = time.monotonic()
        if now >= self._polled_at + POLL_S:
            since, self._polled_at = self._polled_at, now
            self._tell_of_uploads(since)
        if now >= self._pinged_at + PING_S:
            self._pinged_at = now
            self._ping()

    def _recheck(self, *, all_of_them: bool = False) -> None:
        """End the streams that may no longer be watched. One check that fails hinders no other, and is made again."""
        failures: list[Exception] = []
        with self._guard:
            due = self._rechecks.due(all_of_them=all_of_them)
        for key, still_may in due:
            try:
                is_valid = still_may()
            except Exception as error:
                failures.append(error)
                continue
            with self._guard:
                self._rechecks.mark_done(key)
                ended = [] if is_valid else self._rechecks.watchers(key)
                for watcher in ended:
                    self._leave(watcher)
            _on_loops(ended, Watcher.cut)
        if failures:
            raise failures[0]

    def _read_burst(self) -> None:
        """Hand the next events to their watchers."""
        position, self._has_more = self._position, False
        if position is None:
            return
        with self._catalog.reading() as session:
            events = session.events.after(position, limit=BURST)
            validity, horizon = session.tokens.validity(), session.horizons.of("events")
        if horizon is not None and horizon.last_id > position:  # such as after a long suspension of the machine
            self._cut_live(position, "events that they lack are no longer kept")
            return
        if validity != self._validity:  # a token was revoked before these events: its streams get none of them
            self._recheck(all_of_them=True)
            self._validity = validity
        if events:
            self._has_more = len(events) == BURST
            self._hand_on(self._deliveries(position, events))
            time.sleep(max(REST_S, len(events) * REST_PER_EVENT_S))

    def _cut_live(self, position: int, why: str) -> None:
        """Cut the live watchers, unless others have come meanwhile; a client that resumes is told of the gap."""
        with self._guard:
            live = list(self._live) if self._position == position else []
            for watcher in live:
                self._leave(watcher)
        _on_loops(live, Watcher.cut)
        logger.info("cut %d event streams: %s", len(live), why)

    def _deliveries(self, position: int, events: Sequence[Event]) -> list[Delivery]:
        with self._guard:
            if self._position != position:  # all watchers have left since, and others have come
                self._has_more = True
                return []
            self._position = events[-1].id
            matches = self._live.matches(events)
        encoded = EncodedEvents()
        deliveries: list[Delivery] = []
        for watchers, within in matches:
            payload = Payload(within, encoded)
            for watcher in watchers:
                payload.prepare(watcher.form)
                deliveries.append((watcher, payload))
        return deliveries

    def _hand_on(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver a burst, then rest."""
        began = time.monotonic()
        deliver(deliveries)
        self._drop_cut(deliveries)
        time.sleep(min(LONGEST_REST_S, (time.monotonic() - began) * REST_SHARE))

    def _drop_cut(self, deliveries: Sequence[Delivery]) -> None:
        cut = [watcher for watcher, _ in deliveries if watcher.is_cut]
        if cut:
            with self._guard:
                for watcher in cut:
                    self._leave(watcher)
            logger.info("cut %d event streams whose clients are too slow; they can resume", len(cut))

    def _tell_of_uploads(self, since: float) -> None:
        if directories := self._changed_uploads(since):
            with self._guard:
                around = [watcher for watcher in self._live.around(directories) if watcher.form.progress]
            self._hand_on([(watcher, watcher.form.progress) for watcher in around])

    def _ping(self) -> None:
        with self._guard:
            live = [watcher for watcher in self._live if watcher.is_idle]
        self._hand_on([(watcher, watcher.form.ping) for watcher in live])

    def _end_all(self) -> None:
        with self._guard:
            ended = [watcher for watcher in self._watchers if watcher.follows]
        _on_loops(ended, Watcher.end)


def _on_loops(watchers: Sequence[Watcher], act: Callable[[Watcher], None]) -> None:
    for watcher in watchers:
        with suppress(RuntimeError):  # the event loop is closed, and with it the connections
            watcher.loop.call_soon_threadsafe(act, watcher)
