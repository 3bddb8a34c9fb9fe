"""Where a server may listen: beyond loopback only where a token is needed."""

from ipaddress import ip_address

from app.auth import token_format
from app.core.errors import Unprotected, UnusableToken

SHORTEST = 16
"""How many characters a token that an operator made up must have."""


def refuse_unprotected(host: str) -> None:
    """Refuse to listen beyond loopback, where no token is needed; the message says what to do."""
    if not is_loopback(host):
        raise Unprotected(
            f"Without a token Holdfast serves this machine only, and {host} can be reached from others. "
            "Make one by `holdfast-server token create --scope admin`, "
            "or name a file for it as HOLDFAST_ADMIN_TOKEN_FILE, or set "
            "HOLDFAST_ADMIN_TOKEN to a long random text (for example from `openssl rand -hex 32`), "
            "or listen on 127.0.0.1."
        )


def refuse_weak(token: str | None, setting: str = "HOLDFAST_ADMIN_TOKEN") -> None:
    """Refuse an admin token that could be guessed, cannot be sent in a header, or is a client's.

    No message holds the token.

    Raises
    ------
    UnusableToken
    """
    if token is None:
        return
    if token.startswith(token_format.PREFIX):
        raise UnusableToken(
            f"{setting} holds a token of the form {token_format.PREFIX}..., as `holdfast-server token create` makes "
            "them for clients: it allows what it was made for, and is never a server's key. Clients take it as "
            "HOLDFAST_TOKEN. An admin token is another long random text (for example from `openssl rand -hex 32`)."
        )
    if len(token) < SHORTEST:
        raise UnusableToken(
            f"{setting} has fewer than {SHORTEST} characters and could be guessed; try `openssl rand -hex 32`."
        )
    if not all("!" <= sign <= "~" for sign in token):
        raise UnusableToken(f"{setting} has spaces, or characters that cannot be sent in a header: no client takes it.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
