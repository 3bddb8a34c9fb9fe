"""Active purges: the removals that wait for this process, and those whose bytes it deletes at this moment.

Several servers would claim the rows of the catalog instead, so that no two delete the same bytes and none restores
them meanwhile. A queue that is lost costs nothing: the janitor finds its removals in the catalog.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from app.core.models import Checkpoint

MOST_AT_ONCE = 100
"""The number of checkpoints that are purged together, at most."""
MOST_WAITING = 100
"""The number of checkpoints that may wait for the one thread; if more do, the saves help."""
HELP = 2
"""The number of checkpoints that a save purges then: more than most saves remove."""


class ActivePurges:
    """A queue of removals, and a set of checkpoint ids. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ids: set[str] = set()
        self._scheduled: deque[Checkpoint] = deque()
        self._is_awake = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="holdfast-purge")

    def schedule(self, purge: Callable[[Sequence[Checkpoint]], None], checkpoints: Iterable[Checkpoint]) -> None:
        """Purge checkpoints in the background, together with those that still wait from earlier calls.

        One task at a time goes through all of them: with one for each call, a server whose saves never pause would
        gather tasks for ever.
        """
        with self._changed:
            self._scheduled.extend(checkpoints)
            if not self._scheduled or self._is_awake:
                return
            self._is_awake = True
        self._worker.submit(self._purge_scheduled, purge)

    def _purge_scheduled(self, purge: Callable[[Sequence[Checkpoint]], None]) -> None:
        try:
            while batch := self._next_batch():
                purge(batch)
        except BaseException:
            with self._changed:
                self._is_awake = False
            raise

    def _next_batch(self) -> Sequence[Checkpoint]:
        """Take what is purged next; if that is nothing, the task ends."""
        with self._changed:
            batch = self._take(MOST_AT_ONCE)
            self._is_awake = bool(batch)
            return batch

    def help(self, purge: Callable[[Sequence[Checkpoint]], None]) -> None:
        """Purge a few on the calling thread if too many wait: saves that outpace one thread would fill the disk."""
        with self._changed:
            batch = self._take(HELP) if len(self._scheduled) > MOST_WAITING else []
        if batch:
            purge(batch)

    def _take(self, count: int) -> Sequence[Checkpoint]:
        return [self._scheduled.popleft() for _ in range(min(count, len(self._scheduled)))]

    def close(self) -> None:
        """Finish the scheduled removals."""
        self._worker.shutdown(wait=True)

    def begin(self, checkpoint_id: str) -> bool:
        """Mark a checkpoint as being purged; False if another thread is purging it."""
        with self._changed:
            if checkpoint_id in self._ids:
                return False
            self._ids.add(checkpoint_id)
            return True

    def end(self, checkpoint_id: str) -> None:
        """Mark a purge as ended, successful or not."""
        with self._changed:
            self._ids.discard(checkpoint_id)
            self._changed.notify_all()

    def wait(self, checkpoint_id: str) -> None:
        """Wait until no thread purges a checkpoint. The caller holds no lock of its directory: the purge needs it."""
        with self._changed:
            while checkpoint_id in self._ids:
                self._changed.wait()

    def __contains__(self, checkpoint_id: str) -> bool:
        with self._changed:
            return checkpoint_id in self._ids
