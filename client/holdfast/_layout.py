"""States as bytes and bytes as states: the only place that knows torch."""

import io
import mmap
from collections.abc import Iterator, Mapping
from pickle import UnpicklingError
from typing import Any

from .errors import UnsafeCheckpoint


def serialize(state: Any) -> memoryview:
    """A state as the bytes of an ordinary torch file."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def deserialize(data: mmap.mmap, *, map_location: Any = None, weights_only: bool = True) -> Any:
    """The state in the bytes of a torch file.

    Raises
    ------
    UnsafeCheckpoint
        It holds more than weights, and ``weights_only`` was not turned off.
    """
    import torch

    data.seek(0)
    try:
        return torch.load(data, map_location=map_location, weights_only=weights_only)  # type: ignore[arg-type]
    except UnpicklingError as error:
        if not weights_only:
            raise
        raise UnsafeCheckpoint(
            "This checkpoint holds more than tensors and plain values, and loading such objects can run code. If you "
            "trust whoever wrote it, allow its classes with torch.serialization.add_safe_globals([...]), or load it "
            f"with weights_only=False. torch says: {error}"
        ) from error


def tensor_index(data: memoryview) -> list[dict[str, Any]] | None:
    """Name, dtype, shape, offset and size in bytes of every tensor in a torch file, or None where that cannot be said.

    Read by torch itself without touching the tensors' data: under ``FakeTensorMode`` each storage knows its offset.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            state = torch.load(io.BytesIO(data), weights_only=True)
        return [_entry(name, tensor) for name, tensor in _tensors(state, ()) if tensor.layout is torch.strided]
    except Exception:  # an index is a convenience: whatever torch cannot do here must not cost a save
        return None


def _tensors(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield ".".join(path) or "tensor", value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _tensors(item, (*path, str(place)))


def _entry(name: str, tensor: Any) -> dict[str, Any]:
    start = tensor.untyped_storage()._checkpoint_offset
    return {
        "name": name[:1000],
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "offset": start + tensor.storage_offset() * tensor.element_size() if start is not None else None,
        "size_bytes": tensor.numel() * tensor.element_size(),
    }
