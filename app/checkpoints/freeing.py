"""Give back the bytes of removed checkpoints: later, on one thread, or at once. Never fails a save."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from app.checkpoints.parts import Parts
from app.domain import Checkpoint

logger = logging.getLogger("holdfast")


class Freeing:
    """Carries out removals that the catalog has marked."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-freeing")

    def later(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Free these in the background; what fails is tried again by the janitor."""
        for checkpoint in checkpoints:
            self._worker.submit(self.attempt, checkpoint)

    def attempt(self, checkpoint: Checkpoint) -> None:
        """Free one, and log rather than raise what hinders it."""
        try:
            self.now(checkpoint)
        except Exception:
            logger.exception("could not free %s/%s yet", checkpoint.directory, checkpoint.name)

    def now(self, checkpoint: Checkpoint) -> None:
        """Free one: its manifest goes, then its files. Repeats what a crash left unfinished."""
        self.withdraw(checkpoint)
        self._parts.storage.free(checkpoint.id)
        with self._parts.catalog.writing() as session:
            session.checkpoints.mark_freed(checkpoint.id)

    def withdraw(self, checkpoint: Checkpoint) -> None:
        """Take one out of its directory, so that its name is free."""
        catalog, storage = self._parts.catalog, self._parts.storage
        with catalog.lock(checkpoint.directory):
            with catalog.reading() as session:
                directory = session.directories.get(checkpoint.directory)
            if directory is not None and checkpoint.sequence == directory.sequence:
                storage.write_directory(directory)  # or a rebuilt catalog would give this number a second time
            storage.withdraw(checkpoint)

    def close(self) -> None:
        """Finish what was begun."""
        self._worker.shutdown(wait=True)
