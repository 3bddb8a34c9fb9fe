"""Disk space: admits bytes before they are sent, so that no upload fills the disk into its reserve."""

from collections.abc import Callable
from contextlib import suppress

from app.core.errors import NoSpace
from app.core.models import Save, Upload
from app.service.lifecycle.purge import Purge
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import OpenUploads
from app.storage.ports import Volume

_LOOKS = 100


class DiskSpace:
    """Keeps a reserve of the disk free: for the catalog, for manifests, and for removals on a full disk."""

    def __init__(self, context: Context, rules: Rules, open_uploads: OpenUploads, purge: Purge) -> None:
        self._context = context
        self._rules = rules
        self._open_uploads = open_uploads
        self._purge = purge

    def admit(self, wanted_bytes: int, *, upload_id: str) -> None:
        """Admit bytes of an upload if they fit beside those that other active uploads have yet to bring.

        The trash counts as free space: it is purged, oldest first, as far as necessary, and not at all if all of it
        would not suffice. Must not be called under a directory's lock.

        Raises
        ------
        NoSpace
            They do not fit above the reserve.
        """
        self._admit(lambda _: wanted_bytes, upload_id)

    def admit_rest(self, upload: Upload, sent_bytes: int) -> None:
        """Admit, as `admit` does, all that an upload lacks: bytes that the client sends or that the server copies."""
        self._admit(lambda volume: self._rest_bytes(volume, upload, sent_bytes), upload.id)

    def refuse_oversized(self, save: Save) -> None:
        """Refuse a save of which the client has to send more bytes than the disk holds, before anything is created.

        Files with digests do not count: other checkpoints may hold their bytes, and shared blocks take no space.

        Raises
        ------
        NoSpace
        """
        volume = self._context.storage.volume
        sent = sum(file.size_bytes or 0 for file in save.files if not file.is_hashed)
        if volume is not None and sent > volume.capacity_bytes():
            raise self._no_space(sent, volume.free_bytes(), self._open_uploads.expected_bytes())

    def _admit(self, wanted: Callable[[Volume], int], upload_id: str) -> None:
        volume = self._context.storage.volume
        if volume is None:  # an object store never fills up; it refuses what its own quota does not allow
            return
        beside = self._open_uploads.expected_bytes(excluding=upload_id) + self._rules.reserve_bytes
        wanted_bytes, free = _compared(volume, wanted)
        if free < wanted_bytes + beside:
            self._purge.make_room(volume, wanted_bytes + beside)
            wanted_bytes, free = _compared(volume, wanted)
        if free < wanted_bytes + beside:
            raise self._no_space(wanted_bytes, free, beside - self._rules.reserve_bytes)

    def _rest_bytes(self, volume: Volume, upload: Upload, sent_bytes: int) -> int:
        to_copy = 0 if volume.shares_blocks else self._open_uploads.of(upload).planned_bytes
        if not to_copy:
            return sent_bytes
        lacking = 0
        for file in upload.files:
            allocated = 0
            with (
                suppress(FileNotFoundError),  # nothing of it has arrived
                self._context.storage.content.partial(upload, file.path, create=False) as found,
            ):
                allocated = found.allocated_bytes()
            lacking += max(0, (file.size_bytes or 0) - allocated)
        return min(sent_bytes + to_copy, lacking)

    def _no_space(self, wanted_bytes: int, free: int, promised_bytes: int) -> NoSpace:
        return NoSpace(
            f"{wanted_bytes} bytes do not fit: {free} are free on the server's disk, of which {promised_bytes} are for "
            f"other open uploads and {self._rules.reserve_bytes} are kept in reserve (HOLDFAST_RESERVE_BYTES).",
            wanted_bytes=wanted_bytes,
            free_bytes=free,
            promised_bytes=promised_bytes,
            reserve_bytes=self._rules.reserve_bytes,
        )


def _compared(volume: Volume, wanted: Callable[[Volume], int]) -> tuple[int, int]:
    """Read the wanted and the free bytes at one moment, so that bytes being copied count exactly once.

    If copying never pauses, the free bytes are read last, which errs on the side of refusing.
    """
    for _ in range(_LOOKS):
        wanted_bytes = wanted(volume)
        free = volume.free_bytes()
        if wanted(volume) == wanted_bytes:
            break
    return wanted_bytes, free
