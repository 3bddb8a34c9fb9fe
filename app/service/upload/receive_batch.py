"""Take the bytes of several small files that come in one body: each file is verified before it is written."""

from collections.abc import Sequence

from app.core import digests, spans
from app.core.errors import DigestMismatch, UploadBusy, WrongLength
from app.core.models import Chunk, UploadFile
from app.core.spans import Span
from app.service.state.upload_progress import Transfer
from app.storage.port import Storage


class BatchReceiver:
    """Takes one batch, which is gathered in memory. Not for use by two threads at once.

    Parameters
    ----------
    files : sequence of UploadFile
        The files, in the order in which their bytes come.
    length : int
        How many bytes are to come.

    Raises
    ------
    WrongLength
        The files have more or fewer bytes in all.
    """

    def __init__(self, transfer: Transfer, storage: Storage, files: Sequence[UploadFile], length: int) -> None:
        wanted = sum(file.size_bytes or 0 for file in files)
        if wanted != length:
            raise WrongLength(f"The files have {wanted} bytes in all; {length} are coming.")
        self._transfer = transfer
        self._storage = storage
        self._files = files
        self._buffer = memoryview(bytearray(length))
        self._filled = 0

    def room(self) -> memoryview:
        """Where the next bytes go. `WrongLength` where there are more than were declared."""
        if self._filled == len(self._buffer):
            raise WrongLength("The body is longer than declared.")
        return self._buffer[self._filled :]

    def took(self, count: int) -> None:
        """So many bytes have been put into the room."""
        self._filled += count

    def reject(self) -> None:
        """Forget what came. Nothing is written before the end."""

    def finish(self) -> None:
        """The body has ended: what is right is written.

        Raises
        ------
        WrongLength
            It ended too early; nothing is written.
        DigestMismatch
            A chunk is not the one that was declared; its file is not written.
        """
        if left := len(self._buffer) - self._filled:
            raise WrongLength(f"The body is {left} bytes shorter than declared.")
        sound: dict[str, tuple[memoryview, list[Chunk]]] = {}
        failed: DigestMismatch | None = None
        start = 0
        for file in self._files:
            data = self._buffer[start : start + (file.size_bytes or 0)]
            start += len(data)
            try:
                sound[file.path] = data, _verified(file, data)
            except DigestMismatch as mismatch:
                failed = failed or mismatch
        self._put(sound)
        if failed is not None:
            raise failed

    def _put(self, sound: dict[str, tuple[memoryview, list[Chunk]]]) -> None:
        transfer = self._transfer
        with transfer.writing_files({path: Span(0, len(data)) for path, (data, _) in sound.items()}):
            for path, (_, chunks) in sound.items():
                if not transfer.takes(path, 0, chunks):
                    raise UploadBusy(f"The digests of {path!r} were told meanwhile, and these bytes do not have them.")
            new = {path: data for path, (data, chunks) in sound.items() if not transfer.holds(path, 0, chunks)}
            self._storage.write_files(transfer.upload, new)
            for path in new:
                transfer.note(path, 0, sound[path][1])


def _verified(file: UploadFile, data: memoryview) -> list[Chunk]:
    """The chunks of a whole file."""
    declared = file.chunks if file.chunks is not None else (Chunk(len(data), ""),) if data else ()
    found = []
    for offset, chunk in spans.placed(declared):
        digest = digests.of_chunk(data[offset : offset + chunk.length])
        if chunk.digest not in {"", digest}:
            raise DigestMismatch(
                f"The bytes from {offset} of {file.path!r} do not have the digest that was declared.",
                file=file.path,
                offset=offset,
                length=chunk.length,
            )
        found.append(Chunk(chunk.length, digest))
    return found
