"""Take the bytes of one range as they come: each chunk is verified before it is written."""

import threading
from collections.abc import Callable, Sequence

from app.core import digests
from app.core.errors import DigestMismatch, UploadBusy, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Chunk
from app.core.spans import Span
from app.service.state.upload_progress import Transfer
from app.storage.port import Partial

BATCH_BYTES = 4 * 1024 * 1024
"""How many bytes are gathered before they are hashed and written; a longer chunk is gathered whole."""


class Buffers:
    """Buffers to gather bytes in, used again and again, as fresh memory is slow."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._guard = threading.Lock()
        self._free: list[bytearray] = []

    def take(self, size_bytes: int) -> bytearray:
        """A buffer of at least this size."""
        if size_bytes > BATCH_BYTES:
            return bytearray(size_bytes)
        with self._guard:
            return self._free.pop() if self._free else bytearray(BATCH_BYTES)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back that nobody looks into any more."""
        with self._guard:
            if len(buffer) == BATCH_BYTES and len(self._free) < self._most:
                self._free.append(buffer)


_BUFFERS = Buffers(most=8)


class Receiver:
    """Takes the bytes of one range. Not for use by two threads at once.

    Whoever has bytes puts them into `room` and says so by `took`; no more than one batch of chunks is in memory.

    Parameters
    ----------
    expected : sequence of Chunk, optional
        The chunks of the range; one without a digest is taken as it comes. Without them, the range is cut every 8 MiB.
    alive : callable
        Told of every batch, so that the upload's lease does not end while bytes come.
    """

    def __init__(
        self,
        transfer: Transfer,
        partial: Partial,
        path: str,
        span: Span,
        expected: Sequence[Chunk] | None,
        alive: Callable[[Transfer], None],
    ) -> None:
        self._transfer = transfer
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
        """Where the next bytes go.

        Raises
        ------
        WrongLength
            There is more than was declared.
        """
        if self._filled == self._wanted:
            self._begin_batch()
        return memoryview(self._buffer)[self._filled : self._wanted]

    def took(self, count: int) -> None:
        """So many bytes have been put into the room.

        Raises
        ------
        DigestMismatch
            A chunk is not the one that was declared; it was not written.
        """
        self._filled += count
        if self._filled == self._wanted:
            self._settle()

    def finish(self) -> None:
        """The body has ended. `WrongLength` when it ended too early."""
        if left := self._stop - self._next - self._filled:
            raise WrongLength(f"The body is {left} bytes shorter than declared.")

    def finish_here(self) -> int:
        """The body has ended, and nobody had said how long it would be; how many bytes there were."""
        if self._batch and self._filled:
            self._batch = [Chunk(self._filled, "")]
            self._settle()
        return self._next - self._start

    def reject(self) -> None:
        """Forget what came: the body was not the one that was meant."""
        self._transfer.disown(self._path, Span(self._start, self._next))

    def close(self) -> None:
        """Nothing more comes."""
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

    def _settle(self) -> None:
        """Verify the batch, write as much of it as is right, and record that."""
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
        with self._transfer.writing(self._path, span):
            if not (self._batch[0].digest or self._transfer.takes(self._path, self._next, chunks)):
                raise UploadBusy(
                    f"The digests of {self._path!r} were told meanwhile, and these bytes do not have them."
                )
            if not self._transfer.holds(self._path, self._next, chunks):
                self._partial.write(self._next, data)
            self._transfer.note(self._path, self._next, chunks)
        self._alive(self._transfer)
        self._next = span.stop

    def _drop_buffer(self) -> None:
        _BUFFERS.give(self._buffer)
        self._buffer = bytearray()


def _batch(chunks: Sequence[Chunk], place: int) -> list[Chunk]:
    """The next chunks, as many as are gathered at once."""
    found, total = [chunks[place]], chunks[place].length
    for chunk in chunks[place + 1 :]:
        total += chunk.length
        if total > BATCH_BYTES:
            break
        found.append(chunk)
    return found
