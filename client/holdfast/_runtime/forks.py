"""Forks: objects and values that belong to one process.

A forked child has the memory of its parent, but none of its threads. Locks may be held by threads that are not there,
and connections, descriptors and work under way are the parent's.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Owner:
    """The process that made this object, as opposed to a child that is forked later."""

    __slots__ = ("_process_id",)

    def __init__(self) -> None:
        self._process_id = os.getpid()

    @property
    def is_this_process(self) -> bool:
        """Whether the calling process made this object."""
        return self._process_id == os.getpid()


class ProcessLocal(Generic[T]):
    """A value of which each process has its own: a forked child begins with a new one. Thread-safe.

    Parameters
    ----------
    make : callable
        Makes the value of a process when that is first asked for. If several threads ask at the same time, it may be
        called more than once; all of them get the same value.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return the value of the calling process."""
        process_id = os.getpid()
        try:
            return self._values[process_id]
        except KeyError:  # another thread may be making it, too: the first one's value counts
            return self._values.setdefault(process_id, self._make())

    def clear(self) -> None:
        """Forget the values of all processes."""
        self._values.clear()


def after_fork_in_child(callback: Callable[[], object]) -> Callable[[], object]:
    """Have a function called in every child that is forked from here on. Usable as a decorator.

    The child calls it on its only thread, before the fork returns there. It cannot be undone, so it is for the state of
    modules; what an object holds needs an `Owner`.
    """
    os.register_at_fork(after_in_child=callback)
    return callback
