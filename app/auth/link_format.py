"""Format of signed links: the claims and their HMAC-SHA256 signature by a key of the server. Pure."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from hashlib import sha256

from app.core.errors import LinkInvalid

PREFIX = "hfsl_"


@dataclass(frozen=True, slots=True)
class Link:
    """The claims of a link: one file of one checkpoint, by digest, valid until ``expires_at`` and while its token is.

    ``expires_at`` is in seconds since 1970.
    """

    checkpoint_id: str
    path: str
    digest: str
    token_id: str
    expires_at: int


def sign(link: Link, key_id: str, key: bytes) -> str:
    """Encode and sign a link: claims, key id and signature, separated by dots."""
    signed = f"{PREFIX}{_encoded(json.dumps(astuple(link), ensure_ascii=False).encode())}.{key_id}"
    return f"{signed}.{_encoded(_signature(signed, key))}"


def read(text: str, keys: Mapping[str, bytes]) -> Link:
    """Decode a link and verify its signature by one of these keys. Its expiry is not checked.

    Raises
    ------
    LinkInvalid
        The signature is missing or wrong, or its key is unknown.
    """
    signed, _, signature = text.rpartition(".")
    claims, _, key_id = signed.rpartition(".")
    key = keys.get(key_id)
    if key is None or not hmac.compare_digest(_signature(signed, key), _decoded(signature)):
        raise LinkInvalid("This server did not sign the link, or its key is not in use any more.")
    return Link(*json.loads(_decoded(claims.removeprefix(PREFIX))))


def _signature(signed: str, key: bytes) -> bytes:
    return hmac.digest(key, signed.encode("utf-8", "surrogatepass"), sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Decode URL-safe base64; empty if it is malformed."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
