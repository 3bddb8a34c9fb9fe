"""Verification: reads every byte of a checkpoint back, and compares it with the digests of the save."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from app.core import digests
from app.core.errors import ForeignFile
from app.core.models import Checkpoint, Chunk, File, FileMap
from app.storage.ports import ContentStore, Opened

Pause = Callable[[float], object]


class Stopped(Exception):
    """Reading was stopped before its end."""


class RateLimit:
    """A bound on the rate of reading, and a count of the bytes read.

    Parameters
    ----------
    bytes_per_s : float, optional
        The rate; without it there is no bound.
    pause : callable, optional
        Waits so many seconds; gives true to stop reading.
    """

    def __init__(self, bytes_per_s: float | None = None, pause: Pause = time.sleep) -> None:
        self._bytes_per_s = bytes_per_s
        self._pause = pause
        self._ahead_until = time.monotonic()
        self.bytes_read = 0

    def count(self, size_bytes: int) -> None:
        """Count bytes that were read, and wait if they came faster than the rate.

        Raises
        ------
        Stopped
            The pause was interrupted.
        """
        self.bytes_read += size_bytes
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        self._ahead_until = max(self._ahead_until, now) + size_bytes / self._bytes_per_s
        if self._ahead_until > now and self._pause(self._ahead_until - now):
            raise Stopped


def faults_of(
    content: ContentStore, checkpoint: Checkpoint, file: File, file_map: FileMap, rate_limit: RateLimit
) -> str | None:
    """Describe the damage of one file, in words that follow its path, as it is in the store; None if it is intact.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    """
    try:
        opened = content.open(checkpoint, file)
    except FileNotFoundError:
        raise
    except (OSError, ForeignFile) as error:
        return f"cannot be opened: {error}"
    with closing(opened):
        try:
            return fault_in(opened, file, file_map.chunks, rate_limit, fresh=True)
        except OSError as error:
            return f"cannot be read: {error}"


def fault_in(
    opened: Opened, file: File, chunks: Sequence[Chunk], rate_limit: RateLimit | None = None, *, fresh: bool = False
) -> str | None:
    """Describe the damage of an open file, in words that follow its path; see `first_fault`."""
    if opened.size_bytes != file.size_bytes:
        return f"is {opened.size_bytes} bytes long instead of {file.size_bytes}"
    offset = first_fault(opened, chunks, rate_limit, fresh=fresh)
    return None if offset is None else f"is not what was saved, in the chunk at byte {offset}"


def first_fault(
    opened: Opened, chunks: Sequence[Chunk], rate_limit: RateLimit | None = None, *, fresh: bool = False
) -> int | None:
    """Find the offset of the first chunk whose digest is wrong; None if all are right.

    With ``fresh``, the chunks are read from the disk rather than from the page cache, and do not stay in it.
    """
    offset = 0
    for chunk in chunks:
        if fresh:
            opened.evict(offset, chunk.length)
        if digests.of_chunk(opened.read(offset, chunk.length)) != chunk.digest:
            return offset
        if fresh:
            opened.evict(offset, chunk.length)
        if rate_limit is not None:
            rate_limit.count(chunk.length)
        offset += chunk.length
    return None
