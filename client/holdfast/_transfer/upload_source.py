"""Sources of uploads: files in chunks, and whether to hash one before it is sent. Pure."""

from collections.abc import Sequence
from typing import Any, Protocol

from .._api.wire import Chunk

_SAMPLES = 8


class Source(Protocol):
    """The bytes of a file that is to be sent, in chunks. May be read by several threads.

    Attributes
    ----------
    size_bytes : int
        How long the file is.
    spans : sequence of (int, int)
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        What the file holds, for the server's index.
    """

    size_bytes: int
    tensors: list[dict[str, Any]] | None

    @property
    def spans(self) -> Sequence[tuple[int, int]]: ...

    def read(self, place: int) -> tuple[memoryview, str]:
        """The bytes of a chunk and their BLAKE3 in hex. The bytes hold until this thread reads the next chunk."""

    def chunks(self) -> tuple[Chunk, ...]:
        """Every chunk with its digest."""

    def sample(self, count: int) -> set[str]:
        """The digests of a few chunks."""

    def has_changed(self) -> bool:
        """Whether a chunk is another than it was when it was first read."""


class ReuseHistory:
    """What a writer remembers of its last save: whether the server could reuse any of it, and its chunks."""

    def __init__(self) -> None:
        self.index_limit: int | None = None
        """Of how many tensors the index was too large for the server."""
        self._reused: bool | None = None
        self._digests: set[str] = set()

    def expects_reuse(self, source: Source) -> bool:
        """Whether to hash before sending: always but after a save of which nothing was reused.

        Even then, a few chunks that are the same as last time say that this save is another.
        """
        return self._reused is not False or not source.sample(_SAMPLES).isdisjoint(self._digests)

    def remember(self, source: Source, *, reused: bool) -> None:
        """A save was made."""
        self._reused = reused
        self._digests = {chunk.digest for chunk in source.chunks()}
