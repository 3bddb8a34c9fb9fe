"""Open files: one of a checkpoint to read, and one of an upload to write. Neither needs to be a file of a disk."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from app.core.models import File, Version
from app.core.spans import Span
from app.storage.ports.values import Buffer


class Opened(Protocol):
    """A file held open for reading: it can be read to its end even if the checkpoint is removed meanwhile."""

    @property
    def size_bytes(self) -> int:
        """The length of the file when it was opened."""

    @property
    def version(self) -> Version:
        """The version of the bytes when the file was opened."""

    def is_version_of(self, file: File) -> bool:
        """Return whether size and version are those recorded at commit, so that reading back is unnecessary."""

    def read(self, offset: int, length: int) -> bytes:
        """Read at an offset; fewer bytes than asked at the end of the file. Thread-safe."""

    def evict(self, offset: int, length: int) -> None:
        """Drop these bytes from any cache, so that the next read comes from the medium. Best-effort."""

    def is_as_opened(self) -> bool:
        """Return whether the file is unchanged since it was opened, as far as the store can tell."""

    def close(self) -> None:
        """Release the file."""


@runtime_checkable
class SupportsDescriptor(Protocol):
    """An `Opened` that a file descriptor stands behind, for transfers that need no copy through user space."""

    @property
    def descriptor(self) -> int:
        """The descriptor, open as long as the file is."""


def descriptor_of(opened: Opened) -> int | None:
    """Return the descriptor behind an open file; None if the store offers none, and its bytes have to be read."""
    return opened.descriptor if isinstance(opened, SupportsDescriptor) else None


class Partial(Protocol):
    """One file of an upload while its bytes arrive."""

    def allocate(self, span: Span) -> None:
        """Reserve space for bytes to come; does nothing in a store without a volume. `OSError` if there is none."""

    def write(self, offset: int, data: Buffer) -> None:
        """Write bytes at an offset."""

    def allocated_bytes(self) -> int:
        """Return the space that the file takes so far."""

    def share(self, source: Opened, start: int, span: Span) -> bool:
        """Let the store copy a span from ``start`` of another file itself; False if it cannot, and nothing changed."""

    def read(self, offset: int, length: int) -> bytes:
        """Read at an offset; fewer bytes than asked at the end of the file."""

    def size_bytes(self) -> int:
        """Return the length of the file so far."""

    def written(self) -> Iterator[Span]:
        """Yield the spans that may hold bytes, in order; nothing was ever written outside of them."""
