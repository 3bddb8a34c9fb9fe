"""Starting threads: an interpreter that is ending starts no more, and says so by a `RuntimeError`."""

import threading

from .interruption import reraise


def start(thread: threading.Thread) -> bool:
    """Start a thread; False if the interpreter is ending, which starts no more.

    The exception of a signal handler passes through, whatever its class.
    """
    try:
        thread.start()
    except RuntimeError as error:
        reraise(error)
        return False
    return True
