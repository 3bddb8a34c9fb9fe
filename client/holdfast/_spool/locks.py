"""Locks between processes, which end with whoever has them and are not kept by children forked meanwhile."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._runtime.process import Owner, after_fork_in_child

_descriptors: set[int] = set()


@contextmanager
def lockable(path: Path) -> Iterator[int]:
    """A descriptor to lock. The lock ends with it, and is not kept by a child that was forked in the meantime."""
    owner = Owner()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _descriptors.add(descriptor)
    try:
        yield descriptor
    finally:
        if owner.is_this_process:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            _descriptors.discard(descriptor)
            os.close(descriptor)


@after_fork_in_child
def _leave_locks_to_parent() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


def is_locked(descriptor: int) -> bool:
    """Whether a lock could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
