"""Locks between processes: released when their holder ends, and not inherited by its forked children."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .._runtime.forks import Owner, after_fork_in_child

_descriptors: set[int] = set()


def lockable(path: Path) -> AbstractContextManager[int]:
    """Open a file to be locked. Its lock ends with the block, and a child that is forked meanwhile does not hold it."""
    return _opened(path, os.O_RDWR | os.O_CREAT)


def lockable_folder(path: Path) -> AbstractContextManager[int]:
    """Open a folder to be locked, as `lockable` does a file.

    NFS refuses exclusive locks of folders (``EBADF``), as it needs a descriptor for writing.
    """
    return _opened(path, os.O_RDONLY | os.O_DIRECTORY)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    owner = Owner()
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
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


def try_lock(descriptor: int) -> bool:
    """Take the lock; False if another holder has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
