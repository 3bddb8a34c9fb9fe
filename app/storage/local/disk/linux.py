"""System calls of Linux beyond Python's ``os``. A kernel or file system without one is no error: nothing happens."""

import ctypes
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator

from app.core.spans import Span

_FICLONERANGE = 0x4020940D
_SYNC_FILE_RANGE_WRITE = 2
_RENAME_NOREPLACE = 1
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV}
_TELLING = {0xEF53, 0x58465342, 0x9123683E}  # ext4, XFS, Btrfs
_LOST = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS}

_libc = ctypes.CDLL(None, use_errno=True)
_OFFSET = ctypes.c_int64


def allocate(descriptor: int, span: Span) -> None:
    """Allocate disk space for a span of a file, so that it is contiguous and a full disk shows at once.

    Raises
    ------
    OSError
        The disk is full.
    """
    if span.start == span.stop or not hasattr(_libc, "fallocate"):
        return
    failed = _libc.fallocate(descriptor, 0, _OFFSET(span.start), _OFFSET(span.stop - span.start))
    if failed and (code := ctypes.get_errno()) not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code))


def start_writeback(descriptor: int, span: Span) -> None:
    """Start writing a span of a file to the disk. Best-effort; consumes no error that a later fsync has to report.

    Raises
    ------
    OSError
        The disk refused at once. Not every file system reports that to a later fsync, so these bytes count as lost.
    """
    if not hasattr(_libc, "sync_file_range"):
        return
    length = _OFFSET(span.stop - span.start)
    failed = _libc.sync_file_range(descriptor, _OFFSET(span.start), length, _SYNC_FILE_RANGE_WRITE)
    if failed and (code := ctypes.get_errno()) in _LOST:
        raise OSError(code, os.strerror(code))


def rename_to_free_name(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Rename a file if the target's name is free, atomically.

    Raises
    ------
    FileExistsError
        Something has the name.
    OSError
        Among other reasons, the file system cannot do this.
    """
    if not hasattr(_libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _libc.renameat2(src_dir_fd, os.fsencode(source), dst_dir_fd, os.fsencode(target), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def share(source: int, start: int, target: int, span: Span) -> bool:
    """Let a span of a file share the blocks of another; False if the file system cannot."""
    request = struct.pack("qQQQ", source, start, span.stop - span.start, span.start)
    try:
        fcntl.ioctl(target, _FICLONERANGE, request)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        return False
    return True


def written(descriptor: int) -> Iterator[Span]:
    """Yield the spans of a file that hold bytes, without merely allocated ones if the file system tells them apart."""
    end, offset = os.fstat(descriptor).st_size, 0
    while offset < end:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        offset = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield Span(start, offset)


def sync_file_system(descriptor: int) -> None:
    """Make everything written to the file system of an open file durable.

    Raises
    ------
    OSError
        Some of it could not be written since this descriptor was opened, or since the last report to it.
    """
    if _libc.syncfs(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def tells_of_lost_writes(descriptor: int) -> bool:
    """Return whether `sync_file_system` reports lost bytes: Linux does since 5.8, on some file systems."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    known = version is not None and (int(version[1]), int(version[2])) >= (5, 8)
    if not known or not (hasattr(_libc, "syncfs") and hasattr(_libc, "fstatfs")):
        return False
    about = (ctypes.c_long * 64)()  # a `struct statfs`; its first member is the type of the file system
    return not _libc.fstatfs(descriptor, about) and about[0] in _TELLING
