"""Scrubber: reads every checkpoint back in the background at a bounded rate, and reports damage."""

import logging
import threading
from datetime import timedelta

from app.catalog import CheckpointIdentity
from app.core.models import Checkpoint, File, FileMap
from app.runtime.thread_priority import BULK, set_niceness
from app.service.query.verify import RateLimit, Stopped, faults_of
from app.service.state.context import Context
from app.service.state.transitions import note_verified

logger = logging.getLogger("holdfast")

IDLE_S = 5.0
"""The time between two looks for a checkpoint to read while none is due, in seconds."""
UNREADABLE = "what the catalog knows of it cannot be read"


class Scrubber:
    """A thread that reads back the checkpoint that was not read for the longest time, once that is due.

    Parameters
    ----------
    bytes_per_s : float
        The rate of reading; 0 to disable it.
    every : timedelta
        The time after which a checkpoint is due again.
    """

    def __init__(self, context: Context, *, bytes_per_s: float, every: timedelta) -> None:
        self._context = context
        self._bytes_per_s = bytes_per_s
        self._every = every
        self._stop = threading.Event()
        self._rate_limit = RateLimit(bytes_per_s or None, self._stop.wait)
        self._thread = threading.Thread(target=self._work, name="holdfast-scrub", daemon=True)

    @property
    def bytes_read(self) -> int:
        """The number of bytes read back since the start."""
        return self._rate_limit.bytes_read

    def start(self) -> None:
        if self._bytes_per_s:
            self._thread.start()

    def stop(self) -> None:
        """Stop soon, even in the middle of a checkpoint."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        set_niceness(BULK)
        while not self._stop.is_set():
            try:
                found = self._next()
                if found is not None:
                    self._verify(found)
            except Stopped:
                return
            except Exception:
                logger.exception("the scrubber continues in %s s", IDLE_S)
                found = None
            if found is None:
                self._stop.wait(IDLE_S)

    def _next(self) -> CheckpointIdentity | None:
        with self._context.catalog.reading() as session:
            return session.checkpoints.to_verify(self._context.clock(), self._every)

    def _verify(self, identity: CheckpointIdentity) -> None:
        try:
            with self._context.catalog.reading() as session:
                checkpoint, maps = session.checkpoints.get(identity.id), session.checkpoints.maps(identity.id)
        except (ValueError, TypeError):
            logger.exception("the catalog's row of %s/%s cannot be read", identity.directory, identity.name)
            note_verified(self._context, identity, UNREADABLE)  # or it would be the next one for ever
            return
        if checkpoint is None or any(file.path not in maps for file in checkpoint.files):
            return  # it was removed or replaced a moment ago
        faults = [self._fault(checkpoint, file, maps[file.path]) for file in checkpoint.files]
        note_verified(self._context, checkpoint, "; ".join(fault for fault in faults if fault) or None)

    def _fault(self, checkpoint: Checkpoint, file: File, file_map: FileMap) -> str | None:
        try:
            fault = faults_of(self._context.storage.content, checkpoint, file, file_map, self._rate_limit)
        except FileNotFoundError:
            fault = "is missing"
        return f"{checkpoint.stored_at(file)} {fault}" if fault is not None else None
