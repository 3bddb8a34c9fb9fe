"""The part of the file system that writes single files, at once or at the end of a transaction."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression

from .._filesystem.reader import RemoteFile
from .._filesystem.writer import NewFile, Text, Wrapped
from .._runtime.file_attributes import FileAttributes
from .._transfer.file_source import FileSource
from .._transfer.upload_source import MemorySource, Source
from ._fsspec_reader import ReadingFileSystem, described


class _OfThread(threading.local):
    """The transaction of a thread, and the ``ETag`` of each file that it has saved."""

    is_open = False
    transaction: Any = None

    def __init__(self) -> None:
        self.saved: dict[str, str] = {}


class WritingFileSystem(ReadingFileSystem):
    """Writes. What a write would replace is looked up before, and must still be there when it is saved."""

    def __init__(self, **options: Any) -> None:
        self._own = _OfThread()
        super().__init__(**options)

    # The base class keeps the transaction in these attributes, one for all threads.

    @property
    def _intrans(self) -> bool:
        return self._own.is_open

    @_intrans.setter
    def _intrans(self, value: bool) -> None:
        self._own.is_open, self._own.saved = value, {}

    @property
    def _transaction(self) -> Any:
        return self._own.transaction

    @_transaction.setter
    def _transaction(self, value: Any) -> None:
        self._own.transaction = value

    def open(self, path: Any, mode: str = "rb", *args: Any, compression: str | None = None, **kwargs: Any) -> Any:
        """Open a file. One that is being written is discarded if an exception ends its ``with`` block."""
        if "r" in mode or ("b" in mode and compression is None):
            return super().open(path, mode, *args, compression=compression, **kwargs)
        text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
        opened = super().open(path, f"{mode.replace('t', '').replace('b', '')}b", *args, **kwargs)
        if compression is not None:
            kind = get_compression(self._strip_protocol(path), compression)
            opened = opened if kind is None else Wrapped(compr[kind](opened, mode="w"), opened)
        return opened if "b" in mode else Text(opened, **text)

    def _open(self, path: str, mode: str = "rb", *args: Any, autocommit: bool = True, **kwargs: Any) -> Any:
        if mode == "rb":
            return RemoteFile(self._reader, self._file(path), described)
        if mode not in ("wb", "xb", "ab"):
            raise ValueError(f"mode must be 'rb', 'wb', 'xb' or 'ab', with 't' in place of 'b' for text, not {mode!r}")
        self._store.check(path)
        seen = self._seen(path)
        if mode == "xb" and seen is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = NewFile(path, self._saver(path, seen, is_deferred=not autocommit), is_deferred=not autocommit)
        if mode == "ab" and seen is not None:
            file.write(self._reader.whole(self._file(path)))
        return file

    def pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        if self._intrans:
            with self.open(path, "xb" if mode == "create" else "wb") as file:
                file.write(value)
            return
        self._save(path, MemorySource(memoryview(value), str(path)), must_be_new=mode == "create")

    def put_file(
        self, lpath: Any, rpath: Any, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        """Copy a local file to the server, or make a directory for a local one."""
        if Path(lpath).is_dir():
            self.makedirs(rpath, exist_ok=True)
            return
        if self._intrans:
            with Path(lpath).open("rb") as local, self.open(rpath, "xb" if mode == "create" else "wb") as file:
                shutil.copyfileobj(local, file)
            return
        source = FileSource(lpath)
        source.attributes = FileAttributes()  # a copy has none of the permissions and times of the file
        callback.set_size(source.size_bytes)
        self._save(rpath, source, must_be_new=mode == "create", before_commit=source.refuse_changed)
        callback.relative_update(source.size_bytes)

    def _seen(self, path: str) -> str | None:
        """Return the ``ETag`` of the file that a write would replace; None if there is none."""
        entry = self._entry(path)
        if path in self._made or (entry is not None and not entry.is_file):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return entry.etag if entry is not None else None

    def _save(
        self, path: Any, source: Source, *, must_be_new: bool, before_commit: Callable[[], object] = lambda: None
    ) -> None:
        path = self._strip_protocol(path)
        self._store.check(path)
        seen = self._seen(path)
        if must_be_new and seen is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._store.save(path, source, seen, before_commit=before_commit)

    def _saver(self, path: str, seen: str | None, *, is_deferred: bool) -> Callable[[MemorySource], object]:
        """Return what saves a file. A transaction may replace what it has saved itself."""

        def save(source: MemorySource) -> None:
            saved = self._own.saved if is_deferred else {}
            saved[path] = self._store.save(path, source, saved.get(path, seen))

        return save
