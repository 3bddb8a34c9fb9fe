"""Commits: seal an upload, publish its files, record its checkpoint. Every step after the seal is idempotent."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from app.catalog import Session
from app.core import digests, ranking
from app.core.errors import DigestMismatch, ForeignFile, InvalidRequest, SaveIdReused, UploadNotFound, WrongLength
from app.core.models import Checkpoint, Chunk, Directory, Manifest, Policy, Upload
from app.service.commit.finalize import Finalized, finalize
from app.service.commit.record_and_prune import CommitRecorder, same_content_facts
from app.service.lifecycle.purge import Purge
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import known_checkpoint, upload_not_found
from app.service.state.open_uploads import OpenUploads
from app.service.state.pending_commits import Committed, PendingCommits
from app.service.state.quota_claims import QuotaClaims
from app.service.state.upload_progress import UploadProgress
from app.service.upload.admission import UNCONDITIONAL, Conditions, admit_save
from app.service.upload.dedup import Deduplication
from app.service.upload.transfer import Transfers
from app.storage.ports import NotDurable

Declared = Mapping[str, Sequence[Chunk]]


class Commits:
    """Turns open uploads into checkpoints."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        open_uploads: OpenUploads,
        quota_claims: QuotaClaims,
        pending_commits: PendingCommits,
        recorder: CommitRecorder,
        transfers: Transfers,
        dedup: Deduplication,
        purge: Purge,
    ) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._quota_claims = quota_claims
        self._pending_commits = pending_commits
        self._recorder = recorder
        self._transfers = transfers
        self._dedup = dedup
        self._purge = purge

    def commit(
        self, upload_id: str, declared: Declared | None = None, conditions: Conditions = UNCONDITIONAL
    ) -> Committed:
        """Make a checkpoint of an upload, durable when this returns. Idempotent.

        Parameters
        ----------
        declared : mapping of str to sequence of Chunk, optional
            By file, the chunks that the client hashed while it sent them.
        conditions : Conditions
            Checked under the directory's lock, before anything is sealed.

        Raises
        ------
        UploadNotFound, UploadBusy
        RangesMissing
            Bytes have not arrived; ``missing`` lists the ranges.
        TooLarge
            Too many chunks are declared.
        DigestMismatch
            The bytes that arrived are not those that were declared. If some came past the server, all are missing
            again.
        PreconditionFailed, ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, QuotaExceeded
        NotDurable
            The disk lost bytes that had arrived: all of them are missing again.
        """
        self._pending_commits.finish(upload_id)
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return self._repeated(session, saved.checkpoint_id)
            upload = session.uploads.get(upload_id)
        self._rules.limits.admit_chunks(list((declared or {}).values()))
        if upload is None:
            raise upload_not_found(upload_id)
        if upload.shared is not None:
            raise InvalidRequest(f"Upload {upload_id} is shared: its commit must name the attempt.")
        return self.commit_open(upload, declared or {}, conditions)

    def commit_open(
        self,
        upload: Upload,
        declared: Declared,
        conditions: Conditions,
        complete: Callable[[Upload], Upload] = lambda upload: upload,
        progress: UploadProgress | None = None,
    ) -> Committed:
        """Make a checkpoint of an open upload; see `commit`.

        Parameters
        ----------
        complete : callable
            Returns the upload with all of its files, once it takes no more of them.
        progress : UploadProgress, optional
            The progress that is committed, and none that has taken its place.
        """
        if progress is None:
            progress = self._open_uploads.of(upload)
        while (committed := self._attempt(upload, progress, declared, conditions, complete)) is None:
            self._dedup.copy_deferred(progress)
        self._pending_commits.forget_upload(upload.id)
        self.conclude(committed)
        return committed

    def conclude(self, committed: Committed) -> None:
        """Announce a commit, and help to purge if too much waits. The caller holds no lock of a directory."""
        self._pending_commits.announce(committed)
        self._purge.help()

    def check_conditions(self, upload: Upload, conditions: Conditions) -> None:
        """Check the conditions of a later commit, so that a client sends no bytes in vain."""
        with self._context.catalog.reading() as session:
            current = session.checkpoints.named(upload.directory, upload.name)
        conditions.still_may()
        conditions.check(upload, current)

    def repeat(self, directory: str, save_id: str, digest: str) -> Committed:
        """Give the result of a save that was committed before.

        Raises
        ------
        SaveIdReused
            Its content was other content.
        """
        with self._context.catalog.reading() as session:
            saved = session.uploads.saved(directory, save_id)
            if saved is None or saved.digest != digest:
                raise SaveIdReused(f"The save_id {save_id!r} was used for other content.")
            return self._repeated(session, saved.checkpoint_id)

    def repeated(self, checkpoint_id: str) -> Committed:
        """Give the result of a save that was found to be committed before."""
        with self._context.catalog.reading() as session:
            return self._repeated(session, checkpoint_id)

    def _repeated(self, session: Session, checkpoint_id: str) -> Committed:
        checkpoint = known_checkpoint(session, checkpoint_id)
        directory = session.directories.get(checkpoint.directory)
        return Committed(checkpoint, directory.policy if directory else Policy(), repeated=True)

    def _attempt(
        self,
        upload: Upload,
        progress: UploadProgress,
        declared: Declared,
        conditions: Conditions,
        complete: Callable[[Upload], Upload],
    ) -> Committed | None:
        """Commit the bytes that have arrived; None if deferred copies turn out to be needed."""
        progress.close_after_copying()
        try:
            committed = self._commit(complete(upload), progress, declared, conditions)
        except BaseException:
            if upload.id not in self._pending_commits:  # sealed content never changes
                progress.reopen()
            raise
        if committed is None:
            progress.reopen()
        return committed

    def _commit(
        self, upload: Upload, progress: UploadProgress, declared: Declared, conditions: Conditions
    ) -> Committed | None:
        if progress.deferred and not _as_reserved(upload, declared):
            return None
        finalized = self._finalize(upload, progress, declared) if not progress.deferred else None
        digest = finalized.digest if finalized is not None else digests.of_save(upload)
        with self._context.catalog.lock(upload.directory):
            self._pending_commits.finish_directory(upload.directory)
            with self._context.catalog.reading() as session:
                if saved := session.uploads.committed(upload.id):
                    return self._repeated(session, saved.checkpoint_id)
                removed = session.checkpoints.to_move_to_trash(upload.directory, upload.name)
            for checkpoint in removed:
                self._purge.move_to_trash(checkpoint)
            self._purge.schedule(removed)
            conditions.still_may()
            with self._context.catalog.reading() as session:
                if session.uploads.get(upload.id) is None:
                    raise UploadNotFound(f"Upload {upload.id!r} was aborted concurrently.")
                directory = session.directories.get(upload.directory)
                assert directory is not None, "an upload's directory is made with it"
                current = admit_save(session, self._context.storage.content, directory, upload, digest, conditions)
            if current is not None and current.digest == digest and self._is_intact(current):
                committed = self._recorder.record_same_content(upload, directory, current)
                self._pending_commits.discard_remains(upload.id)
                return committed
            if finalized is None:
                return None
            return self.seal_and_publish(upload, finalized, directory, current)

    def _finalize(self, upload: Upload, progress: UploadProgress, declared: Declared) -> Finalized:
        content = self._context.storage.content
        try:
            missing = self._transfers.missing(upload, with_urls=False)
            return finalize(content, upload, progress, declared, missing, self._rules.limits.tensors)
        except NotDurable:
            self._open_uploads.invalidate(progress)
            raise
        except (DigestMismatch, WrongLength):
            if content.arrived(upload):  # it would go on reporting the wrong bytes
                content.discard(upload.id)
                content.begin(upload)
                self._open_uploads.invalidate(progress)
            raise

    def _is_intact(self, checkpoint: Checkpoint) -> bool:
        try:
            for file in checkpoint.files:
                with closing(self._context.storage.content.open(checkpoint, file)) as opened:
                    if not opened.is_version_of(file):
                        return False
        except (OSError, ForeignFile):
            return False
        return True

    def seal_and_publish(
        self, upload: Upload, finalized: Finalized, directory: Directory, current: Checkpoint | None
    ) -> Committed:
        """Make a checkpoint of an upload that was admitted, under its directory's lock.

        Parameters
        ----------
        current : Checkpoint, optional
            The checkpoint that it replaces.

        Raises
        ------
        ForeignFile, QuotaExceeded
        """
        sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
        checkpoint = Checkpoint(
            id=upload.id,
            directory=upload.directory,
            name=upload.name,
            save_id=upload.save_id,
            sequence=sequence,
            saved_after=ranking.saved_after(upload.saved_after, sequence),
            facts=same_content_facts(current, upload, finalized.digest),
            files=finalized.files,
            digest=finalized.digest,
            created_at=self._context.clock(),
            folders=upload.folders,
        )
        replaces = current.id if current is not None else None
        manifest = Manifest(checkpoint, finalized.maps, replaces, upload.policy, upload.writer)
        self._quota_claims.seal(directory, manifest)
        self._pending_commits.seal(upload.id, manifest)
        try:
            committed = self._pending_commits.publish(upload.id, manifest)
        except ForeignFile:
            if current is None:  # nothing was moved yet, and the client learns that nothing was saved
                self._pending_commits.unseal(upload.id)
            raise
        self._pending_commits.discard_remains(upload.id)
        return committed


def _as_reserved(upload: Upload, declared: Declared) -> bool:
    """Tell if a commit declares no other chunks than its reservation did."""
    reserved = {file.path: file.chunks for file in upload.files}
    return all(reserved.get(path) == tuple(chunks) for path, chunks in declared.items())
