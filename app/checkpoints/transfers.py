"""What has arrived of the uploads under way: held in memory, and found out anew from the bytes after a restart."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from app import digests
from app.domain import Chunk, Upload, UploadFile
from app.errors import DigestMismatch, UploadBusy, WrongLength
from app.spans import Span, joined
from app.storage.base import Partial, Storage


@dataclass
class Transfer:
    """What has arrived of one upload. ``lock`` guards the bytes on disk and this record of them alike."""

    upload: Upload
    renewed_at: datetime
    lock: threading.RLock = field(default_factory=threading.RLock)
    arrived: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    hashed: dict[str, dict[int, Chunk]] = field(default_factory=dict)
    closed: bool = False

    def close(self, *, wait: bool = True) -> None:
        """Let no more bytes in: what is hashed and sealed from here on stays as it is.

        Raises
        ------
        UploadBusy
            Somebody else has closed it; or, without waiting, bytes are being written or hashed.
        """
        if not self.lock.acquire(blocking=wait):
            raise UploadBusy(f"Upload {self.upload.id} is receiving bytes.")
        try:
            if self.closed:
                raise UploadBusy(f"Upload {self.upload.id} is being committed.")
            self.closed = True
        finally:
            self.lock.release()

    def reopen(self) -> None:
        """The commit was refused: bytes may come again."""
        with self.lock:
            self.closed = False

    def put(self, partial: Partial, path: str, offset: int, data: memoryview, digest: str) -> None:
        """Write bytes whose digest is known, and record them."""
        with self.lock:
            if self.closed:
                raise UploadBusy(f"Upload {self.upload.id} is being committed.")
            partial.write(offset, data)
            self.note(path, offset, Chunk(len(data), digest))

    def note(self, path: str, offset: int, chunk: Chunk) -> None:
        """Record that a chunk lies on disk. Hashes of what it overwrote no longer hold."""
        span = Span(offset, offset + chunk.length)
        self.arrived[path] = joined([*self.arrived.get(path, ()), span])
        kept = {
            start: other
            for start, other in self.hashed.get(path, {}).items()
            if start + other.length <= span.start or start >= span.stop
        }
        self.hashed[path] = {**kept, offset: chunk}

    def chunks_of(self, path: str, size_bytes: int) -> tuple[Chunk, ...] | None:
        """The chunks as they were hashed on arrival, if they make up the whole file."""
        found, offset = [], 0
        hashed = self.hashed.get(path, {})
        while offset < size_bytes:
            chunk = hashed.get(offset)
            if chunk is None:
                return None
            found.append(chunk)
            offset += chunk.length
        return tuple(found) if offset == size_bytes else None


class Transfers:
    """The transfers of all uploads under way."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._guard = threading.Lock()
        self._transfers: dict[str, Transfer] = {}

    def of(self, upload: Upload, now: datetime) -> Transfer:
        """The transfer of an upload. After a restart, what is on disk is hashed rather than trusted."""
        with self._guard:
            transfer = self._transfers.get(upload.id)
            if transfer is not None:
                return transfer
            transfer = self._transfers[upload.id] = Transfer(upload, renewed_at=now)
            transfer.lock.acquire()
        try:
            for file in upload.files:
                if file.chunks is not None:
                    self._recall(transfer, file, file.chunks)
        except BaseException:
            self.forget(upload.id)
            raise
        finally:
            transfer.lock.release()
        return transfer

    @contextmanager
    def retiring(self, upload: Upload, now: datetime) -> Iterator[None]:
        """Let no bytes in and no commit begin while an upload is given up; an exception lets it live on.

        Does not look at what has arrived, and does not wait. `UploadBusy` where a commit or bytes came first.
        """
        with self._guard:
            known = self._transfers.get(upload.id)
            transfer = known or self._transfers.setdefault(upload.id, Transfer(upload, renewed_at=now))
        transfer.close(wait=False)
        try:
            yield
        except BaseException:
            if known is None:
                self.forget(upload.id)
            transfer.reopen()
            raise

    def forget(self, upload_id: str) -> None:
        """The upload has ended."""
        with self._guard:
            self._transfers.pop(upload_id, None)

    def _recall(self, transfer: Transfer, file: UploadFile, chunks: Sequence[Chunk]) -> None:
        offset = 0
        with self._storage.partial(transfer.upload, file.path) as partial:
            size = partial.size_bytes()
            for chunk in chunks:
                if offset >= size:
                    break
                if digests.of_chunk(partial.read(offset, chunk.length)) == chunk.digest:
                    transfer.note(file.path, offset, chunk)
                offset += chunk.length


class Receiver:
    """Takes the bytes of one range as they come; each chunk is verified before it is written.

    At most one chunk and one piece of the body are in memory. Not for use by two threads at once.
    """

    def __init__(
        self,
        transfer: Transfer,
        partial: Partial,
        path: str,
        span: Span,
        expected: Sequence[Chunk] | None,
        cut_at: int,
    ) -> None:
        self._transfer = transfer
        self._partial = partial
        self._path = path
        self._start = self._next = span.start
        self._left = span.stop - span.start
        self._expected = list(expected) if expected is not None else None
        self._cut_at = cut_at
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the body.

        Raises
        ------
        WrongLength
            There is more than was declared.
        DigestMismatch
            A chunk is not the one that was declared; it was not written.
        """
        self._left -= len(data)
        if self._left < 0:
            raise WrongLength("The body is longer than declared.")
        self._buffer += data
        while self._buffer and len(self._buffer) >= self._chunk_length():
            self._settle(self._chunk_length())

    def finish(self) -> None:
        """The body has ended. `WrongLength` when it ended too early."""
        if self._left:
            raise WrongLength(f"The body is {self._left} bytes shorter than declared.")
        self.finish_here()

    def finish_here(self) -> int:
        """The body has ended, and nobody had said how long it would be; how many bytes there were."""
        if self._buffer:
            self._settle(len(self._buffer))
        return self._next - self._start

    def _chunk_length(self) -> int:
        return self._expected[0].length if self._expected else self._cut_at

    def _settle(self, length: int) -> None:
        with memoryview(self._buffer) as whole, whole[:length] as data:
            digest = digests.of_chunk(data)
            if self._expected and self._expected.pop(0).digest != digest:
                raise DigestMismatch(
                    f"The bytes from {self._next} of {self._path!r} do not have the digest that was declared.",
                    file=self._path,
                    offset=self._next,
                    length=length,
                )
            self._transfer.put(self._partial, self._path, self._next, data, digest)
        del self._buffer[:length]
        self._next += length
