"""States of every kind that training jobs save, and what it means that one came back as it was."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

MIB = 1024 * 1024


class Tagged(torch.Tensor):
    """A tensor class that some project made for itself."""


def trained() -> dict[str, Any]:
    """A small network and its optimizer after a step."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(100, 32), nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64)))
    optimizer = torch.optim.AdamW(network.parameters(), amsgrad=True)
    network(torch.arange(100)).square().sum().backward()
    optimizer.step()
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "lr": 1e-3}


def shared() -> dict[str, Any]:
    """Several tensors over the same bytes, in several ways."""
    base = torch.randn(64, 1024)
    return {
        "base": base,
        "again": base,
        "view": base[3:7, ::2],
        "flat": base.view(-1),
        "transposed": base.t(),
        "apart": base.clone(),
    }


def quantized(size: int) -> dict[str, Any]:
    """Quantised tensors, which torch writes in another way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = torch.randn(4, size)
        scales, zeros = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 1, 2, 3])
        return {
            "per tensor": torch.quantize_per_tensor(rows, 0.05, 3, torch.qint8),
            "per channel": torch.quantize_per_channel(rows, scales, zeros, 0, torch.quint8),
            "plain": rows,
        }


def sparse() -> dict[str, Any]:
    """Tensors that mostly are not there."""
    dense = torch.randn(200, 300).relu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "dense": dense}


def of_dtype(dtype: torch.dtype) -> Callable[[], dict[str, Any]]:
    """Tensors of one dtype: small, large and a single value."""

    def make() -> dict[str, Any]:
        numbers = torch.randint(0, 256, (200_000,), dtype=torch.uint8)
        numbers = numbers % 2 if dtype is torch.bool else numbers
        large = numbers.view(dtype)
        return {"large": large, "small": large[:7].clone(), "one": large[0].clone(), "odd": large[1:1001:3]}

    return make


_DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.bool,
]

_STATES: dict[str, Callable[[], Any]] = {
    **{str(dtype): of_dtype(dtype) for dtype in _DTYPES},
    "nothing": dict,
    "no tensors": lambda: {"epoch": 1, "name": "run", "nested": [1, (2.5, None), {"a": b"bytes"}]},
    "a tensor": lambda: torch.randn(300, 300),
    "a list": lambda: [torch.ones(3), torch.zeros(40_000)],
    "an OrderedDict": lambda: OrderedDict(b=torch.ones(30_000), a=torch.zeros(2)),
    "shared storages": shared,
    "a slice of a large base": lambda: {"slice": torch.randn(500_000)[1000:1010]},
    "not contiguous": lambda: {"t": torch.randn(300, 200).t(), "step": torch.arange(90_000)[::3]},
    "expanded": lambda: {"row": torch.randn(1, 5).expand(1000, 5)},
    "channels last": lambda: {"image": torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)},
    "conjugated": lambda: {"z": torch.randn(20_000, dtype=torch.complex64).conj()},
    "without elements": lambda: {"none": torch.zeros(0, 4), "also": torch.zeros(3, 0), "some": torch.ones(3)},
    "without dimensions": lambda: {"a": torch.tensor(3.5), "b": torch.tensor(7), "c": torch.tensor(True)},
    "quantised": lambda: quantized(64),
    "quantised and large": lambda: quantized(50_001),
    "sparse": sparse,
    "parameters": lambda: {"w": nn.Parameter(torch.randn(200, 200)), "b": nn.Parameter(torch.ones(3), False)},
    "with gradients wanted": lambda: {"x": torch.randn(50_000, requires_grad=True), "y": torch.randn(3)},
    "a model and its optimizer": trained,
    "a large pickle": lambda: {"log": [{"step": n, "text": f"at {n}"} for n in range(5_000)], "w": torch.ones(9)},
    "many small tensors": lambda: {f"layer.{n}.bias": torch.full((n % 50 + 1,), float(n)) for n in range(500)},
    "many of all sizes": lambda: {f"{n}": torch.randn(n * 1237 % 40_000) for n in range(60)},
    "not of whole pages": lambda: {f"{n}": torch.randint(0, 9, (65_536 + n,), dtype=torch.uint8) for n in (1, 4095)},
    "just large, just small": lambda: {f"{n}": torch.ones(n, dtype=torch.uint8) for n in (65_535, 65_536, 69_632)},
    "larger than a chunk": lambda: {"w": torch.randn(9 * MIB // 4 + 1), "v": torch.randn(4 * MIB // 4)},
    "as large as the padding before it": lambda: {"a": torch.ones(4030, dtype=torch.uint8)},
}

_TRUSTED: dict[str, Callable[[], Any]] = {
    "numpy arrays": lambda: {"a": np.arange(50_000), "b": np.float32(1.5), "w": torch.ones(50_000)},
    "a tensor class": lambda: {"t": torch.randn(50_000).as_subclass(Tagged)},
    "a whole module": lambda: {"m": nn.Sequential(nn.Linear(200, 200), nn.ReLU())},
}

STATES = [pytest.param(make, id=name) for name, make in _STATES.items()]
"""States that hold nothing but what every load may hold."""
TRUSTED_STATES = [pytest.param(make, id=name) for name, make in _TRUSTED.items()]
"""States that are loaded with ``weights_only=False`` only."""


def assert_same(found: Any, state: Any) -> None:
    """That a state came back: values, dtypes, shapes, strides, and which tensors share their bytes."""
    _assert_alike(found, state, "state")
    assert _sharing(found) == _sharing(state)


def _assert_alike(found: Any, wanted: Any, where: str) -> None:
    assert type(found) is type(wanted), where
    if isinstance(wanted, torch.Tensor):
        _assert_same_tensor(found, wanted, where)
    elif isinstance(wanted, nn.Module):
        _assert_alike(found.state_dict(), wanted.state_dict(), where)
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted), where
    elif isinstance(wanted, Mapping):
        assert list(found) == list(wanted), where
        for key, item in wanted.items():
            _assert_alike(found[key], item, f"{where}[{key!r}]")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            _assert_alike(one, other, f"{where}[{place}]")
    else:
        assert found == wanted, where


def _assert_same_tensor(found: torch.Tensor, wanted: torch.Tensor, where: str) -> None:
    for fact in ("dtype", "shape", "layout", "requires_grad"):
        assert getattr(found, fact) == getattr(wanted, fact), (where, fact)
    if wanted.layout is not torch.strided:
        for one, other in zip(_parts(found), _parts(wanted), strict=True):
            _assert_same_tensor(one, other, where)
        return
    assert (found.stride(), found.storage_offset()) == (wanted.stride(), wanted.storage_offset()), where
    assert found.is_conj() == wanted.is_conj(), where
    assert raw(found) == raw(wanted), where
    if wanted.is_quantized:
        assert found.qscheme() == wanted.qscheme()
        assert torch.equal(found.dequantize(), wanted.dequantize()), where


def raw(tensor: torch.Tensor) -> bytes:
    """All bytes of a tensor's storage."""
    storage = tensor.untyped_storage()
    return b"" if storage.nbytes() == 0 else torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


def strided(state: Any) -> Iterator[torch.Tensor]:
    """Every tensor of a state that has a storage of its own, or a part of one."""
    if isinstance(state, torch.Tensor):
        yield from [state] if state.layout is torch.strided else _parts(state)
    elif isinstance(state, nn.Module):
        yield from strided(dict(state.state_dict()))
    elif isinstance(state, Mapping):
        for item in state.values():
            yield from strided(item)
    elif isinstance(state, list | tuple):
        for item in state:
            yield from strided(item)


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]


def _sharing(state: Any) -> list[int]:
    """For each tensor, the first one that has the same storage."""
    first: dict[int, int] = {}
    addresses = [tensor.untyped_storage()._cdata for tensor in strided(state)]
    return [first.setdefault(address, place) for place, address in enumerate(addresses)]
