"""Declarations: the files that the writers of a shared upload add, rename and remove."""

from collections.abc import Sequence
from dataclasses import replace

from app.catalog import Session
from app.core.errors import FileNotInCheckpoint, InvalidRequest
from app.core.limits import too_many
from app.core.models import CHUNK_MAX_BYTES, Chunk, SharedFile, UploadFile
from app.service.commit.finalize import cut
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import upload_not_found
from app.service.state.open_uploads import OpenUploads
from app.service.state.quota_claims import QuotaClaims
from app.service.state.shared_progress import SharedProgress
from app.service.upload.disk_space import DiskSpace
from app.service.upload.transfer import Reservation, Transfers


class SharedFiles:
    """Changes the files of shared uploads. Each change is recorded before it is acknowledged.

    Every change of its files makes a writer that was ready unready.
    """

    def __init__(
        self,
        context: Context,
        rules: Rules,
        open_uploads: OpenUploads,
        disk_space: DiskSpace,
        quota_claims: QuotaClaims,
        transfers: Transfers,
    ) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._disk_space = disk_space
        self._quota_claims = quota_claims
        self._transfers = transfers

    def progress_of(self, upload_id: str, attempt: int) -> SharedProgress:
        """Give the progress of a shared upload.

        Raises
        ------
        UploadNotFound, AttemptSuperseded
        InvalidRequest
            It is not shared, or the attempt is not reserved.
        """
        progress = self._transfers.progress_of(upload_id)
        if not isinstance(progress, SharedProgress):
            raise InvalidRequest(f"Upload {upload_id} is not shared.")
        progress.refuse_attempt(attempt)
        return progress

    def declare(self, upload_id: str, writer: str, attempt: int, files: Sequence[UploadFile]) -> Reservation:
        """Declare files of a writer, all or none, and list what they lack. Idempotent.

        Bytes of an earlier attempt count where they have the digests that are declared now.

        Raises
        ------
        UploadNotFound, UploadBusy, AttemptSuperseded, InvalidRequest
        PathTaken
            Another writer has a path, it collides with a folder, or the same writer has declared it otherwise.
        InvalidName
            A path is that of the checkpoint itself.
        TooLarge, NoSpace, QuotaExceeded
            The whole upload would exceed a limit.
        """
        progress = self.progress_of(upload_id, attempt)
        self._refuse_uncut(files)
        files = [_in_chunks(file) for file in files]
        self._clear_the_way(progress, files)
        with progress.declaring():
            known = {file.path for file in files if progress.file(file.path) is not None}
            changed = progress.claim(writer, files, self._rules.limits)
            try:
                self._reuse(progress, changed)
                self._disk_space.admit(progress.expected_bytes, upload_id=upload_id)
                if changed:
                    self._record(progress, writer, changed)
            except BaseException:
                progress.unclaim(shared for shared in changed if shared.file.path not in known)
                raise
            for shared in changed:
                progress.lose(shared.file.path)
        self._transfers.keep_alive(progress)
        return self._transfers.shared(progress, [file for file in files if progress.file(file.path) is not None])

    def remove(self, upload_id: str, writer: str, attempt: int, path: str) -> None:
        """Remove a file of a writer, with its bytes.

        Raises
        ------
        UploadNotFound, UploadBusy, AttemptSuperseded, InvalidRequest
        FileNotInCheckpoint
            There is no such file.
        PathTaken
            Another writer has declared it.
        """
        progress = self.progress_of(upload_id, attempt)
        with progress.arranging():
            self._owned(progress, writer, path)
            with self._context.catalog.writing() as session:
                self._touch(session, progress, writer)
                session.shared_files.remove(upload_id, [path])
            progress.drop(path)
            self._remove_bytes(progress, [path])

    def rename(self, upload_id: str, writer: str, attempt: int, path: str, to: str) -> None:
        """Rename a file of a writer, with its bytes. Idempotent: nothing happens if only the new path is there.

        Raises
        ------
        UploadNotFound, UploadBusy, AttemptSuperseded, InvalidRequest, InvalidName
        FileNotInCheckpoint
            There is no such file.
        PathTaken
            Another writer has declared it, or the new path is taken.
        """
        progress = self.progress_of(upload_id, attempt)
        with progress.arranging():
            if progress.file(path) is None and progress.file(to) is not None:
                self._owned(progress, writer, to)
                return
            shared = self._owned(progress, writer, path)
            if path == to:
                return
            progress.refuse_move(writer, to)
            self._remove_left(progress, [replace(shared.file, path=to)])
            moved = replace(shared, file=replace(shared.file, path=to))
            try:
                with self._context.catalog.writing() as session:
                    self._touch(session, progress, writer)
                    session.shared_files.remove(upload_id, [path])
                    session.shared_files.put(upload_id, attempt, [moved])
                    self._context.storage.content.rename_file(progress.upload, path, to)
            except BaseException:
                self._open_uploads.invalidate(progress)  # where the bytes lie is found out anew
                raise
            progress.move(path, to)

    def _refuse_uncut(self, files: Sequence[UploadFile]) -> None:
        """Refuse files that would be cut into too many chunks, before that is done."""
        limit = self._rules.limits.chunks
        wanted = sum(-(-(file.size_bytes or 0) // CHUNK_MAX_BYTES) for file in files if file.chunks is None)
        if wanted > limit:
            raise too_many("chunks", wanted, limit)

    def _owned(self, progress: SharedProgress, writer: str, path: str) -> SharedFile:
        shared = progress.declared.owned(writer, path)
        if shared is None:
            raise FileNotInCheckpoint(f"The upload has no file {path!r}.")
        return shared

    def _clear_the_way(self, progress: SharedProgress, files: Sequence[UploadFile]) -> None:
        """Remove the bytes of earlier attempts that cannot stay where these files come."""
        if progress.declared.in_the_way({file.path: file.size_bytes for file in files}):
            with progress.arranging():
                self._remove_left(progress, files)

    def _remove_left(self, progress: SharedProgress, files: Sequence[UploadFile]) -> None:
        paths = progress.declared.in_the_way({file.path: file.size_bytes for file in files})
        if not paths:
            return
        with self._context.catalog.writing() as session:
            session.shared_files.remove(progress.upload.id, paths)
        for path in paths:
            progress.lose(path)
        self._remove_bytes(progress, paths)

    def _remove_bytes(self, progress: SharedProgress, paths: Sequence[str]) -> None:
        """Remove the bytes of files that the catalog does not know any more. If that fails, the next lookup does it."""
        try:
            for path in paths:
                self._context.storage.content.remove_file(progress.upload, path)
        except BaseException:
            self._open_uploads.invalidate(progress)
            raise

    def _reuse(self, progress: SharedProgress, files: Sequence[SharedFile]) -> None:
        """Find out which bytes of an earlier attempt, that lie on the disk, are those of files declared now."""
        for shared in files:
            if shared.file.is_hashed and shared.file.path in progress.declared.left:
                self._open_uploads.recompute_file(progress, shared.file)

    def _record(self, progress: SharedProgress, writer: str, files: Sequence[SharedFile]) -> None:
        whole = replace(progress.upload, files=(UploadFile("", progress.declared_bytes),))

        def work(session: Session) -> None:
            self._touch(session, progress, writer)
            session.shared_files.put(whole.id, progress.terms.attempt, files)
            directory = session.directories.get(whole.directory)
            assert directory is not None, "an upload's directory is made with it"
            self._quota_claims.claim(session, directory, whole)

        self._context.catalog.write_together(work)

    def _touch(self, session: Session, progress: SharedProgress, writer: str) -> None:
        """Record that a writer was active, and is not ready any more."""
        if not session.uploads.is_open(progress.upload.id):
            raise upload_not_found(progress.upload.id)
        session.shared_writers.put(progress.upload.id, writer, is_ready=False, at=self._context.clock())


def _in_chunks(file: UploadFile) -> UploadFile:
    """Return a file with chunks: those that are declared, or chunks of 8 MiB."""
    if file.chunks is not None:
        return file
    return replace(file, chunks=tuple(Chunk(length, "") for length in cut(file.size_bytes or 0)))
