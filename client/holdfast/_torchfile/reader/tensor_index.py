"""The tensor index of a torch, safetensors or HDF5 file, read without torch, and importing nothing that it names."""

import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..._runtime.interruption import reraise
from ..strides import is_non_overlapping_and_dense
from . import hdf5_index, zip_directory
from .stub_unpickler import Mapped, Stub, StubUnpickler

SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar", ".model", ".safetensors", ".h5", ".keras"})
"""The suffixes of files in a folder that are searched for tensors."""

MOST_TENSORS = 200_000
_HEADER_BYTES = 32 * 1024 * 1024
_MOST_LOOKS = 2_000_000
_MOST_DIMENSIONS = 64
_BEYOND = 1 << 63

_KERAS = "model.weights.h5"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LEGACY = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_SAFE = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
_WORD = re.compile(r"[A-Za-z0-9_]{1,40}")
_ITEM_BYTES = {
    **dict.fromkeys(("uint8", "int8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("uint16", "int16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("uint32", "int32", "float32", "complex32"), 4),
    **dict.fromkeys(("uint64", "int64", "float64", "complex64"), 8),
    "complex128": 16,
}

Index = list[dict[str, Any]]


def index_file(path: Path) -> Index | None:
    """Return the name, dtype, shape, offset and size in bytes of every tensor of a file.

    None where it is of none of these formats, or one that cannot be understood within bounds: an index is a
    convenience, and its lack is no error.
    """
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size

            def read(offset: int, length: int) -> bytes:
                return os.pread(file.fileno(), length, offset)

            return _found(read, size_bytes)
    except OSError as error:
        reraise(error)
        return None


def index_bytes(data: bytes) -> Index | None:
    """Return the same as `index_file`, from all bytes of a file."""
    return _found(lambda offset, length: data[offset : offset + length], len(data))


def _found(read: Callable[[int, int], bytes], size_bytes: int) -> Index | None:
    try:
        start = read(0, 9)
        if start[:4] == b"PK\x03\x04":
            return _of_zip(read, size_bytes)
        if start.startswith(_HDF5):
            return _of_hdf5(read, 0, size_bytes)
        return _of_safetensors(read, start, size_bytes) if start[8:] == b"{" else None
    except Exception as error:  # a save must not fail because its file cannot be indexed
        reraise(error)
        return None


# safetensors: the length of a header in eight bytes, the header as JSON, the tensors


def _of_safetensors(read: Callable[[int, int], bytes], start: bytes, size_bytes: int) -> Index | None:
    (length,) = struct.unpack("<Q", start[:8])
    if length > min(_HEADER_BYTES, size_bytes - 8):
        return None
    header = json.loads(read(8, length))
    first = 8 + length
    found = [_safe_entry(name, entry, first) for name, entry in header.items() if name != "__metadata__"]
    if len(found) > MOST_TENSORS or any(each["offset"] + each["size_bytes"] > size_bytes for each in found):
        return None
    return sorted(found, key=lambda each: int(each["offset"]))


def _safe_entry(name: str, entry: Mapping[str, Any], first: int) -> dict[str, Any]:
    begin, end = entry["data_offsets"]
    dtype = _SAFE.get(entry["dtype"], entry["dtype"].lower())
    if not 0 <= begin <= end or not _WORD.fullmatch(dtype):
        raise ValueError("a tensor ends before it begins, or its type is no word")
    return _entry(name, dtype, entry["shape"], first + begin, end - begin)


# torch: a zip file whose pickle names for each tensor the record that has its bytes


class _Storage(NamedTuple):
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    first: int
    """The index of its first element in the storage."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class _Dtype(str):
    """The name of an element type. It cannot be called by a pickle."""

    def __call__(self, *_: Any) -> Any:
        raise TypeError("this is no function")


class _Unpickler(StubUnpickler):
    """An unpickler that returns plain values, with `_Tensor` for each tensor."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in _REBUILDING:
            return _REBUILDING[name]
        if module == "torch._tensor" and name == "_rebuild_from_type_v2":
            return _rebuilt_as_subclass
        if module in {"torch", "torch.storage"}:
            if name in _LEGACY:
                return _Dtype(_LEGACY[name])
            if name == "UntypedStorage" or name in _ITEM_BYTES:
                return _Dtype(name)
        return super().find_class(module, name)


def _rebuilt(storage: Any, first: Any, shape: Any, strides: Any, *more: Any) -> Any:
    return _Tensor(storage, first, shape, strides, storage.dtype) if isinstance(storage, _Storage) else None


def _rebuilt_with_dtype(storage: Any, first: Any, shape: Any, strides: Any, *more: Any) -> Any:
    dtype = more[2]
    return _Tensor(storage, first, shape, strides, str(dtype)) if isinstance(storage, _Storage) else None


def _rebuilt_as_subclass(rebuild: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    return rebuild(*arguments) if rebuild in _REBUILDING.values() else None


def _given(data: Any = None, *_: Any) -> Any:
    return data


_REBUILDING: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuilt,
    "_rebuild_tensor_v2": _rebuilt,
    "_rebuild_tensor_v3": _rebuilt_with_dtype,
    "_rebuild_parameter": _given,
    "_rebuild_parameter_with_state": _given,
}


def _of_hdf5(read: Callable[[int, int], bytes], start: int, size_bytes: int) -> Index | None:
    """Return the index of an HDF5 file within a file; None without h5py. Datasets of unknown types are left out."""
    found = hdf5_index.datasets(read, start, size_bytes)
    if found is None:
        return None
    known = (each for each in found if each.dtype in _ITEM_BYTES)
    return [_entry(*each) for each in known if _ITEM_BYTES[each.dtype] * math.prod(each.shape) == each.size_bytes]


def _of_zip(read: Callable[[int, int], bytes], size_bytes: int) -> Index | None:
    tail = max(0, size_bytes - zip_directory.TAIL_BYTES)
    offset, length = zip_directory.directory_extent(read(tail, size_bytes - tail), size_bytes)
    if length > _HEADER_BYTES:
        return None
    entries: dict[str, zip_directory.Entry] = {}
    by_full_name: dict[str, zip_directory.Entry] = {}
    for entry in zip_directory.entries(read(offset, length)):
        by_full_name[entry.name] = entry
        name = entry.name.partition("/")[2]
        if name in entries:
            raise ValueError("two records have one name: readers differ in which they take")
        if name:
            entries[name] = entry
    keras = by_full_name.get(_KERAS)
    if keras is not None and keras.is_stored:
        return _of_hdf5(read, _data_offset(read, keras), keras.size_bytes)
    pickled = entries.get("data.pkl")
    if pickled is None or not pickled.is_stored or pickled.size_bytes > _HEADER_BYTES:
        return None
    data = read(_data_offset(read, pickled), pickled.size_bytes)
    root = _Unpickler(data, lambda reference: _Storage(str(reference[2]), str(reference[1]))).load()
    if isinstance(root, Stub) and not isinstance(root, Mapped):
        return None
    found = (_torch_entry(read, entries, name, tensor) for name, tensor in _tensors(root))
    return [entry for entry in found if entry is not None]


def _torch_entry(
    read: Callable[[int, int], bytes], entries: Mapping[str, zip_directory.Entry], name: str, tensor: _Tensor
) -> dict[str, Any] | None:
    """Return an entry of the index; None for a tensor of an unknown type, which leaves the others in the index."""
    item_bytes = _ITEM_BYTES.get(tensor.dtype)
    record = entries.get(f"data/{tensor.storage.key}")
    if item_bytes is None or record is None or not record.is_stored:
        return None
    skipped, size_bytes = tensor.first * item_bytes, math.prod(tensor.shape) * item_bytes
    if not 0 <= skipped <= record.size_bytes:
        return None
    is_known = is_non_overlapping_and_dense(tensor.shape, tensor.strides)
    offset = _data_offset(read, record) + skipped if is_known else None
    return _entry(name, tensor.dtype, tensor.shape, offset, size_bytes)


def _data_offset(read: Callable[[int, int], bytes], entry: zip_directory.Entry) -> int:
    return zip_directory.data_offset(entry, read(entry.header_offset, zip_directory.LOCAL_BYTES))


def _tensors(root: Any) -> Iterator[tuple[str, _Tensor]]:
    """Yield every tensor under the name that `layout.named_tensors` gives it."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), root)]
    looks = found = 0
    while todo:
        path, value = todo.pop()
        looks += 1
        if isinstance(value, _Tensor):
            found += 1
            yield ".".join(path) or "tensor", value
        elif isinstance(value, dict | Mapped):
            items = value.items if isinstance(value, Mapped) else value
            todo += [((*path, str(key)), item) for key, item in reversed(items.items()) if _is_plain(key)]
        elif isinstance(value, list | tuple) and not isinstance(value, _Storage):
            todo += [((*path, str(place)), item) for place, item in reversed(list(enumerate(value)))]
        if looks + len(todo) > _MOST_LOOKS or found > MOST_TENSORS or len(path) > 100:
            raise ValueError("there is no end of it")


def _is_plain(key: Any) -> bool:
    """Tell if a key has a known name; an object whose class is not imported has none."""
    if type(key) is tuple:
        return all(type(each) is not tuple and _is_plain(each) for each in key)
    return key is None or type(key) in {str, bytes, int, float, bool}


def _entry(name: str, dtype: str, shape: Any, offset: int | None, size_bytes: int) -> dict[str, Any]:
    shape = list(shape)
    if len(shape) > _MOST_DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("a shape is no list of lengths")
    if max(shape, default=0) >= _BEYOND or size_bytes >= _BEYOND:
        raise ValueError("a tensor is larger than any server takes")
    name.encode()  # text that is no Unicode cannot be sent
    return {"name": name[:1000], "dtype": dtype[:40], "shape": shape, "offset": offset, "size_bytes": size_bytes}
