"""Aborts: uploads that their client gives up, whose lease has expired, or that could not be recorded."""

import logging
from contextlib import suppress

from app.catalog import Session
from app.core.errors import NoSpace, Refusal, UploadBusy, UploadNotFound
from app.core.models import Directory, Upload
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_upload
from app.service.state.open_uploads import OpenUploads
from app.service.state.quota_claims import QuotaClaims

logger = logging.getLogger("holdfast")


class Aborts:
    """Aborts uploads, and deletes their bytes."""

    def __init__(self, context: Context, open_uploads: OpenUploads, quota_claims: QuotaClaims) -> None:
        self._context = context
        self._open_uploads = open_uploads
        self._quota_claims = quota_claims

    def abort(self, upload_id: str, attempt: int | None = None) -> None:
        """Delete an upload and its bytes; of a shared one, only if no later attempt than this has taken it over.

        Raises
        ------
        UploadNotFound, AttemptSuperseded, InvalidRequest
        UploadBusy
            It is being committed.
        """
        with self._context.catalog.reading() as session:
            upload = known_upload(session, upload_id)
        with self._open_uploads.closing(upload, attempt):
            try:
                self._remove(upload)
            except NoSpace:  # too little space even to record the abort, so delete the bytes first
                self._context.storage.content.discard(upload_id)
                self._remove(upload)
        self.discard(upload)

    def expire(self) -> int:
        """Abort the uploads whose lease has expired, except busy ones, and count them. Failures are logged."""
        with self._context.catalog.reading() as session:
            expired = session.uploads.expired(self._context.clock())
        count = 0
        for upload_id in expired:
            try:
                self.abort(upload_id)
                count += 1
            except (UploadBusy, UploadNotFound):
                continue
            except (OSError, ValueError, Refusal):  # an unreadable row does not hold up the others
                logger.exception("upload %s has expired, and cannot be aborted yet", upload_id)
        return count

    def empty_unresumable(self) -> None:
        """Delete the bytes of uploads that single requests of an earlier process left; their places in the order stay.

        One that is sealed is a checkpoint, whose commit goes on. Only before this process takes requests.
        """
        content = self._context.storage.content
        with self._context.catalog.reading() as session:
            left = session.uploads.unresumable()
        for upload in left:
            if not content.is_sealed(upload.id):
                content.discard(upload.id)
                content.begin(upload)

    def undo(self, upload: Upload) -> None:
        """Delete the files of an upload that could not be recorded. Best-effort."""
        self._quota_claims.release(upload.id)
        with suppress(OSError):
            self._context.storage.content.discard(upload.id)

    def remove(self, session: Session, upload: Upload) -> None:
        """Remove the row of an upload within the caller's transaction.

        Raises
        ------
        UploadBusy
            It is sealed, and so a checkpoint already.
        """
        if self._context.storage.content.is_sealed(upload.id):
            raise UploadBusy(f"Upload {upload.id} is being committed.")
        session.uploads.remove(upload.id)
        session.audit.add("upload.abandoned", at=self._context.clock(), directory=upload.directory, id=upload.id)

    def discard(self, upload: Upload) -> None:
        """Delete the bytes of an upload, and its directory if nothing else ever used it."""
        self.delete_bytes(upload)
        with self._context.catalog.writing() as session:
            directory = session.directories.get(upload.directory)
            unused = directory is not None and directory == Directory(directory.name, directory.created_at)
            if unused and session.uploads.count(upload.directory) == 0:
                session.directories.remove(upload.directory)
                self._context.storage.records.drop_directory(upload.directory)

    def delete_bytes(self, upload: Upload) -> None:
        """Delete the bytes of an upload whose row is removed."""
        self._open_uploads.forget(upload.id)
        self._quota_claims.release(upload.id)
        self._context.storage.content.discard(upload.id)

    def _remove(self, upload: Upload) -> None:
        with self._context.catalog.writing() as session:
            current = known_upload(session, upload.id)
            if current.shared != upload.shared:
                raise UploadBusy(f"Another attempt has taken upload {upload.id} over.")
            self.remove(session, upload)
