"""How bytes are named, as the server does it: BLAKE3 of chunks, and of the list of them. Pure.

Messages are not stored: by HTTP's own rule, the SHA-256 of a body goes with it.
"""

import os
import re
import struct
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

from blake3 import blake3

from .wire import Chunk

CHUNK_BYTES = 4 * 1024 * 1024
"""The longest chunk; longer ones are no faster and take more memory on the server."""
THREADS = min(4, os.cpu_count() or 1)
"""How many threads hash."""
_MEMBER = re.compile(r"(?P<name>[a-z*][a-z0-9_.*-]*)=:(?P<value>[A-Za-z0-9+/=]*):(;.*)?")


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


def of_message(body: bytes) -> str:
    """What a message's ``Content-Digest`` says of its body (RFC 9530)."""
    return f"sha-256=:{_sha256(body)}:"


def agrees(content_digest: str, body: bytes) -> bool:
    """Whether a ``Content-Digest`` is true of a body. What cannot be read is not; other algorithms are ignored."""
    for member in content_digest.split(","):
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None or (match["name"] == "sha-256" and match["value"] != _sha256(body)):
            return False
    return True


def _sha256(body: bytes) -> str:
    return b64encode(sha256(body).digest()).decode()
