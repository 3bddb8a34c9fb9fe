"""The disk below a root: its space, the reserve file for a full one, and whether its files can share blocks."""

import os
from contextlib import ExitStack

from app.core.spans import Span
from app.storage.local import layout
from app.storage.local.disk import linux
from app.storage.local.disk.tree import Tree

BLOCK_BYTES = 4096
RESERVE_FILE_BYTES = 4 * 1024 * 1024
LEAST_BYTES = 1024 * 1024
"""With less, the catalog can hardly be opened, and a removal could fail."""


class LocalVolume:
    """The volume port on the file system of a root; see the port for the promise of each method."""

    shares_blocks = False

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def free_bytes(self) -> int:
        found = os.statvfs(self._tree.root)
        return found.f_bavail * found.f_frsize

    def capacity_bytes(self) -> int:
        found = os.statvfs(self._tree.root)
        return found.f_blocks * found.f_frsize

    def keep_reserve_file(self) -> None:
        if self._tree.stat(layout.RESERVE_FILE) is not None or self.free_bytes() < 8 * RESERVE_FILE_BYTES:
            return
        descriptor = self._tree.open(layout.RESERVE_FILE, os.O_WRONLY | os.O_CREAT)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_FILE_BYTES)
        except OSError:
            self._tree.unlink(layout.RESERVE_FILE)
        finally:
            os.close(descriptor)

    def drop_reserve_file(self) -> bool:
        if self.free_bytes() >= LEAST_BYTES or self._tree.stat(layout.RESERVE_FILE) is None:
            return False
        self._tree.unlink(layout.RESERVE_FILE)
        return True

    def probe_sharing(self) -> None:
        """Set ``shares_blocks``, by trying with two small files. `OSError` on a full disk."""
        span = Span(0, BLOCK_BYTES)
        with ExitStack() as undo:
            for path in layout.PROBES:
                self._tree.write(path, bytes(BLOCK_BYTES))
                undo.callback(self._tree.unlink, path)
            descriptors = [self._tree.open(path, os.O_RDWR) for path in layout.PROBES]
            for descriptor in descriptors:
                undo.callback(os.close, descriptor)
            self.shares_blocks = linux.share(descriptors[0], 0, descriptors[1], span)
