"""Durability of uploads: few files are synced one by one, thousands together with their whole file system.

A disk that fails tells of it once. Syncing a file says what became of that file. Syncing the file system says that
something on it was lost, to the first upload that asks: from then on, all uploads that had begun by then are synced
file by file, until they have ended.
"""

import logging
import threading

from app.storage.local import layout
from app.storage.local.tree import Tree

logger = logging.getLogger("holdfast")

MANY = 256
"""From how many files on the whole file system is synced."""


class Durability:
    """Makes the files of uploads durable.

    Parameters
    ----------
    tree : Tree
        Opened before any of the uploads that `begin`, so that it is told of all that fails from then on.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._guard = threading.Lock()
        self._failures = 0
        self._begun: dict[str, int] = {}

    def begin(self, upload_id: str) -> None:
        """An upload begins, of which nothing was written before."""
        self._begun[upload_id] = self._failures

    def end(self, upload_id: str) -> None:
        """An upload has ended."""
        self._begun.pop(upload_id, None)

    def sync(self, upload_id: str, count: int) -> None:
        """Make all files of an upload durable, which are so many, and the folders that name them.

        Raises
        ------
        NotDurable
            That failed, and cannot be made up: the bytes may be lost although they can be read.
        """
        if count < MANY or not self._tree.tells_of_lost_writes or not self._sync_together(upload_id):
            self._tree.sync(layout.of_files(upload_id))

    def _sync_together(self, upload_id: str) -> bool:
        """Sync the whole file system; False where that proves nothing for this upload."""
        with self._guard:
            if self._begun.get(upload_id) != self._failures:
                return False
            try:
                self._tree.sync_file_system()
            except OSError as error:
                self._failures += 1
                logger.warning("the disk has lost something: uploads under way are synced file by file: %s", error)
                return False
            return True
