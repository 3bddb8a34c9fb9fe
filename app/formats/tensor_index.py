"""The tensor index of a file of weights. Hostile input, read within bounds; no pickled object is built."""

import json
import math
import re
from typing import Any

from app.core.models import Tensor
from app.formats import gguf_index, numpy_index, torch_index, zip_directory
from app.formats.read_budget import Budget
from app.formats.torch_index import MAX_COUNT, MAX_NAME, MAX_RANK, MAX_TENSORS
from app.formats.zip_directory import ReadAt

SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar", ".model", ".safetensors", ".gguf", ".npy", ".npz"})
"""Suffixes of the files in a folder that are indexed."""
_ENOUGH = (32 * 1024 * 1024, 6_000_000)
"""The default budget: a torch file of 100,000 tensors takes half of it."""
_BYTES_PER_STEP = 5
_LENGTH_BYTES = 8
_DTYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
}
_OTHER_DTYPE = re.compile(r"[A-Za-z0-9_]{1,40}")


def is_looked_into(path: str) -> bool:
    """Tell if a file in a folder is indexed, by its suffix."""
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    return bool(stem) and dot + ending in SUFFIXES


def read(read_at: ReadAt, size_bytes: int, budget: Budget | None = None) -> tuple[Tensor, ...] | None:
    """Return the tensors of a file; None if its format is unknown, it is corrupt, or it exceeds the budget.

    Parameters
    ----------
    read_at : callable
        Reads a number of bytes at an offset.
    budget : Budget, optional
        By default one that suffices for ordinary files.
    """
    budget = budget or Budget(*_ENOUGH)
    try:
        start = read_at(0, _LENGTH_BYTES + 1)
        if start[:4] == b"PK\x03\x04":
            if zip_directory.first_name(read_at).endswith(numpy_index.SUFFIX):
                return numpy_index.read_zip(read_at, size_bytes, budget)
            return torch_index.read(read_at, size_bytes, budget)
        if start[:4] == gguf_index.MAGIC:
            return gguf_index.read(read_at, size_bytes, budget)
        if start[:6] == numpy_index.MAGIC:
            return numpy_index.read(read_at, size_bytes)
        is_header = start[_LENGTH_BYTES:] == b"{"
        return _of_safetensors(read_at, start, size_bytes, budget) if is_header else None
    except Exception:  # the index is a convenience: no content of a file may make its save fail
        return None


def _of_safetensors(read_at: ReadAt, start: bytes, size_bytes: int, budget: Budget) -> tuple[Tensor, ...] | None:
    """Read a safetensors header: its length in 8 bytes, then JSON with the offsets of each tensor after it."""
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if length > size_bytes - _LENGTH_BYTES:
        return None
    budget.admit(length, bytes_per_step=_BYTES_PER_STEP)
    header = json.loads(read_at(_LENGTH_BYTES, length))
    first = _LENGTH_BYTES + length
    found = [_tensor(name, one, first, size_bytes) for name, one in header.items() if name != "__metadata__"]
    return tuple(sorted(found, key=lambda tensor: tensor.offset or 0)) if len(found) <= MAX_TENSORS else None


def _tensor(name: str, entry: Any, start: int, size_bytes: int) -> Tensor:
    dtype, item_bytes = _DTYPES.get(entry["dtype"], (entry["dtype"].lower(), None))
    shape, (first, last) = entry["shape"], entry["data_offsets"]
    numbers = [*shape, first, last]
    if len(shape) > MAX_RANK or not all(type(number) is int and 0 <= number < MAX_COUNT for number in numbers):
        raise ValueError("a number is out of range")
    if not _OTHER_DTYPE.fullmatch(dtype):
        raise ValueError("a dtype is malformed")
    name.encode()  # a lone surrogate cannot be stored
    if first > last or start + last > size_bytes:
        raise ValueError("a tensor reaches beyond the file")
    if item_bytes is not None and last - first != math.prod(shape) * item_bytes:
        raise ValueError("the bytes of a tensor do not match its shape")
    return Tensor(name[:MAX_NAME], dtype, tuple(shape), start + first, last - first)
