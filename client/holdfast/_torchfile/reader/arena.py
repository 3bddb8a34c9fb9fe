"""Memory for the bytes of a file, which becomes the memory of the tensors in it."""

import ctypes
import mmap
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, cast

from ..._runtime.interruption import suppress

_ByteFile = IO[bytes]  # within `Arena`, "bytes" is its method


class _Memory(mmap.mmap):
    """Memory that also says it can be sought in, as `zipfile` asks for that. Nothing of it runs in Python."""

    seekable = staticmethod(partial(bool, True))


class Arena:
    """As much memory as a file has bytes. Pages that nobody writes to take no space, and those of a tensor that has
    died are given back.

    Huge pages are not asked for: where a virtual machine gives its free memory back to its host, the first touch of a
    huge page was measured to take five times as long as that of the small pages it replaces.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.memory = _Memory(-1, max(1, size_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

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

    def file(self) -> _ByteFile:
        """The bytes as a file to read from its beginning; there is one of them at a time."""
        self.memory.seek(0)
        return cast(_ByteFile, self.memory)

    @contextmanager
    def file_for_torch(self) -> Iterator["_File"]:
        """The same for torch's own reader. What interrupted that comes out as itself."""
        self.memory.seek(0)
        file = _File(self.memory)
        try:
            yield file
        finally:
            file.reads.close()
            if file.kept:
                raise file.kept.pop()

    def give_back(self, offset: int, length: int) -> None:
        """Let go of some of the bytes, which are zeros from then on, where they are whole pages."""
        _give_back(self.memory, offset, length)


class _File:
    """An arena as a file for torch's reader, which calls it from C.

    What interrupts a call from there, as Ctrl-C does, may come out as something else; `kept` has it as it was. Only
    `readinto` runs in Python, and all of it within its own ``try``: the others are those of the memory itself.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self.read, self.readline, self.seek, self.tell = memory.read, memory.readline, memory.seek, memory.tell
        self.kept: list[BaseException] = []
        self.reads = _reads(memory, self.kept)
        next(self.reads)
        self.readinto = self.reads.send


def _reads(memory: mmap.mmap, kept: list[BaseException]) -> Generator[int, Any]:
    """Fill each buffer that is sent with the bytes that follow; what ends that is kept."""
    count = 0
    try:
        while True:
            with memoryview((yield count)) as given, given.cast("B") as into:
                start = memory.tell()
                count = min(len(into), len(memory) - start)
                into[:count] = memoryview(memory)[start : start + count]
                memory.seek(start + count)
    except GeneratorExit:
        return
    except BaseException as error:
        kept.append(error)
        raise


def _give_back(memory: mmap.mmap, offset: int, length: int) -> None:
    page = mmap.PAGESIZE
    start, stop = -(-offset // page) * page, (offset + length) // page * page
    if start < stop:
        with suppress(OSError, ValueError, AttributeError):
            memory.madvise(mmap.MADV_DONTNEED, start, stop - start)
