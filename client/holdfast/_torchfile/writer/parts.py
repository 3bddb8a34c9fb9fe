"""The zip file of a state as consecutive parts: bytes, and storages that are read later."""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Self

from zlib_ng import zlib_ng

from . import zip_headers
from .records import StateRecords, Storage

BIG_BYTES = 64 * 1024
"""Storages of at least this size have chunks of their own, which stay the same while others change."""
ALIGNMENT, SMALL_ALIGNMENT = 4096, 64
"""Alignments in bytes: large storages begin at pages, so that file systems can share their blocks; others need less."""
_ROOT = "archive/"


class Parts:
    """The parts of a file.

    Attributes
    ----------
    size_bytes : int
        The length of the file.
    storages : list of (int, Storage)
        Every storage, in the order of the file, behind the offset of its data.
    patches : list of (int, int)
        Offsets where the CRC-32 of a storage is to be filled in, ascending, each with the storage's number.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.storages: list[tuple[int, Storage]] = []
        self.patches: list[tuple[int, int]] = []
        self._starts = array("Q")
        self._parts: list[bytes | Storage] = []

    @classmethod
    def of(cls, state: StateRecords) -> Self:
        """Return the file of a state's records."""
        file = cls()
        directory, late = file._add_records(state)
        offset = file.size_bytes
        file.patches += [(offset + place, number) for place, number in late]
        file._add(bytes(directory) + zip_headers.end(len(state.storages) + 3, len(directory), offset))
        return file

    @classmethod
    def whole(cls, data: bytes) -> Self:
        """Return a file from its bytes."""
        file = cls()
        file._add(data)
        return file

    def replace(self, copied: Callable[[list[Storage]], list[Storage]]) -> None:
        """Replace the storages by others of the same sizes."""
        others = copied([storage for _, storage in self.storages])
        self.storages = [(offset, other) for (offset, _), other in zip(self.storages, others, strict=True)]
        waiting = iter(others)
        self._parts = [part if isinstance(part, bytes) else next(waiting) for part in self._parts]

    def head(self) -> Iterator[bytes]:
        """Yield the bytes before the first storage."""
        return takewhile(lambda part: isinstance(part, bytes), self._parts)  # type: ignore[arg-type]

    def joined(self, start: int, stop: int) -> bytearray:
        """Return the bytes from one offset to another, with zeros for the CRC-32 of storages."""
        result = bytearray()
        place = max(0, bisect_right(self._starts, start) - 1)
        while place < len(self._parts) and self._starts[place] < stop:
            begin, part = self._starts[place], self._parts[place]
            length = len(part) if isinstance(part, bytes) else part.size_bytes
            if begin < start or begin + length > stop:
                first, last = max(0, start - begin), min(length, stop - begin)
                result += part[first:last] if isinstance(part, bytes) else part.copy(first, last)
            else:  # most parts are whole
                result += part if isinstance(part, bytes) else part.copy(0, length)
            place += 1
        return result

    def _add_records(self, state: StateRecords) -> tuple[bytearray, list[tuple[int, int]]]:
        """Add all records; return the zip's directory, and the places in it for the CRC-32 of storages."""
        directory, late, has_large = bytearray(), [], False
        for text, data in state.records():
            name, offset = (_ROOT + text).encode(), self.size_bytes
            is_ready = isinstance(data, bytes)
            size_bytes = len(data) if isinstance(data, bytes) else data.size_bytes
            # Data after large storages begins at a page, too: a reader of the end of the file then needs none of them.
            is_at_page = has_large if is_ready else size_bytes >= BIG_BYTES
            has_large = has_large or (is_at_page and not is_ready)
            alignment = ALIGNMENT if is_at_page else SMALL_ALIGNMENT
            header = zip_headers.local_header(name, size_bytes, offset, alignment)
            entry = zip_headers.directory_entry(name, size_bytes, offset)
            if isinstance(data, bytes):
                crc = struct.pack("<I", zlib_ng.crc32(data))
                entry = _with(entry, zip_headers.CENTRAL_CRC, crc)
                self._add(_with(header, zip_headers.LOCAL_CRC, crc) + data)
            else:
                number = len(self.storages)
                self.patches.append((offset + zip_headers.LOCAL_CRC, number))
                late.append((len(directory) + zip_headers.CENTRAL_CRC, number))
                self._add(header)
                self.storages.append((self.size_bytes, data))
                self._add(data)
            directory += entry
        return directory, late

    def _add(self, part: bytes | Storage) -> None:
        self._starts.append(self.size_bytes)
        self._parts.append(part)
        self.size_bytes += len(part) if isinstance(part, bytes) else part.size_bytes


def _with(data: bytes, place: int, other: bytes) -> bytes:
    return data[:place] + other + data[place + len(other) :]
