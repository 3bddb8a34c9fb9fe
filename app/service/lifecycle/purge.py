"""Purge: deletes the bytes of removed checkpoints once their undo window is over or space is needed.

The bytes first move to the trash, which frees the name. A purge that fails never fails a save.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from app.core.models import Checkpoint
from app.service.state.active_purges import MOST_AT_ONCE, ActivePurges
from app.service.state.context import Context, Rules
from app.storage.ports import Volume

logger = logging.getLogger("holdfast")


class Purge:
    """Carries out the removals that the catalog has marked."""

    def __init__(self, context: Context, rules: Rules, active: ActivePurges) -> None:
        self._context = context
        self._rules = rules
        self._active = active

    def schedule(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Carry out removals in the background. The janitor retries those that fail."""
        self._active.schedule(self._attempt_all, checkpoints)

    def help(self) -> None:
        """Carry out a few scheduled removals if too many wait. The caller holds no lock of a directory."""
        self._active.help(self._attempt_all)

    def attempt(self, checkpoint: Checkpoint) -> None:
        """Move a checkpoint to the trash, and purge it if there is no undo window. Failures are logged.

        If another thread is purging it, wait for that. The caller holds no lock of its directory.
        """
        self._attempt_all([checkpoint])
        self._active.wait(checkpoint.id)

    def _attempt_all(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Carry out removals; without an undo window, one transaction records all of them."""
        if self._rules.undo_window:
            for checkpoint in checkpoints:
                with self._logged(checkpoint):
                    self.move_to_trash(checkpoint)
            return
        begun = [checkpoint for checkpoint in checkpoints if self._active.begin(checkpoint.id)]
        try:
            gone = []
            for checkpoint in begun:
                with self._logged(checkpoint):
                    if self._delete(checkpoint):
                        gone.append(checkpoint.id)
            if gone:  # if a power cut undoes this, the next start finds nothing to delete, and records it
                with self._context.catalog.writing(is_durable=False) as session:
                    for checkpoint_id in gone:
                        session.checkpoints.mark_gone(checkpoint_id)
        except Exception:
            logger.exception("could not record yet what was purged")
        finally:
            for checkpoint in begun:
                self._active.end(checkpoint.id)

    def _delete(self, checkpoint: Checkpoint) -> bool:
        """Delete the bytes of a removed checkpoint that nobody can restore; tell if the catalog does not know that."""
        with self._context.catalog.lock(checkpoint.directory):
            now = self._moved(checkpoint, is_final=True)
        if now is None or now.freed:
            return False
        self._context.storage.content.purge(checkpoint.id)
        return True

    @contextmanager
    def _logged(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Log any failure in the block: the janitor tries again."""
        try:
            yield
        except Exception:
            logger.exception("could not purge %s/%s yet", checkpoint.directory, checkpoint.name)

    def move_to_trash(self, checkpoint: Checkpoint) -> None:
        """Move a removed checkpoint out of its directory, so that its name is free. Idempotent."""
        with self._context.catalog.lock(checkpoint.directory):
            now = self._moved(checkpoint, is_final=False)
            if now is not None and not now.trashed:
                with self._context.catalog.writing() as session:
                    session.checkpoints.mark_trashed(checkpoint.id)

    def _moved(self, checkpoint: Checkpoint, *, is_final: bool) -> Checkpoint | None:
        """Move a checkpoint out of its directory, under its lock; return it as it was, None if it is not removed."""
        storage = self._context.storage
        with self._context.catalog.reading() as session:
            now, directory = session.checkpoints.get(checkpoint.id), session.directories.get(checkpoint.directory)
        if now is None or now.removed_at is None:
            return None
        if not now.trashed:
            if directory is not None and checkpoint.sequence == directory.sequence:
                # or a rebuilt catalog would assign this number a second time
                storage.records.write_directory(directory)
            storage.content.move_to_trash(now, note=bool(self._rules.undo_window), is_final=is_final)
        return now

    def run(self) -> None:
        """Move every removed checkpoint to the trash, and purge those whose undo window is over."""
        with self._context.catalog.reading() as session:
            in_place = session.checkpoints.to_move_to_trash()
            due = session.checkpoints.in_trash(removed_before=self._rules.restorable_since(self._context.clock()))
        for start in range(0, len(in_place), MOST_AT_ONCE):
            self._attempt_all(in_place[start : start + MOST_AT_ONCE])
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
        self._active.close()

    def _attempt_purge(self, checkpoint: Checkpoint) -> None:
        with self._logged(checkpoint):
            self._purge(checkpoint)

    def _purge(self, checkpoint: Checkpoint) -> None:
        """Purge a checkpoint from the trash, unless it was restored or another thread purges it."""
        if not self._begin(checkpoint):
            return
        try:
            self._context.storage.content.purge(checkpoint.id)
            with self._context.catalog.writing(is_durable=False) as session:
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
