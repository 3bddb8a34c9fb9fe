"""The state of a call, by its frame: still running, or not.

An exception of a signal handler, as Ctrl-C raises it, may come between any two instructions, also in a ``finally``.
The state that a call has recorded may be stale then; that of its frame never is.
"""

from types import FrameType


def is_executing(frame: FrameType) -> bool:
    """Tell if a frame is on the stack of a thread.

    `sys._current_frames` would do, too. But it takes a lock of the interpreter, and in some versions of CPython
    (gh-106883; seen with 3.11.7) a garbage collection may start within it, which lets other threads run. One that
    starts or ends then waits for that lock, and holds the lock that the first waits for: a deadlock. This function
    takes no lock.
    """
    try:
        frame.clear()  # refused while it is executed; afterwards its variables are not needed
    except RuntimeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise  # by the handler of a signal; `reraise` takes longer than this function may
        return True
    return False
