"""Memory for the bytes of a file, which becomes the memory of the tensors in it."""

import ctypes
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
        weakref.finalize(found, _give_back, self.memory, offset, length).atexit = False
        return found


def _give_back(memory: mmap.mmap, offset: int, length: int) -> None:
    page = mmap.PAGESIZE
    start, stop = -(-offset // page) * page, (offset + length) // page * page
    if start < stop:
        with suppress(OSError, ValueError, AttributeError):
            memory.madvise(mmap.MADV_DONTNEED, start, stop - start)
