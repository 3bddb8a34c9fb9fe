"""The headers of a zip file as torch reads it: stored records, aligned data, zip64 where files are large. Pure.

Checksums are left at 0, to be filled in when the data was read, at `LOCAL_CRC` and `CENTRAL_CRC`.
"""

import struct

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<HH")
_LARGE, _MANY = 0xFFFFFFFF, 0xFFFF
_UTF8 = 0x800
_DAY = 0x21
"""1980-01-01, the first day that a zip file can name: the same state gives the same bytes."""
_PADDING = 0x4246
"""The extra field that holds padding, as torch writes it."""

LOCAL_CRC, CENTRAL_CRC = 14, 16
"""The offsets of a record's CRC-32 in its local header and in its directory entry, in bytes."""


def local_header(name: bytes, size_bytes: int, offset: int, alignment: int) -> bytes:
    """Return the header before a record's data, padded so that the data begins at a multiple of ``alignment``.

    Parameters
    ----------
    name : bytes
        The record's name, in UTF-8.
    size_bytes : int
        The length of its data.
    offset : int
        The offset of the header in the file.
    alignment : int
        A power of two, at most 32768.
    """
    extra = struct.pack("<HHQQ", 1, 16, size_bytes, size_bytes) if size_bytes >= _LARGE else b""
    begin = offset + _LOCAL.size + len(name) + len(extra) + 4
    padding = -begin % alignment
    size = min(size_bytes, _LARGE)
    head = _LOCAL.pack(
        b"PK\x03\x04", _version(size_bytes), _UTF8, 0, 0, _DAY, 0, size, size, len(name), len(extra) + 4 + padding
    )
    return b"".join((head, name, extra, _EXTRA.pack(_PADDING, padding), bytes(padding)))


def directory_entry(name: bytes, size_bytes: int, offset: int) -> bytes:
    """Return the directory's entry for the record whose header begins at an offset."""
    extra = b""
    if size_bytes >= _LARGE or offset >= _LARGE:
        large = [number for number in (size_bytes, size_bytes, offset) if number >= _LARGE]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large)
    version, size, header = _version(max(size_bytes, offset)), min(size_bytes, _LARGE), min(offset, _LARGE)
    entry = _CENTRAL.pack(
        *(b"PK\x01\x02", version, version, _UTF8, 0, 0, _DAY, 0, size, size, len(name), len(extra)),
        *(0, 0, 0, 0, header),
    )
    return entry + name + extra


def end(count: int, directory_bytes: int, offset: int) -> bytes:
    """Return the end of the file, after a directory that begins at an offset and has ``count`` entries."""
    tail = b""
    if count >= _MANY or directory_bytes >= _LARGE or offset >= _LARGE:
        whole = _END64.pack(b"PK\x06\x06", _END64.size - 12, 45, 45, 0, 0, count, count, directory_bytes, offset)
        tail = whole + _LOCATOR.pack(b"PK\x06\x07", 0, offset + directory_bytes, 1)
    shown = min(count, _MANY)
    return tail + _END.pack(b"PK\x05\x06", 0, 0, shown, shown, min(directory_bytes, _LARGE), min(offset, _LARGE), 0)


def _version(largest: int) -> int:
    return 45 if largest >= _LARGE else 20
