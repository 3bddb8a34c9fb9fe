"""Rows of tokens, of their sessions, and of the keys that sign links."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.access import Token, in_order

_table = schema.tokens
_sessions = schema.sessions
_keys = schema.link_keys

_VALIDITY = select(  # built once, as it is read with every burst of events
    select(func.count()).select_from(_table).scalar_subquery(),
    select(func.count(_table.c.revoked_at)).scalar_subquery(),
    select(func.count()).select_from(_sessions).scalar_subquery(),
)


@dataclass(frozen=True, slots=True)
class LinkKey:
    """A key that signs links. Once it is retired, it only verifies those that it has signed."""

    id: str
    secret: bytes
    created_at: datetime
    retired_at: datetime | None = None


class TokenRows:
    """Tokens, sessions and keys within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, token: Token) -> None:
        """Add a token."""
        self._connection.execute(
            insert(_table).values(
                id=token.id,
                hash=token.hash,
                scopes=json.dumps(in_order(token.scopes)),
                prefix=token.prefix,
                note=token.note,
                created_at=to_text(token.created_at),
                expires_at=to_text(token.expires_at),
            )
        )

    def get(self, token_id: str) -> Token | None:
        """Return the token of this id, valid or not."""
        row = self._connection.execute(select(_table).where(_table.c.id == token_id)).mappings().one_or_none()
        return _token(row) if row is not None else None

    def all(self) -> Sequence[Token]:
        """Return all tokens, also expired and revoked ones, oldest first."""
        query = select(_table).order_by(_table.c.created_at, _table.c.id)
        return [_token(row) for row in self._connection.execute(query).mappings()]

    def any(self) -> bool:
        """Tell if a token was ever created."""
        return self._connection.execute(select(_table.c.id).limit(1)).first() is not None

    def validity(self) -> Sequence[int]:
        """Return numbers of which one differs after any token or session was added, revoked or ended."""
        return tuple(self._connection.execute(_VALIDITY).one())

    def revoke(self, token_id: str, at: datetime) -> None:
        """Revoke a token and end its sessions."""
        self._connection.execute(update(_table).where(_table.c.id == token_id).values(revoked_at=to_text(at)))
        self._connection.execute(delete(_sessions).where(_sessions.c.token_id == token_id))

    # sessions

    def begin_session(self, session_hash: str, token_id: str, expires_at: datetime) -> None:
        """Add a session of a token."""
        values = {"hash": session_hash, "token_id": token_id, "expires_at": to_text(expires_at)}
        self._connection.execute(insert(_sessions).values(values))

    def token_of_session(self, session_hash: str, now: datetime) -> str | None:
        """Return the id of the token of a session that has not ended."""
        query = select(_sessions.c.token_id)
        found = query.where(_sessions.c.hash == session_hash, _sessions.c.expires_at > to_text(now))
        return self._connection.execute(found).scalar()

    def end_session(self, session_hash: str) -> bool:
        """Delete a session; tell if there was one."""
        return self._connection.execute(delete(_sessions).where(_sessions.c.hash == session_hash)).rowcount > 0

    def end_sessions(self, now: datetime) -> None:
        """Delete expired sessions."""
        self._connection.execute(delete(_sessions).where(_sessions.c.expires_at <= to_text(now)))

    # keys

    def add_key(self, key: LinkKey) -> None:
        """Add a key."""
        self._connection.execute(
            insert(_keys).values(id=key.id, secret=key.secret.hex(), created_at=to_text(key.created_at))
        )

    def link_keys(self) -> Sequence[LinkKey]:
        """Return all keys, newest first."""
        rows = self._connection.execute(select(_keys).order_by(_keys.c.created_at.desc(), _keys.c.id)).mappings()
        return [
            LinkKey(row["id"], bytes.fromhex(row["secret"]), to_time(row["created_at"]), to_time(row["retired_at"]))
            for row in rows
        ]

    def retire_keys(self, at: datetime) -> None:
        """Retire all keys: they sign no further links."""
        self._connection.execute(update(_keys).where(_keys.c.retired_at.is_(None)).values(retired_at=to_text(at)))

    def drop_keys(self, retired_before: datetime) -> None:
        """Delete the keys that were retired until then."""
        self._connection.execute(delete(_keys).where(_keys.c.retired_at <= to_text(retired_before)))


def _token(row: Any) -> Token:
    return Token(
        id=row["id"],
        hash=row["hash"],
        scopes=frozenset(json.loads(row["scopes"])),
        prefix=row["prefix"],
        note=row["note"],
        created_at=to_time(row["created_at"]),
        expires_at=to_time(row["expires_at"]),
        revoked_at=to_time(row["revoked_at"]),
    )
