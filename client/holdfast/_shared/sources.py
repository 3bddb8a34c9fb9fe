"""Sources of files of a shared save: paths, bytes, open files, and torch files that exist only as a layout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from .._api import digests
from .._api.wire import Chunk
from .._runtime.parallel import in_parallel
from .._torchfile.reader import tensor_index
from .._transfer.file_source import FileSource
from .._transfer.upload_source import Source


@runtime_checkable
class Readable(Protocol):
    """An open binary file."""

    def read(self) -> bytes:
        """Return its bytes from here to its end."""


Given = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Source


class BytesSource:
    """Bytes in memory, which must not change until they are sent."""

    what = "the data"

    def __init__(self, data: bytes | bytearray | memoryview, *, is_indexed: bool = False) -> None:
        self._view = memoryview(data).cast("B")
        self.size_bytes = len(self._view)
        starts = range(0, self.size_bytes, digests.CHUNK_BYTES)
        self.spans = [(start, min(digests.CHUNK_BYTES, self.size_bytes - start)) for start in starts]
        self._digests: list[str | None] = [None] * len(self.spans)
        self.tensors: list[dict[str, Any]] | None = tensor_index.index_bytes(bytes(self._view)) if is_indexed else None

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, and the BLAKE3 that they had at first."""
        view = self._chunk(place)
        digest = self._digests[place]
        if digest is None:
            digest = self._digests[place] = digests.of_chunk(view)
        return view, digest

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with its digest."""
        unread = [place for place, digest in enumerate(self._digests) if digest is None]
        in_parallel(unread, self.read, threads=digests.THREADS if len(unread) > 1 else 1)
        return tuple(Chunk(*span, self.read(place)[1]) for place, span in enumerate(self.spans))

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""
        return {self.read(place)[1] for place in range(len(self.spans))[:count]}

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""
        known = [(place, digest) for place, digest in enumerate(self._digests) if digest is not None]
        return any(digests.of_chunk(self._chunk(place)) != digest for place, digest in known)

    def _chunk(self, place: int) -> memoryview:
        offset, length = self.spans[place]
        return self._view[offset : offset + length]


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
        return BytesSource(given, is_indexed=is_indexed)
    if hasattr(given, "spans") and hasattr(given, "chunks"):
        return cast(Source, given)
    buffer: Callable[[], memoryview] | None = getattr(given, "getbuffer", None)
    if buffer is not None:
        return BytesSource(buffer(), is_indexed=is_indexed)
    if isinstance(given, Readable) and isinstance(data := given.read(), bytes):
        return BytesSource(data, is_indexed=is_indexed)
    raise TypeError(f"a file is given as a path, bytes or a file that is open in binary mode, not as {given!r}")
