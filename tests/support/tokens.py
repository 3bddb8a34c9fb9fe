"""Tokens for tests, made as an operator makes them, in the root of a server that may be running."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

from app.bootstrap import build_token_issuer, inspect_root
from app.core.access import Scope
from app.settings import Settings


def mint(root: Path, *scopes: Scope, prefix: str = "", expires: timedelta | None = None) -> str:
    """A new token of a root."""
    parts = inspect_root(Settings(root=root))
    with closing(parts.catalog), closing(parts.storage):
        return build_token_issuer(parts).create(scopes, prefix=prefix, expires=expires)[0]


def revoke(root: Path, token_id: str) -> bool:
    """Let a token count no more; whether there was one."""
    parts = inspect_root(Settings(root=root))
    with closing(parts.catalog), closing(parts.storage):
        return build_token_issuer(parts).revoke(token_id)


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}
