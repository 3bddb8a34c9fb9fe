"""How bytes are named: BLAKE3 of a chunk, of a file's chunk list, of a checkpoint's file list. Pure.

Messages are not stored: by HTTP's own rule, the SHA-256 of a body goes with it.
"""

import re
import struct
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

from blake3 import blake3

from app.domain import Chunk, Save

Buffer = bytes | bytearray | memoryview

_MEMBER = re.compile(r"(?P<name>[a-z*][a-z0-9_.*-]*)=:(?P<value>[A-Za-z0-9+/=]*):(;.*)?")


def of_chunk(data: Buffer) -> str:
    """The name of a chunk: the BLAKE3 of its bytes, in hex."""
    return blake3(data).hexdigest()


def of_file(chunks: Iterable[Chunk]) -> str:
    """The name of a file: BLAKE3 over (length as 8 bytes little-endian, 32 bytes of digest) of each chunk in order."""
    return blake3(
        b"".join(struct.pack("<Q", chunk.length) + bytes.fromhex(chunk.digest) for chunk in chunks)
    ).hexdigest()


def of_checkpoint(files: Iterable[tuple[str, str]]) -> str:
    """The name of a checkpoint: BLAKE3 over its (path, digest) pairs sorted by path.

    Each pair is the path's length in bytes as 4 bytes little-endian, the path in UTF-8, and 32 bytes of digest.
    """
    hasher = blake3()
    for path, digest in sorted(files):
        name = path.encode()
        hasher.update(struct.pack("<I", len(name)) + name + bytes.fromhex(digest))
    return hasher.hexdigest()


def of_save(save: Save) -> str | None:
    """The name of what a save promises, or None while the chunks of a file are not known."""
    named = []
    for file in save.files:
        if file.chunks is None or not file.is_hashed:
            return None
        named.append((file.path, of_file(file.chunks)))
    return of_checkpoint(named)


def of_message(body: Buffer) -> str:
    """What a message's ``Content-Digest`` says of its body (RFC 9530)."""
    return f"sha-256=:{_base64(sha256(body).digest())}:"


def agrees(content_digest: str, body_sha256: bytes) -> bool:
    """Whether a ``Content-Digest`` is true of a body. What cannot be read is not; other algorithms are ignored."""
    for member in content_digest.split(","):
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None or (match["name"] == "sha-256" and match["value"] != _base64(body_sha256)):
            return False
    return True


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
