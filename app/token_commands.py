"""What an operator does with tokens, also while a server runs: make, list and revoke them, and change the link key.

What a script wants is on standard output, what people want to know beside it on standard error.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from app import actor
from app.access import Token, in_order
from app.auth import links
from app.checkpoints import Parts
from app.errors import CatalogUnusable, InvalidRequest
from app.main import look_at_root, minting_of, on_the_command_line, open_root, refuse_no_root, utc_now
from app.settings import Settings

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def create(settings: Settings, scope: list[str], prefix: str, expires: str, note: str) -> int:
    """Make a token, print it, and keep only its hash: it is shown this once."""
    lasts = None if expires == "never" else _length(expires)
    with _root(settings) as parts:
        text, token = minting_of(parts).create(scope, prefix=prefix, expires=lasts, note=note)  # type: ignore[arg-type]
    until = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "without end"
    where = f"in {token.prefix}" if token.prefix else "in all directories"
    print(
        f"Token {token.id}: {', '.join(in_order(token.scopes))} {where}, {until}. It is not shown again:",
        file=sys.stderr,
    )
    print(text)
    return 0


def show(settings: Settings, as_json: bool) -> int:
    """List the tokens, also those that have expired or were revoked."""
    with _root(settings) as parts:
        found = minting_of(parts).all()
    if as_json:
        print(json.dumps([_as_json(token) for token in found], indent=2))
        return 0
    rows = [("ID", "SCOPES", "PREFIX", "CREATED", "EXPIRES", "STATE", "NOTE"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def revoke(settings: Settings, ids: list[str]) -> int:
    """Revoke tokens by id, at once, with the sessions and links that they made; 1 where there is no such token."""
    status = 0
    with _root(settings) as parts:
        for token_id in ids:
            if minting_of(parts).revoke(token_id):
                print(f"{token_id} is revoked", file=sys.stderr)
            else:
                print(f"holdfast-server: there is no token {token_id!r}", file=sys.stderr)
                status = 1
    return status


def rotate(settings: Settings, drop: bool) -> int:
    """Sign links with a new key from now on. Earlier links stay good for their time, unless their keys are dropped."""
    with _root(settings) as parts:
        links.rotate(parts.catalog, utc_now(), drop=drop)
    print("earlier links do not count any more" if drop else "earlier links stay good for their time", file=sys.stderr)
    return 0


@contextmanager
def _root(settings: Settings) -> Iterator[Parts]:
    """The root beside a server that may be running on it; made first where there is none."""
    try:
        refuse_no_root(settings)
    except CatalogUnusable:
        open_root(settings).close()
    parts = look_at_root(settings)
    try:
        with actor.acting(on_the_command_line()):
            yield parts
    finally:
        parts.catalog.close()
        parts.storage.close()


def _length(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise InvalidRequest(f"--expires is a length of time such as 30m, 12h or 90d, or never; not {text!r}.")
    return int(match[1]) * _UNITS[match[2]]


def _state(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.access(now) is not None else "expired"


def _row(token: Token) -> tuple[str, ...]:
    ends = f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never"
    made = f"{token.created_at:%Y-%m-%d %H:%M}"
    scopes = ",".join(in_order(token.scopes))
    return token.id, scopes, token.prefix or "(all)", made, ends, _state(token, utc_now()), token.note


def _as_json(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "scopes": in_order(token.scopes),
        "prefix": token.prefix,
        "note": token.note,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
        "state": _state(token, utc_now()),
    }
