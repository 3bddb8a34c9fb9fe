"""The file of one rank in the format of torch.distributed.checkpoint, read from the tensors' own memory."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from ..._api import digests
from ..._api.wire import Chunk
from ..._runtime.parallel import in_parallel
from ..._torchfile.writer.layout import Layout, layout_of
from ..._transfer.upload_source import MemorySource

_SMALL_BYTES = 256 * 1024
"""The size of an item below which it is copied, so that many of them share a chunk."""


class RankFile:
    """Items one after another: tensors as `torch.save` writes each of them, and bytes. A source of uploads.

    Large tensors are read from their own memory, and must not change until the file has been sent.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.tensors: list[dict[str, Any]] | None = []
        self.spans: list[tuple[int, int]] = []
        self._parts: list[Layout | MemorySource] = []
        self._firsts: list[int] = []
        self._small = bytearray()

    def add(self, name: str, item: Any) -> tuple[int, int]:
        """Append a tensor in the memory of the CPU, or bytes; returns its offset and its length, in bytes.

        Parameters
        ----------
        name : str
            The name of the tensor in the state, for the index.
        """
        offset = self.size_bytes
        if isinstance(item, bytes | bytearray | memoryview):
            self._append_small(bytes(item))
            return offset, self.size_bytes - offset
        layout = layout_of(item)
        if self.tensors is not None:
            self.tensors += [{**entry, "name": name, **_moved(entry, offset)} for entry in layout.tensors or ()]
        if layout.size_bytes < _SMALL_BYTES:
            self._append_small(b"".join(_read_all(layout)))
        else:
            self._flush()
            self._append(layout)
        return offset, layout.size_bytes

    def finish(self) -> "RankFile":
        """Complete the file; nothing is added afterwards."""
        self._flush()
        return self

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, valid until this thread reads the next one, and their BLAKE3 in hex."""
        number = bisect_right(self._firsts, place) - 1
        return self._parts[number].read(place - self._firsts[number])

    def chunks(self) -> tuple[Chunk, ...]:
        """Return every chunk with its digest."""
        found: list[str] = [""] * len(self.spans)

        def digest(place: int) -> None:
            found[place] = self.read(place)[1]

        in_parallel(range(len(self.spans)), digest, threads=digests.THREADS)
        return tuple(Chunk(*span, digest) for span, digest in zip(self.spans, found, strict=True))

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""
        return {self.read(place)[1] for place in range(0, len(self.spans), max(1, len(self.spans) // count))}

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""
        return any(part.has_changed() for part in self._parts)

    def _append_small(self, data: bytes) -> None:
        if len(self._small) + len(data) > digests.CHUNK_BYTES:
            self._flush()
        self._small += data
        self.size_bytes += len(data)
        while len(self._small) > digests.CHUNK_BYTES:
            self._add_part(_in_memory(self._small[: digests.CHUNK_BYTES]), self.size_bytes - len(self._small))
            del self._small[: digests.CHUNK_BYTES]

    def _flush(self) -> None:
        if self._small:
            self._add_part(_in_memory(self._small), self.size_bytes - len(self._small))
            self._small.clear()

    def _append(self, layout: Layout) -> None:
        self._add_part(layout, self.size_bytes)
        self.size_bytes += layout.size_bytes

    def _add_part(self, part: Layout | MemorySource, offset: int) -> None:
        self._firsts.append(len(self.spans))
        self._parts.append(part)
        self.spans += [(offset + start, length) for start, length in part.spans]


def _in_memory(data: bytearray) -> MemorySource:
    return MemorySource(memoryview(bytes(data)), "the items")


def _read_all(layout: Layout) -> Iterator[bytes]:
    """Yield the chunks of a file in its order; those between storages need the checksums of the storages."""
    found = {}
    for place in layout.reading_order():
        found[place] = bytes(layout.read(place)[0])
    for place in range(len(layout.spans)):
        yield found[place]


def _moved(entry: dict[str, Any], offset: int) -> dict[str, Any]:
    return {"offset": entry["offset"] + offset} if entry.get("offset") is not None else {}
