"""State of a call, by its frame: still under way, or not.

An exception of a signal handler, as Ctrl-C raises it, may come between any two instructions, also in a ``finally``.
What a call has recorded of itself may be stale then; whether its frame is executed never is.
"""

from types import FrameType


def is_executing(frame: FrameType) -> bool:
    """Tell if a frame is on the stack of a thread.

    `sys._current_frames` would tell, too. But it takes a lock of the interpreter, and in some versions of CPython
    (gh-106883; seen with 3.11.7) a garbage collection may begin within it, which lets other threads go on: one that
    begins or ends then waits for that lock, and holds the one that the first waits for. Here no lock is taken.
    """
    try:
        frame.clear()  # refused while it is executed; afterwards its variables are of no use to anyone
    except RuntimeError:
        return True
    return False
