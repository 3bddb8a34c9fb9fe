"""How bytes are named: BLAKE3 of a chunk, of a file's chunk list, of a checkpoint's file list. Pure.

Messages are not stored: by HTTP's own rule, the SHA-256 of a body goes with it.
"""

import re
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import md5, sha256, sha512
from typing import Any, Self

from blake3 import blake3

from app.core.models import Chunk, Save

Buffer = bytes | bytearray | memoryview

_MEMBER = re.compile(r"(?P<name>[a-z*][a-z0-9_.*-]*)=:(?P<value>[A-Za-z0-9+/=]*):(;.*)?")

_ALGORITHMS: Mapping[str, Callable[[], Any]] = {
    "sha-256": sha256,
    "sha-512": sha512,
    "": partial(md5, usedforsecurity=False),
}
"""Those that RFC 9530 calls active; and the one of ``Content-MD5``, which has no name among them."""


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


class Declared:
    """The digests that headers declare of a body, which is hashed as it passes.

    ``Content-Digest`` and ``Repr-Digest`` (RFC 9530) by sha-256 and sha-512, and ``Content-MD5``. Algorithms
    that are not known are ignored; what cannot be read is not true.
    """

    def __init__(self, wanted: Sequence[tuple[str, str]], *, is_legible: bool = True) -> None:
        self._wanted = wanted
        self._is_legible = is_legible
        self._hashers = {name: _ALGORITHMS[name]() for name, _ in wanted}

    @classmethod
    def of(cls, field: Callable[[str], Sequence[str]], *, whole: bool = True) -> Self | None:
        """What the fields of a request declare; None where they declare nothing.

        Parameters
        ----------
        field : callable
            Gives all values of a field.
        whole : bool
            Whether the body is a whole representation, of which a ``Repr-Digest`` speaks.
        """
        members = [value for name in ("Content-Digest", *(["Repr-Digest"] if whole else [])) for value in field(name)]
        sums = [value.strip() for value in field("Content-MD5")]
        if not members and not sums:
            return None
        found = [_MEMBER.fullmatch(member.strip(" \t")) for value in members for member in value.split(",")]
        declared = [(match["name"], match["value"]) for match in found if match is not None]
        wanted = [(name, value) for name, value in declared if name in _ALGORITHMS] + [("", value) for value in sums]
        return cls(wanted, is_legible=None not in found)

    def update(self, data: Buffer) -> None:
        """The next bytes of the body."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def is_true(self) -> bool:
        """Whether all that was declared is true of the bytes so far."""
        found = {name: _base64(hasher.digest()) for name, hasher in self._hashers.items()}
        return self._is_legible and all(found[name] == value for name, value in self._wanted)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
