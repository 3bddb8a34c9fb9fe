"""The tensors of a torch or safetensors file: hostile input, read within bounds. No object of a pickle is ever made."""

import json
import math
import re
from typing import Any

from app.core.models import Tensor
from app.formats import torch_index
from app.formats.read_budget import Budget
from app.formats.torch_index import MAX_COUNT, MAX_NAME, MAX_RANK, MAX_TENSORS
from app.formats.zip_directory import ReadAt

SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".tar", ".model", ".safetensors"})
"""Of the files in a folder, only those with such a name are looked into."""
_ENOUGH = (32 * 1024 * 1024, 6_000_000)
"""The budget of a file that is taken in: a torch file of 100,000 tensors takes half of it."""
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
    """Tell if a file in a folder has a name of those that hold tensors."""
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    return bool(stem) and dot + ending in SUFFIXES


def read(read_at: ReadAt, size_bytes: int, budget: Budget | None = None) -> tuple[Tensor, ...] | None:
    """The tensors of a file; None where it is of another format, makes no sense, or takes more than the budget.

    Parameters
    ----------
    read_at : callable
        Gives so many bytes at an offset.
    budget : Budget, optional
        By default one that suffices for all but the strangest files.
    """
    budget = budget or Budget(*_ENOUGH)
    try:
        start = read_at(0, _LENGTH_BYTES + 1)
        if start[:4] == b"PK\x03\x04":
            return torch_index.read(read_at, size_bytes, budget)
        is_header = start[_LENGTH_BYTES:] == b"{"
        return _of_safetensors(read_at, start, size_bytes, budget) if is_header else None
    except Exception:  # an index is a convenience: whatever a file is made of must not cost its checkpoint
        return None


def _of_safetensors(read_at: ReadAt, start: bytes, size_bytes: int, budget: Budget) -> tuple[Tensor, ...] | None:
    """By the header: its length in eight bytes, then JSON that says where each tensor lies behind it."""
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if length > size_bytes - _LENGTH_BYTES:
        return None
    budget.admit(length, bytes_per_step=_BYTES_PER_STEP)
    said = json.loads(read_at(_LENGTH_BYTES, length))
    first = _LENGTH_BYTES + length
    found = [_tensor(name, one, first, size_bytes) for name, one in said.items() if name != "__metadata__"]
    return tuple(sorted(found, key=lambda tensor: tensor.offset or 0)) if len(found) <= MAX_TENSORS else None


def _tensor(name: str, said: Any, start: int, size_bytes: int) -> Tensor:
    dtype, item_bytes = _DTYPES.get(said["dtype"], (said["dtype"].lower(), None))
    shape, (first, last) = said["shape"], said["data_offsets"]
    numbers = [*shape, first, last]
    if len(shape) > MAX_RANK or not all(type(number) is int and 0 <= number < MAX_COUNT for number in numbers):
        raise ValueError("it holds a number that cannot be")
    if not _OTHER_DTYPE.fullmatch(dtype):
        raise ValueError("a type is no word")
    name.encode()  # what is no Unicode cannot be stored
    if first > last or start + last > size_bytes:
        raise ValueError("a tensor is not where it could be")
    if item_bytes is not None and last - first != math.prod(shape) * item_bytes:
        raise ValueError("a tensor is longer or shorter than its shape")
    return Tensor(name[:MAX_NAME], dtype, tuple(shape), start + first, last - first)
