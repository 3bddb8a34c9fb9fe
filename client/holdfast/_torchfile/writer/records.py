"""The records of a state's torch file: the pickle, and a reference to each tensor's storage."""

import ctypes
import inspect
import io
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ..._api.digests import CHUNK_BYTES
from ..._runtime.interruption import reraise
from ...errors import IntegrityError, InvalidRequest
from .pickler import Described, pickler_for

_STAGING = threading.local()


class Storage:
    """The bytes of a tensor's storage: its own memory or, for another device, copies of parts of it."""

    __slots__ = ("_staged", "size_bytes", "storage")

    def __init__(self, storage: Any, *, staged: bool | None = None) -> None:
        self.storage = storage
        self.size_bytes = storage.nbytes()
        self._staged = storage.device.type != "cpu" if staged is None else staged

    def view(self, start: int, stop: int) -> memoryview:
        """Return some of the bytes; copies are valid until this thread's next call.

        Raises
        ------
        IntegrityError
            The storage was freed or resized since.
        """
        if start == stop:
            return memoryview(b"")
        if self._staged:
            return self._copied(start, stop)
        kind = ctypes.c_char * (stop - start)
        return memoryview(kind.from_address(self.address + start)).cast("B")

    def copy(self, start: int, stop: int) -> bytes | memoryview:
        """Return some of the bytes, as `view` does; faster for few bytes."""
        if self._staged or start == stop:
            return self.view(start, stop)
        return ctypes.string_at(self.address + start, stop - start)

    @property
    def address(self) -> int:
        """The address of the bytes on this machine; refused if the storage was freed or resized."""
        address = self.storage.data_ptr()
        if self.storage.nbytes() != self.size_bytes or (self.size_bytes and not address):
            raise IntegrityError(
                "the state was changed while it was being saved: a tensor's memory was freed or resized"
            )
        return int(address)

    def _copied(self, start: int, stop: int) -> memoryview:
        import torch

        _ = self.address  # refuses a freed storage
        on_cuda = self.storage.device.type == "cuda"
        staging = getattr(_STAGING, "tensor", None)
        if staging is None or staging.numel() < stop - start:
            length = max(CHUNK_BYTES, stop - start)
            staging = _STAGING.tensor = torch.empty(length, dtype=torch.uint8, device="cpu", pin_memory=on_cuda)
        staging[: stop - start].copy_(as_bytes(self.storage)[start:stop])
        kind = ctypes.c_char * (stop - start)
        return memoryview(kind.from_address(staging.data_ptr())).cast("B")


def as_bytes(storage: Any) -> Any:
    """Return a storage as a tensor of bytes over the same memory."""
    import torch

    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


class StateRecords:
    """The records of a state's torch file, with the tensors that pickling has met.

    Attributes
    ----------
    pickled : bytes
        The state without its storages.
    storages : dict of str to Storage
        The storages, by the keys under which the pickle names them.
    sharded : tensor or None
        A tensor of which this process has a part only, if there is one.
    described : dict of int to Described
        Plain tensors by their ids.
    """

    def __init__(self) -> None:
        self.pickled = b""
        self.storages: dict[str, Storage] = {}
        self.sharded: Any = None
        self.described: dict[int, Described] = {}

    def records(self) -> Iterator[tuple[str, bytes | Storage]]:
        """Yield names below the archive's root, and data, in the order of the file.

        The records .format_version and .storage_alignment are left out: from them torch would compute the places
        of storages as if all were aligned alike; without them, it reads the places.
        """
        yield "data.pkl", self.pickled
        yield "byteorder", sys.byteorder.encode()
        for key, storage in self.storages.items():
            yield f"data/{key}", storage
        yield "version", b"3\n"

    def met_tensor(self, tensor: Any, *, is_wrapper: bool) -> None:
        """Check a tensor; raise `NoData` if it has no data."""
        if not is_wrapper and _reaches_beyond(tensor):
            raise NoData(
                tensor,
                "its memory was freed, as FSDP does with parameters that are not in use. Save what "
                "get_model_state_dict() gives, or save while the parameters are gathered",
            )
        if type(tensor).__module__ == "torch._subclasses.fake_tensor":
            raise NoData(tensor, "it is fake, without data")
        if is_wrapper and self.sharded is None and _is_sharded(tensor):
            self.sharded = tensor


class NoData(InvalidRequest):
    """A tensor has no data, so that another value would be loaded."""

    def __init__(self, tensor: Any, why: str) -> None:
        super().__init__(f"a tensor cannot be saved: {why}", code="no_data")
        self.tensor = tensor
        self.why = why


def records_of(state: Any) -> StateRecords:
    """Return the records that torch would write for a state, without the data of its storages.

    Raises
    ------
    InvalidRequest
        A tensor has no data: it is on the device ``meta``, fake, or its memory was freed.
    """
    records, file = StateRecords(), io.BytesIO()
    pickler = pickler_for(file, records)
    pickler.dump(state)
    records.pickled, records.described = file.getvalue(), pickler.described
    records.storages = {key: Storage(storage) for key, storage in pickler.storages.items()}
    return records


def can_be_written() -> bool:
    """Tell if this version of torch writes files in the known way."""
    import torch

    save = getattr(torch.serialization, "_save", None)
    wanted = ["obj", "zip_file", "pickle_module", "pickle_protocol", "_disable_byteorder_record"]
    return save is not None and list(inspect.signature(save).parameters) == wanted


def _reaches_beyond(tensor: Any) -> bool:
    """Tell if a tensor has elements beyond its storage."""
    import torch

    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    try:
        size_bytes = tensor.untyped_storage().nbytes()
        shape, strides, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
    except Exception as error:  # nested tensors have no strides; uninitialised parameters have no storage
        reraise(error)
        return tensor.is_nested and any(_beyond(tensor, *part) for part in _nested(tensor))
    return _beyond(tensor, size_bytes, shape, strides, offset)


def _beyond(tensor: Any, size_bytes: int, shape: Sequence[int], strides: Sequence[int], offset: int) -> bool:
    if 0 in shape:
        return False
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return bool((last + 1) * tensor.element_size() > size_bytes)


def _nested(tensor: Any) -> list[tuple[int, list[int], list[int], int]]:
    """Return the size of a nested tensor's storage, and the shape, strides and offset of each tensor in it."""
    offsets = tensor._nested_tensor_storage_offsets().tolist()
    if not offsets:  # sizes and strides are meaningless then
        return []
    size_bytes = tensor.untyped_storage().nbytes()
    shapes, strides = tensor._nested_tensor_size().tolist(), tensor._nested_tensor_strides().tolist()
    return [(size_bytes, *part) for part in zip(shapes, strides, offsets, strict=True)]


def _is_sharded(tensor: Any) -> bool:
    """Tell if this process has only a part of a distributed tensor."""
    placements, mesh = getattr(tensor, "placements", None), getattr(tensor, "device_mesh", None)
    if placements is not None and mesh is not None:
        return any(not each.is_replicate() and mesh.size(place) > 1 for place, each in enumerate(placements))
    shards = getattr(tensor, "local_shards", None)
    if callable(shards):
        return len(shards()) < len(tensor.metadata().shards_metadata)
    return False
