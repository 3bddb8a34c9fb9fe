"""Everything that is saved by ``torch.save``, and what it means that two loads of it came to the same."""

import dataclasses
import datetime
import enum
import io
import warnings
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


class Tagged(torch.Tensor):
    """A tensor class that some project made for itself."""


@dataclasses.dataclass
class Settings:
    """A dataclass that a script keeps beside its weights."""

    rate: float = 0.1
    weight: torch.Tensor = dataclasses.field(default_factory=lambda: torch.ones(3))


class Colour(enum.Enum):
    """A choice."""

    RED = 1


class Nested:
    """An object that saves and loads a state of its own within its pickle, as some trainers' estimators do."""

    def __init__(self) -> None:
        self.weight = torch.arange(50_000.0)

    def __getstate__(self) -> dict[str, bytes]:
        file = io.BytesIO()
        torch.save(self.weight, file)
        return {"saved": file.getvalue()}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self.weight = torch.load(io.BytesIO(state["saved"]))


Pair = namedtuple("Pair", "left right")


def _storages() -> Any:
    base = torch.arange(1000.0)
    return {
        "base": base,
        "again": base,
        "row": base.view(10, 100)[3],
        "column": base.view(10, 100)[:, 3],
        "apart": base.clone(),
    }


def _complex() -> Any:
    z = torch.randn(500, dtype=torch.complex64)
    return {"conj": z.conj(), "z": z, "neg": torch._neg_view(torch.ones(9)), "imag": z.clone().conj().imag}


def _tied() -> Any:
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8))
    network[1].weight = network[0].weight
    return network


def _attributed() -> Any:
    tensor = torch.ones(70_000)
    tensor.note = "mine"  # type: ignore[attr-defined]
    parameter = nn.Parameter(torch.ones(3))
    parameter.sharded = True  # type: ignore[attr-defined]
    return {"tensor": tensor, "parameter": parameter}


def _itself() -> Any:
    found: list[Any] = [torch.ones(3)]
    found.append(found)
    return {"list": found}


def _optimizer() -> Any:
    network = _tied()
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}


def _dtypes() -> Any:
    every = {found for name in dir(torch) if isinstance(found := getattr(torch, name), torch.dtype)}
    found = {}
    for dtype in sorted((each for each in every if not str(each).startswith(("torch.q"))), key=str):
        try:
            tensor = torch.zeros(600, dtype=torch.uint8).view(dtype)
            saved(tensor)
            found[str(dtype)] = tensor
        except (RuntimeError, TypeError, KeyError):  # quantised and sub-byte types have ways of their own
            continue
    return found


def _quantised() -> Any:
    rows = torch.randn(4, 50)
    return {
        "tensor": torch.quantize_per_tensor(rows, 0.05, 3, torch.qint8),
        "channel": torch.quantize_per_channel(rows, torch.full((4,), 0.1), torch.zeros(4).long(), 0, torch.quint8),
    }


def _sparse() -> Any:
    dense = torch.randn(8, 8).relu()
    return {
        "coo": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 2)),
    }


