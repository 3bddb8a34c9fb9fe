"""Save a checkpoint of one file whose bytes come in one body: reserve, receive and commit without a word between."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from app import digests
from app.checkpoints.committing import Committing
from app.checkpoints.recording import Committed
from app.checkpoints.transfers import Receiver
from app.checkpoints.uploading import Uploading
from app.domain import CHUNK_MAX_BYTES, Checkpoint, Chunk, Save
from app.errors import UploadBusy, UploadNotFound, WrongLength
from app.spans import Span

_UNDECLARED = Span(0, 1 << 62)  # more than any disk holds


class Shot(Protocol):
    """Takes a body whose length nobody has declared."""

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes."""

    def finish(self) -> Committed:
        """The body has ended: what became of it."""


class SingleShot:
    """Saves in one request."""

    def __init__(self, uploading: Uploading, committing: Committing) -> None:
        self._uploading = uploading
        self._committing = committing

    @contextmanager
    def begin(self, save: Save) -> Iterator[Shot]:
        """Take the body of a save of one file; an exception leaves nothing of it.

        Raises
        ------
        SaveIdReused, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved
        """
        reservation = self._uploading.reserve(save, afresh=True)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            yield _Repeat(reservation.checkpoint, save.save_id, self._committing)
            return
        try:
            with self._uploading.receive(upload.id, upload.name, _UNDECLARED) as receiver:
                yield _First(upload.id, receiver, self._committing)
        except BaseException:
            with suppress(UploadNotFound, UploadBusy):
                self._uploading.abandon(upload.id)
            raise


class _First:
    def __init__(self, upload_id: str, receiver: Receiver, committing: Committing) -> None:
        self._upload_id = upload_id
        self._receiver = receiver
        self._committing = committing
        self.feed = receiver.feed

    def finish(self) -> Committed:
        if self._receiver.finish_here() == 0:
            raise WrongLength("The body is empty; with curl, name the file as --data-binary @model.pt.")
        return self._committing.commit(self._upload_id)


class _Repeat:
    """The save was committed before: the body is hashed, and must be the same."""

    def __init__(self, checkpoint: Checkpoint, save_id: str, committing: Committing) -> None:
        self._checkpoint = checkpoint
        self._save_id = save_id
        self._committing = committing
        self._buffer = bytearray()
        self._chunks: list[Chunk] = []

    def feed(self, data: bytes | bytearray) -> None:
        self._buffer += data
        while len(self._buffer) >= CHUNK_MAX_BYTES:
            self._cut(CHUNK_MAX_BYTES)

    def finish(self) -> Committed:
        if self._buffer:
            self._cut(len(self._buffer))
        digest = digests.of_checkpoint([(self._checkpoint.name, digests.of_file(self._chunks))])
        return self._committing.again(self._checkpoint.directory, self._save_id, digest)

    def _cut(self, length: int) -> None:
        with memoryview(self._buffer) as whole, whole[:length] as data:
            self._chunks.append(Chunk(length, digests.of_chunk(data)))
        del self._buffer[:length]
