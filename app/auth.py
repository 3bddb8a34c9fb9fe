"""Who may: every request carries the configured token, or there is none and the server is on loopback only."""

import hashlib
import hmac
from ipaddress import ip_address

from app.errors import CatalogUnusable, Unauthorized


def refuse_unprotected(host: str, token: str | None) -> None:
    """Refuse to listen beyond loopback without a token; the message says what to do."""
    if token is None and not is_loopback(host):
        raise CatalogUnusable(
            f"Without a token Holdfast serves this machine only, and {host} can be reached from others. "
            "Set HOLDFAST_TOKEN to a long random text (for example from `openssl rand -hex 32`), "
            "or listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Knows the token by its hash and compares in constant time."""

    def __init__(self, token: str | None) -> None:
        self._hash = _hash(token) if token is not None else None

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return self._hash is None

    def admit(self, authorization: str | None) -> None:
        """Let a request pass. `Unauthorized` where its ``Authorization`` header does not hold the token."""
        if self._hash is None:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(_hash(token.strip()), self._hash):
            raise Unauthorized("Send the server's token as `Authorization: Bearer <token>` (HOLDFAST_TOKEN).")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
