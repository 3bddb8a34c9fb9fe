"""Check at a save for what a load will refuse, by torch's `weights_only`, or leave out."""

import io
import re
import sys
from collections.abc import Iterable
from pickle import UnpicklingError
from typing import Any, Protocol

from .._runtime.interruption import reraise

_GLOBAL = re.compile(rb"c([A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n)([qr]?)")
"""The opcode by which a pickle names a class or a function, and the one by which the pickler memoizes it."""
_READS = 100_000
"""The number of opcodes that are read if a name was found, as the name may be a part of a text."""
_SHOWN = 5

_searched: set[str] = set()
"""The directories for which refused names were reported."""


class _Layout(Protocol):
    @property
    def warnings(self) -> Iterable[str]: ...
    def head(self) -> Iterable[bytes]: ...


def warnings_of(directory: str, layout: _Layout) -> list[str]:
    """Return what the user should know before a state is loaded that was saved to a directory.

    Names that the default load refuses are reported once for a directory. It fails no save, and takes little time: one
    search through the pickle finds what it names.
    """
    found = list(layout.warnings)
    if directory not in _searched and (names := _refused_in(layout)):
        _searched.add(directory)
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        found.append(
            f"what was saved to {directory!r} holds {shown}, which load() refuses by default, as loading such objects "
            "can run code. Where it is to be loaded, allow them with torch.serialization.add_safe_globals([...]), or "
            "give weights_only=False; or save tensors and plain values in their place."
        )
    return found


def _refused_in(layout: _Layout) -> list[str]:
    try:
        return refused(b"".join(layout.head()))
    except Exception as error:  # best-effort: it relies on private parts of torch
        reraise(error)
        return []


def refused(head: bytes) -> list[str]:
    """Return the names that torch's ``weights_only`` does not allow, of the pickle in a torch file.

    Parameters
    ----------
    head : bytes
        The beginning of the file, up to its first storage.
    """
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
    """Too many opcodes to read each of them."""


class _Pickle(io.BytesIO):
    """A pickle of which a limited number of opcodes is read."""

    left = _READS

    def read(self, count: int | None = -1, /) -> bytes:
        self.left -= 1
        if not self.left:
            raise _Enough
        return super().read(count)


def _is_known(name: str) -> bool:
    """Tell if a module of this process has something of that name."""
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