STATES: dict[str, Callable[[], Any]] = {
    "nothing": dict,
    "a number": lambda: 7,
    "plain values": lambda: {"a": [1, 2.5, None, True], "b": (1 << 70, -1), "c": "text", 3: float("inf"), (1, 2): "k"},
    "bytes": lambda: {"bytes": b"\x00\xff" * 500, "array": bytearray(b"abc"), "complex": 1 + 2j, "set": {1, 2}},
    "collections": lambda: {"ordered": OrderedDict(b=1, a=2), "counter": Counter("abca")},
    "more collections": lambda: {"d": defaultdict(list, a=[1]), "q": deque([1]), "p": Pair(1, torch.ones(2))},
    "a frozen set": lambda: {"a": frozenset({1, 2})},
    "objects": lambda: {"e": Colour.RED, "t": datetime.timedelta(1), "p": Path("a"), "r": range(3), "s": slice(1)},
    "a dataclass": Settings,
    "an estimator": Nested,
    "what torch has": lambda: {"size": torch.Size([1, 2]), "dtype": torch.float16, "device": torch.device("cpu")},
    "a list of itself": _itself,
    "a tensor": lambda: torch.arange(70_000),
    "dtypes": _dtypes,
    "shared storages": _storages,
    "a storage": lambda: {"typed": torch.FloatStorage([1.0, 2.0]), "untyped": torch.ones(3).untyped_storage()},
    "strides": lambda: {"t": torch.randn(30, 20).t(), "e": torch.randn(1, 5).expand(9, 5), "s": torch.arange(90)[::3]},
    "channels last": lambda: {"image": torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)},
    "complex views": _complex,
    "without elements": lambda: {
        "a": torch.zeros(0, 4),
        "b": torch.zeros(3, 0),
        "c": torch.zeros(0),
        "d": torch.ones(3),
    },
    "without dimensions": lambda: {"a": torch.tensor(3.5), "b": torch.tensor(True)},
    "parameters": lambda: {"w": nn.Parameter(torch.randn(9)), "f": nn.Parameter(torch.ones(3), False)},
    "a buffer": lambda: {"b": nn.Buffer(torch.ones(3))},
    "lazy parameters": lambda: {"u": nn.parameter.UninitializedParameter()},
    "gradients wanted": lambda: {"x": torch.randn(5, requires_grad=True)},
    "attributes": _attributed,
    "a tensor class": lambda: {"t": torch.randn(5).as_subclass(Tagged)},
    "sparse": _sparse,
    "quantised": _quantised,
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "meta": lambda: {"m": torch.empty(3, 4, device="meta"), "c": torch.ones(2)},
    "tied weights": lambda: _tied().state_dict(),
    "a module": _tied,
    "a training": _optimizer,
    "numpy scalars": lambda: {"a": np.float64(1.5), "b": np.int64(3)},
    "numpy arrays": lambda: {"a": np.arange(5000), "w": torch.ones(5)},
    "many small tensors": lambda: {f"{n}": torch.full((n % 50 + 1,), float(n)) for n in range(60)},
}


def distributed() -> dict[str, Any]:
    """Tensors of ``torch.distributed``; needs a process group."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(3, 8)).sum().backward()
    optimizer.step()
    more = distribute_tensor(torch.randn(300, 300), mesh, [Replicate()])
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "more": more, "plain": torch.ones(9)}


def archives() -> dict[str, bytes]:
    """Files that torch reads, and not as it writes them today."""
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(3, 3), torch.ones(1, 3)), scripted)
    made = {"TorchScript": scripted.getvalue()}
    for name in ("plain values", "shared storages", "a training", "a dataclass", "sparse", "parameters", "quantised"):
        for protocol in (2, 4):
            made[f"legacy {name} {protocol}"] = saved(
                STATES[name](), _use_new_zipfile_serialization=False, pickle_protocol=protocol
            )
    made["a later protocol"] = saved({"a": torch.ones(3)}, pickle_protocol=4)
    return made


def saved(state: Any, **how: Any) -> bytes:
    """The file of a state as ``torch.save`` writes it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(state, file, **how)
    return file.getvalue()


def differences(one: Any, other: Any, where: str = "it") -> list[str]:
    """In what two states differ; the second is as it should be."""
    found = list(_differences(one, other, where, set()))
    if not found and _sharing(one) != _sharing(other):
        found.append("their tensors share their bytes in other ways")
    return found


