"""Safetensors files as states: a dict of tensors over the file's own memory. Such a file contains no code."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..._arguments.state_keys import require
from ..._runtime.interruption import reraise
from ...errors import UnreadableCheckpoint
from .archive import Fetch, joined, storage_in
from .file_memory import FileMemory

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
_LENGTH_BYTES = 8


class _Tensor(NamedTuple):
    """The header of a tensor: its type, shape, and place in the file, in bytes."""

    dtype: Any
    shape: tuple[int, ...]
    start: int
    stop: int


def load_state(memory: FileMemory, fetch: Fetch, *, only: Collection[Any] | None, map_location: Any) -> dict[str, Any]:
    """Return the tensors of a safetensors file whose bytes arrive in memory on demand.

    Parameters
    ----------
    memory, fetch
        As for `load_state.load_state`.
    only : collection, optional
        The names of the tensors to load.
    map_location
        As for ``torch.load``, of tensors that were on the CPU.

    Raises
    ------
    UnreadableCheckpoint
        The header does not describe the file, or no tensor.
    KeyError
        There is no such tensor.
    """
    fetch([(0, _LENGTH_BYTES)])
    start = _LENGTH_BYTES + int.from_bytes(memory.bytes(0, _LENGTH_BYTES), "little")
    fetch([(0, start)])
    tensors = _header(memory.bytes(_LENGTH_BYTES, start - _LENGTH_BYTES), start, memory.size_bytes)
    if not tensors:
        raise UnreadableCheckpoint("this checkpoint is a safetensors file that holds no tensor")
    if only is not None:
        require(only, tensors)
        tensors = {name: tensors[name] for name in only}
    fetch(joined((found.start, found.stop) for found in tensors.values() if found.stop > found.start))
    return {name: _tensor(memory, found, map_location) for name, found in tensors.items()}


def _header(data: bytes, start: int, size_bytes: int) -> dict[str, _Tensor]:
    """Return the tensors by name in the order of their bytes, which must cover the file without gaps or overlaps."""
    try:
        found = json.loads(data, object_pairs_hook=_unique)
        found.pop("__metadata__", None)
        tensors = {name: _described(entry, start) for name, entry in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reraise(error)
        raise _damaged(f"its header cannot be read ({type(error).__name__}: {str(error)[:200]!r})") from error
    end = start
    ordered = sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop))
    for name, tensor in ordered:
        if tensor.start != end or tensor.stop > size_bytes:
            raise _damaged(f"the bytes of {name[:100]!r} are not where they must be")
        end = tensor.stop
    if end != size_bytes:
        raise _damaged(f"it has {size_bytes} bytes, and its header describes {end}")
    return dict(ordered)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _described(entry: Mapping[str, Any], start: int) -> _Tensor:
    import torch

    dtype = getattr(torch, _DTYPES[entry["dtype"]], None)
    if dtype is None:
        raise ValueError(f"this torch has no dtype for {entry['dtype']}")
    begin, end = entry["data_offsets"]
    numbers = [*entry["shape"], begin, end]
    if any(type(number) is not int or not 0 <= number < 1 << 63 for number in numbers):
        raise ValueError("a size is not an integer in range")
    if math.prod(entry["shape"]) * dtype.itemsize != end - begin:
        raise ValueError("the shape of a tensor does not match its bytes")
    return _Tensor(dtype, tuple(entry["shape"]), start + begin, start + end)


def _damaged(why: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(f"this checkpoint is a damaged safetensors file: {why}")


def _tensor(memory: FileMemory, found: _Tensor, map_location: Any) -> Any:
    import torch

    if _is_fake():  # torch wants the shapes only
        return torch.empty(found.shape, dtype=found.dtype, device=_target(map_location))
    storage = storage_in(memory, found.start, found.stop - found.start)
    if found.start % found.dtype.itemsize:
        storage = storage.clone()
    storage = _relocated(storage, map_location)
    with torch._C.DisableTorchFunction():
        empty = torch.empty(0, dtype=found.dtype, device=storage.device)
        return empty.set_(storage, 0, found.shape, _strides(found.shape))


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _is_fake() -> bool:
    from torch import _guards

    return _guards.detect_fake_mode(None) is not None


def _target(map_location: Any) -> Any:
    if isinstance(map_location, dict):
        return map_location.get("cpu", "cpu")
    return "cpu" if map_location is None or callable(map_location) else map_location


def _relocated(storage: Any, map_location: Any) -> Any:
    """Move a storage to the requested device, by the rules of ``torch.load``'s ``map_location``."""
    import torch
    from torch.serialization import default_restore_location

    if map_location is None or isinstance(map_location, dict | str | bytes | torch.device):
        target = _target(map_location)
        target = str(target) if isinstance(target, torch.device) else target
        return default_restore_location(storage, target)  # type: ignore[no-untyped-call]
    found = map_location(storage, "cpu")
    return storage if found is None else found
