"""Combination of the CRC-32 of parts into that of the whole, so that parts can be read in any order. Pure.

The method is zlib's ``crc32_combine``: a CRC is linear over GF(2), so appending n zero bytes to what it covers is a
multiplication by a matrix of 32 x 32 bits, and the matrix for n bytes is a product of those for powers of two.
"""

from collections.abc import Iterable
from functools import lru_cache

_POLYNOMIAL = 0xEDB88320

Matrix = tuple[int, ...]


def combined(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of bytes whose parts have these (CRC-32, length in bytes), in order."""
    total = 0
    for crc, length in parts:
        total = _after_zeros(total, length) ^ crc
    return total


def _after_zeros(crc: int, count: int) -> int:
    """Return the CRC-32 after ``count`` more zero bytes, without the conditioning that cancels out in `combined`."""
    power = 0
    while count and crc:
        if count & 1:
            crc = _times(_zeros(power), crc)
        count >>= 1
        power += 1
    return crc


@lru_cache(maxsize=64)
def _zeros(power: int) -> Matrix:
    """Return the matrix that appends two to the ``power`` zero bytes."""
    if power == 0:
        bit: Matrix = (_POLYNOMIAL, *(1 << place for place in range(31)))
        for _ in range(3):
            bit = tuple(_times(bit, column) for column in bit)
        return bit
    half = _zeros(power - 1)
    return tuple(_times(half, column) for column in half)


def _times(matrix: Matrix, vector: int) -> int:
    total, place = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[place]
        vector >>= 1
        place += 1
    return total
