"""Tokens for the operator: created, listed, revoked, and bootstrapped from a file at the first start."""

import glob
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from secrets import token_bytes
from typing import Protocol

from app.auth import token_format
from app.catalog import Catalog
from app.core import names
from app.core.access import SCOPES, Scope, Token, in_order
from app.core.errors import InvalidRequest, UnusableToken

logger = logging.getLogger("holdfast")


class RevocationLog(Protocol):
    """A durable record, outside the catalog, of revoked tokens and of the need for tokens; kept in the root."""

    @property
    def is_protected(self) -> bool:
        """True if `protect` was ever called."""

    @property
    def revoked(self) -> frozenset[str]:
        """The ids of all tokens that were ever revoked."""

    def revoke(self, token_id: str) -> None:
        """Record that a token is revoked. Not thread-safe: one caller at a time."""

    def protect(self) -> None:
        """Record that requests to this root need tokens. Idempotent."""


class TokenIssuer:
    """Creates, lists and revokes tokens."""

    def __init__(self, catalog: Catalog, revocations: RevocationLog, *, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._revocations = revocations
        self._clock = clock

    def create(
        self, scopes: Iterable[Scope], *, prefix: str = "", expires: timedelta | None = None, note: str = ""
    ) -> tuple[str, Token]:
        """Create a token; return its text, which is not stored, and its record.

        Raises
        ------
        InvalidName, InvalidRequest
            The prefix is no directory name; there are no scopes; the note is longer than 200 characters.
        """
        text = token_format.compose(token_bytes(token_format.ID_BYTES), token_bytes(token_format.SECRET_BYTES))
        return text, self._store(text, scopes, prefix, expires, note)

    def all(self) -> Sequence[Token]:
        """List all tokens, including expired and revoked ones, oldest first."""
        with self._catalog.reading() as session:
            return session.tokens.all()

    def revoke(self, token_id: str) -> bool:
        """Revoke a token with its sessions and links; return False if there is no such token. Idempotent."""
        with self._catalog.writing() as session:
            token = session.tokens.get(token_id)
            if token is None:
                return False
            if token.revoked_at is None:
                now = self._clock()
                self._revocations.revoke(token_id)
                session.tokens.revoke(token_id, now)
                session.audit.add("token.revoked", at=now, id=token_id)
        return True

    def revoke_again(self) -> None:
        """Repeat revocations that the catalog lacks because it was restored from an older copy."""
        revoked = self._revocations.revoked
        for token in self.all() if revoked else ():
            if token.revoked_at is None and token.id in revoked:
                self.revoke(token.id)

    def bootstrap(self, file: Path) -> str | None:
        """Return the admin token in a file; create file and token, with every scope, if there is neither.

        Returns None if the catalog knows the file's token, as it does each that `create` made, and if the file was
        removed.

        Raises
        ------
        UnusableToken
            The file holds a token of another root, whose scopes this root does not know.
        OSError, UnicodeError
            The file cannot be read or created.
        """
        if not file.exists() and not (
            _create_file(file, self._store_bootstrapped) if not self.all() else self._publish(file)
        ):
            return None
        found = file.read_text().strip()
        token_id = token_format.id_of(found)
        if token_id is None:
            return found
        if self._knows(token_id):
            return None
        if not self._revocations.is_protected:
            raise UnusableToken(
                f"HOLDFAST_ADMIN_TOKEN_FILE: {file} holds a token that was made for another root, and only that root "
                "knows its scopes. Remove the file to have a new token created, or write a long random text to it."
            )
        logger.warning(
            "the token in %s is unknown to this root; create another with `holdfast-server token create`", file
        )
        return None

    def _store_bootstrapped(self, text: str) -> None:
        self._store(text, SCOPES, note="made at the first start")

    def _publish(self, file: Path) -> bool:
        """Publish the bootstrapped token if an earlier start stored it and stopped before it named the file."""
        for temporary in sorted(file.parent.glob(f"{glob.escape(file.name)}.*")):
            token_id = (
                token_format.id_of(temporary.read_text(errors="replace").strip()) if temporary.is_file() else None
            )
            if token_id is not None and self._knows(token_id):
                temporary.rename(file)
                return True
        return False

    def _knows(self, token_id: str) -> bool:
        with self._catalog.reading() as session:
            return session.tokens.get(token_id) is not None

    def _store(
        self, text: str, scopes: Iterable[Scope], prefix: str = "", expires: timedelta | None = None, note: str = ""
    ) -> Token:
        now = self._clock()
        token = Token(
            id=token_format.id_of(text) or "",
            hash=token_format.hash_of(text),
            scopes=frozenset(scopes),
            prefix=names.directory_name(prefix) if prefix else "",
            note=note,
            created_at=now,
            expires_at=now + expires if expires is not None else None,
        )
        _validate(token)
        with self._catalog.writing() as session:
            session.tokens.add(token)
            session.audit.add(
                "token.created", at=now, id=token.id, scopes=in_order(token.scopes), prefix=token.prefix, note=note
            )
        self._revocations.protect()
        return token


def _create_file(file: Path, store: Callable[[str], None]) -> bool:
    """Create a file, readable by its owner only, with a new token; the token is stored before the file is visible.

    Atomic, and never replaces another file.
    """
    text = token_format.compose(token_bytes(token_format.ID_BYTES), token_bytes(token_format.SECRET_BYTES))
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    with os.fdopen(descriptor, "w") as target:
        target.write(f"{text}\n")
        target.flush()
        os.fsync(descriptor)
    try:
        store(text)
    except BaseException:
        Path(temporary).unlink()
        raise
    file.hardlink_to(temporary)
    Path(temporary).unlink()
    return True


def _validate(token: Token) -> None:
    if not token.scopes or not token.scopes <= set(SCOPES):
        raise InvalidRequest(f"A token has at least one scope of {', '.join(SCOPES)}.")
    if len(token.note) > 200 or not token.note.isprintable():
        raise InvalidRequest("The note is longer than 200 characters, or has some that cannot be printed.")
    if token.expires_at is not None and token.expires_at <= token.created_at:
        raise InvalidRequest("The token would be expired already.")
