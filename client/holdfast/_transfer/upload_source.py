"""Sources of uploads: files in chunks, and the decision to hash one before sending."""

from collections.abc import Sequence
from typing import Any, Protocol

from .._api.wire import Chunk

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
