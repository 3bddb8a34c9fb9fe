"""Where fetched bytes go until they are verified: memory of a thread, or of a part of a file that moves on."""

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from .._api import digests
from .._api.wire import Chunk


class Target(Protocol):
    """Where the bytes of a file go."""

    def view(self, offset: int, length: int) -> memoryview:
        """Where to put bytes before they are verified."""


class FileTarget:
    """A file: bytes are gathered in memory until they are verified, then written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._size_bytes = os.fstat(descriptor).st_size
        self._own = threading.local()

    def view(self, offset: int, length: int) -> memoryview:
        """Memory of this thread, until it asks again."""
        buffer = getattr(self._own, "buffer", b"")
        if len(buffer) < length:
            buffer = self._own.buffer = bytearray(min(max(length, digests.CHUNK_BYTES), max(length, self._size_bytes)))
        return memoryview(buffer)[:length]


class Window:
    """Memory for a part of a file, that moves on."""

    def __init__(self) -> None:
        self._start, self._memory = 0, bytearray()

    def cut(self, chunks: Sequence[Chunk], length: int) -> Iterator[tuple[int, int]]:
        """Where each part of at least so many bytes begins and ends; the memory is there for that part from then on."""
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
        """Bytes of the current part."""
        return memoryview(self._memory)[offset - self._start : offset - self._start + length]
