"""Disk space: admits bytes before they are sent, so that no upload fills the disk into its reserve."""

from collections.abc import Callable
from contextlib import suppress

from app.core.errors import NoSpace
from app.core.models import Save, Upload
from app.service.lifecycle.purge import Purge
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import OpenUploads

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
        self._admit(lambda: wanted_bytes, upload_id)

    def admit_rest(self, upload: Upload, sent_bytes: int) -> None:
        """Admit, as `admit` does, all that an upload lacks: bytes that the client sends or that the server copies."""
        self._admit(lambda: self._rest_bytes(upload, sent_bytes), upload.id)

    def refuse_oversized(self, save: Save) -> None:
        """Refuse a save of which the client has to send more bytes than the disk holds, before anything is created.

        Files with digests do not count: other checkpoints may hold their bytes, and shared blocks take no space.

        Raises
        ------
        NoSpace
        """
        sent = sum(file.size_bytes or 0 for file in save.files if not file.is_hashed)
        if sent > self._context.storage.capacity_bytes():
            raise self._no_space(sent, self._context.storage.free_bytes(), self._open_uploads.expected_bytes())

    def _admit(self, wanted: Callable[[], int], upload_id: str) -> None:
        beside = self._open_uploads.expected_bytes(excluding=upload_id) + self._rules.reserve_bytes
        wanted_bytes, free = self._compared(wanted)
        if free < wanted_bytes + beside:
            self._purge.make_room(wanted_bytes + beside)
            wanted_bytes, free = self._compared(wanted)
        if free < wanted_bytes + beside:
            raise self._no_space(wanted_bytes, free, beside - self._rules.reserve_bytes)

    def _compared(self, wanted: Callable[[], int]) -> tuple[int, int]:
        """Read the wanted and the free bytes at one moment, so that bytes being copied count exactly once.

        If copying never pauses, the free bytes are read last, which errs on the side of refusing.
        """
        for _ in range(_LOOKS):
            wanted_bytes = wanted()
            free = self._context.storage.free_bytes()
            if wanted() == wanted_bytes:
                break
        return wanted_bytes, free

    def _rest_bytes(self, upload: Upload, sent_bytes: int) -> int:
        to_copy = 0 if self._context.storage.shares_blocks else self._open_uploads.of(upload).planned_bytes
        if not to_copy:
            return sent_bytes
        lacking = 0
        for file in upload.files:
            allocated = 0
            with (
                suppress(FileNotFoundError),  # nothing of it has arrived
                self._context.storage.partial(upload, file.path, create=False) as found,
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
