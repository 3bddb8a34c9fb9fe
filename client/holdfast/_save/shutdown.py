"""What happens when the process is told to end, or ends: what is under way is brought to safety, and the rest is named.

A handler of SIGTERM is put before the one that is there; it never waits. A thread of its own does the work, so that
no lock which the interrupted code holds can stand in the way, and then lets the former handler have its say. While the
main thread is within a call to C, Python calls no handler; the thread is started all the same, by `_wakeup`.
"""

import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from .._runtime import signal_thread
from .._runtime.process import after_fork_in_child
from .._spool.courier import Courier
from .._spool.queue import Queue, discard_interrupted
from . import background

DRAIN_S = 20.0
"""How long, in seconds, the end of a process may be put off."""
GRACE_S = 2.0
"""How long, in seconds, after SIGTERM, what is under way has to arrive before it is also written to the spool."""

log = logging.getLogger("holdfast")


class Job(Protocol):
    """A save that is under way."""

    @property
    def what(self) -> str:
        """Its name, for people."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it is durable within that time, or has failed and said so."""

    def hurry(self) -> None:
        """Try nothing again that fails from here on."""

    def is_alive(self) -> bool:
        """Tell if it is still to be saved, and was not interrupted."""

    def rescue(self) -> bool:
        """Write it to the spool, if it has not ended; whether it is durable somewhere now, or gone."""


class _State:
    """What this process knows of its own end."""

    def __init__(self, former: Any = None) -> None:
        self.told_at: float | None = None
        """When, of `time.monotonic`, the process was told to end. Signal handlers may take no lock, so not an Event."""
        self.jobs: list[Job] = []
        self.graceful: list[GracefulStop] = []
        self.drain_s = DRAIN_S
        self.former = former
        """The handler of SIGTERM that ours was put before; None where ours was not."""
        self.begun: dict[int | None, object] = {}
        """A token for each drain that was begun, by the signal that is to come then."""
        self.named: set[tuple[Queue, int]] = set()
        self.has_saved = False
        self.is_watching = False
        self.due: int | None = None
        """The signal that is to come once all is brought to safety, where no thread could be had to send it."""
        self.is_over = False
        """Whether nothing is left to be done, so that a signal may have its effect."""


_state = _State()


def is_requested() -> bool:
    """Whether the process was told to end."""
    return _state.told_at is not None


def began(job: Job, drain_s: float) -> None:
    """A save is under way, until `ended` is told of it."""
    _state.drain_s = max(drain_s, _state.drain_s) if _state.has_saved else drain_s
    _forget_interrupted()
    if job not in _state.jobs:
        _state.jobs.append(job)
    if not _state.has_saved:
        _state.has_saved = True
        if multiprocessing.parent_process() is not None:  # children of multiprocessing end without atexit
            multiprocessing.util.Finalize(None, _at_exit, exitpriority=100)
    _watch()
    if is_requested():
        job.hurry()


def ended(job: Job) -> None:
    """A save has ended."""
    with suppress(ValueError):  # in a forked child it was the parent's
        _state.jobs.remove(job)


def _forget_interrupted() -> None:
    for job in list(_state.jobs):
        if not job.is_alive():
            ended(job)


def drain(limit_s: float) -> None:
    """Bring to safety what is under way in this process, deliver what can be delivered, and name the rest.

    What is under way has the whole time to arrive, or `GRACE_S` once the process was told to end, before it is written
    to the spool.

    Parameters
    ----------
    limit_s : float
        How many seconds it may take; what is written to the spool at their end comes on top.
    """
    end = time.monotonic() + limit_s
    lost = _rescue(end)
    couriers = Courier.all()
    for courier in couriers:
        courier.finish(end)
    for job in lost:
        if not job.wait(max(0.0, end - time.monotonic())):
            log.error("%s was not saved: the process ends before it has arrived", job.what)
    discard_interrupted()
    background.name_errors()
    name_what_waits(queue for courier in couriers for queue in courier.waiting())


def _rescue(end: float) -> list[Job]:
    """Write to the spool what does not arrive in time; what could not be written."""
    _forget_interrupted()
    return [job for job in list(_state.jobs) if not _is_safe(job, end) and not job.rescue()]


def _is_safe(job: Job, end: float) -> bool:
    """Wait for a save, as long as that may take."""
    while not job.wait(0.02):
        if not job.is_alive():
            return True
        if _state.told_at is not None:
            end = min(end, _state.told_at + GRACE_S)
            return job.wait(max(0.0, end - time.monotonic()))
        if time.monotonic() >= end:
            return False
    return True


