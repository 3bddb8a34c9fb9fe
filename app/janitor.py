"""What time repairs: recovery at start-up, expired uploads, removals and manifests that something interrupted."""

import logging
import threading

from app.checkpoints import Checkpoints
from app.checkpoints.rebuilding import rebuild
from app.domain import Manifest

logger = logging.getLogger("holdfast")


def recover(checkpoints: Checkpoints, *, rebuild_catalog: bool = False) -> None:
    """Bring catalog and files to agreement after whatever ended the last process.

    Removals that were acknowledged come first, then, where the catalog was lost, its rebuilding, then the commits that
    had reached their seal.
    """
    parts = checkpoints.parts
    tidy(checkpoints)
    if rebuild_catalog:
        rebuilt = rebuild(parts)
        logger.warning("rebuilt the catalog: %d checkpoints, %d faults", rebuilt.checkpoints, len(rebuilt.faults))
        for fault in rebuilt.faults:
            logger.warning("left alone: %s", fault)
    sealed = parts.storage.sealed()
    for upload_id, manifest in sealed:
        try:
            checkpoints.committing.finish(upload_id, manifest)
        except Exception:  # whatever is wrong with one of them, the others and the server go on
            logger.exception("upload %s is sealed but cannot be published yet", upload_id)
    with parts.catalog.reading() as session:
        known, unfreed = session.uploads.ids(), {checkpoint.id for checkpoint in session.checkpoints.unfreed()}
    for upload_id in parts.storage.uploads() - known:
        if not parts.storage.is_sealed(upload_id):
            parts.storage.discard(upload_id)
    for checkpoint_id in parts.storage.trash() - unfreed:
        parts.storage.free(checkpoint_id)


def tidy(checkpoints: Checkpoints) -> None:
    """Finish removals, bring manifests up to date, drop uploads whose lease has ended."""
    parts = checkpoints.parts
    with parts.catalog.reading() as session:
        unfreed, dirty = session.checkpoints.unfreed(), session.checkpoints.dirty()
    for checkpoint in unfreed:
        checkpoints.freeing.attempt(checkpoint)
    for checkpoint in dirty:
        with parts.catalog.lock(checkpoint.directory):
            with parts.catalog.reading() as session:
                now = session.checkpoints.get(checkpoint.id)
                maps = session.checkpoints.maps(checkpoint.id)
            if now is not None and now.removed_at is None:
                parts.rewrite_manifest(Manifest(now, maps))
    checkpoints.uploading.expire()


class Janitor:
    """Tidies up every so often, on a thread of its own."""

    def __init__(self, checkpoints: Checkpoints, *, every_s: float) -> None:
        self._checkpoints = checkpoints
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="holdfast-janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                tidy(self._checkpoints)
            except Exception:
                logger.exception("the janitor tries again in %s s", self._every_s)
