"""Signed links: what one allows, said in the link itself and signed with a key of the server. Pure."""

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
    """One file of one checkpoint, by its digest, until a time in seconds since 1970, as long as its token lives."""

    checkpoint_id: str
    path: str
    digest: str
    token_id: str
    expires_at: int


def sign(link: Link, key_id: str, key: bytes) -> str:
    """The link as text: what it says, which key signed it, and the signature (HMAC-SHA256), with dots in between."""
    said = f"{PREFIX}{_encoded(json.dumps(astuple(link), ensure_ascii=False).encode())}.{key_id}"
    return f"{said}.{_encoded(_signature(said, key))}"


def read(text: str, keys: Mapping[str, bytes]) -> Link:
    """The link that somebody signed with one of these keys; whether it has expired is not asked.

    Raises
    ------
    LinkInvalid
        Nobody did.
    """
    said, _, signature = text.rpartition(".")
    begun, _, key_id = said.rpartition(".")
    key = keys.get(key_id)
    if key is None or not hmac.compare_digest(_signature(said, key), _decoded(signature)):
        raise LinkInvalid("This is not a link of this server, or its key is not in use any more.")
    return Link(*json.loads(_decoded(begun.removeprefix(PREFIX))))


def _signature(said: str, key: bytes) -> bytes:
    return hmac.digest(key, said.encode("utf-8", "surrogatepass"), sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """The bytes that a text stands for; none where it is not such a text."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return b""
