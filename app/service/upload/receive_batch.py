"""Receiver of several small files in one body: verifies each file before it is written."""

from collections.abc import Sequence

from app.core import digests, spans
from app.core.errors import DigestMismatch, UploadBusy, WrongLength
from app.core.models import Chunk, UploadFile
from app.core.spans import Span
from app.service.state.upload_progress import UploadProgress
from app.service.upload.buffers import fresh
from app.storage.ports import ContentStore


class BatchReceiver:
    """Takes one batch, which is buffered in memory. Not for use by two threads at once.

    Parameters
    ----------
    files : sequence of UploadFile
        The files, in the order in which their bytes come.
    length : int
        The length of the body in bytes.

    Raises
    ------
    WrongLength
        The sizes of the files do not add up to it.
    """

    def __init__(
        self, progress: UploadProgress, content: ContentStore, files: Sequence[UploadFile], length: int
    ) -> None:
        wanted = sum(file.size_bytes or 0 for file in files)
        if wanted != length:
            raise WrongLength(f"The files have {wanted} bytes in all; {length} are coming.")
        self._progress = progress
        self._content = content
        self._files = files
        self._generations = {file.path: progress.generation(file.path) for file in files}
        self._buffer = memoryview(fresh(length) if length else b"")
        self._filled = 0

    def get_buffer(self) -> memoryview:
        """Give the buffer for the next bytes; `WrongLength` if there are more than declared."""
        if self._filled == len(self._buffer):
            raise WrongLength("The body is longer than declared.")
        return self._buffer[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Take over bytes that the caller has put into the buffer."""
        self._filled += count

    def pause(self) -> None:
        """Keep the buffer, of which only what was written to takes memory."""

    def reject(self) -> None:
        """Discard the body: nothing was written."""

    def finish(self) -> None:
        """Write the files whose digests are right, once the body has ended.

        Raises
        ------
        WrongLength
            The body ended too early; nothing is written.
        DigestMismatch
            A chunk does not have its declared digest; its file is not written.
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
        progress = self._progress
        with progress.writing_files({path: Span(0, len(data)) for path, (data, _) in sound.items()}):
            for path, (_, chunks) in sound.items():
                progress.refuse_replaced(path, self._generations[path])
                if not progress.accepts(path, 0, chunks):
                    raise UploadBusy(
                        f"The digests of {path!r} were declared meanwhile, and these bytes do not have them."
                    )
            new = {path: data for path, (data, chunks) in sound.items() if not progress.holds(path, 0, chunks)}
            self._content.write_files(progress.upload, new)
            for path in new:
                progress.record(path, 0, sound[path][1])


def _verified(file: UploadFile, data: memoryview) -> list[Chunk]:
    """Hash a whole file in its declared chunks, and verify them."""
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
