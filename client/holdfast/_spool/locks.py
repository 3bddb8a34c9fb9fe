"""Locks between processes, which end with whoever has them and are not kept by children forked meanwhile."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_descriptors: set[int] = set()


@contextmanager
def lockable(path: Path) -> Iterator[int]:
    """A descriptor to lock. The lock ends with it, and is not kept by a child that was forked in the meantime."""
    owner = os.getpid()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _descriptors.add(descriptor)
    try:
        yield descriptor
    finally:
        if owner == os.getpid():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            _descriptors.discard(descriptor)
            os.close(descriptor)


def _leave_locks_to_parent() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def is_locked(descriptor: int) -> bool:
    """Whether a lock could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
