"""Bytes in memory, or mapped into it, as a source of uploads."""

from collections.abc import Sequence
from typing import Any

from .._api import digests
from .._api.wire import Chunk
from .._runtime.parallel import in_parallel


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
