"""Bytes in memory as a source: chunks, digests, and a change while they are sent."""

import pytest
from blake3 import blake3

from holdfast._api.digests import CHUNK_BYTES
from holdfast._transfer.upload_source import MemorySource


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_the_chunks_are_the_bytes(length: int):
    data = bytes(range(256)) * (length // 256) + bytes(length % 256)
    source = MemorySource(memoryview(data), "a")
    chunks = source.chunks()
    assert source.size_bytes == sum(chunk.length for chunk in chunks) == length
    assert [chunk.digest for chunk in chunks] == [
        blake3(data[chunk.offset : chunk.offset + chunk.length]).hexdigest() for chunk in chunks
    ]
    assert b"".join(source.read(place)[0] for place in range(len(chunks))) == data
    assert source.sample(8) == {chunk.digest for chunk in chunks}
    assert not source.has_changed()


def test_a_change_is_noticed():
    data = bytearray(10)
    source = MemorySource(memoryview(data), "a")
    source.chunks()
    data[3] = 1
    assert source.has_changed()


def test_items_of_several_bytes_count_as_bytes():
    source = MemorySource(memoryview(bytearray(16)).cast("i"), "a")
    assert source.size_bytes == 16
    assert len(source.read(0)[0]) == 16
