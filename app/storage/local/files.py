"""Open files below the root: one to read from, or one of an upload to put bytes into."""

import os
from collections.abc import Iterator

from app.core.spans import Span
from app.storage.local import linux
from app.storage.port import Opened

PIECE_BYTES = 256 * 1024
"""How much is written at a time. More would let the kernel take larger pages for it, whose first touch was measured to
take five times as long on virtual machines that give their free memory back to the host."""


class LocalOpened:
    """A file of a checkpoint, open for reading."""

    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self.size_bytes = found.st_size
        self.mtime_ns = found.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)

    def forget(self, offset: int, length: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def is_as_opened(self) -> bool:
        found = os.fstat(self.descriptor)
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def close(self) -> None:
        os.close(self.descriptor)


class LocalPartial:
    """A file of an upload."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def allocate(self, span: Span) -> None:
        linux.allocate(self._descriptor, span)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view, start = memoryview(data), offset
        while view:
            written = os.pwrite(self._descriptor, view[:PIECE_BYTES], offset)
            view, offset = view[written:], offset + written
        linux.start_writeback(self._descriptor, Span(start, offset))

    def allocated_bytes(self) -> int:
        return os.fstat(self._descriptor).st_blocks * 512

    def share(self, source: Opened, start: int, span: Span) -> bool:
        return linux.share(source.descriptor, start, self._descriptor, span)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def written(self) -> Iterator[Span]:
        return linux.written(self._descriptor)
