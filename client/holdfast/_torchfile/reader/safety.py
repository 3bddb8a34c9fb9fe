"""What is not loaded from those who are not trusted, and how that is said."""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..._runtime import packages
from ..._runtime.interruption import reraise
from ...errors import HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint
from . import formats, zip_directory
from .arena import Arena

UNFOLDING = 8
"""How many times its own size a file may unfold to, beside `ALLOWANCE_BYTES`. Torch itself compresses nothing."""
ALLOWANCE_BYTES = 64 * 1024 * 1024
TOLD_CHARACTERS = 1000
INTERRUPTIONS = (MemoryError, TimeoutError)
"""Errors that say nothing of a file: no memory now, or an alarm that went off. Each comes out as itself."""
_FOLDER = 0x10
"""The attribute for which torch's reader reads nothing, and gives out memory that was never written to."""

_HOW = (
    "If you trust whoever wrote it, {}load it with weights_only=False; else leave it alone, as loading it would run "
    "whatever code it names."
)
_ALLOW = "allow its classes with torch.serialization.add_safe_globals([...]), or "
_IMPORT_FIRST = "It holds tensors of torchao, which allows them when it is imported: import torchao before loading. "
_TRUE = ("1", "y", "yes", "true")


def is_weights_only(asked: bool | None) -> bool:
    """Whether nothing but weights may be loaded, by what was asked for and torch's own environment variables."""
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0").lower() in _TRUE:
        return True
    if asked is None:
        return os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() not in _TRUE
    return bool(asked)


def refuse_zip(arena: Arena, *, is_untrusted: bool) -> None:
    """See to it that a zip file is whole and one of torch's, and takes not much more memory than it has bytes.

    Raises
    ------
    UnsafeCheckpoint
        It would unfold to far more, and is not trusted.
    UnreadableCheckpoint
        It is damaged, or something else's.
    """
    try:
        records = list(zip_directory.entries(zip_directory.directory_in(arena.bytes, arena.size_bytes)))
    except zip_directory.NotAZip as error:
        raise UnreadableCheckpoint(f"torch cannot load this checkpoint: it is a damaged zip file ({error})") from error
    if any(record.attributes & _FOLDER and record.size_bytes for record in records):
        raise UnreadableCheckpoint("torch cannot load this checkpoint: its zip file calls a record with bytes a folder")
    unfolded = sum(record.size_bytes for record in records)
    if is_untrusted and unfolded > UNFOLDING * arena.size_bytes + ALLOWANCE_BYTES:
        raise UnsafeCheckpoint(
            f"This checkpoint has {arena.size_bytes} bytes and would unfold to {unfolded}. {_HOW.format('')}"
        )
    if (other := formats.detect_in_zip([record.name for record in records])) is not None:
        raise UnreadableCheckpoint(other.refusal)


def refuse_tar() -> None:
    """Torch's first format can only be loaded by who trusts it."""
    raise UnreadableCheckpoint(
        "torch cannot load this checkpoint with weights_only=True: it is a tar file in torch's first format. "
        + _HOW.format("")
    )


@contextmanager
def translate_errors(
    *, is_untrusted: bool, asks_user: bool, passing: type[Exception], is_sound: Callable[[], bool]
) -> Iterator[None]:
    """Turn what torch raises into this package's errors.

    Not what the code of users may have raised: of a ``map_location`` that is asked, or of their own classes where the
    file is trusted; nor ``passing``.

    Parameters
    ----------
    is_sound : callable
        Whether the pickle can be read at all, so that more trust would help.
    """
    try:
        yield
    except (passing, HoldfastError, *INTERRUPTIONS, Warning):
        raise
    except Exception as error:
        reraise(error)
        if isinstance(error, ModuleNotFoundError) and error.name and not asks_user:
            raise packages.missing(error.name.partition(".")[0], "This checkpoint") from error
        is_refused = isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error)
        if (is_refused or isinstance(error, EOFError)) and not is_sound():
            raise UnreadableCheckpoint(
                f"torch cannot load this checkpoint: its pickle is damaged. torch says: {_told(error)}"
            ) from error
        if not is_untrusted:
            raise
        if is_refused:
            first = _IMPORT_FIRST if "torchao." in str(error) and "torchao" not in sys.modules else ""
            raise UnsafeCheckpoint(
                "This checkpoint holds more than tensors and plain values, and loading such objects can run code. "
                f"{first}{_HOW.format(_ALLOW)} torch says: {_told(error)}"
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
