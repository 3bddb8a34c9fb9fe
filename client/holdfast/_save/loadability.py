"""Loadability of what is saved: a warning at the save of what the default load will refuse."""

import io
import re
import sys
from collections.abc import Iterable
from pickle import UnpicklingError
from typing import Any, Protocol

from .._runtime.interruption import reraise
from ..errors import warn

_GLOBAL = re.compile(rb"c([A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n)([qr]?)")
"""The opcode by which a pickle names a class or a function, and the one by which the pickler remembers it."""
_READS = 100_000
"""How far the pickle is read opcode by opcode where a name was found, as that may be a part of a text."""
_SHOWN = 5

_told: set[str] = set()


class _Layout(Protocol):
    def head(self) -> Iterable[bytes]: ...


def tell(directory: str, layout: _Layout) -> None:
    """Warn, once for a directory, where the default load refuses a state that was saved there.

    A save is not failed or slowed by that: one search through the pickle finds what it names.
    """
    if directory in _told:
        return
    try:
        names = refused(b"".join(layout.head()))
    except Exception as error:  # it is a courtesy, which stands on what torch keeps to itself
        reraise(error)
        return
    if names:
        _told.add(directory)
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        warn(
            f"what was saved to {directory!r} holds {shown}, which load() refuses by default, as loading such objects "
            "can run code. Where it is to be loaded, allow them with torch.serialization.add_safe_globals([...]), or "
            "give weights_only=False; or save tensors and plain values in their place."
        )


def refused(head: bytes) -> list[str]:
    """The names in a torch file's beginning, up to its first storage, that torch's ``weights_only`` does not allow."""
    from torch import _weights_only_unpickler as unpickler

    found: dict[str, bool] = {}
    for match in _GLOBAL.finditer(head):
        name = _name(match[1], unpickler)
        found[name] = found.get(name, False) or bool(match[2])
    allowed = {**unpickler._get_allowed_globals(), **unpickler._get_user_allowed_globals()}  # type: ignore[no-untyped-call]
    names = [name for name in found if name not in allowed]
    if not names:
        return []
    start = 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    try:
        real = unpickler.get_globals_in_pkl(_Pickle(head[start:]))
    except _Enough:
        real = {name for name in names if found[name] and _is_known(name)}
    except UnpicklingError:  # an opcode that weights_only does not know, either
        return sorted(names)
    return sorted(set(names) & set(real))


class _Enough(Exception):
    """The pickle has too many opcodes to look at each."""


class _Pickle(io.BytesIO):
    """A pickle that is not read for long."""

    left = _READS

    def read(self, count: int | None = -1, /) -> bytes:
        self.left -= 1
        if not self.left:
            raise _Enough
        return super().read(count)


def _is_known(name: str) -> bool:
    """Whether a module of this process has something of that name."""
    module, _, rest = name.rpartition(".")
    while module and module not in sys.modules:
        module, _, more = module.rpartition(".")
        rest = f"{more}.{rest}"
    found: Any = sys.modules.get(module)
    for part in rest.split("."):
        found = getattr(found, part, None)
    return found is not None


def _name(said: bytes, unpickler: Any) -> str:
    return ".".join(unpickler._read_global_instruction(io.BytesIO(said).readline))
