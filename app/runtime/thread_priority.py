"""Priorities of threads: the event loop runs before those that move bytes."""

import os
import threading
from contextlib import suppress

EVENT_LOOP, BULK = -10, 5


def set_niceness(niceness: int) -> None:
    """Set the niceness of the calling thread and of threads that it starts. Best-effort: the system may refuse.

    Only Linux has a niceness for each thread.
    """
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
