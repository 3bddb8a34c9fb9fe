"""Reservations: admit a save before any of its bytes are sent, and record its upload."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from secrets import token_hex
from typing import Any

from app.catalog import Session
from app.core import digests, names
from app.core.errors import NameTaken, NoSpace, NotReady, SaveIdReused, TooManyUploads, UploadBusy, UploadNotFound
from app.core.models import NO_PRECONDITION, Checkpoint, Directory, Save, Upload
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import require_expected
from app.service.state.open_uploads import OpenUploads
from app.service.state.pending_commits import PendingCommits
from app.service.state.quota_claims import QuotaClaims
from app.service.upload.abort import Aborts
from app.service.upload.admission import admit_save
from app.service.upload.disk_space import DiskSpace
from app.service.upload.idempotency import earlier_name, is_same_save, may_begin_again, repeated
from app.service.upload.transfer import LULL_S, Reservation, Transfers

_ATTEMPTS = 5
"""The attempts to reserve a save whose upload other requests end at the same moment."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The upload of a save as recorded, with the one that it supersedes; or the checkpoint that the save became."""

    upload: Upload | None = None
    is_new: bool = False
    superseded: Upload | None = None
    checkpoint: Checkpoint | None = None


class Reservations:
    """Reserves places for saves. Idempotent by ``save_id``."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        open_uploads: OpenUploads,
        disk_space: DiskSpace,
        quota_claims: QuotaClaims,
        pending_commits: PendingCommits,
        transfers: Transfers,
        aborts: Aborts,
    ) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._disk_space = disk_space
        self._quota_claims = quota_claims
        self._pending_commits = pending_commits
        self._transfers = transfers
        self._aborts = aborts

    def reserve(self, save: Save, *, afresh: bool = False, is_whole: bool = False) -> Reservation:
        """Reserve a place for a save, admitting it before any bytes are sent.

        The same ``save_id`` and content gives the same upload, or the checkpoint that it became. The first reservation
        fixes the position of a save, unless a later one names an earlier position: a training job that is preempted
        before its commit never overtakes work that began later. An open upload that a single request left behind is
        aborted and begun again at its position. The precondition is the last one that a reservation brought.

        Parameters
        ----------
        afresh : bool
            Begin any open upload of this save again.
        is_whole : bool
            All bytes are at hand: begin one again that was begun without digests.

        Raises
        ------
        SaveIdReused
            The ``save_id`` was used for other content.
        PreconditionFailed, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved
        NoSpace
            The declared bytes do not fit on the disk.
        QuotaExceeded
            The declared bytes exceed a quota.
        TooLarge
            The save declares too many files, chunks or tensors.
        NotReady
            The server is stopping.
        TooManyUploads
            The token has too many open uploads.
        UploadBusy
            A single request brings this save just now.
        """
        if self._context.is_stopping:
            raise NotReady("The server is stopping; it finishes what has begun and takes nothing new.")
        self._rules.limits.admit(save)
        save = replace(save, save_id=save.save_id or token_hex(16))
        for left in reversed(range(_ATTEMPTS)):
            self._pending_commits.finish_directory(save.directory)
            recorded = self._record(save, afresh=afresh, is_whole=is_whole)
            if recorded.upload is None:
                return Reservation(checkpoint=recorded.checkpoint)
            if recorded.superseded is not None:
                self._aborts.delete_bytes(recorded.superseded)  # its directory is in use
            try:
                return self._admit(recorded.upload, is_new=recorded.is_new)
            except UploadNotFound:  # another request for the same save has just ended it
                if not left:
                    raise UploadBusy(f"Other requests bring the save {save.save_id!r} and end it again.") from None
        raise AssertionError("the last attempt returns or raises")

    def _record(self, save: Save, *, afresh: bool, is_whole: bool) -> _Recorded:
        """Record the upload of a save in one transaction, or find the one that the same save began."""
        # Under the directory's lock, as a commit under way would look like a foreign file.
        with (
            self._context.catalog.lock(save.directory),
            ExitStack() as undo,
            self._context.catalog.writing() as session,
        ):
            save = self._complete(session, save)
            if saved := session.uploads.saved(save.directory, save.save_id):
                return _Recorded(checkpoint=repeated(session, save, saved))
            begun = session.uploads.of_save(save.directory, save.save_id)
            if begun is None:
                return _Recorded(self.begin(session, save, None, undo), is_new=True)
            if begun.shared is not None:
                raise SaveIdReused(f"The save_id {save.save_id!r} is in use for a shared upload.")
            save = _with_precondition(save, begun)
            if afresh or self._is_left_by_its_request(begun) or (is_whole and may_begin_again(begun, save)):
                undo.enter_context(self._open_uploads.closing(begun))
                self._aborts.remove(session, begun)
                self._quota_claims.release(begun.id)
                place = _place(begun, save)
                return _Recorded(self.begin(session, save, place, undo), is_new=True, superseded=begun)
            if not is_same_save(begun, save):
                raise SaveIdReused(f"The save_id {save.save_id!r} is in use for other content.")
            if not is_whole:  # the request of a whole save evaluates it later, and then aborts the upload
                current = session.checkpoints.named(save.directory, save.name)
                require_expected(save.precondition, save.directory, save.name, current)
            return _Recorded(self._resume(session, begun, save))

    def _is_left_by_its_request(self, begun: Upload) -> bool:
        """Tell if an upload can only be begun again, as it was begun by a single request that has ended.

        Raises
        ------
        UploadBusy
            That request brings its bytes just now.
        """
        if begun.is_resumable:
            return False
        touched_at = self._transfers.touched_at(begun.id)
        if touched_at is not None and touched_at > time.monotonic() - LULL_S:
            raise UploadBusy(f"Another request brings the save {begun.save_id!r} just now.")
        return True

    def _admit(self, upload: Upload, *, is_new: bool) -> Reservation:
        """Plan the copies of a recorded upload, and admit the bytes that it still lacks."""
        self._open_uploads.resume(upload, is_new=is_new)
        missing = self._transfers.missing(upload)
        try:
            self._disk_space.admit_rest(upload, missing.size_bytes)
        except NoSpace:
            if is_new:
                self._aborts.abort(upload.id)
            raise
        return Reservation(self._transfers.renew(upload), missing, is_new=is_new)

    def _complete(self, session: Session, save: Save) -> Save:
        """Fill in the names that the client left to the server; a repeated save gets the same ones again."""
        facts, now = save.facts, self._context.clock()
        name = save.name or earlier_name(session, save)
        name = name or names.default_name(facts.kind, facts.epoch, facts.step, now, save.save_id)
        return replace(save, name=name, files=tuple(replace(file, path=file.path or name) for file in save.files))

    def _resume(self, session: Session, upload: Upload, save: Save) -> Upload:
        """Continue an upload; the save may bring digests that were not known when it began."""
        known = session.directories.get(upload.directory)
        assert known is not None, "an upload's directory is made with it"
        self._quota_claims.claim(session, known, upload)
        self._context.storage.content.begin(upload)
        files = save.files if all(file.is_hashed for file in save.files) else upload.files
        place = _place(upload, save)
        brought: dict[str, Any] = {"files": files, "folders": save.folders, "saved_after": place}
        brought["precondition"] = save.precondition
        if any(getattr(upload, name) != value for name, value in brought.items()):
            upload = replace(upload, **brought, **_common_rights(upload, save))
            session.uploads.change(upload)
        return upload

    def begin(self, session: Session, save: Save, saved_after: int | None, undo: ExitStack) -> Upload:
        """Admit a save and record its upload, under its directory's lock. Its bytes are removed if ``undo`` fails."""
        now = self._context.clock()
        self._refuse_too_many(session, save)
        known = session.directories.get(save.directory)
        counted = session.checkpoints.largest_sequence(save.directory) if known is None else 0
        directory = known or Directory(save.directory, created_at=now, sequence=counted)
        if known is None and (taken := session.directories.taken_by_checkpoint(save.directory)):
            raise NameTaken(f"{save.directory!r} cannot be a directory: {taken!r} is a checkpoint.")
        admit_save(session, self._context.storage.content, directory, save, digests.of_save(save))
        self._disk_space.refuse_oversized(save)
        values = {field.name: getattr(save, field.name) for field in fields(save)}
        values["saved_after"] = position(session, directory, save) if saved_after is None else saved_after
        upload = Upload(**values, id=token_hex(16), created_at=now, expires_at=now + self._rules.lease)
        self._quota_claims.claim(session, directory, upload)
        undo.push(lambda kind, *_: self._aborts.undo(upload) if kind else None)
        if known is None:
            self._context.storage.records.make_directory(directory)
            session.directories.put(directory)
        self._context.storage.content.begin(upload)
        session.uploads.add(upload)
        return upload

    def _refuse_too_many(self, session: Session, save: Save) -> None:
        if session.uploads.count_of_token(save.token_id) >= self._rules.most_uploads:
            raise TooManyUploads(
                f"This token has {self._rules.most_uploads} uploads under way (HOLDFAST_MAX_UPLOADS_PER_TOKEN)."
            )


def position(session: Session, directory: Directory, save: Save) -> int:
    """Give the position of a new save: of two open uploads, the one that began later is newer."""
    if save.saved_after is not None:
        return min(save.saved_after, directory.sequence)
    last = session.uploads.last_position(directory.name)
    return directory.sequence if last is None else max(directory.sequence, last + 1)


def _with_precondition(save: Save, begun: Upload) -> Save:
    """Return a save that is repeated with the precondition of its first reservation, unless it has one of its own."""
    return save if save.precondition != NO_PRECONDITION else replace(save, precondition=begun.precondition)


def _place(begun: Upload, save: Save) -> int | None:
    """Return the place in the order of a save that is repeated: that of its first reservation, or the writer's.

    A writer that names an earlier place has not received the first answer. It gives that place to its next saves, too,
    which must not come before this one in the order.
    """
    if save.saved_after is None or begun.saved_after is None:
        return begun.saved_after
    return min(begun.saved_after, save.saved_after)


def _common_rights(upload: Upload, save: Save) -> dict[str, Any]:
    """Restrict deduplication to sources that both the token that began the upload and this token may read."""
    return {
        "base": upload.base if save.base == upload.base else None,
        "may_dedup": upload.may_dedup and save.may_dedup,
    }
