"""The tensor index of a torch file, from its pickle, read symbolically: nothing is imported, built or called.

Pure. Names, dtypes and bounds are those of the client's index, so that both agree on a file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.models import Tensor
from app.formats import symbolic_pickle, zip_directory
from app.formats.read_budget import Budget
from app.formats.symbolic_pickle import Constructor, Tagged, Unreadable
from app.formats.zip_directory import ReadAt, Record

MAX_TENSORS = 200_000
MAX_RANK = 64
MAX_NAME = 1000
MAX_NESTING = 100
MAX_COUNT = 2**63
_BYTES_PER_STEP = 1024
"""Long texts in a pickle take some time, too."""
_MOST_LOOKS = 2_000_000
_ITEM_BYTES = {
    **dict.fromkeys(("uint8", "int8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("uint16", "int16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("uint32", "int32", "float32", "complex32"), 4),
    **dict.fromkeys(("uint64", "int64", "float64", "complex64"), 8),
    "complex128": 16,
}
_STORAGES = {
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
    "UntypedStorage": "",
}


@dataclass(frozen=True, slots=True)
class _Dtype:
    """A placeholder for a dtype or its storage class; the name is empty for an untyped storage."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A placeholder for the storage in one record."""

    key: str
    dtype: str


@dataclass(frozen=True, slots=True)
class _Found:
    """A placeholder for a tensor; ``first`` is the index of its first element in the storage."""

    storage: _Storage
    first: Any
    shape: Any
    strides: Any
    dtype: str


def read(read_at: ReadAt, size_bytes: int, budget: Budget) -> tuple[Tensor, ...]:
    """Return the tensors of a file, in the order of its pickle.

    Parameters
    ----------
    read_at : callable
        Reads a number of bytes at an offset.

    Raises
    ------
    ValueError
        It is not a torch file, or exceeds the budget. A corrupt file may raise other exceptions, too.
    """
    records = zip_directory.read(read_at, size_bytes, budget)
    pickled = records["data.pkl"]
    if not pickled.is_stored:
        raise Unreadable("the pickle is compressed")
    budget.admit(pickled.size_bytes, bytes_per_step=_BYTES_PER_STEP)
    data = read_at(zip_directory.data_offset(read_at, pickled, size_bytes), pickled.size_bytes)
    root = symbolic_pickle.read(data, _NAMES, _storage, budget)
    if root is symbolic_pickle.OPAQUE:
        raise Unreadable("its state is an object")
    locator = _Locator(read_at, size_bytes, records)
    found = (locator.tensor(name, tensor) for name, tensor in _tensors(root, budget))
    return tuple(_bounded((tensor for tensor in found if tensor is not None), 2 * budget.max_bytes))


def _bounded(tensors: Iterator[Tensor], left: int) -> Iterator[Tensor]:
    """Pass tensors on, until their names and shapes together exceed a bound."""
    for tensor in tensors:
        left -= len(tensor.name) + 8 * len(tensor.shape)
        if left < 0:
            raise Unreadable("the names are too long")
        yield tensor


class _Locator:
    """Finds the offsets of the storages of one file."""

    def __init__(self, read_at: ReadAt, size_bytes: int, records: Mapping[str, Record]) -> None:
        self._read_at = read_at
        self._size_bytes = size_bytes
        self._records = records
        self._offsets: dict[str, int] = {}

    def tensor(self, name: str, found: _Found) -> Tensor | None:
        """Return the index entry of a tensor; None for an unknown dtype, which does not spoil the others."""
        item_bytes = _ITEM_BYTES.get(found.dtype)
        key = found.storage.key
        record = self._records.get(f"data/{key}")
        if item_bytes is None or record is None or not record.is_stored:
            return None
        if type(found.first) is not int:
            raise Unreadable("the offset of a tensor is not a number")
        skipped = found.first * item_bytes
        if not 0 <= skipped <= record.size_bytes:
            return None
        shape = _lengths(found.shape)
        size_bytes = math.prod(shape) * item_bytes
        if size_bytes >= MAX_COUNT:
            raise Unreadable("a tensor is too large")
        if key not in self._offsets:
            self._offsets[key] = zip_directory.data_offset(self._read_at, record, self._size_bytes)
        is_known = _is_non_overlapping_and_dense(shape, _lengths(found.strides))
        return Tensor(name, found.dtype, shape, self._offsets[key] + skipped if is_known else None, size_bytes)


