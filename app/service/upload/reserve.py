"""Reserve, receive and look at an upload: everything of a save before its commit."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from secrets import token_hex
from typing import Any, NamedTuple

from app.catalog import Session
from app.core import batches, digests, names, spans
from app.core.access import Access
from app.core.errors import (
    FileNotInCheckpoint,
    NameTaken,
    NoSpace,
    NotReady,
    RangeMisaligned,
    SaveIdReused,
    TooManyUploads,
    WrongLength,
)
from app.core.models import Checkpoint, Chunk, Directory, Save, Upload, UploadFile
from app.core.spans import Span
from app.service.state.context import Context, Rules
from app.service.state.lookup import known_checkpoint, known_upload, no_upload
from app.service.state.open_uploads import Transfers
from app.service.state.quota_claims import Allowance
from app.service.state.upload_progress import Transfer
from app.service.upload.abort import Abandoning
from app.service.upload.admission import refuse_impossible
from app.service.upload.disk_space import Space
from app.service.upload.idempotency import earlier_name, repeated, same_promise
from app.service.upload.receive import Receiver
from app.service.upload.receive_batch import BatchReceiver

logger = logging.getLogger("holdfast")

LULL_S = 3.0
"""How long after its last bytes an upload is waited for when the server stops, in seconds."""
_NO_BYTES = Span(0, 0)
RENEWED_EVERY = timedelta(minutes=1)


class Missing(NamedTuple):
    """A range of an upload that has not arrived."""

    path: str
    span: Span


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The missing part of an upload: the first ranges in the order of its files, and how much it is in all."""

    ranges: Sequence[Missing] = ()
    count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """An upload and what it still lacks, or the checkpoint that the same save became earlier."""

    upload: Upload | None = None
    missing: Shortfall = Shortfall()
    checkpoint: Checkpoint | None = None
    is_new: bool = False

    @property
    def name(self) -> str:
        """The name of the checkpoint, to be or already there."""
        found = self.upload or self.checkpoint
        assert found is not None, "a reservation is an upload or a checkpoint"
        return found.name


