"""Receiver of the bytes of one range: verifies each chunk before it counts as arrived."""

import mmap
from collections.abc import Callable, Sequence

from app.core import digests
from app.core.errors import AttemptSuperseded, DigestMismatch, FileNotInCheckpoint, UploadBusy, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Chunk
from app.core.spans import Span
from app.service.state.upload_progress import UploadProgress
from app.service.upload.buffers import Buffers
from app.storage.ports import Partial

BATCH_BYTES = 4 * 1024 * 1024
"""The number of bytes that are buffered before they are hashed and written; a longer chunk is buffered whole."""
_BUFFERS = Buffers()
"""Memory alone, so that no other process needs to know of it."""


class RangeReceiver:
    """Takes the bytes of one range. Not for use by two threads at once.

    The caller writes into `get_buffer` and then calls `buffer_updated`; at most one batch of chunks is in memory. While
    the body pauses, the batch may wait in its file instead, where its bytes do not count as arrived.

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
        self._generation = progress.generation(path)
        self._start = self._next = span.start
        self._stop = span.stop
        self._expected = expected
        self._alive = alive
        self._place = 0
        self._batch: list[Chunk] = []
        self._buffer: mmap.mmap | None = None
        self._is_kept = False  # over a pause
        self._wanted = self._filled = 0
        self._aside = 0  # of the filled bytes, the number of the first ones that are in the file, not in the buffer

    def get_buffer(self) -> memoryview:
        """Give the buffer for the next bytes.

        Raises
        ------
        WrongLength
            There are more bytes than declared.
        """
        if self._filled == self._wanted:
            self._begin_batch()
        return memoryview(self._held())[self._filled : self._wanted]

    def buffer_updated(self, count: int) -> None:
        """Take over bytes that the caller has put into the buffer.

        Raises
        ------
        DigestMismatch
            A chunk does not have its declared digest; it was not written.
        """
        self._filled += count
        if self._filled == self._wanted:
            self._write_batch()

    def pause(self) -> None:
        """Release the buffer until the next bytes come, unless it holds some and few others are kept."""
        if self._buffer is None or self._is_kept:
            return
        if self._filled > self._aside and _BUFFERS.keep():
            self._is_kept = True
        elif self._filled == self._aside or self._put_aside():
            self._drop_buffer()

    def finish(self) -> None:
        """Check the length of a body that has ended; `WrongLength` if it ended too early."""
        if left := self._stop - self._next - self._filled:
            raise WrongLength(f"The body is {left} bytes shorter than declared.")

    def finish_here(self) -> int:
        """Write the rest of a body of undeclared length that has ended; give the number of its bytes."""
        if self._batch and self._filled:
            self._batch, self._wanted = [Chunk(self._filled, "")], self._filled
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
        self._wanted = sum(chunk.length for chunk in self._batch)

    def _held(self) -> mmap.mmap:
        """Give the buffer, after a pause too."""
        if self._is_kept:
            _BUFFERS.resume()
            self._is_kept = False
        if self._buffer is None:
            self._buffer = _BUFFERS.take()
        return self._buffer

    def _put_aside(self) -> bool:
        """Write the bytes of an unfinished batch into their place; False if bytes that arrived are there.

        They were not verified, so they do not count as arrived, and the batch is written again when it is.
        """
        place = Span(self._next, self._next + self._wanted)
        try:
            with self._progress.writing(self._path, place), memoryview(self._held()) as whole:
                self._progress.refuse_replaced(self._path, self._generation)
                if self._progress.has_any(self._path, place):
                    return False
                self._partial.write(self._next + self._aside, whole[self._aside : self._filled])
        except (UploadBusy, FileNotInCheckpoint, AttemptSuperseded):  # `_put` refuses it
            return False
        self._aside = self._filled
        return True

    def _take_back(self, buffer: mmap.mmap) -> None:
        """Read the bytes that were put aside into the buffer."""
        data = self._partial.read(self._next, self._aside)
        if len(data) < self._aside:
            raise OSError(f"{self._path!r} lost bytes that were put aside")
        buffer[: self._aside] = data
        self._aside = 0

    def _write_batch(self) -> None:
        """Verify the batch, then write and record its chunks up to the first wrong one."""
        sound, failed, start = [], None, 0
        if self._aside:
            self._take_back(self._held())
        with memoryview(self._held()) as whole:
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
            self._progress.refuse_replaced(self._path, self._generation)
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
        if self._buffer is not None:
            _BUFFERS.give(self._held())
            self._buffer = None


def _batch(chunks: Sequence[Chunk], place: int) -> list[Chunk]:
    """Give the next chunks, as many as are buffered at once."""
    found, total = [chunks[place]], chunks[place].length
    for chunk in chunks[place + 1 :]:
        total += chunk.length
        if total > BATCH_BYTES:
            break
        found.append(chunk)
    return found
