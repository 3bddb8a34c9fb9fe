"""Exceptions of signal handlers, such as an alarm's: the client never swallows or converts them.

A handler runs between any two instructions of the main thread. So its exception may come out of any call, or be the
cause of an error that a library raises in its place. It is recognised by the handler in its traceback. An exception
that a caller handles already, in an ``except`` block of its own, is the context of errors as well, but does not count.
"""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from types import CodeType, TracebackType


def reraise(error: BaseException) -> None:
    """Raise the exception of a handler, if an error is one or was caused by one."""
    if (found := _found(error)) is not None:
        if found is error:
            raise error
        raise found from None


def is_raised_by_handler(error: BaseException) -> bool:
    """Tell if an error is the exception of a handler, or was caused by one."""
    return _found(error) is not None


class suppress(contextlib.suppress):
    """`contextlib.suppress` that does not suppress the exceptions of handlers."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return bool(super().__exit__(kind, error, trace)) and (error is None or not is_raised_by_handler(error))


def _found(error: BaseException) -> BaseException | None:
    if threading.current_thread() is not threading.main_thread():  # no handler runs there
        return None
    handlers, callers = set(_handlers()), {frame for frame, _ in traceback.walk_stack(None)}
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        frames = [frame for frame, _ in traceback.walk_tb(at.__traceback__)]
        is_handled_above = bool(seen) and bool(frames) and frames[0] in callers
        if not is_handled_above and any(frame.f_code in handlers for frame in frames):
            return at
        seen.append(at)
        at = at.__cause__ or at.__context__
    return None


def _handlers() -> Iterator[CodeType]:
    """Yield the code of every handler that is installed."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        for function in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                yield code
