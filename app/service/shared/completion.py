"""Completion: writers that are ready, and the commit that follows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from app.core import spans
from app.core.errors import DigestMismatch, FileNotInCheckpoint, FilesMissing, UploadBusy, WritersMissing
from app.core.models import Chunk, Upload, UploadFile
from app.core.spans import Span
from app.service.commit.commit import Commits
from app.service.commit.finalize import ranges_missing
from app.service.shared.declaration import SharedFiles
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_checkpoint, known_upload, upload_not_found
from app.service.state.pending_commits import Committed
from app.service.state.shared_progress import SharedProgress
from app.service.upload.admission import Conditions
from app.service.upload.transfer import Reservation, Transfers

NAMED = 1000
"""The number of files that a refusal names at most."""


class SharedCommits:
    """Notes which writers are ready, and commits shared uploads."""

    def __init__(self, context: Context, transfers: Transfers, files: SharedFiles, commits: Commits) -> None:
        self._context = context
        self._transfers = transfers
        self._files = files
        self._commits = commits

    def ready(
        self,
        upload_id: str,
        writer: str,
        attempt: int,
        digests: Mapping[str, Sequence[Chunk]],
        conditions: Conditions,
    ) -> Reservation:
        """Note that a writer has sent all of its files, and commit if it is the last one and that was asked for.

        Idempotent. A writer without files may be ready.

        Parameters
        ----------
        digests : mapping of str to sequence of Chunk
            By file, the chunks that the client hashed while it sent them.

        Raises
        ------
        UploadNotFound, UploadBusy, AttemptSuperseded, InvalidRequest
        RangesMissing
            Bytes of its files have not arrived.
        DigestMismatch
            Bytes that arrived are not those that the digests describe: they are missing again.
        FileNotInCheckpoint
            The writer has not declared such a file.
        """
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return Reservation(checkpoint=known_checkpoint(session, saved.checkpoint_id))
        progress = self._files.progress_of(upload_id, attempt)
        with progress.declaring():
            is_complete = self._note_ready(progress, writer, digests)
        if is_complete and progress.terms.commit_when_ready:
            with suppress(UploadBusy):  # the request of another writer commits it
                committed = self.commit(upload_id, attempt, (), (), conditions)
                return Reservation(checkpoint=committed.checkpoint)
        return self._transfers.shared(progress, ())

    def commit(
        self, upload_id: str, attempt: int, writers: Sequence[str], paths: Sequence[str], conditions: Conditions
    ) -> Committed:
        """Make a checkpoint of a shared upload, durable when this returns. Idempotent.

        All writers must be ready that have declared files, that the reservation names, and that are named here.

        Parameters
        ----------
        writers, paths : sequence of str
            The writers that must be ready, and the files that there must be, beside others.

        Raises
        ------
        UploadNotFound, UploadBusy, AttemptSuperseded, InvalidRequest
        WritersMissing, FilesMissing
            Not all are there; ``writers`` or ``files`` names the missing ones.
        RangesMissing
            The server has lost bytes since.
        PreconditionFailed, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, QuotaExceeded, NotDurable
            As for other commits.
        """
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return self._commits.repeated(saved.checkpoint_id)
        progress = self._files.progress_of(upload_id, attempt)

        def complete(begun: Upload) -> Upload:
            _refuse_incomplete(progress, writers, paths)
            with self._context.catalog.reading() as session:  # the facts do not change any more
                upload = known_upload(session, begun.id)
            whole = replace(upload, files=tuple(progress.files_of()))
            self._context.storage.content.keep_only(whole)
            return whole

        return self._commits.commit_open(progress.upload, {}, conditions, complete, progress)

    def _note_ready(self, progress: SharedProgress, writer: str, digests: Mapping[str, Sequence[Chunk]]) -> bool:
        upload, files = progress.upload, progress.files_of(writer)
        if unknown := digests.keys() - {file.path for file in files}:
            raise FileNotInCheckpoint(f"The writer {writer!r} has declared no file {min(unknown)!r}.")
        missing = self._transfers.missing(replace(upload, files=files), with_urls=False)
        if missing.count:
            raise ranges_missing(upload, missing)
        hashed = [_verified(progress, file, digests.get(file.path)) for file in files]
        new = [file for file, before in zip(hashed, files, strict=True) if file is not before]
        with self._context.catalog.writing() as session:
            if not session.uploads.is_open(upload.id):
                raise upload_not_found(upload.id)
            session.shared_files.set_files(upload.id, {file.path: file for file in new})
            session.shared_writers.put(upload.id, writer, is_ready=True, at=self._context.clock())
        for file in new:
            progress.set_digests_of(file)
        return progress.set_ready(writer)


def _refuse_incomplete(progress: SharedProgress, writers: Sequence[str], paths: Sequence[str]) -> None:
    with progress.changing:
        unready = progress.declared.unready([*(progress.terms.writers or ()), *writers])
        known = progress.declared.by_path.keys()
        absent = [path for path in paths if path not in known]
    if unready:
        raise WritersMissing(
            f"{len(unready)} writer(s) of upload {progress.upload.id} are not ready: {', '.join(unready[:10])}.",
            writers=unready,
        )
    if absent or not known:
        named = f": {', '.join(absent[:10])}" if absent else ""
        raise FilesMissing(
            f"{len(absent) or 'All'} file(s) of upload {progress.upload.id} are not declared{named}.",
            files=absent[:NAMED],
            files_count=len(absent),
        )


def _verified(progress: SharedProgress, file: UploadFile, declared: Sequence[Chunk] | None) -> UploadFile:
    """Return a file with the digests of its bytes; those that are not as declared are missing from now on."""
    known = progress.chunks_of(file.path, file.size_bytes or 0)
    assert known is not None, "all bytes of shared uploads are hashed when they come"
    if declared is not None and tuple(declared) != known:
        wrong = next((place for place, pair in enumerate(zip(declared, known, strict=False)) if pair[0] != pair[1]), 0)
        for place, (offset, chunk) in enumerate(spans.placed(known)):
            if place >= len(declared) or declared[place] != chunk:
                progress.forget(file.path, Span(offset, offset + chunk.length))
        offset, chunk = list(spans.placed(known))[wrong] if known else (0, Chunk(0, ""))
        raise DigestMismatch(
            f"The bytes from {offset} of {file.path!r} do not have the digest that was declared.",
            file=file.path,
            offset=offset,
            length=chunk.length,
        )
    return file if file.is_hashed else replace(file, chunks=known)
