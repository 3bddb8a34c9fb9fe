"""Safety of loading: refusals of untrusted files, and translation of torch's errors."""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..._runtime import packages
from ..._runtime.interruption import reraise
from ...errors import HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint
from . import formats, zip_directory
from .file_memory import FileMemory

UNFOLDING = 8
"""The factor by which a file may grow when it is decompressed, beside `ALLOWANCE_BYTES`. Torch compresses nothing."""
ALLOWANCE_BYTES = 64 * 1024 * 1024
TOLD_CHARACTERS = 1000
INTERRUPTIONS = (MemoryError, TimeoutError)
"""Errors that are not about the file, such as a lack of memory or an alarm. They are raised unchanged."""
_FOLDER = 0x10
"""The attribute for which torch's reader reads nothing, and returns memory that was never written to."""

_HOW = (
    "If you trust its author, {}load it with weights_only=False; otherwise do not load it, as that would run the code "
    "that it names."
)
_ALLOW = "allow its classes with torch.serialization.add_safe_globals([...]), or "
_IMPORT_FIRST = "It holds tensors of torchao, which allows them when it is imported: import torchao before loading. "
_TRUE = ("1", "y", "yes", "true")


def is_weights_only(asked: bool | None) -> bool:
    """Tell if only weights may be loaded, by the argument and torch's own environment variables."""
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0").lower() in _TRUE:
        return True
    if asked is None:
        return os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0").lower() not in _TRUE
    return bool(asked)


def refuse_unfolding(memory: FileMemory, *, is_untrusted: bool) -> None:
    """Check that a zip file is complete, and needs not much more memory than its size.

    Raises
    ------
    UnsafeCheckpoint, UnreadableCheckpoint
        As `refuse_zip`.
    """
    _records(memory, is_untrusted=is_untrusted, reader="NumPy")


def refuse_zip(memory: FileMemory, *, is_untrusted: bool) -> None:
    """Check that a zip file is complete and one of torch's, and needs not much more memory than its size.

    Raises
    ------
    UnsafeCheckpoint
        It would unfold to far more, and is not trusted.
    UnreadableCheckpoint
        It is damaged, or something else's.
    """
    records = _records(memory, is_untrusted=is_untrusted)
    if (other := formats.detect_in_zip([record.name for record in records])) is not None:
        raise UnreadableCheckpoint(other.refusal)


def _records(memory: FileMemory, *, is_untrusted: bool, reader: str = "torch") -> list[zip_directory.Entry]:
    try:
        records = list(zip_directory.entries(zip_directory.directory_in(memory.bytes, memory.size_bytes)))
    except zip_directory.NotAZip as error:
        raise UnreadableCheckpoint(
            f"{reader} cannot load this checkpoint: it is a damaged zip file ({error})"
        ) from error
    if any(record.attributes & _FOLDER and record.size_bytes for record in records):
        raise UnreadableCheckpoint(f"{reader} cannot load this checkpoint: its zip file calls a record a folder")
    unfolded = sum(record.size_bytes for record in records)
    if is_untrusted and unfolded > UNFOLDING * memory.size_bytes + ALLOWANCE_BYTES:
        raise UnsafeCheckpoint(
            f"This checkpoint has {memory.size_bytes} bytes and would unfold to {unfolded}. {_HOW.format('')}"
        )
    return records


def refuse_tar() -> None:
    """Refuse torch's first format, which needs unrestricted unpickling."""
    raise UnreadableCheckpoint(
        "torch cannot load this checkpoint with weights_only=True: it is a tar file in torch's first format. "
        + _HOW.format("")
    )


@contextmanager
def translate_errors(
    *, is_untrusted: bool, asks_user: bool, passing: type[Exception], is_sound: Callable[[], bool]
) -> Iterator[None]:
    """Translate torch's exceptions into this package's errors.

    Exceptions that the user's code may have raised stay: those of a callable ``map_location``, or of classes in a
    trusted file; and ``passing``.

    Parameters
    ----------
    is_sound : callable
        Tells if the pickle can be read at all, so that weights_only=False would help.
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
                f"torch cannot load this checkpoint: its pickle is damaged. torch says: {_message(error)}"
            ) from error
        if not is_untrusted:
            raise
        if is_refused:
            first = _IMPORT_FIRST if "torchao." in str(error) and "torchao" not in sys.modules else ""
            raise UnsafeCheckpoint(
                "This checkpoint holds more than tensors and plain values, and loading such objects can run code. "
                f"{first}{_HOW.format(_ALLOW)} torch says: {_message(error)}"
            ) from error
        if asks_user or type(error).__name__ == "OutOfMemoryError":
            raise
        raise UnreadableCheckpoint(
            f"torch cannot load this checkpoint: {type(error).__name__}: {_message(error)}"
        ) from error


def _message(error: Exception) -> str:
    """Return torch's message without its general advice; names out of the file are escaped and cut."""
    text = str(error).replace("\033[1m", "").replace("\033[0m", "").rpartition("WeightsUnpickler error: ")[2]
    shown = text[:TOLD_CHARACTERS] + ("..." if len(text) > TOLD_CHARACTERS else "")
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in shown)
