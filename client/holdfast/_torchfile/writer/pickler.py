"""A pickler that writes the same bytes as torch does, but plain tensors in a fifth of the time.

Torch takes some 25 µs for each tensor, mostly for steps that change nothing in a plain tensor. Plain tensors are
reduced here, provided that torch reduces a sample to the same bytes.
"""

import copyreg
import functools
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import InvalidRequest
from ..strides import is_non_overlapping_and_dense

_OTHER, _TENSOR, _WRAPPER, _STORAGE, _STORED = range(5)


Described = tuple[Any, str, tuple[int, ...], int, int | None, int]
"""A plain tensor, its type, shape, storage identity, offset in the storage, and size, in bytes.

It begins nowhere (None) if its elements are not one stretch of the storage.
"""


class Observer(Protocol):
    """An observer of the tensors that are not plain."""

    def met_tensor(self, tensor: Any, *, is_wrapper: bool) -> None: ...


class _Stored:
    """A stand-in for the storage of the plain tensor that is being written."""


class _Kinds(dict[type, int]):
    """A table of types: storages, tensors, tensors around others, or none of these."""

    def __missing__(self, kind: type) -> int:
        import torch

        found = _OTHER
        if issubclass(kind, torch.Tensor):
            found = _TENSOR if kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__ else _WRAPPER
        elif issubclass(kind, torch.TypedStorage | torch.UntypedStorage) or kind in torch._storage_classes:
            found = _STORAGE
        self[kind] = found
        return found


class Pickler(pickle.Pickler):
    """A pickler for one state.

    Attributes
    ----------
    storages : dict of str to storage
        The storages that were met, by the keys under which the pickle names them.
    described : dict of int to Described
        The plain tensors that were met, by their ids, which are valid while this object lives.
    """

    def __init__(self, file: io.BytesIO, observer: Observer) -> None:
        from torch.serialization import DEFAULT_PROTOCOL

        super().__init__(file, DEFAULT_PROTOCOL)
        self.storages: dict[str, Any] = {}
        self.described: dict[int, Described] = {}
        self._observer = observer
        self._kinds = _Kinds({_Stored: _STORED})
        self._keys: dict[int, str] = {}
        self._dtypes: dict[int, Any] = {}
        self._stored: Any = None

    def persistent_id(self, value: Any) -> Any:
        """Return the name of a storage; None for any other value, which is pickled normally."""
        kind = self._kinds[type(value)]
        if not kind:
            return None
        if kind == _STORED:
            return self._stored
        if kind == _STORAGE:
            return self._typed(value)
        self._observer.met_tensor(value, is_wrapper=kind == _WRAPPER)
        return None

    def _typed(self, value: Any) -> tuple[Any, ...]:
        """Return the name of a storage that the state holds directly, or that torch made of a tensor."""
        import torch
        from torch.serialization import location_tag

        storage = getattr(value, "_untyped_storage", None)
        if storage is None:
            storage, dtype, length = value, torch.uint8, value.nbytes()
            kind = getattr(torch, type(value).__name__)
        else:
            dtype, length = value.dtype, value._size()
            kind = getattr(torch, value._pickle_storage_type())
        if storage.device.type == "meta":
            raise InvalidRequest("a tensor without data, on the device 'meta', cannot be saved", code="no_data")
        return "storage", kind, self._key(storage, dtype), location_tag(storage), length

    def _key(self, storage: Any, dtype: Any) -> str:
        """Return the key of a storage, and remember the storage."""
        address, identity = storage.data_ptr(), storage._cdata
        if address and self._dtypes.setdefault(address, dtype) != dtype:
            raise RuntimeError(
                "Cannot save tensors or storages of different types that view the same memory: torch cannot load them"
            )
        key = self._keys.get(identity)
        if key is None:
            key = self._keys[identity] = str(len(self._keys))
            self.storages[key] = storage
        return key


