"""Give up an upload: because somebody says so, because its lease has ended, or because it could not be begun."""

import logging
from contextlib import suppress

from app.catalog import Session
from app.core.errors import NoSpace, Refusal, UploadBusy, UploadNotFound
from app.core.models import Directory, Upload
from app.service.state.context import Context
from app.service.state.lookup import known_upload
from app.service.state.open_uploads import Transfers
from app.service.state.quota_claims import Allowance

logger = logging.getLogger("holdfast")


class Abandoning:
    """Uploads that become nothing, and what is left of them."""

    def __init__(self, context: Context, transfers: Transfers, allowance: Allowance) -> None:
        self._context = context
        self._transfers = transfers
        self._allowance = allowance

    def abandon(self, upload_id: str) -> None:
        """Forget an upload and its bytes.

        Raises
        ------
        UploadNotFound
        UploadBusy
            It is being committed.
        """
        with self._context.catalog.reading() as session:
            upload = known_upload(session, upload_id)
        with self._transfers.retiring(upload):
            try:
                self._forget(upload)
            except NoSpace:  # not even to write down that it is gone, so give its bytes back first
                self._context.storage.discard(upload_id)
                self._forget(upload)
        self.discard(upload)

    def expire(self) -> int:
        """Give up the uploads whose lease has ended, unless they are busy or that fails; how many there were."""
        with self._context.catalog.reading() as session:
            expired = session.uploads.expired(self._context.clock())
        count = 0
        for upload_id in expired:
            try:
                self.abandon(upload_id)
                count += 1
            except (UploadBusy, UploadNotFound):
                continue
            except (OSError, ValueError, Refusal):  # a row that cannot be read keeps no other from its end
                logger.exception("upload %s has expired, and cannot be given up yet", upload_id)
        return count

    def undo(self, upload: Upload) -> None:
        """Leave nothing of an upload that could not be recorded."""
        self._allowance.drop(upload.id)
        with suppress(OSError):
            self._context.storage.discard(upload.id)

    def give_up(self, session: Session, upload: Upload) -> None:
        """Take an upload out of the catalog. What is sealed is a checkpoint already and is not given up."""
        if self._context.storage.is_sealed(upload.id):
            raise UploadBusy(f"Upload {upload.id} is being committed.")
        session.uploads.remove(upload.id)
        session.audit.add("upload.abandoned", at=self._context.clock(), directory=upload.directory, id=upload.id)

    def discard(self, upload: Upload) -> None:
        """Forget the bytes of an upload, and its directory if nothing else ever used it."""
        self._transfers.forget(upload.id)
        self._allowance.drop(upload.id)
        self._context.storage.discard(upload.id)
        with self._context.catalog.writing() as session:
            directory = session.directories.get(upload.directory)
            unused = directory is not None and directory == Directory(directory.name, directory.created_at)
            if unused and session.uploads.count(upload.directory) == 0:
                session.directories.remove(upload.directory)
                self._context.storage.drop_directory(upload.directory)

    def _forget(self, upload: Upload) -> None:
        with self._context.catalog.writing() as session:
            known_upload(session, upload.id)
            self.give_up(session, upload)
