"""The part of the file system that only reads: queries, and the bytes of files."""

import errno
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike, stringify_path

from .._filesystem.made_directories import MadeDirectories
from .._filesystem.names import stripped
from .._filesystem.reader import Reader
from .._filesystem.store import Entry, Store
from .._transfer import download
from ..errors import CheckpointNotFound


class ReadingFileSystem(AbstractFileSystem):
    """Queries and reads. A missing file is a `FileNotFoundError`; an unreachable server is never taken for one."""

    _store: Store
    _reader: Reader
    _made: MadeDirectories

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return stripped(stringify_path(path))

    def info(self, path: Any, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        try:
            return described(self._store.entry(path))
        except FileNotFoundError:
            if path and path not in self._made:
                raise
            return _directory(path)

    def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        try:
            entry, entries = self._store.listing(path)
        except FileNotFoundError:
            if path and path not in self._made:
                raise
            found = {}
        else:
            found = {each.path: described(each) for each in ([entry] if entry.is_file else entries)}
        for made in self._made.children(path):
            found.setdefault(made, _directory(made))
        return [found[name] for name in sorted(found)] if detail else sorted(found)

    def walk(self, path: Any, maxdepth: Any = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any) -> Any:
        """Walk as the base class does, but raise every error other than of a directory that is not there."""
        on_error = _raise_others if on_error == "omit" else on_error
        return super().walk(path, maxdepth, topdown, on_error, **kwargs)

    def exists(self, path: Any, **kwargs: Any) -> bool:
        """Tell if something is at a path; an unreachable server, or a refusal, is an error."""
        return self._found(path) is not None

    def isdir(self, path: Any) -> bool:
        found = self._found(path)
        return found is not None and found["type"] == "directory"

    def isfile(self, path: Any) -> bool:
        found = self._found(path)
        return found is not None and found["type"] == "file"

    def du(self, path: Any, total: bool = True, maxdepth: Any = None, withdirs: bool = False, **kwargs: Any) -> Any:
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        sizes = {name: each["size"] for name, each in found.items()}
        return sum(sizes.values()) if total else sizes

    def created(self, path: Any) -> datetime | None:
        found: datetime | None = self.info(path)["created"]
        return found

    def modified(self, path: Any) -> datetime | None:
        found: datetime | None = self.info(path)["modified"]
        return found

    def checksum(self, path: Any) -> int:
        return int(self.ukey(path), 16)

    def ukey(self, path: Any) -> str:
        """Return the digest of a file or a checkpoint; of a directory, a hash of its facts."""
        return self.info(path)["digest"] or str(super().ukey(path))

    def sign(self, path: Any, expiration: int = 100, **kwargs: Any) -> str:
        return self._store.link(self._file(path), expiration)

    def _found(self, path: Any) -> dict[str, Any] | None:
        try:
            return self.info(path)
        except FileNotFoundError:
            return None

    def _entry(self, path: str) -> Entry | None:
        try:
            return self._store.entry(path)
        except FileNotFoundError:
            return None

    def _file(self, path: Any) -> Entry:
        path = self._strip_protocol(path)
        entry = self._entry(path)
        if entry is None and path not in self._made:
            raise CheckpointNotFound(f"there is nothing at {path!r}", code="path_not_found")
        if entry is None or not entry.is_file:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return entry

    # reading

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return the bytes of a file: all of them verified, or exactly a part."""
        return self._part(self._file(path), start, end)

    def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: Any = None, on_error: str = "return", **kwargs: Any
    ) -> list[Any]:
        if not isinstance(paths, list):
            raise TypeError(f"paths must be a list, not {paths!r}")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        known: dict[str, Entry] = {}
        found: list[Any] = []
        for path, start, end in zip(paths, starts, ends, strict=True):
            try:
                entry = known[path] = known.get(path) or self._file(path)
                found.append(self._part(entry, start, end))
            except Exception as error:
                if on_error != "return":
                    raise
                found.append(error)
        return found

    def _part(self, entry: Entry, start: int | None, end: int | None) -> bytes:
        first, last, _ = slice(start, end).indices(entry.size_bytes)
        if last - first == entry.size_bytes:
            return self._reader.whole(entry)
        return self._reader.part(entry, first, last) if first < last else b""

    def get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> None:
        """Copy files to this machine. ``@best`` and ``@latest`` are resolved once: all files are of one checkpoint."""
        super().get(self._resolved(rpath), lpath, *args, **kwargs)

    def get_file(
        self, rpath: Any, lpath: Any = None, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Copy a file to this machine: verified, and in place once it is complete."""
        found = self.info(rpath)
        outfile = lpath if outfile is None and isfilelike(lpath) else outfile
        if found["type"] == "directory":
            if outfile is None:
                Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        callback.set_size(found["size"])
        entry = self._file(rpath)
        if outfile is None:
            download.into_file(self._store.server, self._reader.chunks.of(entry), Path(lpath), None, False)
        elif entry.size_bytes:
            download.into_stream(self._store.server, self._reader.chunks.of(entry), outfile.write, False)
        callback.relative_update(found["size"])

    def _resolved(self, path: Any) -> Any:
        """Return a path, or several, with real names where there are aliases."""
        if isinstance(path, list):
            return [self._resolved(each) for each in path]
        text = stringify_path(path)
        return self._store.real(self._strip_protocol(text)) + ("/" if text.endswith("/") else "")


def described(entry: Entry) -> dict[str, Any]:
    """Return what is at a path as `fsspec` describes it."""
    return {
        "name": entry.path,
        "size": entry.size_bytes if entry.is_file else 0,
        "type": "file" if entry.is_file else "directory",
        "created": entry.created_at,
        "modified": entry.modified_at,
        "mtime": entry.modified_at,
        "digest": entry.digest,
        "checkpoint_id": entry.checkpoint_id,
    }


def _directory(path: str) -> dict[str, Any]:
    return described(Entry(path, path, "directory", 0, None, None, None, None, None, None))


def _raise_others(error: OSError) -> None:
    """Let a walk go on without a directory that is not there, or no longer."""
    if not isinstance(error, FileNotFoundError):
        raise error
