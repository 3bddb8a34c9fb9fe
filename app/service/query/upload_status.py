"""Open uploads as they are listed: their bytes, and the writers of those that are shared."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.catalog import Session
from app.core.errors import DiskFailed
from app.core.models import SharedTerms, Upload
from app.service.state.context import Context
from app.service.state.get_or_refuse import is_known
from app.service.state.open_uploads import OpenUploads
from app.service.state.shared_files import SharedStatus, WriterStatus
from app.service.state.shared_progress import SharedProgress
from app.service.state.upload_progress import UploadProgress

MOVING_S = 5.0
"""The time after its last bytes for which an upload counts as moving, in seconds."""


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """An open upload. ``arrived_bytes`` is None if it was not used since the server started."""

    upload: Upload
    expires_at: datetime
    arrived_bytes: int | None
    declared_bytes: int | None
    is_moving: bool
    is_committing: bool
    is_directory_known: bool
    """False for the first save to a directory, which is none yet."""
    shared: SharedStatus | None = None

    @property
    def share(self) -> float | None:
        """The share that has arrived, from 0 to 1; None if it is unknown."""
        if self.arrived_bytes is None or not self.declared_bytes:
            return None
        return min(1.0, self.arrived_bytes / self.declared_bytes)


class UploadLists:
    """Lists open uploads. Never blocks, and reads no bytes."""

    def __init__(self, context: Context, open_uploads: OpenUploads) -> None:
        self._context = context
        self._open_uploads = open_uploads

    def page(
        self, prefix: str, directory: str | None, *, after: str, limit: int
    ) -> tuple[Sequence[UploadStatus], str | None]:
        """List uploads within a prefix, or of one directory, by id; and give the id that the next page begins after."""
        with self._context.catalog.reading() as session:
            leases = session.uploads.page(prefix, directory, after, limit + 1)
            found = self.statuses(session, leases[:limit])
        return found, leases[limit - 1][0] if len(leases) > limit else None

    def statuses(self, session: Session, leases: Sequence[tuple[str, datetime]]) -> list[UploadStatus]:
        """Describe uploads, given by their ids and the ends of their leases. Leaves out unreadable rows."""
        found = []
        for upload_id, expires_at in leases:
            progress = self._open_uploads.peek(upload_id)
            try:
                upload = progress.upload if progress is not None else session.uploads.get(upload_id)
            except DiskFailed:  # its row is unreadable
                continue
            if upload is not None:
                found.append(self._status(session, upload, progress, expires_at))
        return found

    def _status(
        self, session: Session, upload: Upload, progress: UploadProgress | None, expires_at: datetime
    ) -> UploadStatus:
        known = progress or UploadProgress(upload)
        declared_bytes, shared = known.declared_bytes, None
        if upload.shared is not None:
            if isinstance(progress, SharedProgress):
                shared = progress.status(self._context.clock(), waits=False)
            shared = shared or recorded_status(session, upload.id, upload.shared)
            declared_bytes = sum(writer.size_bytes for writer in shared.writers)
        return UploadStatus(
            upload,
            expires_at,
            known.arrived_bytes if progress is not None else None,
            declared_bytes,
            is_moving=progress is not None and known.touched_at > time.monotonic() - MOVING_S,
            is_committing=known.is_closed,
            is_directory_known=is_known(session, upload.directory),
            shared=shared,
        )


def recorded_status(session: Session, upload_id: str, terms: SharedTerms) -> SharedStatus:
    """Return what the catalog knows of the writers of a shared upload."""
    declared = session.shared_files.declared(upload_id, terms.attempt)
    recorded = {writer.name: writer for writer in session.shared_writers.of_upload(upload_id)}
    writers = tuple(
        WriterStatus(
            name,
            declared[name].files if name in declared else 0,
            declared[name].size_bytes if name in declared else 0,
            None,
            recorded[name].is_ready if name in recorded else False,
            recorded[name].active_at if name in recorded else None,
        )
        for name in sorted({*declared, *recorded})
    )
    expected = dict.fromkeys([*(terms.writers or ()), *declared])
    return SharedStatus(terms, writers, tuple(name for name in expected if name not in _ready(writers)))


def _ready(writers: Sequence[WriterStatus]) -> set[str]:
    return {writer.name for writer in writers if writer.is_ready}
