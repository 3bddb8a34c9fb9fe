"""A sink for torch's serialisation: it keeps the pickle, and of each tensor's storage only where that lies."""

import ctypes
import inspect
import pickle
import threading
import types
from contextlib import ExitStack
from typing import Any

from ._digests import CHUNK_BYTES
from ._interruption import reraise
from .errors import IntegrityError, InvalidRequest

_STAGING = threading.local()
_OTHER, _STORAGE, _TENSOR, _WRAPPER = range(4)
_LEFT_OUT = {".format_version", ".storage_alignment"}
"""Records by which torch computes where storages lie, as if all were aligned alike; without them, it looks."""


class Storage:
    """The bytes of a tensor's storage: its own memory, or, on another device, copies of parts of it."""

    __slots__ = ("_staged", "size_bytes", "storage")

    def __init__(self, storage: Any, *, staged: bool | None = None) -> None:
        self.storage = storage
        self.size_bytes = storage.nbytes()
        self._staged = storage.device.type != "cpu" if staged is None else staged

    def view(self, start: int, stop: int) -> memoryview:
        """Some of the bytes; copies hold until this thread asks for others.

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

    @property
    def address(self) -> int:
        """Where the bytes lie, on this machine."""
        self.check()
        return int(self.storage.data_ptr())

    def check(self) -> None:
        """Refuse memory that is not the storage's any more."""
        if self.storage.nbytes() != self.size_bytes or (self.size_bytes and not self.storage.data_ptr()):
            raise IntegrityError(
                "the state was changed while it was being saved: a tensor's memory was freed or resized"
            )

    def _copied(self, start: int, stop: int) -> memoryview:
        import torch

        self.check()
        on_cuda = self.storage.device.type == "cuda"
        staging = getattr(_STAGING, "tensor", None)
        if staging is None or staging.numel() < stop - start:
            length = max(CHUNK_BYTES, stop - start)
            staging = _STAGING.tensor = torch.empty(length, dtype=torch.uint8, device="cpu", pin_memory=on_cuda)
        staging[: stop - start].copy_(as_bytes(self.storage)[start:stop])
        kind = ctypes.c_char * (stop - start)
        return memoryview(kind.from_address(staging.data_ptr())).cast("B")


def as_bytes(storage: Any) -> Any:
    """A storage as a tensor of bytes over the same memory."""
    import torch

    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


