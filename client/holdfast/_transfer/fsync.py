"""Durability of local files: a few are synced one by one, many at once if the file system reports errors reliably."""

import ctypes
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from .._runtime.parallel import in_parallel

MANY = 256
"""The number of files from which the whole file system is synced instead."""
_THREADS = 8
_TELLS_OF_ERRORS = {0xEF53, 0x58465342, 0x9123683E}  # ext4, XFS, Btrfs


class FileSystem:
    """The file system of a folder; write errors from now on are reported by `sync`.

    Parameters
    ----------
    folder : Path
        The folder in which files are about to be written.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self, files: Iterable[Path], folders: Iterable[Path]) -> None:
        """Make files and folders durable that were written since; raise `OSError` if that fails."""
        files = list(files)
        if len(files) >= MANY and _is_trusted(self._descriptor):
            _sync_file_system(self._descriptor)
            return
        in_parallel(files, sync, threads=_THREADS)
        for folder in folders:
            sync(folder)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)


def sync(path: Path) -> None:
    """Make one file, or the names in one folder, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _is_trusted(descriptor: int) -> bool:
    """Tell if a sync of the file system reports write errors: on Linux since 5.8."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if os.uname().sysname != "Linux" or version is None or (int(version[1]), int(version[2])) < (5, 8):
        return False
    about = (ctypes.c_long * 64)()  # the first field is the type of the file system
    with suppress(AttributeError):
        return not _libc().fstatfs(descriptor, about) and about[0] in _TELLS_OF_ERRORS
    return False


def _sync_file_system(descriptor: int) -> None:
    if _libc().syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
