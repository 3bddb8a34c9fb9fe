"""Full garbage collections, put off for a moment: they look at every object, again and again while many are made."""

import gc
import threading
from collections.abc import Callable
from typing import TypeVar

from .process import after_fork_in_child

T = TypeVar("T")

_NEVER = 1_000_003
"""A threshold that is not reached, and that no other code sets."""
_guard = threading.Lock()
_before: tuple[int, int, int] | None = None
"""The thresholds that are to come back."""


def deferred(work: Callable[[], T]) -> T:
    """Do some work, without full collections meanwhile. Young objects are collected as ever.

    The thresholds are as before afterwards, also after Ctrl-C, but for what other threads have set meanwhile. Where
    another thread is doing the same, this one just works. `gc.disable` is left alone, as other threads may use it.
    """
    if not _guard.acquire(blocking=False):
        return work()
    global _before
    _before = before = gc.get_threshold()
    try:
        gc.set_threshold(before[0], before[1], _NEVER)
        return work()
    finally:
        is_ours = True
        try:
            is_ours = gc.get_threshold()[2] == _NEVER
        finally:  # Python raises no KeyboardInterrupt from here to the end of the call
            if is_ours:
                gc.set_threshold(*before)
            _guard.release()


@after_fork_in_child
def _resume() -> None:
    """In a forked child: the thread that put collections off is the parent's."""
    global _guard
    _guard = threading.Lock()
    if _before is not None and gc.get_threshold()[2] == _NEVER:
        gc.set_threshold(*_before)
