"""Files of a shared save as they are given: bytes, paths, open files."""

import io
import json
import struct

import pytest
from blake3 import blake3

from holdfast._api.digests import CHUNK_BYTES
from holdfast._shared.sources import source_of

DATA = bytes(range(256)) * 10


def read(source):
    return b"".join(bytes(source.read(place)[0]) for place in range(len(source.spans)))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda path: path, id="a path"),
        pytest.param(str, id="a path as text"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: bytearray(path.read_bytes()), id="a bytearray"),
        pytest.param(lambda path: memoryview(path.read_bytes()).cast("i"), id="a memoryview of numbers"),
        pytest.param(lambda path: io.BytesIO(path.read_bytes()), id="bytes in memory"),
        pytest.param(lambda path: io.BufferedReader(io.BytesIO(path.read_bytes())), id="an open file"),
        pytest.param(lambda path: source_of("a", path.read_bytes()), id="a source"),
    ],
)
def test_every_way_to_give_a_file_has_the_same_bytes(tmp_path, given):
    path = tmp_path / "f.bin"
    path.write_bytes(DATA)
    source = source_of("f.bin", given(path))
    assert (source.size_bytes, read(source)) == (len(DATA), DATA)
    assert [chunk.digest for chunk in source.chunks()] == [blake3(DATA).hexdigest()]
    assert source.sample(3) == {blake3(DATA).hexdigest()}
    assert not source.has_changed()


@pytest.mark.parametrize("given", [1, None, io.StringIO("text"), {"a": b""}])
def test_anything_else_is_a_type_error(given):
    with pytest.raises(TypeError, match="binary mode"):
        source_of("f", given)


def test_long_data_are_cut_into_chunks():
    data = bytes(CHUNK_BYTES) + b"rest"
    source = source_of("a", data)
    assert source.spans == [(0, CHUNK_BYTES), (CHUNK_BYTES, 4)]
    assert [chunk.digest for chunk in source.chunks()] == [
        blake3(bytes(CHUNK_BYTES)).hexdigest(),
        blake3(b"rest").hexdigest(),
    ]
    assert (source_of("a", b"").spans, source_of("a", b"").chunks()) == ([], ())


def test_a_change_of_the_data_is_noticed():
    data = bytearray(DATA)
    source = source_of("a", data)
    source.chunks()
    data[5] ^= 1
    assert source.has_changed()


def test_tensors_are_found_where_the_path_tells_of_some():
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(8)
    (tensor,) = source_of("model.safetensors", data).tensors
    assert (tensor["name"], tensor["shape"]) == ("w", [2])
    assert source_of("model.data", data).tensors is None
    given = [{"name": "x", "dtype": "float32", "shape": [1]}]
    assert source_of("model.safetensors", data, given).tensors == given
