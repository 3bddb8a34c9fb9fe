"""Turns: a few threads that many transfers share."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.runtime.thread_priority import BULK, set_niceness


class Turns:
    """A few threads that many transfers take in turns, first come, first served."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=lambda: set_niceness(BULK))
        self._guard = threading.Lock()
        self._taking = 0

    @property
    def is_wanted(self) -> bool:
        """True if a transfer waits for a thread."""
        return self._taking > self._threads

    def take(self, work: Callable[[], bool]) -> "asyncio.Future[bool]":
        """Run a function on the next free thread."""
        with self._guard:
            self._taking += 1

        def counted() -> bool:
            try:
                return work()
            finally:
                with self._guard:
                    self._taking -= 1

        return asyncio.get_running_loop().run_in_executor(self._executor, counted)
