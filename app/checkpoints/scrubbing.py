"""Read everything back in the background, again and again, at a bounded rate; tell of what is damaged."""

import logging
import threading
from datetime import timedelta

from app.checkpoints.parts import Parts
from app.checkpoints.verifying import Pace, Stopped, faults_of
from app.domain import Checkpoint
from app.niceness import BULK, set_niceness

logger = logging.getLogger("holdfast")

IDLE_S = 5.0
"""How often to look for something to read while there is nothing."""


class Scrubbing:
    """A thread that reads back the checkpoint that was not read for the longest time, if that was long ago.

    Parameters
    ----------
    bytes_per_s : float
        How fast it reads; 0 for not at all.
    every : timedelta
        How long a checkpoint that was read back is left alone.
    """

    def __init__(self, parts: Parts, *, bytes_per_s: float, every: timedelta) -> None:
        self._parts = parts
        self._bytes_per_s = bytes_per_s
        self._every = every
        self._stop = threading.Event()
        self._pace = Pace(bytes_per_s or None, self._stop.wait)
        self._thread = threading.Thread(target=self._work, name="holdfast-scrub", daemon=True)

    @property
    def bytes_read(self) -> int:
        """How many bytes were read back since the start."""
        return self._pace.bytes_read

    def start(self) -> None:
        if self._bytes_per_s:
            self._thread.start()

    def stop(self) -> None:
        """End soon, in the middle of a checkpoint if need be."""
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
                logger.exception("the scrub goes on in %s s", IDLE_S)
                found = None
            if found is None:
                self._stop.wait(IDLE_S)

    def _next(self) -> Checkpoint | None:
        with self._parts.catalog.reading() as session:
            return session.checkpoints.to_verify(self._parts.clock(), self._every)

    def _verify(self, checkpoint: Checkpoint) -> None:
        with self._parts.catalog.reading() as session:
            maps = session.checkpoints.maps(checkpoint.id)
        faults = []
        for file in checkpoint.files:
            if file.path not in maps:  # it was removed or replaced a moment ago
                return
            try:
                fault = faults_of(self._parts.storage, checkpoint, file, maps[file.path], self._pace)
            except FileNotFoundError:
                fault = f"{checkpoint.stored_at(file)} is missing"
            faults += [fault] if fault else []
        note_verified(self._parts, checkpoint, "; ".join(faults) or None)


def note_verified(parts: Parts, checkpoint: Checkpoint, damage: str | None) -> None:
    """Record what reading a checkpoint back has shown, unless it was removed meanwhile; an event tells what is new."""
    with parts.catalog.lock(checkpoint.directory), parts.catalog.writing() as session:
        now = session.checkpoints.get(checkpoint.id)
        if now is None or now.removed_at is not None:
            return
        session.checkpoints.mark_verified(checkpoint.id, parts.clock(), damage)
        if now.damage == damage:
            return
        session.events.add(
            "checkpoint.damaged" if damage else "checkpoint.intact",
            at=parts.clock(),
            directory=checkpoint.directory,
            checkpoint_id=checkpoint.id,
            name=checkpoint.name,
            **({"damage": damage} if damage else {}),
        )
    if damage:
        logger.error("%s/%s is damaged: %s", checkpoint.directory, checkpoint.name, damage)
    parts.bell.ring()
