"""Combined checksums of parts equal zlib's checksum of the whole."""

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast._torchfile.writer import crc32


def parts_of(data, cuts):
    """Return the (CRC-32, length) of the parts between some cuts."""
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [(zlib.crc32(data[start:stop]), stop - start) for start, stop in pairwise(ends)]


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8))
def test_parts_together_have_the_checksum_of_the_whole(data, cuts):
    assert crc32.combined(parts_of(data, cuts)) == zlib.crc32(data)


@given(st.binary(min_size=1, max_size=64), st.integers(1, 2**20), st.integers(1, 2**20))
def test_long_parts_are_no_harder_than_short_ones(pattern, before, after):
    one, other = pattern * (before // len(pattern)), pattern * (after // len(pattern))
    parts = [(zlib.crc32(one), len(one)), (zlib.crc32(other), len(other))]
    assert crc32.combined(parts) == zlib.crc32(other, zlib.crc32(one))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**50), st.integers(0, 2**50))
def test_cutting_a_part_in_two_changes_nothing(crc, first, second):
    """The checksum of zeros is correct at any length."""
    zeros, more = (crc32.combined([(crc, 0), (0, length)]) for length in (first, first + second))
    assert crc32.combined([(zeros, 0), (0, second)]) == more


def test_the_order_of_parts_matters():
    parts = [(zlib.crc32(b"a" * 9), 9), (zlib.crc32(b"b" * 9), 9)]
    assert crc32.combined(parts) != crc32.combined(parts[::-1])


@pytest.mark.parametrize("parts", [[], [(0, 0)], [(0, 0), (0, 0)]], ids=str)
def test_nothing_has_the_checksum_of_nothing(parts):
    assert crc32.combined(parts) == zlib.crc32(b"") == 0