class Sink:
    """The records of a state's torch file, in their order, and what pickling has met.

    Attributes
    ----------
    records : list of (str, bytes or Storage)
        Names below the archive's root, and data.
    sharded : tensor or None
        A tensor of which this process has a part only, if there is one.
    leaving_out : ExitStack
        Lets torch leave out the data of other devices, once the state is pickled. Close it after that.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes | Storage]] = []
        self.sharded: Any = None
        self.leaving_out = ExitStack()
        self._storages: dict[str, Any] = {}
        self._kinds: dict[type, int] = {}

    # what torch calls

    def write_record(self, name: str, data: Any, size_bytes: int) -> None:
        """Keep a record: bytes, text or a storage."""
        import torch

        if name in _LEFT_OUT:
            return
        if isinstance(data, str):
            data = data.encode()
        if name == "data.pkl" and any(each.device.type != "cpu" for each in self._storages.values()):
            # Not before: torch pickles some tensors otherwise, or not at all, without their data. Nor on the CPU,
            # where nothing is copied anyway: the setting is the thread's, and Ctrl-C could leave it behind.
            self.leaving_out.enter_context(torch.serialization.skip_data())
        self.records.append((name, data if isinstance(data, bytes) else Storage(data)))

    def write_record_metadata(self, name: str, size_bytes: int) -> None:
        """Keep a record of the storage that was met while pickling."""
        self.records.append((name, Storage(self._storages[name])))

    # what the pickler calls

    def kind_of(self, kind: type) -> int:
        """Tell whether values of a type are storages, tensors, tensors around others, or none of these."""
        import torch

        found = _OTHER
        if issubclass(kind, torch.Tensor):
            is_plain = kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
            found = _TENSOR if is_plain else _WRAPPER
        elif issubclass(kind, torch.TypedStorage | torch.UntypedStorage) or kind in torch._storage_classes:
            found = _STORAGE
        self._kinds[kind] = found
        return found

    def met_storage(self, key: str, value: Any) -> None:
        """Note a storage. `InvalidRequest` if it has no bytes to save."""
        storage = getattr(value, "_untyped_storage", value)
        if storage.device.type == "meta":
            raise InvalidRequest("a tensor without data, on the device 'meta', cannot be saved", code="no_data")
        self._storages[f"data/{key}"] = storage

    def met_tensor(self, tensor: Any, kind: int) -> None:
        """Look at a tensor. `NoData` if it has none."""
        if kind == _TENSOR and _reaches_beyond(tensor):
            raise NoData(
                tensor,
                "its memory was freed, as FSDP does with parameters that are not in use. Save what "
                "get_model_state_dict() gives, or save while the parameters are gathered",
            )
        if type(tensor).__module__ == "torch._subclasses.fake_tensor":
            raise NoData(tensor, "it is fake, without data")
        if kind == _WRAPPER and self.sharded is None and _is_sharded(tensor):
            self.sharded = tensor


class NoData(InvalidRequest):
    """A tensor has no data, so that it would be loaded with something else."""

    def __init__(self, tensor: Any, why: str) -> None:
        super().__init__(f"a tensor cannot be saved: {why}", code="no_data")
        self.tensor = tensor
        self.why = why


def written(state: Any) -> Sink:
    """The records that torch would write of a state, without the data of its storages.

    Raises
    ------
    InvalidRequest
        A tensor has no data: it is on the device ``meta``, fake, or its memory was freed.
    """
    from torch.serialization import DEFAULT_PROTOCOL, _save

    sink = Sink()
    with sink.leaving_out:
        _save(state, sink, _recorder(sink), DEFAULT_PROTOCOL, False)  # type: ignore[no-untyped-call]
    sink.write_record("version", "3\n", 2)
    return sink


def can_be_written() -> bool:
    """Tell if this version of torch writes records in the way that a sink takes."""
    import torch

    save = getattr(torch.serialization, "_save", None)
    wanted = ["obj", "zip_file", "pickle_module", "pickle_protocol", "_disable_byteorder_record"]
    return save is not None and list(inspect.signature(save).parameters) == wanted


def _recorder(sink: Sink) -> types.ModuleType:
    """The module ``pickle``, whose pickler shows the sink every storage and tensor, and asks torch about no more."""

    class Pickler(pickle.Pickler):
        def __init_subclass__(cls) -> None:
            asked, kinds, kind_of = cls.persistent_id, sink._kinds, sink.kind_of

            def persistent_id(self: Any, value: Any) -> Any:
                kind = type(value)
                found = kinds.get(kind)
                if found is None:
                    found = kind_of(kind)
                if found == _OTHER:
                    return None
                if found != _STORAGE:
                    return sink.met_tensor(value, found)
                known = asked(self, value)
                if known is not None:
                    sink.met_storage(known[2], value)
                return known

            cls.persistent_id = persistent_id  # type: ignore[method-assign]

    module = types.ModuleType("pickle")
    module.__dict__.update({name: getattr(pickle, name) for name in pickle.__all__})
    module.Pickler = Pickler  # type: ignore[attr-defined]
    return module


def _reaches_beyond(tensor: Any) -> bool:
    """Tell if a tensor has elements beyond its storage."""
    import torch

    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return False
    try:
        size_bytes = tensor.untyped_storage().nbytes()
        shape, strides, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
    except Exception as error:  # nested tensors have no strides, parameters that wait for their shape no storage
        reraise(error)
        return False
    if 0 in shape:
        return False
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return bool((last + 1) * tensor.element_size() > size_bytes)


def _is_sharded(tensor: Any) -> bool:
    """Tell if this process has a part of a distributed tensor only."""
    placements, mesh = getattr(tensor, "placements", None), getattr(tensor, "device_mesh", None)
    if placements is not None and mesh is not None:
        return any(not each.is_replicate() and mesh.size(place) > 1 for place, each in enumerate(placements))
    shards = getattr(tensor, "local_shards", None)
    if callable(shards):
        return len(shards()) < len(tensor.metadata().shards_metadata)
    return False
