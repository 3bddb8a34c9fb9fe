"""What a pickle is made of, read without importing or calling anything that it names. Pure."""

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar


class Stub:
    """Stands for any object of a pickle, with whatever it would be made of."""

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
    """Stands for a dictionary of the standard library, which gives for each key what was put there."""


_MAPPINGS = {("collections", "OrderedDict"), ("collections", "defaultdict")}


class BlindUnpickler(pickle._Unpickler):
    """Reads a pickle into plain values and stubs.

    It is the one written in Python, as a few bytes can make the other one take as much memory as there is: that keeps
    its memo in a list, and a pickle says how long. Here memory is bounded by the length of the pickle.

    Parameters
    ----------
    data : bytes or file
        The pickle; of a file, the one that begins where it stands.
    persistent : callable
        What stands for a persistent id.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {**pickle._Unpickler.dispatch}
    del dispatch[pickle.BYTEARRAY8[0]]  # makes room for as many bytes as it says before it looks for them

    def __init__(self, data: Any, persistent: Callable[[Any], Any]) -> None:
        super().__init__(io.BytesIO(data) if isinstance(data, bytes) else data)
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        return Mapped if (module, name) in _MAPPINGS else Stub

    def get_extension(self, code: int) -> None:
        """What a number was registered for may be known to this process already, and is not asked for."""
        self.append(Stub)  # type: ignore[attr-defined]

    def persistent_load(self, reference: Any) -> Any:
        return self._persistent(reference)
