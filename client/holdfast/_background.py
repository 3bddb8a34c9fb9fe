"""Work on a thread of its own, in order, with few pieces of it at a time and no error lost."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable


class Background:
    """Does what it is given, one after the other.

    Parameters
    ----------
    limit : int
        How many pieces of work may wait or be under way; who comes with one more waits.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._todo: deque[tuple[str, Callable[[], object]]] = deque()
        self._errors: deque[BaseException] = deque()
        self._has_thread = False

    @property
    def pending(self) -> list[str]:
        """What waits or is under way, by name."""
        self._own()
        return [what for what, _ in list(self._todo)]

    def wait_for_room(self) -> None:
        """Wait until there may be one more."""
        self._own()
        with self._changed:
            while len(self._todo) >= self._limit:
                self._changed.wait()

    def do(self, what: str, work: Callable[[], object]) -> None:
        """Have something done."""
        self._own()
        with self._changed:
            self._todo.append((what, work))
            if not self._has_thread:
                threading.Thread(target=self._run, name="holdfast-saves", daemon=True).start()
                self._has_thread = True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all is done; whether it is.

        Parameters
        ----------
        timeout_s : float, optional
            How many seconds to wait at most.
        """
        self._own()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._todo:
                left_s = None if end is None else end - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def raise_error(self) -> None:
        """Raise the first error that nobody has been told of."""
        self._own()
        if self._errors:
            raise self._errors.popleft()

    def _own(self) -> None:
        """In a forked child, what is under way is the parent's."""
        if self._owner != os.getpid():
            self._begin()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._todo:
                    self._has_thread = False
                    return
                what, work = self._todo[0]
            try:
                work()
            except BaseException as error:
                error.add_note(f"This happened in the background, to {what}.")
                self._errors.append(error)
            with self._changed:
                self._todo.popleft()
                self._changed.notify_all()
