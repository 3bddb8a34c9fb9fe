"""Deferral of full garbage collections, which visit every object again and again while many are made."""

import gc
import threading
from collections.abc import Callable
from typing import TypeVar

from .forks import after_fork_in_child

T = TypeVar("T")

_NEVER = 1_000_003
"""A threshold that is not reached, and that no other code sets."""
_guard = threading.Lock()
_before: tuple[int, int, int] | None = None
"""The thresholds to restore."""


def deferred(work: Callable[[], T]) -> T:
    """Do some work without full collections; young objects are collected as usual.

    Afterwards the thresholds are restored, also after Ctrl-C, unless another thread has set them meanwhile. If another
    thread defers collections already, the work is just done. `gc.disable` is not used, as other threads may use it.
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
    """Restore the thresholds in a forked child: the thread that would do so is the parent's."""
    global _guard
    _guard = threading.Lock()
    if _before is not None and gc.get_threshold()[2] == _NEVER:
        gc.set_threshold(*_before)
