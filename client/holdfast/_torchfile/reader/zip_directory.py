"""The directory of a zip file, as torch writes it: stored records, zip64 where files are large. Pure."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_LARGE = 0xFFFFFFFF
_HAS_DESCRIPTOR = 8

LOCAL_BYTES = 30
TAIL_BYTES = 1024
"""The number of last bytes that contain the end of the directory; torch writes no comment after it."""
LONGEST_TAIL_BYTES = _LOCATOR.size + _END64.size + _END.size + 0xFFFF
"""The same number with the longest comment."""


class NotAZip(ValueError):
    """The bytes are no zip file, or one that torch would not write."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The directory's entry for one record; offsets and sizes in bytes within the file."""

    name: str
    header_offset: int
    size_bytes: int
    stored_bytes: int
    method: int
    """0: stored; 8: deflated."""
    attributes: int
    has_descriptor: bool

    @property
    def is_stored(self) -> bool:
        """True if its bytes are in the file uncompressed."""
        return self.method == 0 and self.stored_bytes == self.size_bytes

    @property
    def descriptor_bytes(self) -> int:
        """The length, in bytes, of the descriptor after its data."""
        if not self.has_descriptor or not self.size_bytes:
            return 0
        return 24 if self.header_offset >= _LARGE or self.size_bytes >= _LARGE else 16


def directory_extent(tail: bytes, size_bytes: int) -> tuple[int, int]:
    """Return the (offset, length) of the directory, found in the last bytes of a file.

    Raises
    ------
    NotAZip
        They are not the end of a zip file.
    """
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise NotAZip("there is no end of a zip directory")
    *_, length, offset, _ = _END.unpack_from(tail, place)
    locator = place - _LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        end64 = _LOCATOR.unpack_from(tail, locator)[2] - (size_bytes - len(tail))
        if not 0 <= end64 <= len(tail) - _END64.size or tail[end64 : end64 + 4] != b"PK\x06\x06":
            raise NotAZip("the zip64 end of the directory is not where it should be")
        *_, length, offset = _END64.unpack_from(tail, end64)
    if offset + length > size_bytes:
        raise NotAZip("the zip directory is beyond the file")
    return offset, length


def directory_in(read: Callable[[int, int], bytes], size_bytes: int) -> bytes:
    """Read the directory of a file, whatever comment follows it.

    Raises
    ------
    NotAZip
        There is none.
    """
    tail = max(0, size_bytes - LONGEST_TAIL_BYTES)
    return read(*directory_extent(read(tail, size_bytes - tail), size_bytes))


def entries(directory: bytes) -> Iterator[Entry]:
    """Yield the records of a directory.

    Raises
    ------
    NotAZip
        It is not a directory.
    """
    place = 0
    while place < len(directory):
        if len(directory) - place < _CENTRAL.size or directory[place : place + 4] != b"PK\x01\x02":
            raise NotAZip("the zip directory is damaged")
        found = _CENTRAL.unpack_from(directory, place)
        flags, method, header = found[3], found[4], found[16]
        stored, size, name_bytes, extra_bytes, comment_bytes = found[8:13]
        names = place + _CENTRAL.size
        end = names + name_bytes + extra_bytes + comment_bytes
        if end > len(directory):
            raise NotAZip("the zip directory ends in the middle of a record")
        extra = directory[names + name_bytes : names + name_bytes + extra_bytes]
        size, stored, header = _large(extra, size, stored, header)
        yield Entry(
            name=directory[names : names + name_bytes].decode("utf-8", "replace"),
            header_offset=header,
            size_bytes=size,
            stored_bytes=stored,
            method=method,
            attributes=found[15],
            has_descriptor=bool(flags & _HAS_DESCRIPTOR),
        )
        place = end


def data_offset(entry: Entry, local_header: bytes) -> int:
    """Return the offset of a record's data, by its local header."""
    if len(local_header) < LOCAL_BYTES or local_header[:4] != b"PK\x03\x04":
        raise NotAZip(f"{entry.name} has no local header")
    name_bytes, extra_bytes = struct.unpack_from("<HH", local_header, 26)
    return int(entry.header_offset + LOCAL_BYTES + name_bytes + extra_bytes)


def _large(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """Return the numbers that need 64 bits, which are in the extra field in this order."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1 and place + 4 + length <= len(extra):
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            size = next(values, size) if size == _LARGE else size
            stored = next(values, stored) if stored == _LARGE else stored
            header = next(values, header) if header == _LARGE else header
        place += 4 + length
    return size, stored, header
