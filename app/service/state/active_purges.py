"""Active purges: the removed checkpoints whose bytes are being deleted at this moment."""

import threading


class ActivePurges:
    """A set of checkpoint ids. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._ids: set[str] = set()

    def begin(self, checkpoint_id: str) -> bool:
        """Mark a checkpoint as being purged; False if another thread is purging it."""
        with self._guard:
            if checkpoint_id in self._ids:
                return False
            self._ids.add(checkpoint_id)
            return True

    def end(self, checkpoint_id: str) -> None:
        """Mark a purge as ended, successful or not."""
        with self._guard:
            self._ids.discard(checkpoint_id)

    def __contains__(self, checkpoint_id: str) -> bool:
        with self._guard:
            return checkpoint_id in self._ids
