"""Digests of content: BLAKE3 of a chunk, of a file's chunk list, of a checkpoint's file list; and preconditions. Pure.

HTTP messages have a SHA-256 instead, as RFC 9530 asks for a standard algorithm.
"""

import re
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import md5, sha256, sha512
from typing import Any, Self

from blake3 import blake3

from app.core.models import Checkpoint, Chunk, Precondition, Save

Buffer = bytes | bytearray | memoryview

_MEMBER = re.compile(r"(?P<name>[a-z*][a-z0-9_.*-]*)=:(?P<value>[A-Za-z0-9+/=]*):(;.*)?")

_ALGORITHMS: Mapping[str, Callable[[], Any]] = {
    "sha-256": sha256,
    "sha-512": sha512,
    "": partial(md5, usedforsecurity=False),
}
"""The active algorithms of RFC 9530; and that of ``Content-MD5``, under an empty name."""


def of_chunk(data: Buffer) -> str:
    """Return the digest of a chunk: the BLAKE3 of its bytes, in hex."""
    return blake3(data).hexdigest()


def of_file(chunks: Iterable[Chunk]) -> str:
    """Return the digest of a file: BLAKE3 over its chunks in order, each as 8 bytes of length and 32 of digest.

    The length is little-endian.
    """
    return blake3(
        b"".join(struct.pack("<Q", chunk.length) + bytes.fromhex(chunk.digest) for chunk in chunks)
    ).hexdigest()


def of_checkpoint(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a checkpoint: BLAKE3 over its (path, digest) pairs sorted by path.

    Each pair is the path's length in bytes as 4 bytes little-endian, the path in UTF-8, and 32 bytes of digest.
    """
    hasher = blake3()
    for path, digest in sorted(files):
        name = path.encode()
        hasher.update(struct.pack("<I", len(name)) + name + bytes.fromhex(digest))
    return hasher.hexdigest()


def of_save(save: Save) -> str | None:
    """Return the digest of the checkpoint that a save declares; None if it lacks digests of chunks."""
    digests = []
    for file in save.files:
        if file.chunks is None or not file.is_hashed:
            return None
        digests.append((file.path, of_file(file.chunks)))
    return of_checkpoint(digests)


def entity_tags(checkpoint: Checkpoint) -> frozenset[str]:
    """Return the tags of a checkpoint: its digest and, if it is a single file, the tag of that file's bytes."""
    own = f'"{checkpoint.digest}"'
    return frozenset({own} if checkpoint.is_folder else {own, f'"{checkpoint.files[0].digest}"'})


def unmet_header(precondition: Precondition, current: Checkpoint | None) -> str | None:
    """Return the header of a precondition that the live checkpoint of a name, if any, does not meet; None if all hold.

    As RFC 9110 has it in section 13.1.
    """
    tags = entity_tags(current) if current is not None else frozenset()
    if precondition.if_match is not None and not _is_among(tags, precondition.if_match):
        return "If-Match"
    if precondition.if_none_match is not None and _is_among(tags, precondition.if_none_match):
        return "If-None-Match"
    return None


def _is_among(tags: frozenset[str], wanted: Sequence[str]) -> bool:
    return bool(tags) and ("*" in wanted or not tags.isdisjoint(wanted))


def of_message(body: Buffer) -> str:
    """Return the ``Content-Digest`` of a body (RFC 9530)."""
    return f"sha-256=:{_base64(sha256(body).digest())}:"


class DeclaredDigests:
    """The digests that headers declare for a body, verified while it streams.

    Takes ``Content-Digest`` and ``Repr-Digest`` (RFC 9530) with sha-256 and sha-512, and ``Content-MD5``. Unknown
    algorithms are ignored; a malformed value counts as a mismatch.
    """

    def __init__(self, wanted: Sequence[tuple[str, str]], *, is_well_formed: bool = True) -> None:
        self._wanted = wanted
        self._is_well_formed = is_well_formed
        self._hashers = {name: _ALGORITHMS[name]() for name, _ in wanted}

    @classmethod
    def of(cls, field: Callable[[str], Sequence[str]], *, whole: bool = True) -> Self | None:
        """Parse the fields of a request; None if they declare no digest.

        Parameters
        ----------
        field : callable
            Returns all values of a field.
        whole : bool
            The body is a whole representation, so that ``Repr-Digest`` applies to it.
        """
        members = [value for name in ("Content-Digest", *(["Repr-Digest"] if whole else [])) for value in field(name)]
        sums = [value.strip() for value in field("Content-MD5")]
        if not members and not sums:
            return None
        found = [_MEMBER.fullmatch(member.strip(" \t")) for value in members for member in value.split(",")]
        declared = [(match["name"], match["value"]) for match in found if match is not None]
        wanted = [(name, value) for name, value in declared if name in _ALGORITHMS] + [("", value) for value in sums]
        return cls(wanted, is_well_formed=None not in found)

    def update(self, data: Buffer) -> None:
        """Hash the next bytes of the body."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def is_true(self) -> bool:
        """Tell if all declared digests match the bytes so far."""
        found = {name: _base64(hasher.digest()) for name, hasher in self._hashers.items()}
        return self._is_well_formed and all(found[name] == value for name, value in self._wanted)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
