"""Whether the disk has room for a save: asked before its bytes come, so that a full disk stays what it was."""

from collections.abc import Callable
from contextlib import suppress

from app.core.errors import NoSpace
from app.core.models import Save, Upload
from app.service.lifecycle.purge import Freeing
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import Transfers

_LOOKS = 100


class Space:
    """Keeps a reserve of the disk free: for the catalog, for manifests, and for whoever must remove something."""

    def __init__(self, context: Context, rules: Rules, transfers: Transfers, freeing: Freeing) -> None:
        self._context = context
        self._rules = rules
        self._transfers = transfers
        self._freeing = freeing

    def admit(self, wanted_bytes: int, *, upload_id: str) -> None:
        """Let so many bytes of an upload come, if they fit beside those that other active uploads have yet to bring.

        Space that only the trash takes counts as free: it is emptied, the oldest first, as far as necessary, and left
        alone where all of it would not be enough. Not to be called under a directory's lock.

        Raises
        ------
        NoSpace
            They do not fit above the reserve.
        """
        self._admit(lambda: wanted_bytes, upload_id)

    def admit_rest(self, upload: Upload, sent_bytes: int) -> None:
        """As `admit`, for all that an upload still lacks: what is sent, and what the server copies at this moment."""
        self._admit(lambda: self._rest_bytes(upload, sent_bytes), upload.id)

    def refuse_hopeless(self, save: Save) -> None:
        """Refuse a save that `admit` would refuse whatever were freed, before anything is made for it.

        That is one of which more has to be sent than the disk holds in all. Files with digests do not count here: other
        checkpoints may hold their bytes, and where blocks are shared these take no space, however many they are.

        Raises
        ------
        NoSpace
        """
        sent = sum(file.size_bytes or 0 for file in save.files if not file.is_hashed)
        if sent > self._context.storage.capacity_bytes():
            raise self._no_space(sent, self._context.storage.free_bytes(), self._transfers.to_come())

    def _admit(self, wanted: Callable[[], int], upload_id: str) -> None:
        beside = self._transfers.to_come(but=upload_id) + self._rules.reserve_bytes
        wanted_bytes, free = self._compared(wanted)
        if free < wanted_bytes + beside:
            self._freeing.make_room(wanted_bytes + beside)
            wanted_bytes, free = self._compared(wanted)
        if free < wanted_bytes + beside:
            raise self._no_space(wanted_bytes, free, beside - self._rules.reserve_bytes)

    def _compared(self, wanted: Callable[[], int]) -> tuple[int, int]:
        """What is wanted and what is free at one moment, so that what is copied meanwhile counts just once.

        Where copying never pauses, the disk is asked last, which wants too much rather than too little.
        """
        for _ in range(_LOOKS):
            wanted_bytes = wanted()
            free = self._context.storage.free_bytes()
            if wanted() == wanted_bytes:
                break
        return wanted_bytes, free

    def _rest_bytes(self, upload: Upload, sent_bytes: int) -> int:
        to_copy = 0 if self._context.storage.shares_blocks else self._transfers.of(upload).to_copy_bytes
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

    def _no_space(self, wanted_bytes: int, free: int, promised: int) -> NoSpace:
        return NoSpace(
            f"{wanted_bytes} bytes do not fit: {free} are free on the server's disk, of which {promised} are for "
            f"other uploads under way and {self._rules.reserve_bytes} are kept in reserve (HOLDFAST_RESERVE_BYTES).",
            wanted_bytes=wanted_bytes,
            free_bytes=free,
            promised_bytes=promised,
            reserve_bytes=self._rules.reserve_bytes,
        )
