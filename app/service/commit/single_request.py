"""Save a checkpoint of one file whose bytes come in one body: reserve, receive and commit without a word between."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from app.core import digests
from app.core.errors import UploadBusy, UploadNotFound, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Checkpoint, Chunk, Save
from app.core.spans import Span
from app.service.commit.commit import Committing
from app.service.commit.publish import Committed
from app.service.upload.abort import Abandoning
from app.service.upload.admission import UNCONDITIONAL, Conditions
from app.service.upload.receive import Receiver
from app.service.upload.reserve import Uploading

_UNDECLARED = Span(0, 1 << 62)  # more than any disk holds


class Shot(Protocol):
    """Takes a body whose length nobody has declared."""

    def room(self) -> memoryview:
        """Where the next bytes go."""

    def took(self, count: int, /) -> None:
        """So many bytes were put there."""

    def reject(self) -> None:
        """The body was not the one that was meant; all of it goes with the upload."""

    def finish(self) -> Committed:
        """The body has ended: what became of it."""


class SingleShot:
    """Saves in one request."""

    def __init__(self, uploading: Uploading, abandoning: Abandoning, committing: Committing) -> None:
        self._uploading = uploading
        self._abandoning = abandoning
        self._committing = committing

    @contextmanager
    def begin(self, save: Save, coming_bytes: int = 0, conditions: Conditions = UNCONDITIONAL) -> Iterator[Shot]:
        """Take the body of a save of one file; an exception leaves nothing of it.

        Parameters
        ----------
        coming_bytes : int
            How long the body says that it is; 0 where it does not.
        conditions : Conditions
            Judged before the body comes, and again at the commit.

        Raises
        ------
        SaveIdReused, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, NoSpace, QuotaExceeded
        """
        reservation = self._uploading.reserve(save, afresh=True)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            yield _Repeat(reservation.checkpoint, save.save_id, self._committing)
            return
        try:
            self._committing.judge(upload, conditions)
            self._uploading.expect(upload, coming_bytes)
            with self._uploading.receive(upload.id, upload.name, _UNDECLARED) as receiver:
                yield _First(upload.id, receiver, self._committing, conditions)
        except BaseException:
            with suppress(UploadNotFound, UploadBusy):
                self._abandoning.abandon(upload.id)
            raise


class _First:
    def __init__(self, upload_id: str, receiver: Receiver, committing: Committing, conditions: Conditions) -> None:
        self._upload_id = upload_id
        self._conditions = conditions
        self._receiver = receiver
        self._committing = committing
        self.room, self.took = receiver.room, receiver.took

    def reject(self) -> None:
        pass

    def finish(self) -> Committed:
        if self._receiver.finish_here() == 0:
            raise WrongLength("The body is empty; with curl, name the file as --data-binary @model.pt.")
        return self._committing.commit(self._upload_id, conditions=self._conditions)


class _Repeat:
    """The save was committed before: the body is hashed, and must be the same."""

    def __init__(self, checkpoint: Checkpoint, save_id: str, committing: Committing) -> None:
        self._checkpoint = checkpoint
        self._save_id = save_id
        self._committing = committing
        self._buffer = memoryview(bytearray(CHUNK_MAX_BYTES))
        self._filled = 0
        self._chunks: list[Chunk] = []

    def room(self) -> memoryview:
        return self._buffer[self._filled :]

    def took(self, count: int, /) -> None:
        self._filled += count
        if self._filled == CHUNK_MAX_BYTES:
            self._cut()

    def reject(self) -> None:
        pass

    def finish(self) -> Committed:
        if self._filled:
            self._cut()
        digest = digests.of_checkpoint([(self._checkpoint.name, digests.of_file(self._chunks))])
        return self._committing.again(self._checkpoint.directory, self._save_id, digest)

    def _cut(self) -> None:
        self._chunks.append(Chunk(self._filled, digests.of_chunk(self._buffer[: self._filled])))
        self._filled = 0
