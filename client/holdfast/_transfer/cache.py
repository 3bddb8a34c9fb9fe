"""A folder of checkpoints that were loaded before, so that they, or most of their bytes, need not be fetched again.

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
    """Files by digest, below a limit.

    Parameters
    ----------
    folder : Path
        Where they lie; made when something is kept.
    max_bytes : int
        How much may lie there. The file that was used last stays, however large it is.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def file(self, digest: str) -> FileChunks | None:
        """What a file here consists of; it can be fetched from nowhere else."""
        with suppress(OSError, ValueError, TypeError):
            listed = json.loads(_list_of(self._folder / f"{digest}.data").read_text())
            ends = list(accumulate((int(length) for length, _ in listed), initial=0))
            chunks = tuple(Chunk(start, int(n), str(found)) for start, (n, found) in zip(ends, listed, strict=False))
            if digests.of_file(chunks) == digest:
                return FileChunks(digest, ends[-1], digest, chunks, ())
        return None

    def sources(self, file: FileChunks) -> "Sources":
        """Where chunks of a file may be read: its own entry first, then the entries used last."""
        return Sources([self._folder / f"{file.digest}.data", *self._entries()[-_LOOKED_AT:][::-1]])

    def keep(self, file: FileChunks) -> "Keeping | None":
        """Keep a file whose chunks come in any order. None, with a warning, where the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return Keeping(self._folder, file)
        except OSError as error:
            reraise(error)
            warn(f"nothing is kept in the cache: {error}")
            return None

    def evict(self) -> None:
        """Remove what is beyond the limit, the least recently used first, and what a process left half done."""
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
        """The data files, the one used last at the end."""
        with suppress(FileNotFoundError):
            return sorted(self._folder.glob("*.data"), key=_used)
        return []


class Sources:
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
        """Whether a chunk may be here."""
        return (chunk.length, chunk.digest) in self._places

    def read(self, chunk: Chunk, view: memoryview) -> bool:
        """Put a chunk's bytes into a view; False where they are not all there. They are not verified."""
        _, descriptor, offset = self._places[chunk.length, chunk.digest]
        with suppress(OSError):
            return os.preadv(descriptor, [view], offset) == len(view)
        return False

    def reject(self, chunk: Chunk) -> None:
        """The bytes that were read are others: remove the file that has them, so that it can be kept again."""
        _drop(self._places[chunk.length, chunk.digest][0])

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)


class Keeping:
    """A file on its way into the cache. It is there when `finish` returns, and not before."""

    def __init__(self, folder: Path, file: FileChunks) -> None:
        self._file = file
        self._data = folder / f"{file.digest}.data"
        self._temporary = folder / f".{file.digest}.{secrets.token_hex(4)}"
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._is_sound = True

    def write(self, offset: int, data: memoryview) -> None:
        """Keep verified bytes. What cannot be written is not kept, and nobody's load fails for that."""
        try:
            self._is_sound = self._is_sound and os.pwrite(self._descriptor, data, offset) == len(data)
        except OSError as error:
            reraise(error)
            self._is_sound = False

    def finish(self) -> None:
        """All bytes were written."""
        if self._is_sound:
            with suppress(OSError):
                chunks = [[chunk.length, chunk.digest] for chunk in self._file.chunks]
                _list_of(self._data).write_text(json.dumps(chunks))
                self._temporary.replace(self._data)

    def close(self) -> None:
        """Leave nothing half done."""
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
