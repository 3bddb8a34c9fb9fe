"""A cache of manifests, as each may describe thousands of files: bytes from seal to place, and ids afterwards."""

import os
import threading
from collections import OrderedDict

from app.core.models import Manifest
from app.storage import manifest as manifests
from app.storage.local.disk.descriptors import Parts

MOST_STANDING = 1000
"""The number of manifests in place whose ids are kept."""

Stamp = tuple[int, int, int, int, int]


class ManifestCache:
    """The bytes of the last manifest, and the ids of those in place. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._last: tuple[Manifest, bytes] | None = None
        self._standing: OrderedDict[Parts, tuple[Stamp, str]] = OrderedDict()

    def dumped(self, manifest: Manifest) -> bytes:
        """Return the bytes of a manifest; those of the last one are kept, as a seal becomes a manifest."""
        last = self._last
        if last is not None and last[0] is manifest:
            return last[1]
        data = manifests.dump(manifest)
        self._last = (manifest, data)
        return data

    def forget(self, manifest: Manifest) -> None:
        """Drop the bytes of a manifest that is in its place."""
        last = self._last
        if last is not None and last[0] is manifest:
            self._last = None

    def stands(self, place: Parts, found: os.stat_result, checkpoint_id: str) -> None:
        """Remember the checkpoint whose manifest is at a place, for as long as the file has this status."""
        with self._guard:
            self._standing[place] = (_stamp(found), checkpoint_id)
            self._standing.move_to_end(place)
            while len(self._standing) > MOST_STANDING:
                self._standing.popitem(last=False)

    def still_stands(self, place: Parts, found: os.stat_result) -> None:
        """Note the new status of a file at a place that has lost another name; it is forgotten if more has changed."""
        with self._guard:
            known = self._standing.get(place)
            if known is not None and known[0][:-1] == _stamp(found)[:-1]:
                self._standing[place] = (_stamp(found), known[1])

    def standing(self, place: Parts, found: os.stat_result) -> str | None:
        """Return the id in the manifest at a place whose file has this status; None if unknown."""
        with self._guard:
            known = self._standing.get(place)
        return known[1] if known is not None and known[0] == _stamp(found) else None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
