"""The directory of a zip file as torch writes it: stored records, 64-bit sizes in large files. Pure."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.formats.read_budget import Budget

_CENTRAL = struct.Struct("<4s4xHH8xIIHHH8xI")
_END = struct.Struct("<4s8xIIH")
_END64 = struct.Struct("<4s36xQQ")
_LOCATOR = struct.Struct("<4s4xQ4x")
_LOCAL = struct.Struct("<4s22xHH")
_LARGE = 0xFFFFFFFF
_TAIL_BYTES = 1024
"""The tail that contains the end record; torch writes no comment after it."""
_BYTES_PER_STEP = 16

ReadAt = Callable[[int, int], bytes]


class Unreadable(ValueError):
    """The bytes are not a zip file, or one that torch would not write."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; offset and sizes in bytes. Only stored records are uncompressed in the file."""

    header_offset: int
    size_bytes: int
    stored_bytes: int
    method: int
    """0: stored; 8: deflated."""

    @property
    def is_stored(self) -> bool:
        return self.method == 0 and self.stored_bytes == self.size_bytes


def read(read_at: ReadAt, size_bytes: int, budget: Budget, *, has_folder: bool = True) -> Mapping[str, Record]:
    """Return the records by name.

    Parameters
    ----------
    has_folder : bool
        All records are in a folder, which torch names after the file: their names are given without it.

    Raises
    ------
    Unreadable
        The directory is malformed, or two records have one name, which readers resolve differently.
    BudgetExceeded
    """
    offset, length = _extent(read_at, size_bytes)
    budget.admit(length, bytes_per_step=_BYTES_PER_STEP)
    directory = read_at(offset, length)
    records: dict[str, Record] = {}
    place = 0
    while place < length:
        name, record, place = _record(directory, place)
        name = name.partition("/")[2] if has_folder else name
        if name in records:
            raise Unreadable("two records have one name")
        if name:
            records[name] = record
    return records


def first_name(read_at: ReadAt) -> str:
    """Return the name of the first record, from its own header."""
    _, name_bytes, _ = _LOCAL.unpack(read_at(0, _LOCAL.size))
    return read_at(_LOCAL.size, name_bytes).decode("utf-8", "replace")


def data_offset(read_at: ReadAt, record: Record, size_bytes: int) -> int:
    """Return the offset of a record's data."""
    mark, name_bytes, extra_bytes = _LOCAL.unpack(read_at(record.header_offset, _LOCAL.size))
    offset: int = record.header_offset + _LOCAL.size + name_bytes + extra_bytes
    if mark != b"PK\x03\x04" or offset + record.stored_bytes > size_bytes:
        raise Unreadable("the offset of a record is wrong")
    return offset


def _extent(read_at: ReadAt, size_bytes: int) -> tuple[int, int]:
    start = max(0, size_bytes - _TAIL_BYTES)
    tail = read_at(start, size_bytes - start)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise Unreadable("the end record is missing")
    _, length, offset, _ = _END.unpack_from(tail, place)
    locator = place - _LOCATOR.size
    if _LARGE in (length, offset) and locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        end = _LOCATOR.unpack_from(tail, locator)[1] - start
        if end < 0 or tail[end : end + 4] != b"PK\x06\x06":
            raise Unreadable("the 64-bit end record is misplaced")
        _, length, offset = _END64.unpack_from(tail, end)
    if offset + length > size_bytes:
        raise Unreadable("the directory reaches beyond the file")
    return offset, length


def _record(directory: bytes, place: int) -> tuple[str, Record, int]:
    mark, _, method, stored, size, name_bytes, extra_bytes, comment_bytes, header = _CENTRAL.unpack_from(
        directory, place
    )
    names = place + _CENTRAL.size
    extras = names + name_bytes
    end = extras + extra_bytes + comment_bytes
    if mark != b"PK\x01\x02" or end > len(directory):
        raise Unreadable("the directory is damaged")
    size, stored, header = _large(directory[extras : extras + extra_bytes], size, stored, header)
    name = directory[names:extras].decode("utf-8", "replace")
    return name, Record(header, size, stored, method), end


def _large(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """Read the numbers that need 64 bits, which the extra field contains in this order."""
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
