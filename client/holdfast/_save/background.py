"""A background thread for saves: works in order, on few of them at a time, and loses no error."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._runtime.forks import Owner, ProcessLocal
from .._runtime.threads import start

log = logging.getLogger("holdfast")
_unreported: ProcessLocal[dict[int, BaseException]] = ProcessLocal(dict)
"""The errors of this process that no caller has been given yet, by `id`: equal errors are not the same."""


class WorkQueue:
    """A queue of work and the thread that does it. Thread-safe.

    Parameters
    ----------
    limit : int
        The number of pieces of work that may wait or be under way; a caller with one more is blocked.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._owner = Owner()
        self._changed = threading.Condition()
        self._todo: deque[tuple[str, Callable[[], object], object]] = deque()
        self._errors: deque[BaseException] = deque()
        self._claims: set[int] = set()
        self._at_work = threading.Lock()

    @property
    def pending(self) -> list[str]:
        """The names of what waits or is under way."""
        self._own()
        return [what for what, *_ in list(self._todo)]

    @contextmanager
    def reserved_place(self) -> Iterator[None]:
        """Block until one more piece of work is allowed, and reserve its place for this thread until the block ends."""
        self._own()
        me = threading.get_ident()
        with self._changed:
            self._claims.discard(me)  # left by a call that was interrupted
            while len(self._todo) + len(self._claims) >= self._limit:
                self._see_to_thread()
                self._changed.wait()
            self._claims.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._claims.discard(me)
                self._changed.notify_all()

    def do(self, what: str, work: Callable[[], object], job: object = None) -> None:
        """Queue a piece of work.

        Parameters
        ----------
        what : str
            Its name, for people.
        work : callable
            Called on the thread.
        job : object
            The job that it is done for; see `holds`.
        """
        self._own()
        self._todo.append((what, work, job))
        self._see_to_thread()

    def holds(self, job: object) -> bool:
        """Tell if something waits to be done for a job, or is being done."""
        self._own()
        self._see_to_thread()
        return any(held is job for *_, held in list(self._todo))

    def _see_to_thread(self) -> None:
        """Start a thread if something waits and none is at work, as the previous call may have been interrupted."""
        with self._changed:
            if not self._todo or self._at_work.locked():
                return
        if not start(threading.Thread(target=self._run, name="holdfast-saves", daemon=True)):
            self._run()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until all is done; False if it is not done in time.

        Parameters
        ----------
        timeout_s : float, optional
            The longest time to wait, in seconds.
        """
        self._own()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        self._see_to_thread()
        with self._changed:
            while self._todo:
                left_s = None if end is None else end - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def raise_error(self) -> None:
        """Raise the first error that no caller has been given yet."""
        self._own()
        with self._changed:
            error = self._errors.popleft() if self._errors else None
        if error is not None:
            _reported(error)
            raise error

    def raise_errors(self) -> None:
        """Raise the first error that no caller has been given yet, with notes about all others."""
        self._own()
        with self._changed:
            errors = list(self._errors)
            self._errors.clear()
        for error in errors:
            _reported(error)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(f"This one was not saved, either. {in_full(other)}")
            raise errors[0]

    def _own(self) -> None:
        """Leave to the parent, in a forked child, what is under way there."""
        if not self._owner.is_this_process:
            self._begin()

    def _run(self) -> None:
        if not self._at_work.acquire(blocking=False):
            return
        while True:
            with self._changed:
                if not self._todo:
                    self._at_work.release()
                    self._changed.notify_all()
                    return
                what, work = self._todo[0][:2]
            try:
                work()
            except BaseException as error:
                error.add_note(f"This happened in the background, to {what}.")
                _unreported.get()[id(error)] = error
                with self._changed:
                    self._errors.append(error)
            # Its objects are freed before a waiting thread can end the process: a destructor of torch on this thread
            # would run while the interpreter is finalized, and abort the process.
            work = _nothing
            with self._changed:
                self._todo[0] = (what, _nothing, None)
            with self._changed:
                self._todo.popleft()
                self._changed.notify_all()


def _nothing() -> None:
    """Stand in for work that is done."""


def in_full(error: BaseException) -> str:
    """Return the message of an error, with its type and its notes."""
    return " ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def log_errors() -> None:
    """Log, at the end of the process, the errors that no caller has been given."""
    for error in list(_unreported.get().values()):
        _reported(error)
        log.error("a checkpoint was not saved. %s", in_full(error))


def _reported(error: BaseException) -> None:
    _unreported.get().pop(id(error), None)
