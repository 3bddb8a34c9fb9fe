"""Sources of uploads: files in chunks, bytes in memory, and the decision to hash one before sending."""

from collections.abc import Sequence
from typing import Any, Protocol

from .._api import digests
from .._api.wire import Chunk
from .._runtime.parallel import in_parallel

_SAMPLES = 8


class Source(Protocol):
    """The bytes of a file to be sent, in chunks. Thread-safe.

    Attributes
    ----------
    size_bytes : int
        The length of the file.
    spans : sequence of (int, int)
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        The tensors of the file, for the server's index.
    """

    size_bytes: int
    tensors: list[dict[str, Any]] | None

    @property
    def spans(self) -> Sequence[tuple[int, int]]: ...

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, valid until this thread reads the next one, and their BLAKE3 in hex."""

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with its digest."""

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""


class Readable(Source, Protocol):
    """A source that knows in which order its chunks are read fastest."""

    def reading_order(self) -> list[int]:
        """Return the places of all chunks in that order."""


class MemorySource:
    """The bytes of a buffer, which must not change until they are sent.

    Parameters
    ----------
    data : buffer
        The bytes of the file.
    what : str
        The name of the file in messages.
    """

    tensors: list[dict[str, Any]] | None = None

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = data.cast("B") if data.nbytes else memoryview(b"")
        self.what = what
        self.size_bytes = data.nbytes
        starts = range(0, self.size_bytes, digests.CHUNK_BYTES)
        self.spans: Sequence[tuple[int, int]] = [
            (start, min(digests.CHUNK_BYTES, self.size_bytes - start)) for start in starts
        ]
        self._digests: dict[int, str] = {}

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, and the BLAKE3 of the bytes that were read first."""
        view = self._view(place)
        if place not in self._digests:
            self._digests[place] = digests.of_chunk(view)
        return view, self._digests[place]

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with its digest; hash the remaining ones on several threads."""
        unread = [place for place in range(len(self.spans)) if place not in self._digests]
        in_parallel(unread, self.read, threads=digests.THREADS)
        return tuple(Chunk(*span, self._digests[place]) for place, span in enumerate(self.spans))

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""
        places = range(len(self.spans))[:: max(1, len(self.spans) // count)][:count]
        return {self.read(place)[1] for place in places}

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""
        return any(digests.of_chunk(self._view(place)) != digest for place, digest in self._digests.items())

    def _view(self, place: int) -> memoryview:
        offset, length = self.spans[place]
        return self._data[offset : offset + length]


class ReuseHistory:
    """The last save of a writer: its chunks, and whether the server had any of them."""

    def __init__(self) -> None:
        self.index_limit: int | None = None
        """The number of tensors of an index that was too large for the server."""
        self.takes_small_saves = True
        """False once a server has refused to take facts and bytes in one request."""
        self._reused: bool | None = None
        self._digests: set[str] = set()

    def expects_reuse(self, source: Source) -> bool:
        """Tell if hashing before sending is likely to pay: always, except after a save of which nothing was reused.

        Even then, hash if a few chunks are the same as in the last save.
        """
        return self._reused is not False or not source.sample(_SAMPLES).isdisjoint(self._digests)

    def remember(self, source: Source, *, reused: bool) -> None:
        """Remember a save."""
        self._reused = reused
        self._digests = {chunk.digest for chunk in source.chunks()}