class _QuickPickler(Pickler):
    """A pickler that reduces plain tensors itself."""

    def __init__(self, file: io.BytesIO, observer: Observer) -> None:
        import torch
        from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

        super().__init__(file, observer)
        self._kinds[torch.Tensor] = self._kinds[torch.nn.Parameter] = _OTHER  # these reach `reducer_override`
        self._tensor, self._parameter = torch.Tensor, torch.nn.Parameter
        self._rebuild_tensor, self._rebuild_parameter = _rebuild_tensor_v2, _rebuild_parameter
        self._plain = _plain_dtypes()
        self._strided = torch.strided
        self._owner: Any = None
        """The parameter whose data comes next."""

    def reducer_override(self, value: Any) -> Any:
        """Reduce a plain tensor as torch does; leave all other values to their own reducers."""
        kind = type(value)
        if kind is self._tensor:
            owner, self._owner = self._owner, None
            return self._reduced(value, value if owner is None else owner)
        if kind is OrderedDict and not value and not value.__dict__:  # every tensor has one, for hooks
            return kind, ()
        if kind is self._parameter:
            if value.__dict__:
                self._observer.met_tensor(value, is_wrapper=False)
                return NotImplemented
            self._owner = value
            return self._rebuild_parameter, (value.data, value.requires_grad, OrderedDict())
        return NotImplemented

    def _reduced(self, tensor: Any, owner: Any) -> Any:
        dtype = tensor.dtype
        plain = self._plain.get(dtype)
        if plain is None or not self._is_plain(tensor):
            self._observer.met_tensor(owner, is_wrapper=False)
            return NotImplemented
        kind, element_bytes, name = plain
        storage, start, numel = tensor.untyped_storage(), tensor.storage_offset(), tensor.numel()
        shape, held_bytes = tuple(tensor.size()), storage.nbytes()
        is_contiguous, strides = tensor.is_contiguous(), tensor.stride()
        if not is_contiguous or (start + numel) * element_bytes > held_bytes:
            self._observer.met_tensor(owner, is_wrapper=False)
        self._stored = "storage", kind, self._key(storage, dtype), "cpu", held_bytes // element_bytes
        place = start * element_bytes if is_contiguous or is_non_overlapping_and_dense(shape, strides) else None
        self.described[id(owner)] = (owner, name, shape, storage._cdata, place, numel * element_bytes)
        return self._rebuild_tensor, (_NEXT, start, shape, strides, tensor.requires_grad, OrderedDict())

    def _is_plain(self, tensor: Any) -> bool:
        """Tell if torch reduces a tensor to its storage, shape and strides, and nothing else."""
        return (
            tensor.is_cpu
            and tensor.layout is self._strided
            and not tensor.__dict__
            and not tensor._backward_hooks
            and not tensor.is_nested
            and not tensor.is_neg()
        )


_NEXT = _Stored()


@functools.cache
def _plain_dtypes() -> dict[Any, tuple[Any, int, str]]:
    """Return the types of plain tensors, each with the storage class that the pickle names, and its size in bytes."""
    import torch

    names = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64"
    classes = torch.storage._dtype_to_storage_type_map()
    types = [getattr(torch, name) for name in names.split()]
    return {each: (getattr(torch, classes[each]), each.itemsize, str(each).removeprefix("torch.")) for each in types}


def pickler_for(file: io.BytesIO, observer: Observer) -> Pickler:
    """Return a pickler that writes to a file."""
    return (_QuickPickler if _can_be_quick() else Pickler)(file, observer)


def _can_be_quick() -> bool:
    """Tell if only torch reduces tensors here, and this torch does so in the known way."""
    import torch

    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        return False
    kinds = (torch.Tensor, torch.nn.Parameter)
    if any(kind in copyreg.dispatch_table for kind in kinds):
        return False
    return _agrees_with_torch(*(kind.__reduce_ex__ for kind in kinds), torch.Tensor._reduce_ex_internal)


@functools.lru_cache(maxsize=4)
def _agrees_with_torch(*reduce: Callable[..., Any]) -> bool:
    """Tell if a sample has the same pickle as torch gives it, with these methods of its own."""
    import torch

    with torch.inference_mode(False):
        whole = torch.zeros((3, 4), dtype=torch.float32, device="cpu")
        parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64, device="cpu"))
        sample = {"whole": whole, "part": whole.t()[1:], "parameter": parameter, "again": [whole, parameter]}
        sample |= {str(each): torch.zeros((), dtype=each, device="cpu") for each in _plain_dtypes()}
    theirs = _Records()
    torch.serialization._save(sample, theirs, pickle, torch.serialization.DEFAULT_PROTOCOL, False)  # type: ignore[no-untyped-call]
    with io.BytesIO() as ours:
        _QuickPickler(ours, _Blind()).dump(sample)
        return ours.getvalue() == theirs.pickled


class _Blind:
    """An observer that ignores tensors."""

    def met_tensor(self, tensor: Any, *, is_wrapper: bool) -> None: ...


class _Records:
    """A zip writer that keeps only the pickle."""

    pickled = b""

    def write_record(self, name: str, data: Any, size_bytes: int) -> None:
        if name == "data.pkl":
            self.pickled = data
