"""Content-Digest fields of HTTP messages (RFC 9530): the SHA-256 of a body, written and checked. Pure."""

import re
from base64 import b64encode
from hashlib import sha256

_MEMBER = re.compile(r"(?P<name>[a-z*][a-z0-9_.*-]*)=:(?P<value>[A-Za-z0-9+/=]*):(;.*)?")


def content_digest(body: bytes) -> str:
    """Return the ``Content-Digest`` of a body."""
    return f"sha-256=:{_sha256(body)}:"


def is_digest_of(field: str, body: bytes) -> bool:
    """Check a ``Content-Digest`` against a body. A malformed field is wrong; unknown algorithms are ignored."""
    for member in field.split(","):
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None or (match["name"] == "sha-256" and match["value"] != _sha256(body)):
            return False
    return True


def _sha256(body: bytes) -> str:
    return b64encode(sha256(body).digest()).decode()
