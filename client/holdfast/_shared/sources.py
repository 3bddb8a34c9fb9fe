"""Sources of files of a shared save: paths, bytes, open files, and torch files that exist only as a layout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from .._torchfile.reader import tensor_index
from .._transfer.file_source import FileSource
from .._transfer.upload_source import MemorySource, Source


@runtime_checkable
class Readable(Protocol):
    """An open binary file."""

    def read(self) -> bytes:
        """Return its bytes from here to its end."""


Given = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Source


def source_of(path: str, given: Given, tensors: list[dict[str, Any]] | None = None) -> Source:
    """Return the source of a file that is to have this path.

    Parameters
    ----------
    tensors : list of dict, optional
        Its tensors. Default: those that are found, if the path has a suffix of files that hold some.

    Raises
    ------
    TypeError
        It is none of the kinds that can be sent.
    OSError
        It cannot be read.
    """
    found = _source(given, is_indexed=tensors is None and path.endswith(tuple(tensor_index.SUFFIXES)))
    if tensors is not None:
        found.tensors = tensors
    return found


def _source(given: Given, *, is_indexed: bool) -> Source:
    if isinstance(given, str | os.PathLike):
        return FileSource(Path(given), is_indexed=is_indexed)
    if isinstance(given, bytes | bytearray | memoryview):
        return _of_bytes(given, is_indexed=is_indexed)
    if hasattr(given, "spans") and hasattr(given, "chunks"):
        return cast(Source, given)
    buffer: Callable[[], memoryview] | None = getattr(given, "getbuffer", None)
    if buffer is not None:
        return _of_bytes(buffer(), is_indexed=is_indexed)
    if isinstance(given, Readable) and isinstance(data := given.read(), bytes):
        return _of_bytes(data, is_indexed=is_indexed)
    raise TypeError(f"a file is given as a path, bytes or a file that is open in binary mode, not as {given!r}")


def _of_bytes(data: bytes | bytearray | memoryview, *, is_indexed: bool) -> MemorySource:
    source = MemorySource(memoryview(data), "the data")
    if is_indexed:
        source.tensors = tensor_index.index_bytes(bytes(data))
    return source
