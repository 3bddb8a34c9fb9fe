"""The tensor index of a GGUF file (llama.cpp), as its specification describes it: a header, metadata, and tensors.

Hostile input, read forwards within bounds. Metadata is skipped. Little-endian files of the versions 2 and 3.
"""

import math
import struct
from collections.abc import Callable

from app.core.models import Tensor
from app.formats.read_budget import Budget
from app.formats.zip_directory import ReadAt

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_NAME = 1000
_MAX_RANK = 8
_MAX_TENSORS = 200_000
_PIECE_BYTES = 256 * 1024
_BYTES_PER_STEP = 1024
_TEXTS_PER_STEP = 4
_STEPS_PER_VALUE = 8
_MOST_NESTED = 4
_ALIGNMENT = b"general.alignment"
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""The length of a value of metadata by its type, in bytes; strings and arrays say their own."""
_PLAIN = {
    0: ("float32", 4),
    1: ("float16", 2),
    24: ("int8", 1),
    25: ("int16", 2),
    26: ("int32", 4),
    27: ("int64", 8),
    28: ("float64", 8),
    30: ("bfloat16", 2),
}
_BLOCKS = {
    2: ("q4_0", 32, 18),
    3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22),
    7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34),
    9: ("q8_1", 32, 40),
    10: ("q2_k", 256, 84),
    11: ("q3_k", 256, 110),
    12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
    15: ("q8_k", 256, 292),
    16: ("iq2_xxs", 256, 66),
    17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50),
    20: ("iq4_nl", 32, 18),
    21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136),
    29: ("iq1_m", 256, 56),
    34: ("tq1_0", 256, 54),
    35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17),
}
"""Quantised types: their name, and the elements and the bytes of one block."""


class Malformed(ValueError):
    """The bytes are not a GGUF file that this module reads."""


def read(read_at: ReadAt, size_bytes: int, budget: Budget) -> tuple[Tensor, ...]:
    """Return the tensors of a file, in the order of their bytes. Shapes have the slowest dimension first.

    A tensor of a type that is not known here has a dtype such as ``ggml_99``, and no size.

    Raises
    ------
    Malformed, BudgetExceeded
    """
    cursor = _Cursor(read_at, size_bytes, budget)
    if cursor.take(4) != MAGIC or cursor.number() not in _VERSIONS:
        raise Malformed("the version is unknown")
    count, values = cursor.long(), cursor.long()
    if count > _MAX_TENSORS:
        raise Malformed("there are too many tensors")
    alignment = 32
    for _ in range(values):
        budget.spend(_STEPS_PER_VALUE)
        key = cursor.text()
        kind = cursor.number()
        if key == _ALIGNMENT and kind == _UINT32:
            alignment = cursor.number()
        else:
            _skip_value(cursor, kind)
    budget.spend(8 * count)
    described = [_described(cursor) for _ in range(count)]
    if alignment <= 0:
        raise Malformed("the alignment is not positive")
    start = -(-cursor.offset // alignment) * alignment
    return tuple(sorted((placed(start, size_bytes) for placed in described), key=lambda tensor: tensor.offset or 0))


class _Cursor:
    """Reads a file forwards, in pieces."""

    def __init__(self, read_at: ReadAt, size_bytes: int, budget: Budget) -> None:
        self.offset = 0
        self._read_at = read_at
        self._size_bytes = size_bytes
        self.budget = budget
        self._piece, self._start = b"", 0

    def take(self, count: int) -> bytes:
        """Return the next bytes, a piece at most."""
        place = self.offset - self._start
        if place < 0 or place + count > len(self._piece):
            self._fetch(count)
            place = 0
        self.offset += count
        return self._piece[place : place + count]

    def skip(self, count: int) -> None:
        """Go on after so many bytes."""
        self.offset += count
        if self.offset > self._size_bytes:
            raise Malformed("it ends early")

    def skip_texts(self, count: int) -> None:
        """Go on after so many texts, of which a vocabulary has hundreds of thousands."""
        self.budget.spend(count // _TEXTS_PER_STEP)
        while count:
            self.take(8)
            self.offset -= 8
            place, last = self.offset - self._start, len(self._piece) - 8
            piece, unpack = self._piece, _U64.unpack_from
            while count and place <= last:
                place += 8 + unpack(piece, place)[0]
                count -= 1
            self.offset = self._start + place
            self.skip(0)

    def number(self) -> int:
        """Return the next 32-bit number."""
        found: int = _U32.unpack(self.take(4))[0]
        return found

    def long(self) -> int:
        """Return the next 64-bit number."""
        found: int = _U64.unpack(self.take(8))[0]
        return found

    def text(self) -> bytes:
        """Return the next text, a long one without its end."""
        length = self.long()
        found = self.take(min(length, _MAX_NAME * 4))
        self.skip(length - len(found))
        return found

    def _fetch(self, count: int) -> None:
        if count > _PIECE_BYTES or self.offset + count > self._size_bytes:
            raise Malformed("it ends early")
        length = min(_PIECE_BYTES, self._size_bytes - self.offset)
        self.budget.admit(length, bytes_per_step=_BYTES_PER_STEP)
        self._piece, self._start = self._read_at(self.offset, length), self.offset


def _skip_value(cursor: _Cursor, kind: int, depth: int = 0) -> None:
    count = 1
    if kind == _ARRAY:
        kind, count = cursor.number(), cursor.long()
    if kind == _ARRAY and depth < _MOST_NESTED:
        for _ in range(count):
            cursor.budget.spend(_STEPS_PER_VALUE)
            _skip_value(cursor, kind, depth + 1)
    elif kind == _STRING:
        cursor.skip_texts(count)
    elif kind in _VALUE_BYTES:
        cursor.skip(count * _VALUE_BYTES[kind])
    else:
        raise Malformed("a value has an unknown type")


def _described(cursor: _Cursor) -> Callable[[int, int], Tensor]:
    """Read the description of a tensor; returns a function of the start of all bytes and the size of the file."""
    name = cursor.text()
    is_cut = len(name) == _MAX_NAME * 4
    called = name.decode(errors="ignore" if is_cut else "strict")[:_MAX_NAME]
    rank = cursor.number()
    if rank > _MAX_RANK:
        raise Malformed("a tensor has too many dimensions")
    shape = tuple(cursor.long() for _ in range(rank))[::-1]
    kind, offset = cursor.number(), cursor.long()
    if max((*shape, math.prod(shape), offset)) >= 2**62:
        raise Malformed("a number is out of range")
    dtype, size_bytes = _type_of(kind, math.prod(shape))

    def placed(start: int, file_bytes: int) -> Tensor:
        if start + offset + (size_bytes or 0) > file_bytes:
            raise Malformed("a tensor reaches beyond the file")
        return Tensor(called, dtype, shape, start + offset, size_bytes)

    return placed


def _type_of(kind: int, count: int) -> tuple[str, int | None]:
    """Return the dtype of a tensor, and the size of so many elements in bytes."""
    if kind in _PLAIN:
        name, item_bytes = _PLAIN[kind]
        return name, count * item_bytes
    name, elements, block_bytes = _BLOCKS.get(kind, (f"ggml_{kind}", 0, 0))
    if not elements or count % elements:
        return name, None
    return name, count // elements * block_bytes
