"""Receiver of the bytes of one range: verifies each chunk before it is written."""

import threading
from collections.abc import Callable, Sequence

from app.core import digests
from app.core.errors import DigestMismatch, UploadBusy, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Chunk
from app.core.spans import Span
from app.service.state.upload_progress import UploadProgress
from app.storage.ports import Partial

BATCH_BYTES = 4 * 1024 * 1024
"""The number of bytes that are buffered before they are hashed and written; a longer chunk is buffered whole."""


class Buffers:
    """A pool of buffers, as the first use of fresh memory is slow. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._guard = threading.Lock()
        self._free: list[bytearray] = []

    def take(self, size_bytes: int) -> bytearray:
        """Take a buffer of at least this size."""
        if size_bytes > BATCH_BYTES:
            return bytearray(size_bytes)
        with self._guard:
            return self._free.pop() if self._free else bytearray(BATCH_BYTES)

    def give(self, buffer: bytearray) -> None:
        """Return a buffer that no view refers to any more."""
        with self._guard:
            if len(buffer) == BATCH_BYTES and len(self._free) < self._most:
                self._free.append(buffer)


_BUFFERS = Buffers(most=8)


class Receiver:
    """Takes the bytes of one range. Not for use by two threads at once.

    The caller puts bytes into `room` and confirms them with `took`; at most one batch of chunks is in memory.

    Parameters
    ----------
    expected : sequence of Chunk, optional
        The chunks of the range; a chunk without a digest is not verified. Without any, the range is cut every 8 MiB.
    alive : callable
        Called for every batch, so that the upload's lease does not expire while bytes come.
    """

    def __init__(
        self,
        progress: UploadProgress,
        partial: Partial,
        path: str,
        span: Span,
        expected: Sequence[Chunk] | None,
        alive: Callable[[UploadProgress], None],
    ) -> None:
        self._progress = progress
        self._partial = partial
        self._path = path
        self._start = self._next = span.start
        self._stop = span.stop
        self._expected = expected
        self._alive = alive
        self._place = 0
        self._batch: list[Chunk] = []
        self._buffer = bytearray()
        self._wanted = self._filled = 0

    def room(self) -> memoryview:
        """Give the buffer for the next bytes.

        Raises
        ------
        WrongLength
            There are more bytes than declared.
        """
        if self._filled == self._wanted:
            self._begin_batch()
        return memoryview(self._buffer)[self._filled : self._wanted]

    def took(self, count: int) -> None:
        """Take over bytes that the caller has put into the buffer.

        Raises
        ------
        DigestMismatch
            A chunk does not have its declared digest; it was not written.
        """
        self._filled += count
        if self._filled == self._wanted:
            self._write_batch()

    def finish(self) -> None:
        """Check the length of a body that has ended; `WrongLength` if it ended too early."""
        if left := self._stop - self._next - self._filled:
            raise WrongLength(f"The body is {left} bytes shorter than declared.")

    def finish_here(self) -> int:
        """Write the rest of a body of undeclared length that has ended; give the number of its bytes."""
        if self._batch and self._filled:
            self._batch = [Chunk(self._filled, "")]
            self._write_batch()
        return self._next - self._start

    def reject(self) -> None:
        """Count the range as missing again: the body does not have its declared digest."""
        self._progress.forget(self._path, Span(self._start, self._next))

    def close(self) -> None:
        """Return the buffer to the pool."""
        self._drop_buffer()

    def _begin_batch(self) -> None:
        left = self._stop - self._next
        if not left:
            raise WrongLength("The body is longer than declared.")
        if self._expected is None:
            self._batch = [Chunk(min(CHUNK_MAX_BYTES, left), "")]
        else:
            self._batch = _batch(self._expected, self._place)
            self._place += len(self._batch)
        self._wanted, self._filled = sum(chunk.length for chunk in self._batch), 0
        if len(self._buffer) < self._wanted:
            self._drop_buffer()
            self._buffer = _BUFFERS.take(self._wanted)

    def _write_batch(self) -> None:
        """Verify the batch, then write and record its chunks up to the first wrong one."""
        sound, failed, start = [], None, 0
        with memoryview(self._buffer) as whole:
            for chunk in self._batch:
                digest = digests.of_chunk(whole[start : start + chunk.length])
                if chunk.digest not in {"", digest}:
                    failed = chunk
                    break
                sound.append(Chunk(chunk.length, digest))
                start += chunk.length
            self._put(whole[:start], sound)
        self._batch, self._wanted, self._filled = [], 0, 0
        if failed is not None:
            raise DigestMismatch(
                f"The bytes from {self._next} of {self._path!r} do not have the digest that was declared.",
                file=self._path,
                offset=self._next,
                length=failed.length,
            )

    def _put(self, data: memoryview, chunks: Sequence[Chunk]) -> None:
        span = Span(self._next, self._next + len(data))
        with self._progress.writing(self._path, span):
            if not (self._batch[0].digest or self._progress.accepts(self._path, self._next, chunks)):
                raise UploadBusy(
                    f"The digests of {self._path!r} were declared meanwhile, and these bytes do not have them."
                )
            if not self._progress.holds(self._path, self._next, chunks):
                self._partial.write(self._next, data)
            self._progress.record(self._path, self._next, chunks)
        self._alive(self._progress)
        self._next = span.stop

    def _drop_buffer(self) -> None:
        _BUFFERS.give(self._buffer)
        self._buffer = bytearray()


def _batch(chunks: Sequence[Chunk], place: int) -> list[Chunk]:
    """Give the next chunks, as many as are buffered at once."""
    found, total = [chunks[place]], chunks[place].length
    for chunk in chunks[place + 1 :]:
        total += chunk.length
        if total > BATCH_BYTES:
            break
        found.append(chunk)
    return found
