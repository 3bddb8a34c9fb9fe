"""Local files as sources of uploads: read in chunks, hashed on several threads.

Large ones are never whole in memory. Small ones are read once: their bytes are kept from hashing until sending.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .._api import digests
from .._api.wire import Chunk
from .._runtime.file_attributes import FileAttributes
from .._runtime.interruption import reraise
from .._runtime.parallel import in_parallel
from .._torchfile.reader import tensor_index
from ..errors import HoldfastError, IntegrityError
from . import folder_walk

KEPT_BYTES, KEPT_AT_MOST_BYTES = 64 * 1024, 32 * 1024 * 1024
"""The largest file whose bytes are kept, and the most bytes kept of a folder."""

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
        self._path = os.fspath(path)
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
        return self._path

    def refuse_changed(self) -> None:
        """Raise `IntegrityError` if the file has changed since this was made, by its size, time and inode."""
        try:
            found = Path(self._path).stat()
        except OSError as error:
            reraise(error)
            raise IntegrityError(f"{self._path} was removed while it was being sent") from error
        self.refuse_another(found)

    def refuse_another(self, found: os.stat_result) -> None:
        """Raise as `refuse_changed` does, for known attributes."""
        if _stamp(found) != self._stamp:
            raise IntegrityError(f"{self._path} was changed while it was being sent")

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
            raise HoldfastError(f"{self._path} can no longer be read: {error.strerror}") from error
        return view

    def _fill(self, view: memoryview, offset: int) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            filled = 0
            while filled < len(view):
                count = os.preadv(descriptor, [view[filled:]], offset + filled)
                if not count:
                    raise IntegrityError(f"{self._path} became shorter while it was being sent")
                filled += count
        finally:
            os.close(descriptor)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


class LocalFiles(dict[str | None, FileSource]):
    """A file, or the files of a folder by their paths within it.

    Parameters
    ----------
    path : Path
        A file or a folder. Links count as what they lead to.
    name : str
        The name of the checkpoint.

    Raises
    ------
    ValueError
        It is neither file nor folder, such as a pipe, whose length is unknown; or a folder without files, with
        something that cannot be sent (see `folder_walk.found`), or with one file of the checkpoint's own name.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._folder = path if path.is_dir() else None
        self.folders: dict[str, FileAttributes] = {}
        if path.is_file():
            super().__init__({None: FileSource(path, is_indexed=True)})
            return
        if self._folder is None:
            raise ValueError(f"{path} is neither a file nor a folder: save its output to a file first")
        found, folders = folder_walk.found(path)
        self.folders = {each: FileAttributes.of(folder.like) for each, folder in folders.items()}
        if not found:
            raise ValueError(f"{path} holds no file")
        if list(found) == [name]:
            raise ValueError(f"a folder with one file of the checkpoint's own name, {name!r}, would become that file")
        super().__init__(_sources(found))

    def refuse_changed(self) -> None:
        """Raise `IntegrityError` if a file was changed, removed or added since this was made."""
        if self._folder is None:
            for source in self.values():
                source.refuse_changed()
            return
        try:
            found = folder_walk.found(self._folder, known=self.keys()).files
        except (ValueError, OSError):
            for source in self.values():  # a removed file is reported as removed
                source.refuse_changed()
            raise
        for path, source in self.items():
            if (entry := found.pop(path or "", None)) is None:
                raise IntegrityError(f"{source.what} was removed while it was being sent")
            source.refuse_another(entry.like)
        for entry in found.values():
            raise IntegrityError(f"{entry.path} appeared while the folder was being sent")


def _sources(found: Mapping[str, folder_walk.Entry]) -> Iterator[tuple[str, FileSource]]:
    suffixes = tuple(tensor_index.SUFFIXES)
    left_bytes = KEPT_AT_MOST_BYTES
    for path, entry in found.items():
        is_kept = entry.like.st_size <= min(KEPT_BYTES, left_bytes)
        left_bytes -= entry.like.st_size if is_kept else 0
        is_indexed = path.endswith(suffixes)
        yield path, FileSource(entry.path, is_indexed=is_indexed, found=entry.like, is_kept=is_kept)
