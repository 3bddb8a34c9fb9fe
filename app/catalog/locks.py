"""Locks by name: mutual exclusion within this process, without a lock left behind for each name ever used."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class NamedLocks:
    """Re-entrant locks by name. A lock lives as long as a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return the number of locks that are held or waited for."""
        return len(self._locks)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Exclude the other threads that hold this name."""
        with self._guard:  # two threads that found none would make one each
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:  # the reference of this frame keeps it alive
            yield
