"""Notifier: wakes the requests that wait for events; thread-safe."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Notifier:
    """Wakes waiting tasks. Any thread may notify; each waiter is woken on its own event loop."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.closed = False

    def notify(self) -> None:
        """Wake every task that waits now."""
        with self._guard:
            waiting, self._waiting = self._waiting, set()
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Wake every task, and let none wait from now on: the server is stopping."""
        self.closed = True
        self.notify()

    @contextmanager
    def waiter(self) -> Iterator[asyncio.Event]:
        """Give an event of the running loop that the next notification sets.

        A task enters first, then looks for news, then waits: it misses no notification. Leaving the block drops the
        event.
        """
        event = asyncio.Event()
        waiting = (asyncio.get_running_loop(), event)
        with self._guard:
            if self.closed:
                event.set()
            else:
                self._waiting.add(waiting)
        try:
            yield event
        finally:
            with self._guard:
                self._waiting.discard(waiting)
