"""The commands `token ...`: create, list and revoke tokens and rotate the link key, also while a server runs.

Results for scripts go to standard output, remarks for people to standard error.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from app.auth import links
from app.bootstrap import build_token_issuer, command_line_actor, inspect_root, open_root, require_root, utc_now
from app.cli import terminal
from app.cli.exits import print_to_stderr
from app.core import units
from app.core.access import Token, in_order
from app.core.errors import InvalidRequest, RootMissing
from app.runtime import actor
from app.service import Context
from app.settings import Settings

_MAX_EXPIRY_S = 999_999 * units.DAY_S


def create(settings: Settings, scope: list[str], prefix: str, expires: str, note: str, *, as_json: bool = False) -> int:
    """Create a token and print it; only its hash is stored."""
    lasts = None if expires == "never" else _duration(expires)
    with _root(settings) as context:
        text, token = build_token_issuer(context).create(scope, prefix=prefix, expires=lasts, note=note)  # type: ignore[arg-type]
    if as_json:
        print(json.dumps({"token": text, **_as_json(token)}, indent=2))
        return 0
    until = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "without expiry"
    where = f"in {token.prefix}" if token.prefix else "in all directories"
    print(
        f"Token {token.id}: {', '.join(in_order(token.scopes))} {where}, {until}. It is not shown again:",
        file=sys.stderr,
    )
    print(text)
    return 0


def show(settings: Settings, as_json: bool) -> int:
    """List all tokens, including expired and revoked ones."""
    with _root(settings) as context:
        found = build_token_issuer(context).all()
    if as_json:
        print(json.dumps([_as_json(token) for token in found], indent=2))
        return 0
    terminal.show_table(("ID", "SCOPES", "PREFIX", "CREATED", "EXPIRES", "STATE", "NOTE"), [*map(_row, found)])
    return 0


def revoke(settings: Settings, ids: list[str], *, as_json: bool = False) -> int:
    """Revoke tokens by id, with their sessions and links; return 1 if an id is unknown."""
    with _root(settings) as context:
        issuer = build_token_issuer(context)
        known = {token_id: issuer.revoke(token_id) for token_id in ids}
    if as_json:
        result = {
            "revoked": [each for each in known if known[each]],
            "unknown": [each for each in known if not known[each]],
        }
        print(json.dumps(result, indent=2))
    else:
        for token_id, is_known in known.items():
            if is_known:
                print(f"{token_id} is revoked", file=sys.stderr)
            else:
                print_to_stderr(f"there is no token {token_id!r}")
    return 0 if all(known.values()) else 1


def rotate(settings: Settings, drop: bool) -> int:
    """Sign new links with a new key; with ``drop``, invalidate earlier links."""
    with _root(settings) as context:
        links.rotate(context.catalog, utc_now(), drop=drop)
    print("earlier links are invalid now" if drop else "earlier links stay valid until they expire", file=sys.stderr)
    return 0


@contextmanager
def _root(settings: Settings) -> Iterator[Context]:
    """Open the root for reading while a server may run on it; create it first if there is none."""
    try:
        require_root(settings)
    except RootMissing:
        open_root(settings).close()
    context = inspect_root(settings)
    try:
        with actor.acting(command_line_actor()):
            yield context
    finally:
        context.catalog.close()
        context.storage.close()


def _duration(text: str) -> timedelta:
    seconds = units.parse_seconds(text)
    if seconds is None or seconds > _MAX_EXPIRY_S:
        raise InvalidRequest(f"--expires must be a duration such as 30m, 12h or 90d, or never; not {text!r}.")
    return timedelta(seconds=seconds)


def _state(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.access(now) is not None else "expired"


_STYLES = {"valid": "green", "expired": "yellow", "revoked": "red"}


def _row(token: Token) -> tuple[terminal.Span, ...]:
    ends = f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never"
    made = f"{token.created_at:%Y-%m-%d %H:%M}"
    scopes = ",".join(in_order(token.scopes))
    state = _state(token, utc_now())
    return token.id, scopes, token.prefix or "(all)", made, ends, (state, _STYLES[state]), token.note


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
