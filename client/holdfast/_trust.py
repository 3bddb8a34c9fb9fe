"""What is not loaded from those who are not trusted, and how that is said."""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from ._memory import Arena
from .errors import HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint

UNFOLDING = 8
"""How many times its own size a file may unfold to, beside `ALLOWANCE_BYTES`. Torch itself compresses nothing."""
ALLOWANCE_BYTES = 64 * 1024 * 1024
TOLD_CHARACTERS = 1000

_ZIP = b"PK\x03\x04"
_HOW = (
    "If you trust whoever wrote it, {}load it with weights_only=False; else leave it alone, as loading it would run "
    "whatever code it names."
)
_ALLOW = "allow its classes with torch.serialization.add_safe_globals([...]), or "


def refuse_bomb(arena: Arena) -> None:
    """See to it that a file takes not much more memory than it has bytes.

    Raises
    ------
    UnsafeCheckpoint
        It would unfold to far more.
    UnreadableCheckpoint
        It begins as a zip file and is none.
    """
    if arena.bytes(0, len(_ZIP)) != _ZIP:
        return
    memory: Any = arena.memory
    memory.seek(0)
    try:
        with zipfile.ZipFile(memory) as archive:
            unfolded = sum(record.file_size for record in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise UnreadableCheckpoint(f"torch cannot load this checkpoint: it is a damaged zip file ({error})") from error
    if unfolded > UNFOLDING * arena.size_bytes + ALLOWANCE_BYTES:
        raise UnsafeCheckpoint(
            f"This checkpoint has {arena.size_bytes} bytes and would unfold to {unfolded}. {_HOW.format('')}"
        )


@contextmanager
def answering(*, is_untrusted: bool, asks_user: bool, passing: type[Exception]) -> Iterator[None]:
    """Turn what torch raises into this package's errors.

    Not what the code of users may have raised: of a ``map_location`` that is asked, or of their own classes where the
    file is trusted; nor ``passing``.
    """
    try:
        yield
    except (passing, HoldfastError, MemoryError, Warning):
        raise
    except Exception as error:
        if not is_untrusted:
            raise
        if isinstance(error, UnpicklingError) or "weights_only" in str(error):
            raise UnsafeCheckpoint(
                "This checkpoint holds more than tensors and plain values, and loading such objects can run code. "
                f"{_HOW.format(_ALLOW)} torch says: {_told(error)}"
            ) from error
        if asks_user or type(error).__name__ == "OutOfMemoryError":
            raise
        raise UnreadableCheckpoint(
            f"torch cannot load this checkpoint: {type(error).__name__}: {_told(error)}"
        ) from error


def _told(error: Exception) -> str:
    """What torch says, without its general advice; names out of the file must neither upset a terminal nor fill it."""
    text = str(error).replace("\033[1m", "").replace("\033[0m", "").rpartition("WeightsUnpickler error: ")[2]
    shown = text[:TOLD_CHARACTERS] + ("..." if len(text) > TOLD_CHARACTERS else "")
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in shown)
