"""A thread that acts on signals at once, also while the main thread is within a call to C.

Python calls a handler only between two instructions of the main thread. Its handler in C runs at once, and writes the
signal's number to the descriptor that `signal.set_wakeup_fd` names. A process has one such descriptor: if other code
has set it, it is left alone, and this module does nothing.
"""

import ctypes
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from .forks import after_fork_in_child
from .interruption import reraise
from .threads import start

_CREDENTIALS = struct.Struct("3i")
_JOIN_S = 1.0
_OF_OTHERS = 0
_SET_HANDLER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

Plan = Callable[[int], Callable[[], object] | None]


class _Line:
    """A pair of sockets: Python's handler in C writes to one end, and a thread reads the other.

    The kernel names the sender of each byte. So a signal of a forked child, which shares the sockets until it closes
    them, is not mistaken for one of this process.
    """

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        self.reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.writer.setblocking(False)
        self.foreign: int | None = None
        """The descriptor of other code that was found in place of ours."""

    def receive(self) -> int | None:
        """Block until a signal; returns its number, `_OF_OTHERS` if it is another process's, None at the end."""
        try:
            data, ancillary, *_ = self.reader.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError:
            return None
        if not data:
            return None
        is_ours = any(_CREDENTIALS.unpack(content)[0] == os.getpid() for *_, content in ancillary)
        return data[0] if is_ours else _OF_OTHERS

    def close(self) -> None:
        """Close both ends."""
        self.writer.close()
        self.reader.close()


_guard = threading.RLock()
_line: _Line | None = None
_thread: threading.Thread | None = None
_is_left_to_others = False
_calls: dict[int, object] = {}
"""A token for the last call of the handler of each signal."""


def arm(plan: Plan) -> None:
    """Start the thread. Only the main thread can; idempotent, best-effort.

    Parameters
    ----------
    plan : callable
        Called on the thread with a signal's number. Returns the function to call before the handler in Python, or None.
        It is called only if the handler has not been called meanwhile.
    """
    global _line, _thread, _is_left_to_others
    if _is_left_to_others or not hasattr(socket, "SO_PASSCRED"):
        return
    with _guard:
        if _line is None:
            _line = _Line()
            _thread = threading.Thread(target=_listen, args=(_line, plan), name="holdfast-signals", daemon=True)
            if not start(_thread):
                _line.close()
                _line, _is_left_to_others = None, True
                return
        if not _take(_line):
            _is_left_to_others = True
            _line.writer.close()  # the thread passes on what is left, and ends


def _take(line: _Line) -> bool:
    """Make the line the one of this process; False if other code has set another."""
    before = signal.set_wakeup_fd(line.writer.fileno(), warn_on_full_buffer=False)
    if before in (-1, line.writer.fileno()):
        return True
    try:
        signal.set_wakeup_fd(before)
    except (OSError, ValueError) as error:  # other code has closed it meanwhile
        reraise(error)
        return True
    line.foreign = before
    return False


def called(number: int) -> None:
    """Note that the handler of a signal is being called. It may be called by a handler: it takes no lock."""
    _calls[number] = object()


def _listen(line: _Line, plan: Plan) -> None:
    with line.reader:
        while True:
            seen = _calls.copy()
            number = line.receive()
            if number is None:
                return
            with _guard:  # not amid `_take`
                foreign = line.foreign
            if number == _OF_OTHERS:
                continue
            if foreign is not None:
                with suppress(OSError):
                    os.write(foreign, bytes([number]))
            elif (act := plan(number)) is not None and _calls.get(number) is seen.get(number):
                act()


def restore_default(number: int) -> bool:
    """Let a signal end the process from here on, as `signal.signal` does on the main thread; False if that fails."""
    try:
        restore = _SET_HANDLER(("PyOS_setsig", ctypes.pythonapi))
    except AttributeError:  # another Python than CPython
        return False
    restore(number, None)
    return True


def disarm() -> None:
    """Release the descriptor, and end the thread. Only the main thread can."""
    global _line
    with _guard:
        line, _line = _line, None
        if line is not None:
            _release(line)
            line.writer.close()
    if line is not None and _thread is not None:
        _thread.join(_JOIN_S)


def _release(line: _Line) -> None:
    if _is_left_to_others:
        return
    before = signal.set_wakeup_fd(-1)
    if before not in (-1, line.writer.fileno()):
        with suppress(OSError, ValueError):
            signal.set_wakeup_fd(before)


@after_fork_in_child
def _leave() -> None:
    """Close the sockets in a forked child: they and the thread are the parent's."""
    global _guard, _line, _thread
    _guard = threading.RLock()
    line, _line, _thread = _line, None, None
    if line is not None:
        _release(line)
        line.close()
