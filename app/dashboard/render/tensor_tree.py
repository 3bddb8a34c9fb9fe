"""Tensors of a checkpoint as a tree of modules, by the components of their names. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.core.models import Tensor

MOST = 5000
"""The most tensors on the page."""
MOST_LEVELS = 32
"""The depth of the tree. The rest of a longer name is one component."""


@dataclass(slots=True)
class Module:
    """A component of names: the tensor of exactly this name, if there is one, and the components below."""

    label: str
    tensor: Tensor | None = None
    below: list["Module"] = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search. ``modules`` holds at most `MOST` tensors."""

    modules: Sequence[Module]
    everything: int
    found: int
    size_bytes: int
    """Bytes of all tensors, found or not."""


def search(tensors: Sequence[tuple[str, Tensor]] | None, text: str) -> SearchResult | None:
    """Search tensors whose names contain every word of a text, ignoring case; None if no tensors are known."""
    if tensors is None:
        return None
    words = text.casefold().split()
    several = len({path for path, _ in tensors}) > 1
    found = [
        (path if several else "", tensor)
        for path, tensor in tensors
        if all(word in tensor.name.casefold() for word in words)
    ]
    total = sum(bytes_of(tensor) for _, tensor in tensors)
    return SearchResult(_tree(found[:MOST]), len(tensors), len(found), total)


def bytes_of(tensor: Tensor) -> int:
    """Return the declared bytes of a tensor."""
    return tensor.size_bytes or 0


def _tree(tensors: Sequence[tuple[str, Tensor]]) -> Sequence[Module]:
    top = Module("")
    known: dict[tuple[str, ...], Module] = {(): top}
    for file, tensor in tensors:
        path: tuple[str, ...] = ()
        for component in (*([file] if file else []), *tensor.name.split(".", MOST_LEVELS)):
            above, path = known[path], (*path, component)
            if path not in known:
                above.below.append(known.setdefault(path, Module(component)))
        known[path].tensor = tensor
        for length in range(len(path) + 1):
            known[path[:length]].count += 1
            known[path[:length]].size_bytes += bytes_of(tensor)
    return [_joined(module) for module in top.below]


def _joined(module: Module) -> Module:
    while module.tensor is None and len(module.below) == 1:
        only = module.below[0]
        module = Module(f"{module.label}.{only.label}", only.tensor, only.below, only.count, only.size_bytes)
    module.below = [_joined(child) for child in module.below]
    return module
