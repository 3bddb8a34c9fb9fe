"""The end of the process, by a signal or normally: saves under way are made durable first.

A handler of SIGTERM is put before the one that is there; it never waits. A thread of its own does the work, so that a
lock held by the interrupted code cannot block it, and then the former handler runs. While the main thread is within a
call to C, Python calls no handler; `signal_thread` starts the work all the same.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Protocol

from .._runtime import signal_thread
from .._runtime.forks import after_fork_in_child
from .._runtime.threads import start
from . import drain


class GracefulLoop(Protocol):
    """A training loop that ends by itself once a signal has come."""

    @property
    def signals(self) -> tuple[signal.Signals, ...]:
        """The signals that ask for the end."""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle one of them."""

    def leave(self) -> None:
        """Put the former handlers back."""


class _State:
    """The handlers that are in place, and the drains that were begun."""

    def __init__(self, former: Any = None) -> None:
        self.graceful: list[GracefulLoop] = []
        self.former = former
        """The handler of SIGTERM that ours was put before; None if ours was not."""
        self.begun: dict[int | None, object] = {}
        """A token for each drain that was begun, by the signal that is sent after it."""
        self.has_saved = False
        self.is_watching = False
        self.due: int | None = None
        """The signal to send at the end of the process, if no thread could be started to send it earlier."""
        self.is_over = False
        """Whether nothing is left to be made durable, so that a signal may have its effect."""


_state = _State()


@after_fork_in_child
def _forget() -> None:
    """Leave to the parent its drains and its graceful loops."""
    global _state
    parents, _state = _state, _State(_state.former)
    for stop in reversed(parents.graceful):
        stop.leave()


def watch_over(job: drain.SaveUnderWay, drain_s: float) -> None:
    """Note that a save is under way, until `drain.remove`; from here on it is made durable if the process ends.

    Parameters
    ----------
    drain_s : float
        The time, in seconds, by which this save may delay the end of the process.
    """
    drain.add(job, drain_s)
    if not _state.has_saved:
        _state.has_saved = True
        _finish_with_multiprocessing()
    _watch()
    if drain.is_requested():
        job.stop_retrying()


def _finish_with_multiprocessing() -> None:
    """Make saves durable also in a child of multiprocessing, which ends without `atexit`, and has imported it."""
    if "multiprocessing.process" not in sys.modules:
        return
    from multiprocessing import parent_process, util

    if parent_process() is not None:
        util.Finalize(None, _at_exit, exitpriority=100)


def enter(stop: GracefulLoop) -> None:
    """Note a loop that ends by itself: its signals do not end the process."""
    _state.graceful.append(stop)


def leave(stop: GracefulLoop) -> None:
    """Note that such a loop has ended."""
    with suppress(ValueError):  # a forked child has left it already
        _state.graceful.remove(stop)
    stop.leave()
    if _state.has_saved:
        _watch()


def _watch() -> None:
    """Put our handler before the one of SIGTERM; only the main thread can, and only if Python knows that one."""
    if threading.current_thread() is threading.main_thread():
        _put_handler()
        if _state.is_watching or _state.graceful:
            signal_thread.arm(_plan)


def _put_handler() -> None:
    state = _state
    if state.is_watching:
        return
    former = signal.getsignal(signal.SIGTERM)
    if former in (None, signal.SIG_IGN) or _is_graceful(signal.SIGTERM):
        return
    state.is_watching = True
    if former is not _on_signal:  # in a forked child it is ours already
        state.former = former
        signal.signal(signal.SIGTERM, _on_signal)


def _is_graceful(number: int) -> bool:
    return any(number in stop.signals for stop in _state.graceful)


def _plan(number: int) -> Callable[[], object] | None:
    """The work that can be done about a signal before its handler is called; the handler does the rest."""
    state, handler = _state, signal.getsignal(number)
    if any(handler == stop._on_signal for stop in state.graceful):
        return start_draining
    if handler is not _on_signal or state.is_over or not state.is_watching:
        return None
    return start_draining if callable(state.former) or _is_graceful(number) else partial(_end, number)


def _end(number: int) -> None:
    """End the process by a signal, even if the main thread does not come to its handler."""
    start_draining(then=number if signal_thread.restore_default(number) else None)


def _on_signal(number: int, frame: FrameType | None) -> None:
    signal_thread.called(number)
    state = _state
    if state.is_over or not state.is_watching:
        _call_former(number, frame)
    elif callable(state.former):
        start_draining()
        state.former(number, frame)
    elif _is_graceful(number):
        start_draining()
    else:
        signal.signal(number, state.former)  # the next one ends the process at once, whatever this thread is doing
        start_draining(then=number)


def start_draining(then: int | None = None) -> None:
    """Make durable what is under way, on a thread, as the process was asked to end. Idempotent.

    A handler and `signal_thread` may call it at the same time: one of them starts the thread.

    Parameters
    ----------
    then : int, optional
        The signal that ends the process afterwards.
    """
    state, ticket = _state, object()
    if state.begun.setdefault(then, ticket) is not ticket or (then is None and len(state.begun) > 1):
        return
    drain.request()
    if not start(threading.Thread(target=_run, args=(then,), name="holdfast-drain", daemon=True)):
        state.due = then  # `_at_exit` does it


def _run(then: int | None) -> None:
    state = _state
    try:
        drain.stop_retrying()
        if then is None:  # the program continues for a while, and `_at_exit` drains the rest
            drain.spill(time.monotonic() + drain.limit_s())
        else:
            drain.drain(drain.limit_s())
    finally:
        if then is not None:
            state.is_over = True
            os.kill(os.getpid(), then)


def _call_former(number: int, frame: FrameType | None) -> None:
    """Do what the signal would have done without our handler."""
    former = _state.former
    if callable(former):
        former(number, frame)
    else:
        signal.signal(number, former)
        signal.raise_signal(number)


def _at_exit() -> None:
    if not _state.is_over:
        try:
            drain.drain(drain.limit_s())
        except KeyboardInterrupt:  # the user will not wait any longer, and still wants to lose nothing
            drain.drain(0.0)
        _state.is_over = True
        signal_thread.disarm()
        if _state.due is not None:
            os.kill(os.getpid(), _state.due)


atexit.register(_at_exit)