def _differences(one: Any, other: Any, where: str, seen: set[int]) -> Iterator[str]:
    if type(one) is not type(other):
        yield f"{where} is a {type(one).__name__} and not a {type(other).__name__}"
    elif id(other) not in seen:
        seen.add(id(other))
        if isinstance(other, torch.Tensor):
            yield from _tensors_differ(one, other, where, seen)
        elif isinstance(other, Mapping):
            if list(one) != list(other):
                yield f"{where} has other keys"
            for key in set(other) & set(one):
                yield from _differences(one[key], other[key], f"{where}[{key!r}]", seen)
        elif isinstance(other, list | tuple | deque):
            if len(one) != len(other):
                yield f"{where} has another length"
            for place, pair in enumerate(zip(one, other, strict=False)):
                yield from _differences(*pair, f"{where}[{place}]", seen)
        elif isinstance(other, torch.UntypedStorage | torch.TypedStorage):
            if one.device != other.device or (one.device.type == "cpu" and one.tolist() != other.tolist()):
                yield f"{where} has other bytes"
        elif isinstance(other, np.ndarray):
            if one.dtype != other.dtype or one.tobytes() != other.tobytes():
                yield f"{where} is another array"
        elif isinstance(other, torch.jit.ScriptModule):
            yield from _differences(dict(one.state_dict()), dict(other.state_dict()), where, seen)
        elif hasattr(other, "__dict__") and not isinstance(other, type | enum.Enum):
            yield from _differences(vars(one), vars(other), f"{where}'s attributes", seen)
        elif one != other:
            yield f"{where} is {one!r} and not {other!r}"


def _tensors_differ(one: torch.Tensor, other: torch.Tensor, where: str, seen: set[int]) -> Iterator[str]:
    if isinstance(other, nn.parameter.UninitializedTensorMixin):
        return
    for fact in ("dtype", "shape", "layout", "requires_grad", "device", "is_quantized", "is_nested"):
        if fact == "shape" and other.is_nested:
            continue
        if getattr(one, fact) != getattr(other, fact):
            yield f"{where}.{fact}: {getattr(one, fact)} and not {getattr(other, fact)}"
            return
    parts = _parts(other)
    if parts is not None:
        yield from _differences(_parts(one), parts, where, seen)
        return
    for fact in ("stride", "storage_offset", "is_conj", "is_neg", "is_inference"):
        if getattr(one, fact)() != getattr(other, fact)():
            yield f"{where}.{fact}: {getattr(one, fact)()} and not {getattr(other, fact)()}"
    if other.device.type == "cpu" and _raw(one) != _raw(other):
        yield f"{where} has other values"
    if other.is_quantized and not torch.equal(one.dequantize(), other.dequantize()):
        yield f"{where} is quantised otherwise"
    yield from _differences(vars(one), vars(other), f"{where}'s attributes", seen)


def _parts(tensor: torch.Tensor) -> Any:
    """The parts of a tensor without a storage of its own."""
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return []
    if hasattr(tensor, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()
        return [[getattr(tensor, name) for name in names], None if tensor.is_nested else str(context)]
    if tensor.is_nested:
        return list(tensor.unbind())
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values(), tensor.is_coalesced()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout is torch.sparse_csc:
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return None


def _raw(tensor: torch.Tensor) -> bytes:
    storage = tensor.untyped_storage()
    return (
        b"" if not storage.nbytes() else torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy().tobytes()
    )


def _sharing(state: Any) -> list[int]:
    """For each tensor with bytes, the first one that has the same storage."""
    first: dict[int, int] = {}
    found = [tensor.untyped_storage() for tensor in tensors(state)]
    return [
        first.setdefault(storage._cdata, place)
        for place, storage in enumerate(found)
        if storage.nbytes() and storage.device.type == "cpu"
    ]


def tensors(state: Any, seen: dict[int, Any] | None = None) -> Iterator[torch.Tensor]:
    """Each tensor of a state, once; `seen` keeps what it names, as a freed object's id is given to another one."""
    seen = {} if seen is None else seen
    if id(state) in seen:
        return
    seen[id(state)] = state
    if isinstance(state, torch.Tensor):
        parts = _parts(state)
        if parts is None:
            yield state
        else:
            yield from tensors(parts, seen)
    elif isinstance(state, Mapping):
        for item in state.values():
            yield from tensors(item, seen)
    elif isinstance(state, list | tuple | deque):
        for item in state:
            yield from tensors(item, seen)
