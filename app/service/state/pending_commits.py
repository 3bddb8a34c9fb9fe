"""Pending commits: uploads that are sealed, while their checkpoints are not yet published and recorded."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.core.errors import ForeignFile, Refusal
from app.core.models import Checkpoint, Manifest, Policy
from app.runtime import actor
from app.service.state.context import Context
from app.service.state.open_uploads import OpenUploads
from app.service.state.quota_claims import QuotaClaims
from app.service.state.transitions import lost_directory

logger = logging.getLogger("holdfast")


@dataclass(frozen=True, slots=True)
class Replaced:
    """The checkpoint of another writer that a save replaced shortly after it was saved, or without knowing of it."""

    checkpoint: Checkpoint
    writer: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit.

    Attributes
    ----------
    policy : Policy
        The directory's policy after the commit.
    removed : sequence of Checkpoint
        The checkpoints that this commit pruned or replaced.
    other_writer : str, optional
        Another writer that saved to the directory a moment ago.
    repeated : bool
        The same save was committed before.
    replaced : Replaced, optional
        The save of another writer under the same name, a moment ago or since this save was reserved.
    """

    checkpoint: Checkpoint
    policy: Policy
    removed: Sequence[Checkpoint] = ()
    other_writer: str | None = None
    repeated: bool = False
    replaced: Replaced | None = None


class PendingCommits:
    """Finishes commits that failed after their seal: from there on the checkpoint exists, and every step is idempotent.

    A pending checkpoint has no row yet. Whatever looks at a directory's rows in order to change them finishes its
    pending commits first; otherwise a sealed checkpoint would look like a foreign file or like an open upload.

    Parameters
    ----------
    publish : callable
        Moves a sealed upload into its directory and records it; idempotent.
    purge : callable
        Schedules the removal of the bytes of checkpoints that a commit removed.
    """

    def __init__(
        self,
        context: Context,
        open_uploads: OpenUploads,
        quota_claims: QuotaClaims,
        publish: Callable[[str, Manifest], Committed],
        purge: Callable[[Sequence[Checkpoint]], None],
    ) -> None:
        self._context = context
        self._open_uploads = open_uploads
        self._quota_claims = quota_claims
        self._publish = publish
        self._purge = purge
        self._manifests: dict[str, Manifest] = {}

    def __contains__(self, upload_id: str) -> bool:
        return upload_id in self._manifests

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        """Seal an upload, under its directory's lock. If that fails, it stays an open upload."""
        self._manifests[upload_id] = manifest
        try:
            self._context.storage.content.seal(upload_id, manifest)
        except OSError:
            self.unseal(upload_id)
            raise

    def unseal(self, upload_id: str) -> None:
        """Make a sealed upload an open one again. Only before any of its files is published."""
        self._context.storage.content.unseal(upload_id)
        self._forget_seal(upload_id)

    def publish(self, upload_id: str, manifest: Manifest) -> Committed:
        """Publish and record a sealed upload, under its directory's lock. If that fails, it stays pending."""
        self._manifests[upload_id] = manifest
        committed = self._publish(upload_id, manifest)
        del self._manifests[upload_id]
        return committed

    def announce(self, committed: Committed) -> None:
        """Purge what a commit removed, and wake the waiting clients."""
        self._purge(committed.removed)
        self._context.notifier.notify()

    def roll_forward(self, upload_id: str, manifest: Manifest) -> None:
        """Finish the commit of a sealed upload that an earlier process left. Idempotent.

        Raises
        ------
        ForeignFile
            A file is in its place. The next commit to its directory and the next start try again.
        """
        self._manifests[upload_id] = manifest  # until every step has succeeded
        self._finish(upload_id, manifest)

    def finish(self, upload_id: str) -> None:
        """Finish the commit of one upload if it is pending."""
        if (manifest := self._manifests.get(upload_id)) is not None:
            self._finish(upload_id, manifest)

    def finish_directory(self, directory: str) -> None:
        """Finish the pending commits to a directory.

        A foreign file in the place of a checkpoint that replaces none does not hold up the others.
        """
        for upload_id, manifest in list(self._manifests.items()):
            if manifest.checkpoint.directory == directory:
                try:
                    with actor.acting(actor.SERVER):  # not on behalf of the client whose request comes next
                        self._finish(upload_id, manifest)
                except FileNotFoundError:
                    logger.exception("the bytes of upload %s are gone: it cannot be published", upload_id)
                except ForeignFile:
                    if manifest.replaces is not None:
                        raise

    def finish_all(self) -> None:
        """Finish every pending commit. Best-effort: failures are logged."""
        for directory in {manifest.checkpoint.directory for manifest in list(self._manifests.values())}:
            try:
                self.finish_directory(directory)
            except (OSError, Refusal):
                logger.exception("a commit to %s cannot be finished yet", directory)

    def forget_upload(self, upload_id: str) -> None:
        """Drop the in-memory state of an upload that has become a checkpoint."""
        self._open_uploads.forget(upload_id)
        self._quota_claims.release(upload_id)

    def discard_remains(self, upload_id: str) -> None:
        """Delete the files of a committed upload. Best-effort: the next start tries again."""
        try:
            self._context.storage.content.discard(upload_id)
        except OSError:
            logger.exception("the remains of upload %s are left to the next start", upload_id)

    def _finish(self, upload_id: str, manifest: Manifest) -> None:
        with self._context.catalog.lock(manifest.checkpoint.directory):
            if upload_id not in self._manifests:
                return  # another thread has finished it or unsealed it
            with self._context.catalog.reading() as session:
                done = session.checkpoints.get(manifest.checkpoint.id) is not None
            if not done and not self._context.storage.content.is_sealed(upload_id):
                self._reopen(upload_id)
                return
            try:
                committed = None if done else self.publish(upload_id, manifest)
            except (ForeignFile, FileNotFoundError):
                self._reserve_sequence(manifest)
                raise
            self._manifests.pop(upload_id, None)
            self.forget_upload(upload_id)
            self.discard_remains(upload_id)
        if committed is not None:
            self.announce(committed)

    def _reserve_sequence(self, manifest: Manifest) -> None:
        """Advance the directory's counter, so that no other checkpoint gets the number of an unpublished one."""
        checkpoint = manifest.checkpoint
        with self._context.catalog.writing() as session:
            directory = session.directories.get(checkpoint.directory) or lost_directory(checkpoint)
            if directory.sequence < checkpoint.sequence:
                session.directories.put(replace(directory, sequence=checkpoint.sequence))

    def _reopen(self, upload_id: str) -> None:
        """Treat an upload as open again: an unsealing that reported a failure has removed its seal after all."""
        self._forget_seal(upload_id)
        if progress := self._open_uploads.known(upload_id):
            progress.reopen()

    def _forget_seal(self, upload_id: str) -> None:
        del self._manifests[upload_id]
        self._quota_claims.unseal(upload_id)
