"""Digests of stored bytes, as the server computes them: BLAKE3 of chunks, files and checkpoints. Pure."""

import os
import struct
from collections.abc import Iterable

from blake3 import blake3

from .wire import Chunk

CHUNK_BYTES = 4 * 1024 * 1024
"""The longest chunk, in bytes; longer ones are no faster and take more memory on the server."""
THREADS = min(4, os.cpu_count() or 1)
"""The number of threads that hash."""


def of_chunk(data: bytes | bytearray | memoryview) -> str:
    """Return the BLAKE3 of bytes, in hex."""
    return blake3(data).hexdigest()


def of_file(chunks: Iterable[Chunk]) -> str:
    """Return the BLAKE3 over the chunks in order: the length in 8 bytes little-endian, the digest in 32."""
    hasher = blake3()
    for chunk in chunks:
        hasher.update(struct.pack("<Q", chunk.length) + bytes.fromhex(chunk.digest))
    return hasher.hexdigest()


def of_checkpoint(files: Iterable[tuple[str, str]]) -> str:
    """Return the BLAKE3 over (path, digest) pairs sorted by path: length of the path in 4 bytes, path, 32 bytes of
    digest.
    """
    hasher = blake3()
    for path, digest in sorted(files):
        name = path.encode()
        hasher.update(struct.pack("<I", len(name)) + name + bytes.fromhex(digest))
    return hasher.hexdigest()
