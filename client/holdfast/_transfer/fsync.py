"""Make files of this machine durable: a few one by one, many at once where the file system can be trusted with that."""

import ctypes
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from .._runtime.parallel import in_parallel

MANY = 256
"""From how many files on the whole file system is synced instead of each of them."""
_THREADS = 8
_TELLS_OF_ERRORS = {0xEF53, 0x58465342, 0x9123683E}  # ext4, XFS, Btrfs


class FileSystem:
    """The file system of a folder, watched from now on: what fails to be written after this moment is noticed.

    Parameters
    ----------
    folder : Path
        Where files are about to be written.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self, files: Iterable[Path], folders: Iterable[Path]) -> None:
        """Make files and folders durable that were written since. `OSError` where that fails."""
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
    """Whether syncing the file system says when something could not be written: on Linux since 5.8."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if os.uname().sysname != "Linux" or version is None or (int(version[1]), int(version[2])) < (5, 8):
        return False
    about = (ctypes.c_long * 64)()  # of which the type of the file system comes first
    with suppress(AttributeError):
        return not _libc().fstatfs(descriptor, about) and about[0] in _TELLS_OF_ERRORS
    return False


def _sync_file_system(descriptor: int) -> None:
    if _libc().syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
