"""Open files of the local store: one of a checkpoint to read, or one of an upload to write."""

import os
from collections.abc import Iterator

from app.core.models import File, Version
from app.core.spans import Span
from app.storage.local.disk import linux
from app.storage.ports import Buffer, Opened, descriptor_of

PIECE_BYTES = 256 * 1024
"""The length of one write. Longer ones let the kernel take larger pages, whose first touch took five times as long on
virtual machines that give their free memory back to the host."""


def version(found: os.stat_result) -> Version:
    """Return the version of a file: its time of last change, in ns since the epoch, as decimal digits."""
    return str(found.st_mtime_ns)


class LocalOpened:
    """A file open for reading; it also offers its descriptor."""

    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self.size_bytes = found.st_size
        self.version = version(found)

    def is_version_of(self, file: File) -> bool:
        return (self.size_bytes, self.version) == (file.size_bytes, file.version)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)

    def evict(self, offset: int, length: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def is_as_opened(self) -> bool:
        found = os.fstat(self.descriptor)
        return (found.st_size, version(found)) == (self.size_bytes, self.version)

    def close(self) -> None:
        os.close(self.descriptor)


class LocalPartial:
    """A file of an upload; its bytes go to the disk as they come, so that the sync at commit has little left."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def allocate(self, span: Span) -> None:
        linux.allocate(self._descriptor, span)

    def write(self, offset: int, data: Buffer) -> None:
        view, start = memoryview(data), offset
        while view:
            written = os.pwrite(self._descriptor, view[:PIECE_BYTES], offset)
            view, offset = view[written:], offset + written
        linux.start_writeback(self._descriptor, Span(start, offset))

    def allocated_bytes(self) -> int:
        return os.fstat(self._descriptor).st_blocks * 512

    def share(self, source: Opened, start: int, span: Span) -> bool:
        descriptor = descriptor_of(source)
        return descriptor is not None and linux.share(descriptor, start, self._descriptor, span)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def written(self) -> Iterator[Span]:
        return linux.written(self._descriptor)
