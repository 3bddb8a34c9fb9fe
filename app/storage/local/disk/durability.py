"""Durability of uploads: a few files are synced one by one, thousands together with their whole file system.

A failing disk reports each loss once. `fsync` reports the losses of that file. `syncfs` reports that something on the
file system was lost, to the first upload that asks: from then on, every upload that had begun by then is synced file by
file, until it has ended.
"""

import logging
import threading

from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.tree import Tree

logger = logging.getLogger("holdfast")

MANY = 256
"""The number of files from which on the whole file system is synced."""


class Durability:
    """Makes the files of uploads durable.

    Parameters
    ----------
    tree : Tree
        Opened before any upload begins, so that the kernel reports to it every loss from then on.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._guard = threading.Lock()
        self._failures = 0
        self._begun: dict[str, int] = {}

    def begin(self, upload_id: str) -> None:
        """Note that an upload begins of which nothing was written before."""
        self._begun[upload_id] = self._failures

    def end(self, upload_id: str) -> None:
        """Note that an upload has ended."""
        self._begun.pop(upload_id, None)

    def sync(self, upload_id: str, files: Parts, count: int) -> None:
        """Make the files of an upload durable, ``count`` in all below the folder ``files``, and their names.

        Raises
        ------
        NotDurable
            The disk failed, and a retry proves nothing: the bytes may be lost although they can be read.
        """
        if count < MANY or not self._tree.tells_of_lost_writes or not self._sync_together(upload_id):
            self._tree.sync(files)

    def _sync_together(self, upload_id: str) -> bool:
        """Sync the whole file system; return False if that proves nothing about this upload."""
        with self._guard:
            if self._begun.get(upload_id) != self._failures:
                return False
            try:
                self._tree.sync_file_system()
            except OSError as error:
                self._failures += 1
                logger.warning("the disk has lost bytes: uploads under way are synced file by file: %s", error)
                return False
            return True
