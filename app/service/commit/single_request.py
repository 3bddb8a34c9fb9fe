"""Saves of one file in a single request: reserve, receive and commit in one go."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from app.core import digests
from app.core.errors import UploadBusy, UploadNotFound, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Checkpoint, Chunk, Save
from app.core.spans import Span
from app.service.commit.commit import Commits
from app.service.state.pending_commits import Committed
from app.service.upload.abort import Aborts
from app.service.upload.admission import UNCONDITIONAL, Conditions
from app.service.upload.receive import Receiver
from app.service.upload.reserve import Reservations
from app.service.upload.uploads import Uploads

_UNDECLARED = Span(0, 1 << 62)  # more than any disk holds


class SingleRequestUpload(Protocol):
    """Takes the body of one request, whose length need not be declared."""

    def room(self) -> memoryview:
        """Give the buffer for the next bytes."""

    def took(self, count: int, /) -> None:
        """Take over bytes that the caller has put into the buffer."""

    def reject(self) -> None:
        """Discard a body whose digest is wrong; its bytes are deleted with the upload."""

    def finish(self) -> Committed:
        """Commit after the end of the body."""


class SingleRequests:
    """Saves one file per request."""

    def __init__(self, reservations: Reservations, uploads: Uploads, aborts: Aborts, commits: Commits) -> None:
        self._reservations = reservations
        self._uploads = uploads
        self._aborts = aborts
        self._commits = commits

    @contextmanager
    def begin(
        self, save: Save, coming_bytes: int = 0, conditions: Conditions = UNCONDITIONAL
    ) -> Iterator[SingleRequestUpload]:
        """Take the body of a save; an exception in the block aborts the upload.

        Parameters
        ----------
        coming_bytes : int
            The declared length of the body; 0 if there is none.
        conditions : Conditions
            Checked before the body is read, and again at the commit.

        Raises
        ------
        SaveIdReused, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, NoSpace, QuotaExceeded
        """
        reservation = self._reservations.reserve(save, afresh=True)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            yield _Repeat(reservation.checkpoint, save.save_id, self._commits)
            return
        try:
            self._commits.check_conditions(upload, conditions)
            self._uploads.announce(upload, coming_bytes)
            with self._uploads.receive(upload.id, upload.name, _UNDECLARED) as receiver:
                yield _First(upload.id, receiver, self._commits, conditions)
        except BaseException:
            with suppress(UploadNotFound, UploadBusy):
                self._aborts.abort(upload.id)
            raise


class _First:
    def __init__(self, upload_id: str, receiver: Receiver, commits: Commits, conditions: Conditions) -> None:
        self._upload_id = upload_id
        self._conditions = conditions
        self._receiver = receiver
        self._commits = commits
        self.room, self.took = receiver.room, receiver.took

    def reject(self) -> None:
        pass

    def finish(self) -> Committed:
        if self._receiver.finish_here() == 0:
            raise WrongLength("The body is empty; with curl, name the file as --data-binary @model.pt.")
        return self._commits.commit(self._upload_id, conditions=self._conditions)


class _Repeat:
    """Hashes the body of a save that was committed before, which must be the same."""

    def __init__(self, checkpoint: Checkpoint, save_id: str, commits: Commits) -> None:
        self._checkpoint = checkpoint
        self._save_id = save_id
        self._commits = commits
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
        return self._commits.repeat(self._checkpoint.directory, self._save_id, digest)

    def _cut(self) -> None:
        self._chunks.append(Chunk(self._filled, digests.of_chunk(self._buffer[: self._filled])))
        self._filled = 0
