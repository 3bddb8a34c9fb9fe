"""The tensor index of GGUF files that llama.cpp's own package writes; and of hostile ones."""

import struct

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats import gguf_index, tensor_index
from app.formats.read_budget import Budget

QUANTISED = gguf.GGMLQuantizationType.Q8_0
MATRIX = np.arange(1024, dtype=np.float32).reshape(4, 256)


def index(data, budget=None):
    return tensor_index.read(lambda offset, length: data[offset : offset + length], len(data), budget)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file with every type of metadata, a vocabulary, and plain and quantised tensors."""
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"a.{kind}", 7)
    for kind in ("float32", "float64"):
        getattr(writer, f"add_{kind}")(f"a.{kind}", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "x" * 5000)
    writer.add_array("a.numbers", list(range(1000)))
    writer.add_array("tokenizer.ggml.tokens", [f"token {number}" for number in range(50_000)])
    writer.add_custom_alignment(64)
    writer.add_tensor("plain", MATRIX)
    writer.add_tensor("half", np.ones((3, 5), np.float16))
    writer.add_tensor("quantised", gguf.quantize(MATRIX, QUANTISED), raw_dtype=QUANTISED)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_are_where_the_package_itself_finds_them(written):
    data = written.read_bytes()
    found = {tensor.name: tensor for tensor in index(data)}
    for theirs in gguf.GGUFReader(written).tensors:
        ours = found.pop(theirs.name)
        assert (ours.offset, ours.size_bytes) == (theirs.data_offset, theirs.n_bytes)
        assert ours.shape == tuple(int(length) for length in theirs.shape[::-1])
    assert found == {}
    types = {tensor.name: tensor.dtype for tensor in index(data)}
    assert types == {"plain": "float32", "half": "float16", "quantised": "q8_0"}


def test_a_tensor_has_its_bytes(written):
    data = written.read_bytes()
    (plain,) = (tensor for tensor in index(data) if tensor.name == "plain")
    stored = data[plain.offset : plain.offset + plain.size_bytes]
    np.testing.assert_array_equal(np.frombuffer(stored, np.float32).reshape(plain.shape), MATRIX)


@pytest.mark.parametrize("kind", gguf.GGML_QUANT_SIZES, ids=lambda kind: kind.name)
def test_sizes_of_all_types_are_those_of_the_package(kind):
    elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    dtype, size_bytes = gguf_index._type_of(int(kind), 4 * elements)
    if dtype.startswith("ggml_"):
        assert size_bytes is None
    else:
        assert size_bytes == 4 * block_bytes


def described(name=b"w", rank=1, shape=(4,), kind=0, offset=0, *, count=1, values=b"", value_count=0, version=3):
    numbers = struct.pack(f"<{len(shape)}Q", *shape)
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<I", rank) + numbers + struct.pack("<IQ", kind, offset)
    head = b"GGUF" + struct.pack("<IQQ", version, count, value_count) + values + tensor
    return head + bytes(-len(head) % 32) + bytes(16)


NESTED = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 9, 2) + 2 * struct.pack("<IQII", 4, 2, 7, 7)
DEEP = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + 1000 * struct.pack("<IQ", 9, 1)
TEXTS = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**60)


@pytest.mark.parametrize(
    ("data", "is_sound"),
    [
        pytest.param(described(), True, id="sound"),
        pytest.param(described(kind=99), True, id="a type of the future"),
        pytest.param(described(version=9), False, id="a version of the future"),
        pytest.param(described(version=0x03000000), False, id="big-endian"),
        pytest.param(described(shape=(5,)), False, id="beyond the file"),
        pytest.param(described(offset=2**60), False, id="an offset beyond the file"),
        pytest.param(described(rank=3, shape=(2**40, 2**40, 2**40)), False, id="an endless shape"),
        pytest.param(described(rank=2**31, shape=()), False, id="too many dimensions"),
        pytest.param(described(count=2**40), False, id="too many tensors"),
        pytest.param(described(name=b"\xff"), False, id="a name that is no text"),
        pytest.param(described(value_count=2**40), False, id="too many values"),
        pytest.param(described(values=TEXTS, value_count=1), False, id="too many texts"),
        pytest.param(described(values=NESTED, value_count=1), True, id="lists in a list"),
        pytest.param(described(values=DEEP, value_count=1), False, id="lists without an end"),
        pytest.param(described(name="é".encode() * 3000), True, id="a long name"),
        pytest.param(b"GGUF", False, id="nothing more"),
    ],
)
def test_a_header_is_read_within_bounds(data, is_sound):
    assert (index(data) is not None) == is_sound


def test_a_type_of_the_future_has_no_size():
    (found,) = index(described(kind=99))
    assert (found.dtype, found.shape, found.size_bytes) == ("ggml_99", (4,), None)


@given(data=st.data())
def test_a_changed_file_has_an_index_within_it_or_none(data):
    changed = bytearray(described())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(4, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for tensor in index(bytes(changed)) or ():
        assert tensor.offset + (tensor.size_bytes or 0) <= len(changed)


def test_a_vocabulary_beyond_the_budget_is_not_read(written):
    assert index(written.read_bytes(), Budget(2**21, 10_000)) is None
    assert len(index(written.read_bytes(), Budget(2**21, 400_000))) == 3
