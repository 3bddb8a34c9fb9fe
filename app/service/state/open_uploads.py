"""The uploads under way: what has arrived is held in memory, and found out anew from the bytes after a restart."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from app.core import digests, spans
from app.core.models import Chunk, Upload, UploadFile
from app.core.names import is_within
from app.core.spans import Span, joined
from app.service.state.upload_progress import Transfer
from app.storage.port import Partial, Storage

MOST_ENDED = 100
"""How many uploads that have ended are remembered, for those who follow."""
ACTIVE_S = 60.0
"""How long after its last bytes an upload counts as one that will bring the rest, in seconds."""


class Transfers:
    """The transfers of all uploads under way."""

    def __init__(self, storage: Storage, promise: Callable[[Transfer], None]) -> None:
        self._storage = storage
        self._promise = promise
        self._guard = threading.Lock()
        self._transfers: dict[str, Transfer] = {}
        self._ended: deque[tuple[float, str]] = deque(maxlen=MOST_ENDED)

    def known(self, upload_id: str) -> Transfer | None:
        """The transfer of an upload, if this process has seen it; it may have ended just now."""
        transfer = self._transfers.get(upload_id)
        if transfer is not None:
            with transfer.changing:  # whoever made it may still be looking at what has arrived
                pass
        return transfer

    def glance(self, upload_id: str) -> Transfer | None:
        """The transfer of an upload, if this process has seen it, as it is at the moment; waits for nobody."""
        return self._transfers.get(upload_id)

    def of(self, upload: Upload, *, is_new: bool = False) -> Transfer:
        """The transfer of an upload. After a restart, what is on disk is hashed rather than trusted.

        Of a new one there is nothing to look at.
        """
        with self._guard:
            transfer = self._transfers.get(upload.id)
            if transfer is not None:
                return transfer
            transfer = self._transfers[upload.id] = Transfer(upload)
            transfer.changing.acquire()
        try:
            if not is_new:
                self._recall(transfer)
            self._promise(transfer)
        except BaseException:
            self.forget(upload.id)
            raise
        finally:
            transfer.changing.release()
        return transfer

    def learn(self, upload: Upload, *, is_new: bool = False) -> None:
        """Go on with an upload whose digests have been told meanwhile, or begin with a new one."""
        transfer = self.of(upload, is_new=is_new)
        with transfer.changing:
            if transfer.upload.files != upload.files:
                transfer.learn(upload)
                self._recall(transfer)
                self._promise(transfer)

    @contextmanager
    def retiring(self, upload: Upload) -> Iterator[None]:
        """Let no bytes in and no commit begin while an upload is given up; an exception lets it live on.

        Does not look at what has arrived, and does not wait. `UploadBusy` where a commit or bytes came first.
        """
        with self._guard:
            known = self._transfers.get(upload.id)
            transfer = known or self._transfers.setdefault(upload.id, Transfer(upload))
        transfer.stop_copying()
        transfer.close(wait=False)
        try:
            yield
        except BaseException:
            if known is None:
                self.forget(upload.id)
            transfer.reopen()
            raise

    def to_come(self, *, but: str | None = None) -> int:
        """How many bytes the uploads that moved a moment ago, perhaps but for one, have yet to bring."""
        with self._guard:
            others = [transfer for upload_id, transfer in self._transfers.items() if upload_id != but]
        lately = time.monotonic() - ACTIVE_S
        return sum(transfer.to_come_bytes for transfer in others if transfer.touched_at > lately)

    def moved_within(self, seconds: float) -> bool:
        """Whether any upload has moved so lately."""
        return bool(self._moved(time.monotonic() - seconds))

    def changed_since(self, since: float, prefix: str) -> bool:
        """Whether any to a directory within a prefix has moved or ended after that time of `time.monotonic`."""
        with self._guard:
            ended = {directory for at, directory in self._ended if at > since}
        return any(is_within(directory, prefix) for directory in ended | self._moved(since))

    def _moved(self, since: float) -> set[str]:
        with self._guard:
            return {each.upload.directory for each in self._transfers.values() if each.touched_at > since}

    def forget(self, upload_id: str) -> None:
        """The upload has ended."""
        with self._guard:
            transfer = self._transfers.pop(upload_id, None)
            if transfer is not None:
                self._ended.append((time.monotonic(), transfer.upload.directory))

    def disbelieve(self, transfer: Transfer) -> None:
        """The bytes of an upload are lost: whoever asks for it next finds that nothing has arrived."""
        transfer.end()
        self.forget(transfer.upload.id)

    def _recall(self, transfer: Transfer) -> None:
        """Find out what lies on the disk that nobody remembers."""
        for file in transfer.upload.files:
            if file.is_hashed:
                self._recall_file(transfer, file)

    def _recall_file(self, transfer: Transfer, file: UploadFile) -> None:
        with (
            suppress(FileNotFoundError),  # nothing of it has arrived
            self._storage.partial(transfer.upload, file.path, create=False) as partial,
        ):
            written = joined(partial.written())
            for offset, chunk in spans.placed(file.chunks or ()):
                known = transfer.holds(file.path, offset, [chunk])
                if known or not spans.covers(written, Span(offset, offset + chunk.length)):
                    continue
                if self._digest(partial, offset, chunk) == chunk.digest:
                    transfer.note(file.path, offset, [chunk])

    def _digest(self, partial: Partial, offset: int, chunk: Chunk) -> str:
        return digests.of_chunk(partial.read(offset, chunk.length))
