"""Exposure: a server listens beyond loopback only if requests need a strong token."""

from ipaddress import ip_address

from app.auth import token_format
from app.core.errors import Unprotected, UnusableToken

MIN_CHARACTERS = 16
"""The shortest admin token that an operator may configure."""


def refuse_unprotected(host: str) -> None:
    """Refuse to listen beyond loopback while requests need no token; the message says what to do.

    Raises
    ------
    Unprotected
    """
    if not is_loopback(host):
        raise Unprotected(
            f"Without a token, Holdfast listens on loopback only, and other machines can reach {host}. "
            "Create one with `holdfast-server token create --scope admin`, "
            "or name a file for it in HOLDFAST_ADMIN_TOKEN_FILE, or set "
            "HOLDFAST_ADMIN_TOKEN to a long random text (for example from `openssl rand -hex 32`), "
            "or listen on 127.0.0.1."
        )


def refuse_weak(token: str | None, setting: str = "HOLDFAST_ADMIN_TOKEN") -> None:
    """Refuse an admin token that can be guessed, cannot be sent in a header, or has the form of a client's token.

    No message contains the token.

    Raises
    ------
    UnusableToken
    """
    if token is None:
        return
    if token.startswith(token_format.PREFIX):
        raise UnusableToken(
            f"{setting} holds a token of the form {token_format.PREFIX}..., which `holdfast-server token create` makes "
            "for clients. Such a token has its own scopes and is never the server's admin token; clients read it from "
            "HOLDFAST_TOKEN. Set another long random text (for example from `openssl rand -hex 32`)."
        )
    if len(token) < MIN_CHARACTERS:
        raise UnusableToken(
            f"{setting} has fewer than {MIN_CHARACTERS} characters and can be guessed; try `openssl rand -hex 32`."
        )
    if not all("!" <= sign <= "~" for sign in token):
        raise UnusableToken(f"{setting} contains spaces or characters that cannot be sent in a header.")


def is_loopback(host: str) -> bool:
    """Tell if only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
