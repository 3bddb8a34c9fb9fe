"""How bytes are named, as the server does it: BLAKE3 of chunks, and of the list of them. Pure.

Messages are not stored: by HTTP's own rule, the SHA-256 of a body goes with it.
"""

import os
import struct
from collections.abc import Iterable

from blake3 import blake3

from .wire import Chunk

CHUNK_BYTES = 4 * 1024 * 1024
"""The longest chunk; longer ones are no faster and take more memory on the server."""
THREADS = min(4, os.cpu_count() or 1)
"""How many threads hash."""


def of_chunk(data: bytes | bytearray | memoryview) -> str:
    """The BLAKE3 of bytes, in hex."""
    return blake3(data).hexdigest()


def of_file(chunks: Iterable[Chunk]) -> str:
    """BLAKE3 over (length as 8 bytes little-endian, 32 bytes of digest) of each chunk in order."""
    hasher = blake3()
    for chunk in chunks:
        hasher.update(struct.pack("<Q", chunk.length) + bytes.fromhex(chunk.digest))
    return hasher.hexdigest()


def of_checkpoint(files: Iterable[tuple[str, str]]) -> str:
    """BLAKE3 over the (path, digest) pairs sorted by path: length of the path in 4 bytes, path, 32 bytes of digest."""
    hasher = blake3()
    for path, digest in sorted(files):
        name = path.encode()
        hasher.update(struct.pack("<I", len(name)) + name + bytes.fromhex(digest))
    return hasher.hexdigest()
