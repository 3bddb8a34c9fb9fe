"""The tensors of a safetensors file, by its header: hostile input, read within bounds. No pickle is ever looked at."""

import json
import math
from collections.abc import Callable
from typing import Any

from app.domain import Tensor

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 1_000_000
MAX_RANK = 64
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
}


def read(name: str, read_at: Callable[[int, int], bytes], size_bytes: int) -> tuple[Tensor, ...] | None:
    """The tensors of a file, in the order of their bytes; None where it is of another format or makes no sense."""
    if not name.lower().endswith(".safetensors") or size_bytes <= _LENGTH_BYTES:
        return None
    length = int.from_bytes(read_at(0, _LENGTH_BYTES), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
        return None
    try:
        said = json.loads(read_at(_LENGTH_BYTES, length))
        if not isinstance(said, dict) or len(said) > MAX_TENSORS:
            return None
        start = _LENGTH_BYTES + length
        found = [_tensor(name, one, start, size_bytes) for name, one in said.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return tuple(sorted(found, key=lambda tensor: (tensor.offset or 0, tensor.name)))


def _tensor(name: str, said: Any, start: int, size_bytes: int) -> Tensor:
    dtype, item_bytes = _DTYPES[said["dtype"]]
    shape, (first, last) = said["shape"], said["data_offsets"]
    numbers = [*shape, first, last]
    if len(shape) > MAX_RANK or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError("it holds a number that cannot be")
    if not name.isprintable() and any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise ValueError("a name is no text")
    if first > last or start + last > size_bytes or last - first != math.prod(shape) * item_bytes:
        raise ValueError("a tensor is not where it could be")
    return Tensor(name, dtype, tuple(shape), start + first, last - first)
