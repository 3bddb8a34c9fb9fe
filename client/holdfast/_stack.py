"""The stacks of this process's threads: whether a call is still under way.

An exception of a signal handler, as Ctrl-C raises it, may come between any two instructions, also in a ``finally``.
What a call has recorded of itself may be stale then; its frame on the stack of its thread never is.
"""

import sys
from types import CodeType


def is_under_way(thread: int, code: CodeType, owner: object) -> bool:
    """Whether a thread executes a method of an object.

    Parameters
    ----------
    thread : int
        The thread's ``threading.get_ident()``.
    code : CodeType
        The method's code.
    owner : object
        What the method knows as ``self``.
    """
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is code and frame.f_locals.get("self") is owner:
            return True
        frame = frame.f_back
    return False
