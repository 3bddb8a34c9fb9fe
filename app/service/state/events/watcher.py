"""Watcher: the consumer of one open stream, with a bounded queue of what it has yet to send."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from app.service.state.events.event_format import EventFormat

QUEUE_BYTES = 1024 * 1024
"""The size of a queue at which its watcher is cut."""
PIECE_BYTES = 64 * 1024
"""The size up to which queued payloads are sent as one piece."""
LAST_WORDS_S = 1.0
"""The time that a watcher has to send the rest when the server stops, in seconds."""


class Watcher:
    """Waits for events in one task of an event loop, which creates it and which alone may use it.

    Parameters
    ----------
    prefix : str
        The directories that it follows, by whole components; an empty string for all.
    form : EventFormat
        The bytes that it sends.
    still_may : callable
        Tells if it may still have events. Called on threads.
    follows : bool
        If false, it reads its backlog only, and a stop of the server does not cut that short.
    """

    def __init__(
        self, prefix: str, form: EventFormat, still_may: Callable[[], bool] = lambda: True, *, follows: bool = True
    ) -> None:
        self.prefix, self.form, self.still_may, self.follows = prefix, form, still_may, follows
        self.validity: Sequence[int] = ()
        """The state of all tokens at the last page of its backlog."""
        self.loop = asyncio.get_running_loop()
        self.after = 0
        """The id after which its live events begin. It does not change once it is live."""
        self.is_cut = False
        self.is_ending = False
        self._task = asyncio.current_task()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waiting: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """True if nothing is queued."""
        return not self._queue

    def put(self, payload: bytes) -> None:
        """Queue bytes to send; cut the watcher instead if it is too far behind. Its client can resume by event id."""
        if self.is_cut or self.is_ending:
            return
        if self._queue and self._queued_bytes + len(payload) > QUEUE_BYTES:
            self.cut()
            return
        self._queue.append(payload)
        self._queued_bytes += len(payload)
        self._wake()

    def cut(self) -> None:
        """End the stream after the event that is being sent, and drop the queue. Idempotent."""
        self.is_cut = True
        self._queue.clear()
        self._wake()

    def end(self) -> None:
        """End the stream after the queue, or without it if the client does not read. Idempotent."""
        self.is_ending = True
        self._wake()
        if self._task is not None:
            self.loop.call_later(LAST_WORDS_S, self._task.cancel)  # nothing happens to a task that is done

    async def next(self) -> bytes | None:
        """Wait for bytes to send; None once the stream has ended."""
        while not self._queue:
            if self.is_cut or self.is_ending:
                return None
            self._waiting = self.loop.create_future()
            await self._waiting
        return self._take()

    def _take(self) -> bytes:
        first = self._queue.popleft()
        size, pieces = len(first), [first]
        while self._queue and size + len(self._queue[0]) <= PIECE_BYTES:
            pieces.append(self._queue.popleft())
            size += len(pieces[-1])
        self._queued_bytes = self._queued_bytes - size if self._queue else 0
        return b"".join(pieces) if len(pieces) > 1 else first

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
