"""The tensor index of HDF5 files: what is in one piece has an offset, and nothing outside the file is looked at."""

import sys

import h5py
import numpy
import pytest

from holdfast._torchfile.reader.tensor_index import index_bytes, index_file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file["a/b"] = numpy.arange(6, dtype="float32").reshape(2, 3)
        file["a/scalar"] = numpy.int64(7)
        file["empty"] = h5py.Empty("float32")
        file["text"] = "a text"
        file.create_dataset("packed", data=numpy.zeros((64, 64)), chunks=(8, 8), compression="gzip")
        brain = file.create_dataset("brain", data=numpy.ones(4, "uint16"))
        brain.attrs["dtype"] = "bfloat16"
        file["a/again"] = h5py.SoftLink("/a/b")
        file["outside"] = h5py.ExternalLink("another.h5", "/x")
    return path


def test_numbers_have_places_and_links_are_not_followed(path):
    found = {each["name"]: each for each in index_file(path)}
    assert found.keys() == {"a/b", "a/scalar", "packed", "brain"}
    data = path.read_bytes()
    each = found["a/b"]
    assert (each["dtype"], each["shape"], each["size_bytes"]) == ("float32", [2, 3], 24)
    assert data[each["offset"] :][:24] == numpy.arange(6, dtype="float32").tobytes()
    assert (found["brain"]["dtype"], found["a/scalar"]["shape"]) == ("bfloat16", [])
    assert (found["packed"]["offset"], found["packed"]["size_bytes"]) == (None, 8 * 64 * 64)
    assert index_bytes(data) == index_file(path)


def test_what_cannot_be_read_has_no_index(path, monkeypatch):
    data = path.read_bytes()
    for other in (data[: len(data) // 2], data[:16], data[:8] + b"\xff" * 2000):
        assert index_bytes(other) is None
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert index_bytes(data) is None


def test_groups_that_hold_themselves_come_to_an_end(tmp_path):
    with h5py.File(tmp_path / "round.h5", "w") as file:
        file["a/x"] = numpy.zeros(3)
        file.create_group("a/b")
        file["a/b/again"] = file["a"]
    assert [each["name"] for each in index_file(tmp_path / "round.h5")] == ["a/x"]
