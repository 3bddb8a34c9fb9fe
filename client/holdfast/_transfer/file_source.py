"""Local files as sources of uploads: read in chunks, hashed on several threads.

Large ones are never whole in memory. Small ones are read once: their bytes are kept from hashing until sending.
"""

import copy
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from .._api import digests
from .._api.wire import Chunk
from .._runtime.file_attributes import FileAttributes
from .._runtime.interruption import reraise
from .._runtime.parallel import in_parallel
from .._torchfile.reader import tensor_index
from ..errors import HoldfastError, IntegrityError

_OWN = threading.local()
"""A read buffer for each thread, shared by all files, as a folder may have thousands of them."""


class FileSource:
    """A local file. It is opened for each chunk, so that a large folder does not need many descriptors.

    Parameters
    ----------
    path : str or Path
        Its path.
    is_indexed : bool
        True to index its tensors.
    found : os.stat_result, optional
        Its attributes, if known.
    is_kept : bool
        True to keep its bytes once they are read. It has one chunk then.
    """

    def __init__(
        self, path: str | Path, *, is_indexed: bool = False, found: os.stat_result | None = None, is_kept: bool = False
    ) -> None:
        self._path = self._shown = os.fspath(path)
        found = found or Path(path).stat()
        self._is_kept = is_kept
        self._kept: bytes | None = None
        self._stamp = _stamp(found)
        self.attributes = FileAttributes.of(found)
        self.size_bytes = found.st_size
        starts = range(0, self.size_bytes, digests.CHUNK_BYTES)
        self.spans = [(start, min(digests.CHUNK_BYTES, self.size_bytes - start)) for start in starts]
        self._digests: list[str | None] = [None] * len(self.spans)
        self._chunks: tuple[Chunk, ...] | None = None
        self.tensors: list[dict[str, Any]] | None = self._index() if is_indexed else None

    @property
    def what(self) -> str:
        """The name of the file in messages."""
        return self._shown

    @property
    def path(self) -> str:
        """The path at which it is read."""
        return self._path

    def at(self, path: str | Path) -> Self:
        """Return the same file at another path, under which it is read; messages keep the first one."""
        other = copy.copy(self)
        other._path = os.fspath(path)
        return other

    def stamp(self) -> None:
        """Let the file at its path be the one that is expected there from now on; its size stays."""
        self._stamp = self.size_bytes, *_stamp(Path(self._path).stat())[1:]

    def refuse_changed(self) -> None:
        """Raise `IntegrityError` if the file has changed since this was made, by its size, time and inode."""
        try:
            found = Path(self._path).stat()
        except OSError as error:
            reraise(error)
            raise IntegrityError(f"{self.what} was removed while it was being sent") from error
        self.refuse_another(found)

    def refuse_another(self, found: os.stat_result) -> None:
        """Raise as `refuse_changed` does, for known attributes."""
        if _stamp(found) != self._stamp:
            raise self._changed()

    def _changed(self) -> IntegrityError:
        return IntegrityError(f"{self.what} was changed while it was being sent")

    def read_again(self, place: int) -> memoryview:
        """Return the bytes of a chunk; raise `IntegrityError` if they are not those that were read first."""
        digest = self._digests[place] if self._kept is None else None
        data, _ = self.read(place)
        if digest is not None and digests.of_chunk(data) != digest:
            raise self._changed()
        return data

    def read(self, place: int) -> tuple[memoryview, str]:
        """Return the bytes of a chunk, and the BLAKE3 of the bytes that were read first."""
        view = memoryview(self._kept) if self._kept is not None else self._bytes(place)
        digest = self._digests[place]
        if digest is None:
            if self._is_kept:
                self._kept = bytes(view)
            digest = self._digests[place] = digests.of_chunk(view)
        return view, digest

    def chunks(self, moved: Callable[[int], object] = lambda count: None) -> tuple[Chunk, ...]:
        """Return every chunk with its digest; read the remaining ones on several threads, and count them with
        ``moved``.
        """

        def read(place: int) -> None:
            self.read(place)
            moved(self.spans[place][1])

        if self._chunks is not None:
            return self._chunks
        unread = [place for place, digest in enumerate(self._digests) if digest is None]
        if len(unread) == 1:
            read(unread[0])
        else:
            in_parallel(unread, read, threads=digests.THREADS)
        self._chunks = tuple(
            Chunk(offset, length, digest)
            for (offset, length), digest in zip(self.spans, self._digests, strict=True)
            if digest is not None
        )
        return self._chunks

    def sample(self, count: int) -> set[str]:
        """Return the digests of a few chunks."""
        return {self.read(place)[1] for place in range(len(self.spans))[:: max(1, len(self.spans) // count)][:count]}

    def has_changed(self) -> bool:
        """Tell if a chunk has changed since it was first read."""
        known = [(place, digest) for place, digest in enumerate(self._digests) if digest is not None]
        return any(digests.of_chunk(self._bytes(place)) != digest for place, digest in known)

    def _index(self) -> list[dict[str, Any]] | None:
        if not self._is_kept:
            return tensor_index.index_file(Path(self._path))
        return tensor_index.index_bytes(bytes(self.read(0)[0])) if self.spans else None

    def _bytes(self, place: int) -> memoryview:
        offset, length = self.spans[place]
        buffer = getattr(_OWN, "buffer", b"")
        if len(buffer) < length:
            buffer = _OWN.buffer = bytearray(min(self.size_bytes, digests.CHUNK_BYTES))
        view = memoryview(buffer)[:length]
        try:
            self._fill(view, offset)
        except OSError as error:
            if isinstance(error, HoldfastError):
                raise
            reraise(error)
            raise IntegrityError(f"{self.what} can no longer be read: {error.strerror}") from error
        return view

    def _fill(self, view: memoryview, offset: int) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for a pipe's writer
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IntegrityError(f"{self.what} was replaced while it was being sent")
            filled = 0
            while filled < len(view):
                count = os.preadv(descriptor, [view[filled:]], offset + filled)
                if not count:
                    raise IntegrityError(f"{self.what} became shorter while it was being sent")
                filled += count
        finally:
            os.close(descriptor)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino
