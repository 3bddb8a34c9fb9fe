"""Restorations: bring a removed checkpoint back while its bytes are in the trash."""

from dataclasses import replace

from app.catalog import Session
from app.catalog.reports import judgement
from app.core.errors import CheckpointRemoved, ForeignFile, NameTaken
from app.core.models import Checkpoint, Manifest
from app.service.lifecycle.purge import Purge
from app.service.state.context import Context
from app.service.state.get_or_refuse import known_checkpoint
from app.service.state.pending_commits import PendingCommits
from app.service.state.quota_claims import QuotaClaims
from app.service.state.rewrite_records import rewrite_manifest
from app.service.state.transitions import note_restored


class Restorations:
    """Takes removals back."""

    def __init__(
        self, context: Context, purge: Purge, quota_claims: QuotaClaims, pending_commits: PendingCommits
    ) -> None:
        self._context = context
        self._purge = purge
        self._quota_claims = quota_claims
        self._pending_commits = pending_commits

    def restore(self, checkpoint_id: str) -> Checkpoint:
        """Bring a checkpoint back with its facts, its position and its bytes, durably when this returns. Idempotent.

        An interrupted restoration of a checkpoint that is live already is finished. If the directory's policy would not
        keep the checkpoint, it is pinned: otherwise the next save would remove it again.

        Raises
        ------
        CheckpointNotFound
        CheckpointRemoved
            Its bytes are purged.
        NameTaken
            Another checkpoint or a directory has taken its name.
        ForeignFile
            A file that this server did not write is in its place.
        QuotaExceeded
            Its bytes exceed a quota.
        """
        with self._context.catalog.reading() as session:
            directory = known_checkpoint(session, checkpoint_id).directory
        with self._context.catalog.lock(directory):
            self._pending_commits.finish_directory(directory)  # one of them may have taken the name
            with self._context.catalog.reading() as session:
                removed = known_checkpoint(session, checkpoint_id)
            if removed.removed_at is None:
                finish_restoration(self._context, removed)
                return removed
            self._purge.move_to_trash(removed)
            with self._context.catalog.writing() as session:
                self._admit(session, removed)
                restored = self._mark(session, removed)
                maps = session.checkpoints.maps(checkpoint_id)
            _put_back(self._context, Manifest(restored, maps))
        self._context.notifier.notify()
        return restored

    def _admit(self, session: Session, removed: Checkpoint) -> None:
        place = f"{removed.directory}/{removed.name}"
        if (
            removed.freed
            or self._purge.is_purging(removed.id)
            or not self._context.storage.content.is_in_trash(removed)
        ):
            raise CheckpointRemoved(f"{place} was {removed.removed_because}, and its bytes have been purged.")
        if (current := session.checkpoints.named(removed.directory, removed.name)) is not None:
            raise NameTaken(f"Another checkpoint is called {place} by now.", checkpoint_id=current.id)
        if session.directories.anything_below(place):
            raise NameTaken(f"A directory is called {place} by now.")
        if conflict := self._context.storage.content.conflict(removed.directory, removed.name, None):
            raise ForeignFile(f"{conflict} exists and was not written by this server; it is not overwritten.")
        self._quota_claims.admit_restoration(session, removed)

    def _mark(self, session: Session, removed: Checkpoint) -> Checkpoint:
        known = session.directories.get(removed.directory)
        assert known is not None, "a directory with checkpoints, removed or not, is known"
        restored = replace(removed, removed_at=None, removed_because=None, trashed=False)
        session.checkpoints.mark_restored(restored)
        if not judgement.would_stay(session.connection, known.name, known.policy, restored.id):
            restored = replace(restored, facts=replace(restored.facts, pinned=True))
            session.checkpoints.mark_restored(restored)
        note_restored(session, restored, self._context.clock())
        return restored


def finish_restoration(context: Context, checkpoint: Checkpoint) -> None:
    """Finish an interrupted restoration of a live checkpoint, or an interrupted change of its facts. Idempotent.

    A checkpoint that a pending commit replaces is left to that commit, which may have moved its bytes aside.
    """
    with context.catalog.lock(checkpoint.directory):
        with context.catalog.reading() as session:
            now, maps = session.checkpoints.get(checkpoint.id), session.checkpoints.maps(checkpoint.id)
            is_behind = session.checkpoints.is_manifest_stale(checkpoint.id)
        if now is None or now.removed_at is not None or not is_behind:
            return
        if all(manifest.replaces != now.id for _, manifest in context.storage.content.sealed()):
            _put_back(context, Manifest(now, maps))


def _put_back(context: Context, manifest: Manifest) -> None:
    """Move the bytes of a live checkpoint out of the trash, and write its manifest. Idempotent."""
    context.storage.content.restore(manifest.checkpoint)
    rewrite_manifest(context, manifest)
