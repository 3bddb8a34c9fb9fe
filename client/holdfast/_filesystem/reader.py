"""Reading of files: whole and in part, each chunk verified; or exactly the bytes that are asked for."""

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Self

from .._api import digests
from .._api.retry import READERS_PATIENCE, RetryDeadline, is_transient
from .._api.server import Server, parse_errors, read_into
from .._api.wire import SMALL_CHECKPOINT_BYTES, Checkpoint, FileChunks, Range
from .._transfer import download
from .._transfer.contents import contents_of
from ..errors import CheckpointNotFound, HoldfastError, IntegrityError, ServerUnreachable
from .store import Entry

LARGEST_WINDOW_BYTES = 64 * 1024 * 1024
"""The most bytes that are read ahead of a reader that goes on where it has read before."""
_BUFFER_BYTES = 256 * 1024
_KEPT = 8


class Chunks:
    """The chunks of the checkpoints that were read last. A checkpoint does not change, so they are never stale."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: OrderedDict[str, dict[str, FileChunks]] = OrderedDict()

    def of(self, entry: Entry) -> FileChunks:
        """Return the chunks of a file; `IntegrityError` if they are not those of its digest."""
        found = self._files(entry.checkpoint_id or "").get(entry.inner)
        if found is None:
            raise CheckpointNotFound(f"there is nothing at {entry.path!r} any more", code="file_not_found")
        if digests.of_file(found.chunks) != entry.digest:
            raise IntegrityError(f"the chunks of {entry.path!r} do not match its digest")
        return found

    def knows(self, entry: Entry) -> bool:
        """Tell if the chunks of a file are here."""
        return entry.checkpoint_id in self._known

    def _files(self, checkpoint_id: str) -> dict[str, FileChunks]:
        known = self._known.get(checkpoint_id)
        if known is None:
            with parse_errors():
                facts = Checkpoint.from_json(self._server.ask(f"/v1/checkpoints/{checkpoint_id}"))
            known = {file.path: file for file in contents_of(self._server, facts).files}
            self._known[checkpoint_id] = known
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known


class Reader:
    """The bytes of files of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.chunks = Chunks(server)

    def whole(self, entry: Entry) -> bytes:
        """Return all bytes of a file, verified."""
        if not entry.size_bytes:
            return b""
        if (small := self.small(entry)) is not None:
            return small
        file, memory = self.chunks.of(entry), _Part(0, entry.size_bytes)
        download.into_buffer(self.server, file, 0, entry.size_bytes, memory)
        return bytes(memory.bytes)

    def part(self, entry: Entry, start: int, stop: int) -> bytes:
        """Return exactly these bytes of a file. They are not verified: only whole chunks can be."""
        memory = memoryview(bytearray(stop - start))
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        wanted = Range(entry.inner, "GET", entry.url or "", headers, start, stop - start)
        patience = RetryDeadline(READERS_PATIENCE * self.server.patience_s)
        while True:
            try:
                with self.server.fetch(wanted) as reader:
                    if not read_into(reader, memory):
                        raise ServerUnreachable(f"{entry.path!r} did not arrive completely")
                return bytes(memory)
            except HoldfastError as error:
                if not is_transient(error):
                    raise
                patience.wait(error)

    def small(self, entry: Entry) -> bytes | None:
        """Return a small checkpoint of one file, which the server sends with its facts; None if it does not."""
        is_in_folder = entry.inner != entry.real_path.rpartition("/")[2] or self.chunks.knows(entry)
        if entry.size_bytes > SMALL_CHECKPOINT_BYTES or is_in_folder:
            return None
        facts, attached = self.server.ask_for_small(f"/v1/checkpoints/{entry.checkpoint_id}")
        if attached is None:
            return None
        with parse_errors():
            files = contents_of(self.server, Checkpoint.from_json(facts, attached)).files
        is_right = [file.digest for file in files] == [entry.digest] and all(
            digests.of_chunk(attached.data[chunk.offset : chunk.offset + chunk.length]) == chunk.digest
            for chunk in files[0].chunks
        )
        return bytes(attached.data[: entry.size_bytes]) if is_right else None


class _Part:
    """Memory for a part of a file."""

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.bytes = memoryview(bytearray(length))

    @property
    def stop(self) -> int:
        return self.start + len(self.bytes)

    def view(self, offset: int, length: int) -> memoryview:
        """Return the memory for bytes of the file."""
        return self.bytes[offset - self.start : offset - self.start + length]


class _Raw(io.RawIOBase):
    """A file, read in windows of whole chunks, each verified. A window doubles while reads go on where it ends."""

    def __init__(self, reader: Reader, entry: Entry) -> None:
        self._reader = reader
        self.entry = entry
        self.name, self.mode = entry.path, "rb"
        self._at = 0
        self._window = _Part(0, 0)
        self._ahead = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.entry.size_bytes}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start of the file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._at >= self.entry.size_bytes or not len(view):
            return 0
        if not self._window.start <= self._at < self._window.stop:
            self._move(len(view))
        count = min(len(view), self._window.stop - self._at)
        view[:count] = self._window.view(self._at, count)
        self._at += count
        return count

    def _move(self, length: int) -> None:
        if self._is_small():
            return
        file = self._reader.chunks.of(self.entry)
        starts = [chunk.offset for chunk in file.chunks]
        first = bisect_right(starts, self._at) - 1
        goes_on = self._at == self._window.stop and len(self._window.bytes)
        self._ahead = min(2 * len(self._window.bytes), LARGEST_WINDOW_BYTES) if goes_on else 0
        wanted = self._at + max(min(length, LARGEST_WINDOW_BYTES), self._ahead)
        last = bisect_right(starts, min(wanted, self.entry.size_bytes) - 1) - 1
        start, stop = starts[first], file.chunks[last].offset + file.chunks[last].length
        window = _Part(start, stop - start)
        download.into_buffer(self._reader.server, file, start, stop, window)
        self._window = window

    def _is_small(self) -> bool:
        """Take a small file whole."""
        small = self._reader.small(self.entry)
        if small is not None:
            self._window = _Part(0, 0)
            self._window.bytes = memoryview(small)
        return small is not None


class RemoteFile(io.BufferedReader):
    """A file of a server, open for reading: whatever is read from it is verified.

    Attributes
    ----------
    path : str
        Its path.
    size : int
        Its length, in bytes.
    """

    def __init__(self, reader: Reader, entry: Entry, describe: Callable[[Entry], dict[str, Any]]) -> None:
        super().__init__(_Raw(reader, entry), _BUFFER_BYTES)
        self.path, self.size = entry.path, entry.size_bytes
        self.details = describe(entry)

    def info(self) -> dict[str, Any]:
        """Return the facts of the file."""
        return self.details

    def __enter__(self) -> Self:
        return self
