"""The tensor index of NumPy's files, against NumPy itself; and of hostile ones."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.models import Tensor
from app.formats import tensor_index
from app.formats.numpy_index import NAME
from app.formats.read_budget import Budget

ARRAYS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.ones((2, 3), np.float16),
    "scalar": np.float64(0.5),
    "flags": np.array([True, False]),
    "waves": np.ones(2, np.complex64),
    "nothing": np.zeros((0, 3), np.int8),
    "folder/inner": np.arange(5),
}


def written(save, *arrays, **named):
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def index(data, **options):
    return tensor_index.read(lambda offset, length: data[offset : offset + length], len(data), **options)


def test_each_array_is_where_the_index_says():
    data = written(np.savez, **ARRAYS)
    found = {tensor.name: tensor for tensor in index(data)}
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        tensor, expected = found[name], np.asarray(array)
        assert (tensor.dtype, tensor.shape) == (expected.dtype.name, expected.shape)
        stored = data[tensor.offset : tensor.offset + tensor.size_bytes]
        np.testing.assert_array_equal(np.frombuffer(stored, expected.dtype).reshape(expected.shape), expected)


def test_the_only_array_of_a_file_has_a_name():
    data = written(np.save, ARRAYS["matrix"])
    assert index(data) == (Tensor(NAME, "float32", (3, 4), len(data) - 48, 48),)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        pytest.param(np.asfortranarray(np.ones((2, 3))), ("float64", (2, 3), None, 48), id="columns first"),
        pytest.param(np.arange(3, dtype=">i4"), ("int32", (3,), None, 12), id="big-endian"),
        pytest.param(np.array([{}], dtype=object), ("object", (1,), None, None), id="objects"),
    ],
)
def test_bytes_in_another_order_have_no_offset(array, expected):
    (found,) = index(written(np.save, array))
    assert (found.dtype, found.shape, found.offset, found.size_bytes) == expected


def test_texts_have_the_type_of_numpy():
    (found,) = index(written(np.save, np.array(["a", "bcd"])))
    assert (found.dtype, found.shape, found.size_bytes) == ("U3", (2,), 24)


def test_times_have_a_type_and_tables_are_left_out():
    table = np.zeros(3, dtype=[("a", "<f4"), ("b", "<i8")])
    found = index(written(np.savez, at=np.zeros(2, "datetime64[ns]"), table=table, w=np.arange(3)))
    assert [(tensor.name, tensor.dtype) for tensor in found] == [("at", "datetime64"), ("w", "int64")]


def test_compressed_arrays_have_shapes_and_no_offset():
    found = index(written(np.savez_compressed, a=np.zeros((1000, 1000), np.float32), b=np.arange(3)))
    assert {(tensor.name, tensor.shape, tensor.offset) for tensor in found} == {
        ("a", (1000, 1000), None),
        ("b", (3,), None),
    }


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"


@pytest.mark.parametrize(
    ("header", "length"),
    [
        pytest.param(HEADER, None, id="sound"),
        pytest.param(HEADER.replace("(3,)", "(4,)"), None, id="beyond the file"),
        pytest.param(HEADER.replace("(3,)", "(-3,)"), None, id="a negative length"),
        pytest.param(HEADER.replace("(3,)", "(999999999999999999, 999999999999999999)"), None, id="an endless shape"),
        pytest.param(HEADER.replace("'<f4'", "[('a', '<f4')]"), None, id="fields"),
        pytest.param("__import__('os').abort()", None, id="code"),
        pytest.param(HEADER, 60_000, id="a header beyond the file"),
        pytest.param("(" * 4000, None, id="deep"),
        pytest.param(HEADER.replace("(3,)", "(" + "1" * 3000 + "!"), None, id="digits that invite to try all ways"),
        pytest.param(HEADER.replace("(3,)", "(" + "1, " * 1000 + "!"), None, id="numbers that do"),
    ],
)
def test_a_header_is_read_strictly(header, length):
    text = header.encode()
    data = b"\x93NUMPY\x01\x00" + (len(text) if length is None else length).to_bytes(2, "little") + text + bytes(12)
    expected = (Tensor(NAME, "float32", (3,), 10 + len(text), 12),) if (header, length) == (HEADER, None) else None
    assert index(data) == expected


@given(data=st.data())
def test_a_changed_file_has_an_index_within_it_or_none(data):
    sound = bytearray(written(np.savez, a=np.arange(4), b=np.ones((2, 2))))
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    for tensor in index(bytes(sound[: data.draw(st.integers(0, len(sound)))])) or ():
        assert tensor.offset is None or tensor.offset + tensor.size_bytes <= len(sound)


def test_more_arrays_than_the_budget_allows_are_not_looked_for():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for number in range(200):
            made.writestr(f"{number}.npy", written(np.save, np.arange(2)))
    assert len(index(file.getvalue())) == 200
    assert index(file.getvalue(), budget=Budget(2**20, 3000)) is None
