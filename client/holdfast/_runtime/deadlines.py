"""Deadlines for work that cannot watch the clock itself: a thread ends it from outside."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .threads import start


@contextmanager
def deadline(seconds: float, end: Callable[[], object]) -> Iterator[None]:
    """Call ``end`` from another thread if the block takes longer."""
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    try:
        start(timer)  # an interpreter that is ending starts none, and the request watches its own timeouts
        yield
    finally:
        timer.cancel()