def name_what_waits(queues: Iterable[Queue]) -> None:
    """Say, once, what has not reached its server yet, and where it lies."""
    for queue in queues:
        count = len(queue.items())
        if count and (queue, count) not in _state.named:
            _state.named.add((queue, count))
            what = f"{count} checkpoint{'s' * (count != 1)} of {queue.directory!r} wait{'s' * (count == 1)}"
            where = f"in {queue.folder} for {queue.server}"
            log.warning("%s %s: the next job that uses it delivers them, or 'holdfast sync'", what, where)


def _watch() -> None:
    """Put our handler before the one of SIGTERM; only the main thread can, and only where Python knows that one."""
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
        return _heard
    if handler is not _on_signal or state.is_over or not state.is_watching:
        return None
    return _heard if callable(state.former) or _is_graceful(number) else partial(_end, number)


def _end(number: int) -> None:
    """End the process by a signal, though the main thread may not come to its handler."""
    _heard(then=number if signal_thread.restore_default(number) else None)


def _on_signal(number: int, frame: FrameType | None) -> None:
    signal_thread.called(number)
    state = _state
    if state.is_over or not state.is_watching:
        _let_it_come(number, frame)
    elif callable(state.former):
        _heard()
        state.former(number, frame)
    elif _is_graceful(number):
        _heard()
    else:
        signal.signal(number, state.former)  # the next one ends the process at once, whatever this thread is at then
        _heard(then=number)


def _heard(then: int | None = None) -> None:
    """The process was told to end: bring to safety what is under way, and let a signal come then, if one is given.

    A handler and the thread of `_wakeup` may call it at the same time: one of them does it.
    """
    state, ticket = _state, object()
    if state.begun.setdefault(then, ticket) is not ticket or (then is None and len(state.begun) > 1):
        return
    state.told_at = state.told_at or time.monotonic()
    try:
        threading.Thread(target=_bring_to_safety, args=(then,), name="holdfast-drain", daemon=True).start()
    except RuntimeError:  # the interpreter is ending, and brings it to safety anyway
        state.due = then


def _bring_to_safety(then: int | None) -> None:
    state = _state
    try:
        for job in list(state.jobs):
            job.hurry()
        if then is None:  # the program goes on for a while, and its end drains the rest
            _rescue(time.monotonic() + state.drain_s)
        else:
            drain(state.drain_s)
    finally:
        if then is not None:
            state.is_over = True
            os.kill(os.getpid(), then)


def _let_it_come(number: int, frame: FrameType | None) -> None:
    """What would have happened without us."""
    former = _state.former
    if callable(former):
        former(number, frame)
    else:
        signal.signal(number, former)
        signal.raise_signal(number)


def _at_exit() -> None:
    if not _state.is_over:
        try:
            drain(_state.drain_s)
        except KeyboardInterrupt:  # somebody is tired of waiting, and wants to lose nothing all the same
            drain(0.0)
        _state.is_over = True
        signal_thread.disarm()
        if _state.due is not None:
            os.kill(os.getpid(), _state.due)


@after_fork_in_child
def _forget() -> None:
    """In a forked child: what was under way is the parent's, and so are the loops that end gracefully."""
    global _state
    parents, _state = _state, _State(_state.former)
    for stop in reversed(parents.graceful):
        stop.leave()


atexit.register(_at_exit)


class GracefulStop:
    """Tells a training loop that it should save once more and end, as ``with GracefulStop() as stop:``.

    While it is entered, the signals do not end the process; ``stop.requested`` becomes true instead. Handlers that
    were there before are called as well, where they are functions. In a forked child, such as a worker of a data
    loader, it is left: there the signals have the effect that they had before.

    Parameters
    ----------
    signals : iterable of signal.Signals
        Which signals ask for the end. SLURM sends others than SIGTERM with ``--signal``.

    Examples
    --------
    >>> import os, signal
    >>> with GracefulStop() as stop:
    ...     for step in range(1000):
    ...         if stop.requested:
    ...             break
    ...         if step == 3:
    ...             os.kill(os.getpid(), signal.SIGTERM)
    >>> step, stop.signal.name
    (4, 'SIGTERM')
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGTERM,)) -> None:
        self.signals = tuple(signals)
        self.signal: signal.Signals | None = None
        """The signal that came first, or None."""
        self._former: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def __enter__(self) -> Self:
        for number in self.signals:
            self._former[number] = signal.signal(number, self._on_signal)
        _state.graceful.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):  # in a forked child it was left already
            _state.graceful.remove(self)
        self.leave()
        if _state.has_saved:
            _watch()

    def leave(self) -> None:
        """Put the former handlers back, where no others have been put in the meantime."""
        for number, former in self._former.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if former is None else former)
        self._former = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        signal_thread.called(number)
        self.signal = self.signal or signal.Signals(number)
        _heard()
        former = self._former.get(number)
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)
