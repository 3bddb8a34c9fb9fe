"""The tensor index of NumPy's files: an array (.npy), or arrays in a zip file (.npz).

Hostile input, read within bounds; nothing is unpickled.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from zlib import MAX_WBITS, decompressobj

from app.core.models import Tensor
from app.formats import zip_directory
from app.formats.read_budget import Budget
from app.formats.zip_directory import ReadAt, Record

MAGIC = b"\x93NUMPY"
SUFFIX = ".npy"
NAME = "array"
"""The name of the only array of a .npy file, which has none."""
_HEADER = re.compile(
    rb"\{'descr': '(?P<order>[<>|=]?)(?P<kind>[?a-zA-Z])(?P<length>\d{0,6})(?:\[\w{1,8}\])?', "
    rb"'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>[\d, ]*)\), ?\} *\n?"
)
"""No two parts of it match the same characters after one another: it takes time in proportion to the header."""
_PREFIX_BYTES = 12
_DEFLATED = 8
_MAX_HEADER = 4096
_MAX_RANK = 64
_MAX_NAME = 1000
_STEPS_PER_ARRAY = 20
_DTYPES = {
    "b1": "bool",
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8, 16)},
    **{f"c{size}": f"complex{8 * size}" for size in (8, 16, 32)},
}
_TIMES = {"M": "datetime64", "m": "timedelta64"}
_MAX_DIGITS = 18
_OBJECT = "O"
_TEXT, _TEXT_BYTES = "U", 4


class Malformed(ValueError):
    """The bytes are no array that NumPy writes, or one with fields."""


def read(read_at: ReadAt, size_bytes: int) -> tuple[Tensor, ...]:
    """Return the only array of a .npy file.

    Raises
    ------
    Malformed
    """
    return (_array(NAME, read_at, 0, size_bytes),)


def read_zip(read_at: ReadAt, size_bytes: int, budget: Budget) -> tuple[Tensor, ...]:
    """Return the arrays of a .npz file, in the order of their bytes; compressed ones and objects have no offset.

    Raises
    ------
    Malformed, Unreadable, BudgetExceeded
    """
    records = zip_directory.read(read_at, size_bytes, budget, has_folder=False)
    return tuple(sorted(_arrays(read_at, size_bytes, records, budget), key=lambda tensor: tensor.offset or 0))


def _arrays(read_at: ReadAt, size_bytes: int, records: Mapping[str, Record], budget: Budget) -> Iterator[Tensor]:
    for name, record in records.items():
        budget.spend(_STEPS_PER_ARRAY)
        if not name.endswith(SUFFIX):
            continue
        with suppress(Malformed):  # an array with fields, such as a table: the others have an index all the same
            yield _in_zip(name, record, read_at, size_bytes)


def _in_zip(name: str, record: Record, read_at: ReadAt, size_bytes: int) -> Tensor:
    offset = zip_directory.data_offset(read_at, record, size_bytes)
    called = name.removesuffix(SUFFIX)[:_MAX_NAME]
    if record.is_stored:
        return _array(called, read_at, offset, record.size_bytes)
    if record.method != _DEFLATED:
        raise Malformed("it is compressed in another way")
    stored = read_at(offset, min(record.stored_bytes, _MAX_HEADER))
    head = decompressobj(-MAX_WBITS).decompress(stored, _MAX_HEADER)
    return replace(_array(called, _reader(head), 0, record.size_bytes), offset=None)


def _reader(data: bytes) -> ReadAt:
    return lambda offset, count: data[offset : offset + count]


def _array(name: str, read_at: ReadAt, start: int, size_bytes: int) -> Tensor:
    """Read the header of an array that begins at an offset and has so many bytes."""
    prefix = read_at(start, min(_PREFIX_BYTES, size_bytes))
    if prefix[:6] != MAGIC or len(prefix) < _PREFIX_BYTES:
        raise Malformed("it has no header")
    begin, end = (8, 10) if prefix[6] == 1 else (8, 12)
    length = int.from_bytes(prefix[begin:end], "little")
    if length > min(_MAX_HEADER, size_bytes - end):
        raise Malformed("the header is too long")
    found = _HEADER.fullmatch(read_at(start + end, length))
    if found is None:
        raise Malformed("the header is not that of an array of numbers")
    lengths = re.findall(rb"\d+", found["shape"])
    if any(len(each) > _MAX_DIGITS for each in lengths):
        raise Malformed("a number is out of range")
    shape = tuple(map(int, lengths))
    if len(shape) > _MAX_RANK or math.prod(shape) >= 2**60:
        raise Malformed("a number is out of range")
    kind, length_given = found["kind"].decode(), int(found["length"] or 0)
    dtype = _TIMES.get(kind) or _DTYPES.get(f"{kind}{length_given}", f"{kind}{found['length'].decode()}")
    if kind == _OBJECT:  # pickled, of which only NumPy knows the length
        return Tensor(name, "object", shape)
    array_bytes = math.prod(shape) * length_given * (_TEXT_BYTES if kind == _TEXT else 1)
    if end + length + array_bytes > size_bytes:
        raise Malformed("the array reaches beyond its file")
    is_plain = found["order"] != b">" and (found["fortran"] == b"False" or len(shape) < 2)
    return Tensor(name, dtype, shape, start + end + length if is_plain else None, array_bytes)
