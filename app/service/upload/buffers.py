"""Buffers for the bytes of bodies: reused, as the first use of fresh memory is slow, and few whatever comes."""

import mmap
import threading

from app.core.models import CHUNK_MAX_BYTES

KEPT = 8
"""The most buffers that paused bodies keep. The bytes of further ones wait in their files."""
SPARE = 2
"""The number of free buffers that are kept for the next body."""


def fresh(size_bytes: int) -> mmap.mmap:
    """Return a new buffer. It takes only the memory that is written to, and gives it back at its end."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Buffers:
    """A pool of buffers for one chunk each. Thread-safe."""

    def __init__(self, *, most_kept: int = KEPT) -> None:
        self._most_kept = most_kept
        self._guard = threading.Lock()
        self._free: list[mmap.mmap] = []
        self._taken = self._kept = 0

    def take(self) -> mmap.mmap:
        """Take a buffer; `give` returns it."""
        with self._guard:
            self._taken += 1
            if self._free:
                return self._free.pop()
        return fresh(CHUNK_MAX_BYTES)

    def give(self, buffer: mmap.mmap) -> None:
        """Return a buffer that is not written to any more."""
        with self._guard:
            self._taken -= 1
            if len(self._free) < max(SPARE, self._taken):
                self._free.append(buffer)
            del self._free[max(SPARE, self._taken) :]

    def keep(self) -> bool:
        """Ask to keep a buffer over a pause; if True, `resume` follows."""
        with self._guard:
            if self._kept >= self._most_kept:
                return False
            self._kept += 1
            return True

    def resume(self) -> None:
        """Note that a buffer that was kept is in use again."""
        with self._guard:
            self._kept -= 1
