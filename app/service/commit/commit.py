"""Commit an upload: seal, publish, record. From the seal on, every step may be repeated until all are done."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from app.catalog import Session
from app.catalog.rows.uploads import Saved
from app.core import digests, ranking
from app.core.errors import ForeignFile, Refusal, SaveIdReused, UploadNotFound
from app.core.models import Checkpoint, Chunk, Directory, Manifest, Policy, Upload
from app.runtime import actor
from app.service.commit.finalize import Settled, settle
from app.service.commit.publish import Committed, Recording, same_content_facts
from app.service.lifecycle.purge import Freeing
from app.service.state.context import Context, Rules
from app.service.state.lookup import known_checkpoint
from app.service.state.open_uploads import Transfers
from app.service.state.quota_claims import Allowance
from app.service.state.transitions import lost_directory
from app.service.state.upload_progress import Transfer
from app.service.upload.admission import UNCONDITIONAL, Conditions, refuse_impossible
from app.service.upload.dedup import Borrowing
from app.service.upload.reserve import Uploading
from app.storage.port import NotDurable

logger = logging.getLogger("holdfast")


class Committing:
    """Turns uploads into checkpoints."""

    def __init__(
        self,
        context: Context,
        rules: Rules,
        transfers: Transfers,
        uploading: Uploading,
        borrowing: Borrowing,
        freeing: Freeing,
        allowance: Allowance,
    ) -> None:
        self._context = context
        self._rules = rules
        self._transfers = transfers
        self._uploading = uploading
        self._borrowing = borrowing
        self._freeing = freeing
        self._allowance = allowance
        self._recording = Recording(context, rules)
        self._unfinished: dict[str, Manifest] = {}

    def commit(
        self,
        upload_id: str,
        declared: Mapping[str, Sequence[Chunk]] | None = None,
        conditions: Conditions = UNCONDITIONAL,
    ) -> Committed:
        """Make a checkpoint of an upload, durable when this returns. Idempotent.

        Parameters
        ----------
        declared : mapping of str to sequence of Chunk, optional
            By file, the chunks that the client hashed while it sent.
        conditions : Conditions
            Judged under the directory's lock, before anything is sealed.

        Raises
        ------
        UploadNotFound, UploadBusy
        RangesMissing
            Bytes have not arrived; ``missing`` lists the ranges.
        TooLarge
            Too many chunks are declared.
        DigestMismatch
            What arrived is not what was declared.
        ModeConflict, NameTaken, Pinned, ForeignFile, NotImproved, QuotaExceeded
        NotDurable
            The disk failed to keep what arrived: all of it is missing again.
        """
        if stuck := self._unfinished.get(upload_id):  # it failed after its seal: the checkpoint exists
            self._finish(upload_id, stuck)
        with self._context.catalog.reading() as session:
            if saved := session.uploads.committed(upload_id):
                return self._repeated(session, saved)
            upload = session.uploads.get(upload_id)
        self._rules.limits.admit_chunks(list((declared or {}).values()))
        if upload is None:
            raise UploadNotFound(f"There is no upload {upload_id!r}; it may have expired. Begin it again.")
        transfer = self._transfers.of(upload)
        while (committed := self._attempt(upload, transfer, declared or {}, conditions)) is None:
            self._borrowing.make_up(transfer)
        self._forget(upload.id)
        self._tell(committed)
        return committed

    def judge(self, upload: Upload, conditions: Conditions) -> None:
        """Judge the conditions of a commit that is yet to come, so that no byte is sent in vain."""
        with self._context.catalog.reading() as session:
            standing = session.checkpoints.named(upload.directory, upload.name)
        conditions.judge(upload, standing)

    def again(self, directory: str, save_id: str, digest: str) -> Committed:
        """What a save became that was committed before. `SaveIdReused` where its content is another."""
        with self._context.catalog.reading() as session:
            saved = session.uploads.saved(directory, save_id)
            if saved is None or saved.digest != digest:
                raise SaveIdReused(f"The save_id {save_id!r} was used for other content.")
            return self._repeated(session, saved)

    def finish(self, upload_id: str, manifest: Manifest) -> None:
        """Roll a sealed upload forward, unless that has been done.

        Raises
        ------
        ForeignFile
            Something is in its way; it is tried again at the next commit to its directory, or at the next start.
        """
        self._unfinished[upload_id] = manifest  # until nothing has failed from here on
        self._finish(upload_id, manifest)

    def _finish(self, upload_id: str, manifest: Manifest) -> None:
        with self._context.catalog.lock(manifest.checkpoint.directory):
            if upload_id not in self._unfinished:
                return  # somebody else has finished it, or taken its seal back
            with self._context.catalog.reading() as session:
                done = session.checkpoints.get(manifest.checkpoint.id) is not None
            if not done and not self._context.storage.is_sealed(upload_id):
                self._reopen(upload_id)
                return
            try:
                committed = None if done else self._publish_sealed(upload_id, manifest)
            except (ForeignFile, FileNotFoundError):
                self._reserve_sequence(manifest)
                raise
            self._unfinished.pop(upload_id, None)
            self._forget(upload_id)
            self._discard(upload_id)
        if committed is not None:
            self._tell(committed)

    def finish_earlier(self, directory: str) -> None:
        """Finish the commits to a directory that failed after their seals: their checkpoints exist.

        One that a foreign file keeps from being published for the first time does not hold up the others.
        """
        for upload_id, manifest in list(self._unfinished.items()):
            if manifest.checkpoint.directory == directory:
                try:
                    with actor.acting(actor.SERVER):  # not for whoever happens to come by
                        self._finish(upload_id, manifest)
                except FileNotFoundError:
                    logger.exception("the bytes of upload %s are gone: it cannot be published", upload_id)
                except ForeignFile:
                    if manifest.replaces is not None:
                        raise

    def finish_all(self) -> None:
        """Finish what failed after its seal, as far as that is possible by now."""
        for directory in {manifest.checkpoint.directory for manifest in list(self._unfinished.values())}:
            try:
                self.finish_earlier(directory)
            except (OSError, Refusal):
                logger.exception("a commit to %s cannot be finished yet", directory)

    # below

    def _tell(self, committed: Committed) -> None:
        self._freeing.later(committed.removed)
        self._context.notifier.notify()

    def _attempt(
        self, upload: Upload, transfer: Transfer, declared: Mapping[str, Sequence[Chunk]], conditions: Conditions
    ) -> Committed | None:
        """Commit what has arrived; None where copying was deferred and is needed after all."""
        transfer.close_after_copying()
        try:
            committed = self._commit(upload, transfer, declared, conditions)
        except BaseException:
            if upload.id not in self._unfinished:  # what is sealed never changes
                transfer.reopen()
            raise
        if committed is None:
            transfer.reopen()
        return committed

    def _commit(
        self, upload: Upload, transfer: Transfer, declared: Mapping[str, Sequence[Chunk]], conditions: Conditions
    ) -> Committed | None:
        settled = None
        if transfer.deferred and not _as_promised(upload, declared):
            return None
        if not transfer.deferred:
            try:
                missing, most_tensors = self._uploading.missing(upload), self._rules.limits.tensors
                settled = settle(self._context.storage, transfer, declared, missing, most_tensors)
            except NotDurable:
                self._transfers.disbelieve(transfer)
                raise
        digest = settled.digest if settled is not None else digests.of_save(upload)
        with self._context.catalog.lock(upload.directory):
            self.finish_earlier(upload.directory)
            with self._context.catalog.reading() as session:
                if saved := session.uploads.committed(upload.id):
                    return self._repeated(session, saved)
                being_freed = session.checkpoints.to_withdraw(upload.directory, upload.name)
            for removed in being_freed:
                self._freeing.withdraw(removed)
            self._freeing.later(being_freed)
            with self._context.catalog.reading() as session:
                if session.uploads.get(upload.id) is None:
                    raise UploadNotFound(f"Upload {upload.id!r} was given up meanwhile.")
                directory = session.directories.get(upload.directory)
                assert directory is not None, "an upload's directory is made with it"
                conditions.judge(upload, session.checkpoints.named(upload.directory, upload.name))
                standing = refuse_impossible(session, self._context.storage, directory, upload, digest)
            if standing is not None and standing.digest == digest and self._intact(standing):
                committed = self._recording.change_facts(upload, directory, standing)
                self._discard(upload.id)
                return committed
            if settled is None:
                return None
            return self._seal_and_publish(upload, settled, directory, standing)

    def _repeated(self, session: Session, saved: Saved) -> Committed:
        checkpoint = known_checkpoint(session, saved.checkpoint_id)
        directory = session.directories.get(checkpoint.directory)
        return Committed(checkpoint, directory.policy if directory else Policy(), repeated=True)

    def _reserve_sequence(self, manifest: Manifest) -> None:
        """Let nobody else have the number of a checkpoint that is yet to be published."""
        checkpoint = manifest.checkpoint
        with self._context.catalog.writing() as session:
            directory = session.directories.get(checkpoint.directory) or lost_directory(checkpoint)
            if directory.sequence < checkpoint.sequence:
                session.directories.put(replace(directory, sequence=checkpoint.sequence))

    def _intact(self, checkpoint: Checkpoint) -> bool:
        try:
            for file in checkpoint.files:
                with closing(self._context.storage.open(checkpoint, file)) as opened:
                    if (opened.size_bytes, opened.mtime_ns) != (file.size_bytes, file.mtime_ns):
                        return False
        except (OSError, ForeignFile):
            return False
        return True

    def _seal_and_publish(
        self, upload: Upload, settled: Settled, directory: Directory, standing: Checkpoint | None
    ) -> Committed:
        sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
        checkpoint = Checkpoint(
            id=upload.id,
            directory=upload.directory,
            name=upload.name,
            save_id=upload.save_id,
            sequence=sequence,
            saved_after=ranking.saved_after(upload.saved_after, sequence),
            facts=same_content_facts(standing, upload, settled.digest),
            files=settled.files,
            digest=settled.digest,
            created_at=self._context.clock(),
            folders=upload.folders,
        )
        replaces = standing.id if standing is not None else None
        manifest = Manifest(checkpoint, settled.maps, replaces, upload.policy, upload.writer)
        self._allowance.seal(directory, manifest)
        self._unfinished[upload.id] = manifest
        try:
            self._context.storage.seal(upload.id, manifest)
        except OSError:
            self._take_back(upload.id)
            raise
        try:
            committed = self._publish_sealed(upload.id, manifest)
        except ForeignFile:
            if standing is None:  # nothing was touched yet, and the client is told that nothing was saved
                self._take_back(upload.id)
            raise
        self._discard(upload.id)
        return committed

    def _publish_sealed(self, upload_id: str, manifest: Manifest) -> Committed:
        """Publish and record; where that fails, it is left to `finish`."""
        self._unfinished[upload_id] = manifest
        committed = self._recording.publish(upload_id, manifest)
        del self._unfinished[upload_id]
        return committed

    def _reopen(self, upload_id: str) -> None:
        """The seal was taken back, though that failed at its last moment: it is an upload again."""
        del self._unfinished[upload_id]
        self._allowance.unseal(upload_id)
        if transfer := self._transfers.known(upload_id):
            transfer.reopen()

    def _take_back(self, upload_id: str) -> None:
        self._context.storage.unseal(upload_id)
        del self._unfinished[upload_id]
        self._allowance.unseal(upload_id)

    def _forget(self, upload_id: str) -> None:
        self._transfers.forget(upload_id)
        self._allowance.drop(upload_id)

    def _discard(self, upload_id: str) -> None:
        try:
            self._context.storage.discard(upload_id)
        except OSError:
            logger.exception("the remains of upload %s are left to the next start", upload_id)


def _as_promised(upload: Upload, declared: Mapping[str, Sequence[Chunk]]) -> bool:
    """Whether a commit declares nothing but what the upload had declared."""
    promised = {file.path: file.chunks for file in upload.files}
    return all(promised.get(path) == tuple(chunks) for path, chunks in declared.items())
