"""Memory for the bytes of a file, which becomes the memory of the tensors in it."""

import ctypes
import io
import mmap
import weakref
from contextlib import suppress
from typing import Any


class Arena:
    """As much memory as a file has bytes. Pages that nobody writes to take no space, and those of a tensor that has
    died are given back.

    Huge pages are not asked for: where a virtual machine gives its free memory back to its host, the first touch of a
    huge page was measured to take five times as long as that of the small pages it replaces.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.memory = mmap.mmap(-1, max(1, size_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def view(self, offset: int, length: int) -> memoryview:
        """Some of the bytes, to be written or read."""
        return memoryview(self.memory)[offset : offset + length]

    def bytes(self, offset: int, length: int) -> bytes:
        """A copy of some of the bytes."""
        return self.memory[offset : offset + length]

    def buffer(self, offset: int, length: int) -> Any:
        """Some of the bytes as an object that keeps them alive, and gives their pages back when it dies."""
        found = (ctypes.c_char * length).from_buffer(self.memory, offset)
        if length >= mmap.PAGESIZE:
            weakref.finalize(found, _give_back, self.memory, offset, length).atexit = False
        return found

    def file(self) -> io.BufferedReader:
        """The bytes as a file to read."""
        return io.BufferedReader(_File(self))

    def give_back(self, offset: int, length: int) -> None:
        """Let go of some of the bytes, which are zeros from then on, where they are whole pages."""
        _give_back(self.memory, offset, length)


class _File(io.RawIOBase):
    """An arena as a file."""

    def __init__(self, arena: Arena) -> None:
        self._arena, self._place = arena, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._arena.size_bytes}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        count = max(0, min(len(into), self._arena.size_bytes - self._place))
        into[:count] = self._arena.view(self._place, count)
        self._place += count
        return count


def _give_back(memory: mmap.mmap, offset: int, length: int) -> None:
    page = mmap.PAGESIZE
    start, stop = -(-offset // page) * page, (offset + length) // page * page
    if start < stop:
        with suppress(OSError, ValueError, AttributeError):
            memory.madvise(mmap.MADV_DONTNEED, start, stop - start)
