"""Open uploads: the progress of each, held in memory and, after a restart, recomputed from the bytes on the disk."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from app.core import digests, spans
from app.core.models import Upload, UploadFile
from app.core.spans import Span, merged
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_upload
from app.service.state.shared_progress import SharedProgress
from app.service.state.upload_progress import UploadProgress

MOST_ENDED = 100
"""The number of ended uploads that are remembered for clients that follow changes."""
ACTIVE_S = 60.0
"""The time after its last bytes for which an upload is expected to bring the rest, in seconds."""


class OpenUploads:
    """The progress of every open upload. Thread-safe.

    Parameters
    ----------
    plan_copies : callable
        Plans the copies of an upload whose digests are known.
    """

    def __init__(self, context: Context, plan_copies: Callable[[UploadProgress], None]) -> None:
        self._context = context
        self._plan_copies = plan_copies
        self._guard = threading.Lock()
        self._open: dict[str, UploadProgress] = {}
        self._ended: deque[tuple[float, str]] = deque(maxlen=MOST_ENDED)

    def known(self, upload_id: str) -> UploadProgress | None:
        """Give the progress of an upload that this process knows; the upload may have ended just now."""
        progress = self._open.get(upload_id)
        if progress is not None:
            with progress.changing:  # the thread that made it may still be hashing the bytes on the disk
                pass
        return progress

    def peek(self, upload_id: str) -> UploadProgress | None:
        """Give the progress of an upload that this process knows, as it is now. Never blocks."""
        return self._open.get(upload_id)

    def of(self, upload: Upload, *, is_new: bool = False) -> UploadProgress:
        """Give the progress of an upload. After a restart the bytes on the disk are hashed rather than trusted.

        Of a new upload, nothing is on the disk. Not for use within a session.

        Raises
        ------
        UploadNotFound
            It has ended since it was read; nothing may be written for it any more, as its bytes are being deleted.
        """
        with self._guard:
            progress = self._open.get(upload.id)
            if progress is not None:
                return progress
            progress = self._open[upload.id] = _progress_of(upload)
            progress.changing.acquire()
        try:
            current = self._current(upload.id)
            if progress.upload.shared is not None:
                progress.upload = current  # another attempt may have taken it over since it was read
            if not is_new:
                self._restore(progress)
            self._plan_copies(progress)
        except BaseException:
            self.forget(upload.id)
            raise
        finally:
            progress.changing.release()
        return progress

    def resume(self, upload: Upload, *, is_new: bool = False) -> None:
        """Track a new upload, or continue one, whose digests the client may have declared since."""
        progress = self.of(upload, is_new=is_new)
        with progress.changing:
            if progress.upload.files != upload.files:
                progress.set_digests(upload)
                self._recompute(progress)
                self._plan_copies(progress)

    @contextmanager
    def closing(self, upload: Upload, attempt: int | None = None) -> Iterator[None]:
        """Refuse bytes and commits while an upload is aborted; an exception in the block reopens it.

        Does not read the bytes on the disk, and does not block, unless another attempt is just taking over.

        Parameters
        ----------
        attempt : int, optional
            The attempt of a shared upload that aborts it: no other one is closed.

        Raises
        ------
        UploadBusy
            A commit or a body came first.
        AttemptSuperseded, InvalidRequest
        """
        with self._guard:
            known = self._open.get(upload.id)
            progress = known or _progress_of(upload)
            if attempt is not None:
                progress.refuse_attempt(attempt)
            self._open[upload.id] = progress
        progress.stop_copying()
        progress.close(wait=False)
        try:
            yield
        except BaseException:
            if known is None:
                self.invalidate(progress)  # it knows nothing of the bytes on the disk
            progress.reopen()
            raise

    def expected_bytes(self, *, excluding: str | None = None) -> int:
        """Sum the bytes that active uploads, except perhaps one, have yet to bring."""
        with self._guard:
            others = [progress for upload_id, progress in self._open.items() if upload_id != excluding]
        since = time.monotonic() - ACTIVE_S
        return sum(progress.expected_bytes for progress in others if progress.touched_at > since)

    def moved_within(self, seconds: float) -> bool:
        """Tell if any upload brought bytes within the last seconds."""
        return bool(self._moved(time.monotonic() - seconds))

    def changed_since(self, since: float) -> set[str]:
        """Return the directories of uploads that brought bytes or ended after a time of `time.monotonic`."""
        with self._guard:
            ended = {directory for at, directory in self._ended if at > since}
        return ended | self._moved(since)

    def _moved(self, since: float) -> set[str]:
        with self._guard:
            return {each.upload.directory for each in self._open.values() if each.touched_at > since}

    def forget(self, upload_id: str) -> None:
        """Drop the progress of an upload that has ended."""
        with self._guard:
            progress = self._open.pop(upload_id, None)
            if progress is not None:
                self._ended.append((time.monotonic(), progress.upload.directory))

    def invalidate(self, progress: UploadProgress) -> None:
        """Drop progress whose bytes are lost: the next lookup finds that nothing has arrived."""
        progress.end()
        self.forget(progress.upload.id)

    def _current(self, upload_id: str) -> Upload:
        """Look into the catalog after the progress is known here: whoever ends an upload closes that first."""
        with self._context.catalog.reading() as session:
            return known_upload(session, upload_id)

    def supersede(self, progress: SharedProgress, upload: Upload) -> None:
        """Track a later attempt in place of an earlier one, which gives way, under the lock of the directory."""
        with self._guard:
            self._open[upload.id] = progress.succeed(upload)

    def _restore(self, progress: UploadProgress) -> None:
        """Find out what an earlier process knew of an upload."""
        if isinstance(progress, SharedProgress):
            with self._context.catalog.reading() as session:
                progress.restore(session.shared_files.of_upload(progress.upload.id))
                writers = session.shared_writers.of_upload(progress.upload.id)
            # files are removed after the catalog has forgotten them: what it does not know was to be removed
            whole = replace(progress.upload, files=progress.known_files())
            with suppress(FileNotFoundError):  # nothing of it has arrived
                self._context.storage.content.keep_only(whole)
        self._recompute(progress)
        if isinstance(progress, SharedProgress):
            for writer in writers:
                progress.restore_writer(writer.name, is_ready=writer.is_ready, active_at=writer.active_at)

    def _recompute(self, progress: UploadProgress) -> None:
        """Hash the bytes on the disk that this process has not seen arrive."""
        for file in progress.files_of():
            if file.is_hashed:
                self.recompute_file(progress, file)

    def recompute_file(self, progress: UploadProgress, file: UploadFile) -> None:
        """Hash the bytes of a file on the disk that this process has not seen arrive."""
        with (
            suppress(FileNotFoundError),  # nothing of it has arrived
            self._context.storage.content.partial(progress.upload, file.path, create=False) as partial,
        ):
            written = merged(partial.written())
            for offset, chunk in spans.placed(file.chunks or ()):
                known = progress.holds(file.path, offset, [chunk])
                if known or not spans.covers(written, Span(offset, offset + chunk.length)):
                    continue
                if digests.of_chunk(partial.read(offset, chunk.length)) == chunk.digest:
                    progress.record(file.path, offset, [chunk])


def _progress_of(upload: Upload) -> UploadProgress:
    return SharedProgress(upload) if upload.shared is not None else UploadProgress(upload)
