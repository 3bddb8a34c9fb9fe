"""Files being written: kept in memory, then in a temporary file, and saved as one file when they are closed."""

import contextlib
import io
import mmap
import sys
import tempfile
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Self

from .._transfer.upload_source import MemorySource
from ..errors import warn

IN_MEMORY_BYTES = 32 * 1024 * 1024
"""The size, in bytes, from which a file being written goes on in a temporary file."""


class NewFile(io.RawIOBase):
    """A file being written, which nothing shows before it is saved.

    `close` saves it, and so does the end of a ``with`` block. An exception that ends the block discards it, and so does
    one that is being handled when the file is closed. A file that is never closed is never saved.

    Parameters
    ----------
    path : str
        Its path.
    save : callable
        Saves the bytes.
    is_deferred : bool
        Whether `close` leaves the saving to `commit`, at the end of a transaction.
    """

    def __init__(self, path: str, save: Callable[[MemorySource], object], *, is_deferred: bool = False) -> None:
        self.path = self.name = path
        self.mode = "wb"
        self._save = save
        self._is_deferred = is_deferred
        self._content: IO[bytes] | None = io.BytesIO()
        self._handled = sys.exception()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = self._opened()
        if isinstance(content, io.BytesIO) and content.tell() + memoryview(data).nbytes > IN_MEMORY_BYTES:
            content = self._content = _on_disk(content)
        return content.write(data)

    def tell(self) -> int:
        return self._opened().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._opened().seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        return self._opened().truncate(size)

    def close(self) -> None:
        """Save the file, unless that is left to a transaction, or an exception is being handled."""
        if self.closed:
            return
        error = sys.exception()
        try:
            if error is not None and error is not self._handled and self._content is not None:
                self.discard()
                warn(f"{self.path!r} was not saved: it was closed while {type(error).__name__} was being handled")
            elif not self._is_deferred:
                self.commit()
        finally:
            super().close()

    def commit(self) -> None:
        """Save the file."""
        content, self._content = self._content, None
        if content is None:
            return
        self._save(MemorySource(_view_of(content), self.path))

    def discard(self) -> None:
        """Drop what was written."""
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def _opened(self) -> IO[bytes]:
        if self.closed or self._content is None:
            raise ValueError("I/O operation on closed file.")
        return self._content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        if not self.closed and getattr(self, "_content", None) is not None:
            self.discard()
            warnings.warn(f"{self.path!r} was never closed, and is not saved", ResourceWarning, 2, self)


def _on_disk(content: io.BytesIO) -> IO[bytes]:
    """Return a temporary file with the same bytes and position; no name leads to it, so that it never stays."""
    file = tempfile.TemporaryFile(prefix="holdfast-")  # noqa: SIM115
    file.write(content.getbuffer())
    file.seek(content.tell())
    return file


def _view_of(content: IO[bytes]) -> memoryview:
    """Return the bytes of a file. They are freed with the view: what is exported cannot be closed before."""
    if isinstance(content, io.BytesIO):
        return content.getbuffer()
    with content:
        content.flush()
        size = content.seek(0, io.SEEK_END)
        return memoryview(mmap.mmap(content.fileno(), size, access=mmap.ACCESS_READ) if size else b"")


class Wrapped(io.RawIOBase):
    """A file that is compressed on its way into a `NewFile`, and is saved with it."""

    def __init__(self, outer: Any, inner: NewFile) -> None:
        self._outer, self._inner = outer, inner
        self.path, self.name, self.mode = inner.path, inner.path, "wb"

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._outer.write(data)
        return memoryview(data).nbytes

    def close(self) -> None:
        """End the compression, and save the file."""
        if self.closed:
            return
        try:
            self._outer.close()
            self._inner.close()
        finally:
            super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        self._inner.discard()
        self._inner.close()
        super().close()

    def __del__(self) -> None:
        pass  # the base class would close it, which would save it


class Text(io.TextIOWrapper):
    """A text file being written: an exception that ends its ``with`` block discards it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        inner: Any = self.detach()
        inner.__exit__(kind, error, trace)

    def __del__(self) -> None:
        with contextlib.suppress(ValueError):  # it was detached before
            if not self.closed:
                self.detach()  # so that what it wraps is not saved
