"""Descriptors of plain files, opened below a folder without following links, and how single ones are synced."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISLNK, S_ISREG

from app.core.errors import ForeignFile, UnsafePath
from app.storage.ports import Buffer, NotDurable

Parts = tuple[str, ...]
"""A path below a root, as its names."""

_PASSING = ".doubtful"


def open_file(path: Parts, flags: int, parent: int) -> int:
    """Open the regular file at the end of a path. Never blocks, as opening a pipe would.

    Raises
    ------
    ForeignFile
        It is something else.
    """
    try:
        descriptor = os.open(path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise ForeignFile(f"{'/'.join(path)} is not a plain file.") from error
        raise
    if not S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ForeignFile(f"{'/'.join(path)} is not a plain file.")
    return descriptor


def new_file(name: str, parent: int) -> int:
    """Create a file, in place of a leftover of a crash, of a pipe or of a second name of another file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o666, dir_fd=parent)
    except FileExistsError:
        os.unlink(name, dir_fd=parent)
        return os.open(name, flags, 0o666, dir_fd=parent)


def write_whole(descriptor: int, data: Buffer) -> None:
    """Write all of some data from the beginning of a file on."""
    offset = 0
    while offset < len(data):
        offset += os.pwrite(descriptor, memoryview(data)[offset:], offset)


def refuse_way_out(name: str) -> None:
    """Raise `UnsafePath` for a name that would lead out of its folder."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise UnsafePath(f"{name!r} is no name of a file.")


def sync(descriptor: int) -> None:
    """Make a file or the names in a folder durable. `NotDurable` if the disk failed."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotDurable(error.errno, error.strerror) from error


def change(folder: int) -> None:
    """Change a folder and undo it: without a change, a sync after a failed one has nothing left to write."""
    with suppress(FileExistsError):
        os.mkdir(_PASSING, dir_fd=folder)
    os.rmdir(_PASSING, dir_fd=folder)


def is_link(name: str, parent: int) -> bool:
    """Return whether a name in a folder is a symbolic link."""
    return S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def make_root(folder: Path) -> None:
    """Make a folder and those above it, durably, if they are missing."""
    if folder.is_dir():
        return
    make_root(folder.parent)
    folder.mkdir(exist_ok=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def fail(error: OSError) -> None:
    """Raise an error: `os.fwalk` would pass a folder that cannot be listed off as an empty one."""
    raise error
