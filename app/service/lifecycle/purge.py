"""Give back the bytes of removed checkpoints, when the time to undo is over or space is needed. Never fails a save.

Removed bytes first move to the trash, so that their name is free; they go for good afterwards.
"""

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from app.core.models import Checkpoint
from app.service.state.context import Context, Rules

logger = logging.getLogger("holdfast")


class Freeing:
    """Carries out removals that the catalog has marked."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-freeing")
        self._guard = threading.Lock()
        self._going: set[str] = set()

    def later(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Attend to these in the background; what fails is tried again by the janitor."""
        for checkpoint in checkpoints:
            self._worker.submit(self.attempt, checkpoint)

    def attempt(self, checkpoint: Checkpoint) -> None:
        """Withdraw one, and free it where nobody may want it back; log rather than raise what hinders it."""
        try:
            self.withdraw(checkpoint)
            if not self._rules.undo_window:
                self._free(checkpoint)
        except Exception:
            logger.exception("could not free %s/%s yet", checkpoint.directory, checkpoint.name)

    def withdraw(self, checkpoint: Checkpoint) -> None:
        """Take a removed one out of its directory, so that its name is free. Repeats what a crash left unfinished."""
        catalog, storage = self._context.catalog, self._context.storage
        with catalog.lock(checkpoint.directory):
            with catalog.reading() as session:
                now, directory = session.checkpoints.get(checkpoint.id), session.directories.get(checkpoint.directory)
            if now is None or now.removed_at is None or now.trashed:
                return
            if directory is not None and checkpoint.sequence == directory.sequence:
                storage.write_directory(directory)  # or a rebuilt catalog would give this number a second time
            storage.withdraw(now, note=bool(self._rules.undo_window))
            with catalog.writing() as session:
                session.checkpoints.mark_trashed(checkpoint.id)

    def tidy(self) -> None:
        """Withdraw what is still in its directory, and free what nobody may want back any more."""
        with self._context.catalog.reading() as session:
            standing = session.checkpoints.to_withdraw()
            due = session.checkpoints.in_trash(removed_before=self._rules.restorable_since(self._context.clock()))
        for checkpoint in standing:
            self.attempt(checkpoint)
        for checkpoint in due:
            self._try_to_free(checkpoint)

    def make_room(self, wanted_bytes: int) -> None:
        """Empty the trash, the oldest first, until so many bytes are free; not where all of it would be too little."""
        with self._context.catalog.reading() as session:
            trash = session.checkpoints.in_trash()
        if self._context.storage.free_bytes() + sum(checkpoint.size_bytes for checkpoint in trash) < wanted_bytes:
            return
        for checkpoint in trash:
            if self._context.storage.free_bytes() >= wanted_bytes:
                return
            self._try_to_free(checkpoint)

    def is_going(self, checkpoint_id: str) -> bool:
        """Whether the bytes are being freed at this moment: it is too late to want them back."""
        with self._guard:
            return checkpoint_id in self._going

    def close(self) -> None:
        """Finish what was begun."""
        self._worker.shutdown(wait=True)

    def _try_to_free(self, checkpoint: Checkpoint) -> None:
        try:
            self._free(checkpoint)
        except Exception:
            logger.exception("could not free %s/%s yet", checkpoint.directory, checkpoint.name)

    def _free(self, checkpoint: Checkpoint) -> None:
        """Free one that lies in the trash, unless somebody has restored it or is freeing it."""
        if not self._claim(checkpoint):
            return
        try:
            self._context.storage.free(checkpoint.id)
            with self._context.catalog.writing() as session:
                session.checkpoints.mark_freed(checkpoint.id)
        finally:
            with self._guard:
                self._going.discard(checkpoint.id)

    def _claim(self, checkpoint: Checkpoint) -> bool:
        """Under the directory's lock, as a restoration is; the bytes then go without it, which can take a while."""
        with self._context.catalog.lock(checkpoint.directory):
            with self._context.catalog.reading() as session:
                now = session.checkpoints.get(checkpoint.id)
            with self._guard:
                if now is None or not now.trashed or now.freed or checkpoint.id in self._going:
                    return False
                self._going.add(checkpoint.id)
                return True
