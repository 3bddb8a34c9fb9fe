"""A cache of loaded checkpoints on disk, from which later loads take their bytes instead of fetching them.

Each is a plain file named by its digest, with its chunk list beside it. What is read from here is verified like
everything else; the least recently used goes first.
"""

import json
import os
import secrets
import time
from itertools import accumulate
from pathlib import Path

from .._api import digests
from .._api.wire import Chunk, FileChunks
from .._runtime.interruption import reraise, suppress
from ..errors import warn

_LOOKED_AT = 16
_ABANDONED_S = 86400.0


class Cache:
    """Files by digest, up to a total size.

    Parameters
    ----------
    folder : Path
        The folder of the cache; created at the first write.
    max_bytes : int
        The limit of the total size. The file that was used last is kept, however large it is.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def file(self, digest: str) -> FileChunks | None:
        """Return the chunks of a cached file; it has no ranges to fetch."""
        with suppress(OSError, ValueError, TypeError):
            listed = json.loads(_list_of(self._folder / f"{digest}.data").read_text())
            ends = list(accumulate((int(length) for length, _ in listed), initial=0))
            chunks = tuple(Chunk(start, int(n), str(found)) for start, (n, found) in zip(ends, listed, strict=False))
            if digests.of_file(chunks) == digest:
                return FileChunks(digest, ends[-1], digest, chunks, ())
        return None

    def sources(self, file: FileChunks) -> "OpenEntries":
        """Return the entries from which chunks of a file may be read: its own first, then those used last."""
        return OpenEntries([self._folder / f"{file.digest}.data", *self._entries()[-_LOOKED_AT:][::-1]])

    def keep(self, file: FileChunks) -> "NewEntry | None":
        """Begin to cache a file whose chunks come in any order. Return None, with a warning, if the folder is not
        writable.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return NewEntry(self._folder, file)
        except OSError as error:
            reraise(error)
            warn(f"the cache cannot be written: {error}")
            return None

    def evict(self) -> None:
        """Evict entries beyond the limit, the least recently used first, and files that a process left unfinished."""
        for half_done in self._folder.glob(".*"):
            if 0 < _used(half_done) < time.time() - _ABANDONED_S:
                half_done.unlink(missing_ok=True)
        entries = self._entries()
        total = sum(_size(entry) for entry in entries)
        for entry in entries[:-1]:
            if total <= self._max_bytes:
                return
            total -= _size(entry)
            _drop(entry)

    def _entries(self) -> list[Path]:
        """Return the data files, the one used last at the end."""
        with suppress(FileNotFoundError):
            return sorted(self._folder.glob("*.data"), key=_used)
        return []


class OpenEntries:
    """Open entries, to read chunks from."""

    def __init__(self, entries: list[Path]) -> None:
        self._places: dict[tuple[int, str], tuple[Path, int, int]] = {}
        self._descriptors: list[int] = []
        for entry in entries:
            with suppress(OSError, ValueError, KeyError, TypeError):
                chunks = [(int(length), str(digest)) for length, digest in json.loads(_list_of(entry).read_text())]
                descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
                self._descriptors.append(descriptor)
                os.utime(entry) if entry is entries[0] else None
                offset = 0
                for chunk in chunks:
                    self._places.setdefault(chunk, (entry, descriptor, offset))
                    offset += chunk[0]

    def has(self, chunk: Chunk) -> bool:
        """Tell if a chunk may be here."""
        return (chunk.length, chunk.digest) in self._places

    def read(self, chunk: Chunk, view: memoryview) -> bool:
        """Read a chunk's bytes into a view, unverified; return False if some are missing."""
        _, descriptor, offset = self._places[chunk.length, chunk.digest]
        with suppress(OSError):
            return os.preadv(descriptor, [view], offset) == len(view)
        return False

    def reject(self, chunk: Chunk) -> None:
        """Remove the entry whose bytes failed verification, so that the file can be cached again."""
        _drop(self._places[chunk.length, chunk.digest][0])

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)


class NewEntry:
    """A file on its way into the cache; it becomes visible when `finish` returns."""

    def __init__(self, folder: Path, file: FileChunks) -> None:
        self._file = file
        self._data = folder / f"{file.digest}.data"
        self._temporary = folder / f".{file.digest}.{secrets.token_hex(4)}"
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._is_sound = True

    def write(self, offset: int, data: memoryview) -> None:
        """Store verified bytes. A write error only means that the file is not cached; the load continues."""
        try:
            self._is_sound = self._is_sound and os.pwrite(self._descriptor, data, offset) == len(data)
        except OSError as error:
            reraise(error)
            self._is_sound = False

    def finish(self) -> None:
        """Publish the entry, once all bytes are written."""
        if self._is_sound:
            with suppress(OSError):
                chunks = [[chunk.length, chunk.digest] for chunk in self._file.chunks]
                _list_of(self._data).write_text(json.dumps(chunks))
                self._temporary.replace(self._data)

    def close(self) -> None:
        """Close the file, and remove it if it is unfinished."""
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)


def _list_of(entry: Path) -> Path:
    return entry.with_suffix(".json")


def _drop(entry: Path) -> None:
    for path in (entry, _list_of(entry)):
        with suppress(OSError):
            path.unlink()


def _used(entry: Path) -> float:
    with suppress(OSError):
        return entry.stat().st_mtime
    return 0.0


def _size(entry: Path) -> int:
    with suppress(OSError):
        return entry.stat().st_size
    return 0
