"""An unpickler that puts stubs for objects: it imports and calls nothing that a pickle names. Pure."""

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar


class Stub:
    """A stand-in for any object of a pickle, with the parts it would be made of."""

    parts: list[Any]
    items: dict[Any, Any]

    def __new__(cls, *parts: Any, **named: Any) -> "Stub":  # a pickle may leave out __init__
        self = super().__new__(cls)
        self.parts, self.items = [*parts, named], {}
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def append(self, value: Any) -> None:
        self.parts.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self.parts.extend(values)

    add = append


class Mapped(Stub):
    """A stand-in for a dictionary of the standard library."""


_MAPPINGS = {("collections", "OrderedDict"), ("collections", "defaultdict")}


class StubUnpickler(pickle._Unpickler):
    """An unpickler that returns plain values and stubs.

    It derives from the one written in Python, whose memory is bounded by the length of the pickle. The one in C keeps
    its memo in a list whose length the pickle chooses, so a few bytes can exhaust the memory.

    Parameters
    ----------
    data : bytes or file
        The pickle; of a file, the one at its current position.
    persistent : callable
        Returns the value for a persistent id.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {**pickle._Unpickler.dispatch}
    del dispatch[pickle.BYTEARRAY8[0]]  # it would allocate as many bytes as the pickle claims before looking for them

    def __init__(self, data: Any, persistent: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data) if isinstance(data, bytes) else data)
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        return Mapped if (module, name) in _MAPPINGS else Stub

    def get_extension(self, code: int) -> None:
        """Push a stub: the registry of extensions belongs to this process and is not consulted."""
        self.append(Stub)  # type: ignore[attr-defined]

    def persistent_load(self, reference: Any) -> Any:
        return self._persistent(reference)
