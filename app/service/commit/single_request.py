"""Saves of one file in a single request: reserve, receive and commit in one go."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from app.core import digests
from app.core.errors import UploadBusy, UploadNotFound, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Checkpoint, Chunk, Save
from app.core.spans import Span
from app.service.commit.commit import Commits
from app.service.state.pending_commits import Committed
from app.service.upload.abort import Aborts
from app.service.upload.admission import UNCONDITIONAL, Conditions
from app.service.upload.buffers import fresh
from app.service.upload.receive_range import RangeReceiver
from app.service.upload.reserve import Reservations
from app.service.upload.transfer import LULL_S, Transfers

_UNDECLARED = Span(0, 1 << 62)  # more than any disk holds


class SingleRequestUpload(Protocol):
    """Takes the body of one request, whose length need not be declared."""

    def get_buffer(self) -> memoryview:
        """Give the buffer for the next bytes."""

    def buffer_updated(self, count: int, /) -> None:
        """Take over bytes that the caller has put into the buffer."""

    def pause(self) -> None:
        """Release memory, as the next bytes may be long in coming."""

    def reject(self) -> None:
        """Discard a body whose digest is wrong; its bytes are deleted with the upload."""

    def finish(self) -> Committed:
        """Commit after the end of the body."""


@dataclass
class _Running:
    """A request under way."""

    upload_id: str | None = None
    began_at: float = field(default_factory=time.monotonic)


class SingleRequests:
    """Saves one file per request."""

    def __init__(self, reservations: Reservations, transfers: Transfers, aborts: Aborts, commits: Commits) -> None:
        self._reservations = reservations
        self._transfers = transfers
        self._aborts = aborts
        self._commits = commits
        self._guard = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}
        """The requests of this process by directory and ``save_id``."""

    @contextmanager
    def begin(
        self, save: Save, coming_bytes: int = 0, conditions: Conditions = UNCONDITIONAL
    ) -> Iterator[SingleRequestUpload]:
        """Take the body of a save; an exception in the block aborts the upload.

        A repeat takes the place of an earlier request whose bytes have stopped coming: its client has given it up.

        Parameters
        ----------
        coming_bytes : int
            The declared length of the body; 0 if there is none.
        conditions : Conditions
            Checked before the body is read, and again at the commit.

        Raises
        ------
        UploadBusy
            Another request brings this save just now, or has taken the place of this one.
        SaveIdReused, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, NoSpace, QuotaExceeded
        """
        with self._running_alone(save) as running:
            try:
                with self._upload(save, running, coming_bytes, conditions) as upload:
                    yield upload
            except UploadNotFound as error:
                raise UploadBusy("Another request of this save has taken the place of this one.") from error

    @contextmanager
    def _running_alone(self, save: Save) -> Iterator[_Running]:
        """Refuse a save that another request brings: of several repeats, each would undo what the others began."""
        key, running = (save.directory, save.save_id), _Running()
        with self._guard:
            other = self._running.get(key) if save.save_id else None
            if other is not None and self._is_moving(other):
                raise UploadBusy(f"Another request brings the save {save.save_id!r} just now.")
            self._running[key] = running
        try:
            yield running
        finally:
            self._end(save, running)

    def _end(self, save: Save, running: _Running) -> None:
        """Let another request bring this save."""
        key = (save.directory, save.save_id)
        with self._guard:
            if self._running.get(key) is running:
                del self._running[key]

    def _is_moving(self, running: _Running) -> bool:
        touched_at = self._transfers.touched_at(running.upload_id) if running.upload_id else None
        return (touched_at or running.began_at) > time.monotonic() - LULL_S

    @contextmanager
    def _upload(
        self, save: Save, running: _Running, coming_bytes: int, conditions: Conditions
    ) -> Iterator[SingleRequestUpload]:
        reservation = self._reservations.reserve(save, afresh=True)
        upload = reservation.upload
        if upload is None:
            assert reservation.checkpoint is not None
            self._end(save, running)
            yield _Repeat(reservation.checkpoint, save.save_id, self._commits)
            return
        running.upload_id = upload.id
        try:
            self._commits.check_conditions(upload, conditions)
            self._transfers.announce(upload, coming_bytes)
            with self._transfers.receive(upload.id, upload.name, _UNDECLARED) as receiver:
                yield _First(upload.id, receiver, self._commits, conditions)
        except BaseException:
            with suppress(UploadNotFound, UploadBusy):
                self._aborts.abort(upload.id)
            raise


class _First:
    def __init__(self, upload_id: str, receiver: RangeReceiver, commits: Commits, conditions: Conditions) -> None:
        self._upload_id = upload_id
        self._conditions = conditions
        self._receiver = receiver
        self._commits = commits
        self.get_buffer, self.buffer_updated, self.pause = receiver.get_buffer, receiver.buffer_updated, receiver.pause

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
        self._buffer = memoryview(fresh(CHUNK_MAX_BYTES))
        self._filled = 0
        self._chunks: list[Chunk] = []

    def get_buffer(self) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, count: int, /) -> None:
        self._filled += count
        if self._filled == CHUNK_MAX_BYTES:
            self._cut()

    def pause(self) -> None:
        pass

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
