"""Manifests that are remembered, as each may be of thousands of files: bytes until they have their place, and ids."""

import os
import threading
from collections import OrderedDict

from app.core.models import Manifest
from app.storage import manifest as manifests
from app.storage.local.tree import Parts

MOST_STANDING = 1000
"""The most standing manifests that are remembered."""

Stamp = tuple[int, int, int, int, int]


class Written:
    """Manifests as bytes, and ids of standing ones. May be used by several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: tuple[Manifest, bytes] | None = None
        self._standing: OrderedDict[Parts, tuple[Stamp, str]] = OrderedDict()

    def dumped(self, manifest: Manifest) -> bytes:
        """The bytes of a manifest; those of the last one are remembered, as a seal becomes a manifest."""
        last = self._last
        if last is not None and last[0] is manifest:
            return last[1]
        data = manifests.dump(manifest)
        self._last = (manifest, data)
        return data

    def forget(self, manifest: Manifest) -> None:
        """A manifest has its place: its bytes are not asked for again."""
        last = self._last
        if last is not None and last[0] is manifest:
            self._last = None

    def stands(self, place: Parts, found: os.stat_result, checkpoint_id: str) -> None:
        """The manifest at a place, which was found like this, is that of a checkpoint."""
        with self._guard:
            self._standing[place] = (_stamp(found), checkpoint_id)
            self._standing.move_to_end(place)
            while len(self._standing) > MOST_STANDING:
                self._standing.popitem(last=False)

    def standing(self, place: Parts, found: os.stat_result) -> str | None:
        """The id in the manifest at a place that is found like this; None where that is not known."""
        with self._guard:
            known = self._standing.get(place)
        return known[1] if known is not None and known[0] == _stamp(found) else None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
