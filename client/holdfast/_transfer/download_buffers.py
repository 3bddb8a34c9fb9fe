"""Buffers for fetched bytes until they are verified: per thread, or as a window over a file."""

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from .._api import digests
from .._api.wire import Chunk


class Buffer(Protocol):
    """A buffer for the bytes of a file."""

    def view(self, offset: int, length: int) -> memoryview:
        """Return the memory for bytes that are not verified yet."""


class FileBuffer:
    """A file that is written once bytes are verified; until then they are in memory."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._size_bytes = os.fstat(descriptor).st_size
        self._own = threading.local()

    def view(self, offset: int, length: int) -> memoryview:
        """Return memory that this thread owns until its next call."""
        buffer = getattr(self._own, "buffer", b"")
        if len(buffer) < length:
            buffer = self._own.buffer = bytearray(min(max(length, digests.CHUNK_BYTES), max(length, self._size_bytes)))
        return memoryview(buffer)[:length]


class Window:
    """Memory for a part of a file, which moves forward."""

    def __init__(self) -> None:
        self._start, self._memory = 0, bytearray()

    def cut(self, chunks: Sequence[Chunk], length: int) -> Iterator[tuple[int, int]]:
        """Yield the start and stop of each part of at least ``length`` bytes; the memory is that of this part from then
        on.
        """
        start = stop = 0
        for chunk in chunks:
            if stop - start >= length:
                yield self._moved(start, stop)
                start = stop
            stop = chunk.offset + chunk.length
        if stop > start:
            yield self._moved(start, stop)

    def _moved(self, start: int, stop: int) -> tuple[int, int]:
        self._start = start
        if stop - start > len(self._memory):
            self._memory = bytearray(stop - start)
        return start, stop

    def view(self, offset: int, length: int) -> memoryview:
        """Return bytes of the current part."""
        return memoryview(self._memory)[offset - self._start : offset - self._start + length]
