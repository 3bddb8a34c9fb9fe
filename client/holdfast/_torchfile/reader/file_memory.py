"""Memory for the bytes of a file, which becomes the memory of its tensors."""

import ctypes
import mmap
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, cast

from ..._runtime.interruption import suppress

_ByteFile = IO[bytes]  # within `FileMemory`, "bytes" is its method


class _Memory(mmap.mmap):
    """Memory that also says it can be sought in, as `zipfile` asks for that. All its methods are implemented in C."""

    seekable = staticmethod(partial(bool, True))


class FileMemory:
    """Memory of the size of a file. Untouched pages take no space, and the pages of a tensor that has died are
    released.

    Huge pages are not asked for: where a virtual machine gives its free memory back to its host, the first touch of a
    huge page took five times the time of the small pages that it replaces.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.memory = _Memory(-1, max(1, size_bytes), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def view(self, offset: int, length: int) -> memoryview:
        """Return a view of some of the bytes, to be written or read."""
        return memoryview(self.memory)[offset : offset + length]

    def bytes(self, offset: int, length: int) -> bytes:
        """Return a copy of some of the bytes."""
        return self.memory[offset : offset + length]

    def buffer(self, offset: int, length: int) -> Any:
        """Return some of the bytes as an object that keeps them alive, and releases their pages when it dies."""
        found = (ctypes.c_char * length).from_buffer(self.memory, offset)
        if length >= mmap.PAGESIZE:
            weakref.finalize(found, _give_back, self.memory, offset, length).atexit = False
        return found

    def file(self) -> _ByteFile:
        """Return the bytes as a file, read from its beginning. There is one such file at a time."""
        self.memory.seek(0)
        return cast(_ByteFile, self.memory)

    @contextmanager
    def file_for_torch(self) -> Iterator["_File"]:
        """Yield the bytes as a file for torch's own reader. An interruption of it is raised unchanged."""
        self.memory.seek(0)
        file = _File(self.memory)
        try:
            yield file
        finally:
            file.reads.close()
            if file.kept:
                raise file.kept.pop()

    def give_back(self, offset: int, length: int) -> None:
        """Release whole pages among some of the bytes, which are zeros from then on."""
        _give_back(self.memory, offset, length)


class _File:
    """The memory as a file for torch's reader, which calls it from C.

    Torch may turn an interruption of such a call, such as Ctrl-C, into another exception; `kept` has the original. Only
    `readinto` runs in Python, and all of it within its own ``try``: the other methods are those of the memory itself.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self.read, self.readline, self.seek, self.tell = memory.read, memory.readline, memory.seek, memory.tell
        self.kept: list[BaseException] = []
        self.reads = _reads(memory, self.kept)
        next(self.reads)
        self.readinto = self.reads.send


def _reads(memory: mmap.mmap, kept: list[BaseException]) -> Generator[int, Any]:
    """Fill each buffer that is sent with the next bytes; keep the exception that ends it."""
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