class Uploading:
    """Uploads from the reservation to the last byte."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        transfers: Transfers,
        space: Space,
        allowance: Allowance,
        abandoning: Abandoning,
        finish_earlier: Callable[[str], None],
    ) -> None:
        self._context = context
        self._rules = rules
        self._transfers = transfers
        self._space = space
        self._allowance = allowance
        self._abandoning = abandoning
        self._finish_earlier = finish_earlier

    def reserve(self, save: Save, *, afresh: bool = False) -> Reservation:
        """Promise a place for a save, judging it before any byte is sent.

        The same ``save_id`` and content gives the same upload, or the checkpoint that it became. With ``afresh``, an
        unfinished upload of this save is dropped and begun again. A save's place in the order is fixed by its first
        reservation: a writer that is stopped before its commit never overtakes work that began later.

        Raises
        ------
        SaveIdReused
            The ``save_id`` was used for other content.
        ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved
        NoSpace
            What it declares does not fit on the disk.
        QuotaExceeded
            It would be more than a quota allows.
        TooLarge
            It declares too much at once.
        NotReady
            The server is stopping.
        TooManyUploads
            Of the same token, so many are under way.
        """
        if self._context.is_stopping:
            raise NotReady("The server is stopping; it finishes what has begun and takes nothing new.")
        self._rules.limits.admit(save)
        save = replace(save, save_id=save.save_id or token_hex(16))
        dropped = None
        self._finish_earlier(save.directory)  # what is sealed would look like an obstacle, or like an upload
        # Under the directory's lock, as a commit under way would look like a foreign file.
        with (
            self._context.catalog.lock(save.directory),
            ExitStack() as undo,
            self._context.catalog.writing() as session,
        ):
            save = self._completed(session, save)
            if saved := session.uploads.saved(save.directory, save.save_id):
                return Reservation(checkpoint=repeated(session, save, saved))
            upload = session.uploads.of_save(save.directory, save.save_id)
            if upload is not None and afresh:
                undo.enter_context(self._transfers.retiring(upload))
                self._abandoning.give_up(session, upload)
                self._allowance.drop(upload.id)
                upload, dropped = None, upload
            is_new = upload is None
            if upload is None:
                place = dropped.saved_after if dropped is not None else None
                upload = self._begin(session, save, place, undo)
            elif not same_promise(upload, save):
                raise SaveIdReused(f"The save_id {save.save_id!r} is in use for other content.")
            else:
                upload = self._resume(session, upload, save)
        if dropped is not None:
            self._abandoning.discard(dropped)
        self._transfers.learn(upload, is_new=is_new)
        missing = self.missing(upload)
        try:
            self._space.admit_rest(upload, missing.size_bytes)
        except NoSpace:
            if is_new:
                self._abandoning.abandon(upload.id)
            raise
        return Reservation(self._renewed(upload), missing, is_new=is_new)

    def reach(self, access: Access, upload_id: str) -> None:
        """`UploadNotFound` unless that is an upload, or was one, for a directory within reach."""
        with self._context.catalog.reading() as session:
            directory = session.uploads.directory_of(upload_id)
        if directory is None or not access.reaches(directory):
            raise no_upload(upload_id)

    def get(self, upload_id: str) -> Reservation:
        """An upload and what it still lacks, its lease renewed; or the checkpoint that it became."""
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return Reservation(checkpoint=known_checkpoint(session, saved.checkpoint_id))
            upload = known_upload(session, upload_id)
        return Reservation(self._renewed(upload), self.missing(upload))

    def expect(self, upload: Upload, coming_bytes: int) -> None:
        """So many bytes are about to come of a file whose size is not declared.

        Raises
        ------
        NoSpace, QuotaExceeded
        """
        self._transfers.of(upload).coming_bytes = coming_bytes
        self._allowance.moved(upload, coming_bytes)
        self._space.admit(coming_bytes, upload_id=upload.id)

    @contextmanager
    def receive(self, upload_id: str, path: str, span: Span) -> Iterator[Receiver]:
        """Take the bytes of a range; whoever enters feeds the receiver and finishes it.

        Raises
        ------
        UploadNotFound, FileNotInCheckpoint
        WrongLength
            The range reaches beyond the file.
        RangeMisaligned
            Chunks were declared and the range does not consist of whole ones.
        NoSpace
        """
        transfer = self._transfers.known(upload_id) or self._transfers.of(self._found(upload_id))
        self._keep_alive(transfer)
        file = transfer.file(path)
        if file is None:
            raise FileNotInCheckpoint(f"The upload has no file {path!r}.")
        expected = _expected(file, span)
        with ExitStack() as stack:
            try:
                with transfer.writing(path, _NO_BYTES):  # not while it is published, as this may make the file
                    partial = stack.enter_context(self._context.storage.partial(transfer.upload, file.path))
            except FileNotFoundError as error:
                raise no_upload(upload_id) from error
            if file.size_bytes is not None:
                left = max(0, file.size_bytes - partial.allocated_bytes())
                self._space.admit(min(left, span.stop - span.start), upload_id=upload_id)
                with transfer.writing(path, span):  # not after the commit has looked at the file
                    partial.allocate(span)
            receiver = Receiver(transfer, partial, path, span, expected, self._keep_alive)
            stack.callback(receiver.close)
            yield receiver

    @contextmanager
    def receive_batch(self, upload_id: str, places: Sequence[int], length: int) -> Iterator[BatchReceiver]:
        """Take the bytes of several small files, by their places in the order in which they were declared.

        Raises
        ------
        UploadNotFound, FileNotInCheckpoint
        TooLarge
            They are more than one request may hold.
        WrongLength
            They have more or fewer bytes in all.
        NoSpace
        """
        transfer = self._transfers.known(upload_id) or self._transfers.of(self._found(upload_id))
        files = transfer.upload.files
        if places[-1] >= len(files):
            raise FileNotInCheckpoint(f"The upload has {len(files)} files, and so none at {places[-1]}.")
        wanted = [files[place] for place in places]
        batches.refuse_large([file.size_bytes or 0 for file in wanted])
        receiver = BatchReceiver(transfer, self._context.storage, wanted, length)
        self._keep_alive(transfer)
        self._space.admit(length, upload_id=upload_id)
        try:
            yield receiver
        except FileNotFoundError as error:
            raise no_upload(upload_id) from error
        self._keep_alive(transfer)

    def missing(self, upload: Upload) -> Shortfall:
        """The ranges of an upload that have not arrived; listed are no more than an answer may have."""
        transfer = self._transfers.of(upload)
        limit = self._context.storage.range_max_bytes
        listed: list[Missing] = []
        count = size_bytes = 0
        for file in upload.files:
            found = transfer.missing(file, limit)
            listed += [Missing(file.path, span) for span in found[: self._rules.limits.ranges - len(listed)]]
            count += len(found)
            size_bytes += spans.total(found)
        return Shortfall(listed, count, size_bytes)

    def is_moving(self) -> bool:
        """Whether somebody is in the middle of an upload, as far as one can tell."""
        return self._transfers.moved_within(LULL_S)

    def _found(self, upload_id: str) -> Upload:
        with self._context.catalog.reading() as session:
            return known_upload(session, upload_id)

    def _resume(self, session: Session, upload: Upload, save: Save) -> Upload:
        """The upload of a save that was begun before; the save may bring the digests that were not known then."""
        known = session.directories.get(upload.directory)
        assert known is not None, "an upload's directory is made with it"
        self._allowance.claim(session, known, upload)
        self._context.storage.begin(upload)
        files = save.files if all(file.is_hashed for file in save.files) else upload.files
        if (files, save.folders) != (upload.files, upload.folders):
            upload = replace(upload, files=files, folders=save.folders, **_common_rights(upload, save))
            session.uploads.change(upload)
        return upload

    def _keep_alive(self, transfer: Transfer) -> None:
        """Told of bytes that came; where nobody knows how many will, there must be room for more."""
        if transfer.declared_bytes is None:
            self._space.admit(0, upload_id=transfer.upload.id)
            self._allowance.moved(transfer.upload, transfer.arrived_bytes)
        else:
            self._allowance.moved(transfer.upload)
        expires_at = self._renewed(transfer.upload).expires_at
        with transfer.changing:
            if transfer.upload.expires_at != expires_at:
                transfer.upload = replace(transfer.upload, expires_at=expires_at)

    def _completed(self, session: Session, save: Save) -> Save:
        """The save with whatever it left to the server; a repeated one with what it was given the first time."""
        facts, now = save.facts, self._context.clock()
        name = (
            save.name or earlier_name(session, save) or names.default_name(facts.kind, facts.epoch, now, save.save_id)
        )
        return replace(save, name=name, files=tuple(replace(file, path=file.path or name) for file in save.files))

    def _begin(self, session: Session, save: Save, place: int | None, undo: ExitStack) -> Upload:
        now = self._context.clock()
        self._refuse_too_many(session, save)
        known = session.directories.get(save.directory)
        counted = session.checkpoints.last_sequence(save.directory) if known is None else 0
        directory = known or Directory(save.directory, created_at=now, sequence=counted)
        if known is None and (taken := session.directories.taken_by_checkpoint(save.directory)):
            raise NameTaken(f"{save.directory!r} cannot be a directory: {taken!r} is a checkpoint.")
        refuse_impossible(session, self._context.storage, directory, save, digests.of_save(save))
        self._space.refuse_hopeless(save)
        promised = {field.name: getattr(save, field.name) for field in fields(save)}
        promised["saved_after"] = self._place(session, directory, save) if place is None else place
        upload = Upload(**promised, id=token_hex(16), created_at=now, expires_at=now + self._rules.lease)
        self._allowance.claim(session, directory, upload)
        undo.push(lambda kind, *_: self._abandoning.undo(upload) if kind else None)
        if known is None:
            self._context.storage.make_directory(directory)
            session.directories.put(directory)
        self._context.storage.begin(upload)
        session.uploads.add(upload)
        return upload

    def _place(self, session: Session, directory: Directory, save: Save) -> int:
        """Where a save stands in the order from now on: of two under way, the one that began later is newer."""
        if save.saved_after is not None:
            return min(save.saved_after, directory.sequence)
        last = session.uploads.last_place(directory.name)
        return directory.sequence if last is None else max(directory.sequence, last + 1)

    def _refuse_too_many(self, session: Session, save: Save) -> None:
        if session.uploads.count_of_token(save.token_id) >= self._rules.most_uploads:
            raise TooManyUploads(
                f"This token has {self._rules.most_uploads} uploads under way (HOLDFAST_MAX_UPLOADS_PER_TOKEN)."
            )

    def _renewed(self, upload: Upload) -> Upload:
        """The upload with its lease begun anew; not written each time, as every range asks for it."""
        expires_at = self._context.clock() + self._rules.lease
        if expires_at - upload.expires_at < min(RENEWED_EVERY, self._rules.lease / 10):
            return upload
        with self._context.catalog.writing() as session:
            session.uploads.renew(upload.id, expires_at)
        return replace(upload, expires_at=expires_at)


def _common_rights(upload: Upload, save: Save) -> dict[str, Any]:
    """From where to copy what is told later: only what both who began it and who tells it may read."""
    return {
        "base": upload.base if save.base == upload.base else None,
        "may_borrow": upload.may_borrow and save.may_borrow,
    }


def _expected(file: UploadFile, span: Span) -> Sequence[Chunk] | None:
    """The declared chunks of a range; None where none were declared."""
    if file.size_bytes is not None and span.stop > file.size_bytes:
        raise WrongLength(f"The range ends at {span.stop}, beyond the file's {file.size_bytes} bytes.")
    if file.chunks is None:
        return None
    chunks = spans.chunks_within(file.chunks, span)
    if chunks is None:
        raise RangeMisaligned(f"The range {span.start}..{span.stop} does not begin and end where chunks do.")
    return chunks
