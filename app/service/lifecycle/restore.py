"""Bring a removed checkpoint back, as long as its bytes are in the trash."""

from collections.abc import Callable
from dataclasses import replace

from app.catalog import Session
from app.core import retention
from app.core.errors import CheckpointRemoved, ForeignFile, NameTaken
from app.core.models import Checkpoint, Manifest
from app.service.lifecycle.purge import Freeing
from app.service.state.context import Context
from app.service.state.lookup import known_checkpoint
from app.service.state.quota_claims import Allowance
from app.service.state.records import rewrite_manifest
from app.service.state.transitions import note_restored


class Restoring:
    """Removals that somebody takes back."""

    def __init__(
        self, context: Context, freeing: Freeing, allowance: Allowance, finish_earlier: Callable[[str], None]
    ) -> None:
        self._context = context
        self._freeing = freeing
        self._allowance = allowance
        self._finish_earlier = finish_earlier

    def restore(self, checkpoint_id: str) -> Checkpoint:
        """Bring a checkpoint back with its facts and its place in the order, its bytes durably there when this returns.

        One that is live stays as it is; where bringing it back had failed half-way, that is finished first.

        Where nothing in the directory's policy would keep it, it is pinned: the next save would remove it again.

        Raises
        ------
        CheckpointNotFound
        CheckpointRemoved
            Its bytes are gone.
        NameTaken
            Another checkpoint or a directory has its name by now.
        ForeignFile
            A file that this server did not write has its place.
        QuotaExceeded
            It would be more than a quota allows.
        """
        with self._context.catalog.reading() as session:
            directory = known_checkpoint(session, checkpoint_id).directory
        with self._context.catalog.lock(directory):
            self._finish_earlier(directory)  # what is sealed is a checkpoint, and may have the name
            with self._context.catalog.reading() as session:
                removed = known_checkpoint(session, checkpoint_id)
            if removed.removed_at is None:
                bring_to_order(self._context, removed)
                return removed
            self._freeing.withdraw(removed)
            with self._context.catalog.writing() as session:
                self._refuse_impossible(session, removed)
                restored = self._mark(session, removed)
                maps = session.checkpoints.maps(checkpoint_id)
            _finish(self._context, Manifest(restored, maps))
        self._context.notifier.notify()
        return restored

    def _refuse_impossible(self, session: Session, removed: Checkpoint) -> None:
        place = f"{removed.directory}/{removed.name}"
        if removed.freed or self._freeing.is_going(removed.id) or not self._context.storage.is_in_trash(removed):
            raise CheckpointRemoved(f"{place} was {removed.removed_because}, and its bytes have been freed.")
        if (standing := session.checkpoints.named(removed.directory, removed.name)) is not None:
            raise NameTaken(f"Another checkpoint is called {place} by now.", checkpoint_id=standing.id)
        if session.directories.anything_below(place):
            raise NameTaken(f"A directory is called {place} by now.")
        if obstacle := self._context.storage.obstacle(removed.directory, removed.name, None):
            raise ForeignFile(f"{obstacle} exists and was not written by this server; it is not overwritten.")
        self._allowance.restore(session, removed)

    def _mark(self, session: Session, removed: Checkpoint) -> Checkpoint:
        known = session.directories.get(removed.directory)
        assert known is not None, "a directory with checkpoints, removed or not, is known"
        restored = replace(removed, removed_at=None, removed_because=None, trashed=False)
        live = [*session.checkpoints.live(removed.directory), restored]
        stays = any(v.stays for v in retention.judge(live, known.policy) if v.checkpoint.id == restored.id)
        restored = replace(restored, facts=replace(restored.facts, pinned=restored.facts.pinned or not stays))
        session.checkpoints.mark_restored(restored)
        note_restored(session, restored, self._context.clock())
        return restored


def bring_to_order(context: Context, checkpoint: Checkpoint) -> None:
    """Finish the restoration of a live checkpoint, or a change of its facts, that something interrupted.

    One that a sealed commit replaces is left to that commit, which may have put its bytes aside.
    """
    with context.catalog.lock(checkpoint.directory):
        with context.catalog.reading() as session:
            now, maps = session.checkpoints.get(checkpoint.id), session.checkpoints.maps(checkpoint.id)
            is_behind = session.checkpoints.is_dirty(checkpoint.id)
        if now is None or now.removed_at is not None or not is_behind:
            return
        if all(manifest.replaces != now.id for _, manifest in context.storage.sealed()):
            _finish(context, Manifest(now, maps))


def _finish(context: Context, manifest: Manifest) -> None:
    """Move the bytes of a checkpoint that is live again out of the trash. May be repeated until it succeeds."""
    context.storage.restore(manifest.checkpoint)
    rewrite_manifest(context, manifest)
