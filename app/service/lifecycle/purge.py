"""Purge: deletes the bytes of removed checkpoints once their undo window is over or space is needed.

The bytes first move to the trash, which frees the name. A purge that fails never fails a save.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from app.core.models import Checkpoint
from app.service.state.active_purges import ActivePurges
from app.service.state.context import Context, Rules
from app.storage.ports import Volume

logger = logging.getLogger("holdfast")


class Purge:
    """Carries out the removals that the catalog has marked."""

    def __init__(self, context: Context, rules: Rules, active: ActivePurges) -> None:
        self._context = context
        self._rules = rules
        self._active = active
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-purge")

    def schedule(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Carry out removals in the background. The janitor retries those that fail."""
        for checkpoint in checkpoints:
            self._worker.submit(self.attempt, checkpoint)

    def attempt(self, checkpoint: Checkpoint) -> None:
        """Move a checkpoint to the trash, and purge it if there is no undo window. Failures are logged."""
        try:
            self.move_to_trash(checkpoint)
            if not self._rules.undo_window:
                self._purge(checkpoint)
        except Exception:
            logger.exception("could not purge %s/%s yet", checkpoint.directory, checkpoint.name)

    def move_to_trash(self, checkpoint: Checkpoint) -> None:
        """Move a removed checkpoint out of its directory, so that its name is free. Idempotent."""
        catalog, storage = self._context.catalog, self._context.storage
        with catalog.lock(checkpoint.directory):
            with catalog.reading() as session:
                now, directory = session.checkpoints.get(checkpoint.id), session.directories.get(checkpoint.directory)
            if now is None or now.removed_at is None or now.trashed:
                return
            if directory is not None and checkpoint.sequence == directory.sequence:
                storage.records.write_directory(
                    directory
                )  # or a rebuilt catalog would assign this number a second time
            storage.content.move_to_trash(now, note=bool(self._rules.undo_window))
            with catalog.writing() as session:
                session.checkpoints.mark_trashed(checkpoint.id)

    def run(self) -> None:
        """Move every removed checkpoint to the trash, and purge those whose undo window is over."""
        with self._context.catalog.reading() as session:
            in_place = session.checkpoints.to_move_to_trash()
            due = session.checkpoints.in_trash(removed_before=self._rules.restorable_since(self._context.clock()))
        for checkpoint in in_place:
            self.attempt(checkpoint)
        for checkpoint in due:
            self._attempt_purge(checkpoint)

    def make_room(self, volume: Volume, wanted_bytes: int) -> None:
        """Purge the trash, oldest first, until so many bytes are free; nothing if all of it would not suffice."""
        with self._context.catalog.reading() as session:
            trash = session.checkpoints.in_trash()
        if volume.free_bytes() + sum(checkpoint.size_bytes for checkpoint in trash) < wanted_bytes:
            return
        for checkpoint in trash:
            if volume.free_bytes() >= wanted_bytes:
                return
            self._attempt_purge(checkpoint)

    def is_purging(self, checkpoint_id: str) -> bool:
        """Tell if the bytes are being deleted at this moment: the checkpoint can no longer be restored."""
        return checkpoint_id in self._active

    def close(self) -> None:
        """Finish the scheduled removals."""
        self._worker.shutdown(wait=True)

    def _attempt_purge(self, checkpoint: Checkpoint) -> None:
        try:
            self._purge(checkpoint)
        except Exception:
            logger.exception("could not purge %s/%s yet", checkpoint.directory, checkpoint.name)

    def _purge(self, checkpoint: Checkpoint) -> None:
        """Purge a checkpoint from the trash, unless it was restored or another thread purges it."""
        if not self._begin(checkpoint):
            return
        try:
            self._context.storage.content.purge(checkpoint.id)
            with self._context.catalog.writing() as session:
                session.checkpoints.mark_freed(checkpoint.id)
        finally:
            self._active.end(checkpoint.id)

    def _begin(self, checkpoint: Checkpoint) -> bool:
        """Claim a purge under the directory's lock, as a restoration does; deleting the bytes needs no lock."""
        with self._context.catalog.lock(checkpoint.directory):
            with self._context.catalog.reading() as session:
                now = session.checkpoints.get(checkpoint.id)
            if now is None or not now.trashed or now.freed:
                return False
            return self._active.begin(checkpoint.id)
