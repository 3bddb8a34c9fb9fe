"""States to save: random tensors without equal pages, so that nothing can be deduplicated."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

FLOAT_BYTES = 4
PAGE_FLOATS = 1024
WIDTH = 1024

State = dict[str, torch.Tensor]


def random_state(size_bytes: int, *, tensors: int, seed: int = 0) -> State:
    """Return float32 tensors of equal size, ``size_bytes`` together."""
    generator = torch.Generator().manual_seed(seed)
    each = size_bytes // FLOAT_BYTES // tensors
    return {f"layers.{number:03}.weight": torch.randn(each, generator=generator) for number in range(tensors)}


def change(tensors: Iterable[torch.Tensor]) -> None:
    """Change every value in place."""
    for tensor in tensors:
        tensor.add_(1)


def touch(state: Any) -> Any:
    """Read a value from every page of every tensor; return the state."""
    for tensor in _tensors(state):
        flat = tensor.view(-1)
        if flat.numel():
            float(flat[::PAGE_FLOATS].sum() + flat[-1])
    return state


def training_state(size_bytes: int) -> dict[str, Any]:
    """Return a model and its AdamW state, ``size_bytes`` together; a third is the model."""
    layers = max(1, size_bytes // 3 // (WIDTH * WIDTH * FLOAT_BYTES))
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