def _is_non_overlapping_and_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell if the elements are adjacent, each once, in any order."""
    expected = 1
    if 0 in shape:
        return True
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


def _lengths(numbers: Sequence[Any]) -> tuple[int, ...]:
    if len(numbers) > MAX_RANK or not all(type(number) is int and 0 <= number < MAX_COUNT for number in numbers):
        raise Unreadable("a shape is malformed")
    return tuple(numbers)


def _tensors(root: Any, budget: Budget) -> Iterator[tuple[str, _Found]]:
    """Yield each tensor with its name: the keys and indices that lead to it."""
    todo: list[tuple[str | None, Any, int, Any]] = [(None, None, 0, root)]
    looks = found = 0
    while todo:
        above, key, depth, value = todo.pop()
        looks += 1
        if isinstance(value, _Found):
            found += 1
            yield _text(_below(above, key, depth) or "tensor"), value
        elif type(value) in {dict, list, tuple}:
            budget.spend(len(value))
            if looks + len(todo) + len(value) > _MOST_LOOKS:
                raise Unreadable("the state is too large or nested too deep")
            name = _below(above, key, depth)
            items = value.items() if type(value) is dict else enumerate(value)
            todo += [(name, key, depth + 1, item) for key, item in items][::-1]
        if looks > _MOST_LOOKS or found > MAX_TENSORS or depth > MAX_NESTING:
            raise Unreadable("the state is too large or nested too deep")


def _below(above: str | None, key: Any, depth: int) -> str | None:
    """Return the name of the value under a key; the whole state has none."""
    if depth == 0:
        return None
    part = key.text if isinstance(key, Tagged) else str(key)
    return (part if above is None else f"{above}.{part[:MAX_NAME]}")[:MAX_NAME]


def _text(name: str) -> str:
    name.encode()  # a lone surrogate cannot be stored
    return name


# Placeholders for the names in a torch file


def _storage(reference: Any) -> _Storage:
    if type(reference) is not tuple or type(reference[2]) is not str or len(reference[2]) > MAX_NAME:
        raise Unreadable("a storage is malformed")
    kind, key = reference[1:3]
    return _Storage(key, kind.name if isinstance(kind, _Dtype) else "")


def _rebuilt(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> _Found | None:
    return _Found(storage, first, shape, strides, storage.dtype) if isinstance(storage, _Storage) else None


def _rebuilt_with_dtype(storage: Any, first: Any, shape: Any, strides: Any, *more: Any) -> _Found | None:
    dtype = more[2]
    is_plain = isinstance(storage, _Storage) and isinstance(dtype, _Dtype)
    return _Found(storage, first, shape, strides, dtype.name) if is_plain else None


def _rebuilt_as_subclass(rebuild: Any, _: Any, arguments: Any, *more: Any) -> Any:
    is_known = isinstance(rebuild, Constructor) and rebuild in _REBUILDING.values()
    return rebuild.of(arguments) if is_known else None


def _given(data: Any = None, *_: Any) -> Any:
    return data


_REBUILDING = {
    "torch._utils _rebuild_tensor": Constructor(_rebuilt),
    "torch._utils _rebuild_tensor_v2": Constructor(_rebuilt),
    "torch._utils _rebuild_tensor_v3": Constructor(_rebuilt_with_dtype),
    "torch._utils _rebuild_parameter": Constructor(_given),
    "torch._utils _rebuild_parameter_with_state": Constructor(_given),
}
_MAPPING = Constructor(lambda *_: {})
_NAMES: Mapping[str, Any] = {
    **_REBUILDING,
    "torch._tensor _rebuild_from_type_v2": Constructor(_rebuilt_as_subclass),
    "collections OrderedDict": _MAPPING,
    "collections defaultdict": _MAPPING,
    **{f"{module} {name}": _Dtype(name) for module in ("torch", "torch.storage") for name in _ITEM_BYTES},
    **{f"{module} {name}": _Dtype(dtype) for module in ("torch", "torch.storage") for name, dtype in _STORAGES.items()},
}
