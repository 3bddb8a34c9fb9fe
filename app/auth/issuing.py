"""Tokens as their operator sees them: made, listed, revoked."""

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


class Memory(Protocol):
    """What outlives the catalog; the root is one."""

    @property
    def is_protected(self) -> bool:
        """Whether `protect` was ever called."""

    @property
    def revoked(self) -> frozenset[str]:
        """The ids that were ever given to `revoke`."""

    def revoke(self, token_id: str) -> None:
        """Keep in mind that this token counts no more. One caller at a time."""

    def protect(self) -> None:
        """Keep in mind that a server on this root needs tokens."""


class Minting:
    """Makes and revokes tokens."""

    def __init__(self, catalog: Catalog, memory: Memory, *, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._memory = memory
        self._clock = clock

    def create(
        self, scopes: Iterable[Scope], *, prefix: str = "", expires: timedelta | None = None, note: str = ""
    ) -> tuple[str, Token]:
        """A new token, as text, which is not kept, and what is kept of it.

        Raises
        ------
        InvalidName, InvalidRequest
            The prefix cannot be a directory; there are no scopes; the note is longer than 200 characters.
        """
        text = token_format.compose(token_bytes(token_format.ID_BYTES), token_bytes(token_format.SECRET_BYTES))
        return text, self._keep(text, scopes, prefix, expires, note)

    def all(self) -> Sequence[Token]:
        """All tokens that there ever were, the oldest first."""
        with self._catalog.reading() as session:
            return session.tokens.all()

    def revoke(self, token_id: str) -> bool:
        """Let a token and all that it opened or signed count no more; whether there is one of that id."""
        with self._catalog.writing() as session:
            token = session.tokens.get(token_id)
            if token is None:
                return False
            if token.revoked_at is None:
                now = self._clock()
                self._memory.revoke(token_id)
                session.tokens.revoke(token_id, now)
                session.audit.add("token.revoked", at=now, id=token_id)
        return True

    def revoke_again(self) -> None:
        """Revoke what was revoked before, where the catalog was brought back from a copy that does not say so."""
        revoked = self._memory.revoked
        for token in self.all() if revoked else ():
            if token.revoked_at is None and token.id in revoked:
                self.revoke(token.id)

    def first(self, file: Path) -> str | None:
        """The admin token in a file; where there is no file, nor any token, a new token with every scope is put there.

        Gives None where it is for the catalog to say whether the file's token counts, as for each that was made by
        `create`, and where the file was taken away.

        Raises
        ------
        UnusableToken
            The file holds a token that was made for another root: what it allows, only that root knows.
        OSError, UnicodeError
            The file cannot be read or made.
        """
        if not file.exists() and not (_make(file, self._keep_first) if not self.all() else self._publish(file)):
            return None
        found = file.read_text().strip()
        token_id = token_format.id_of(found)
        if token_id is None:
            return found
        if self._knows(token_id):
            return None
        if not self._memory.is_protected:
            raise UnusableToken(
                f"HOLDFAST_ADMIN_TOKEN_FILE: {file} holds a token that was made for another root, and only that one "
                "knows what it allows. Remove the file, and one is made; or put another long random text there."
            )
        logger.warning("the token in %s is not known any more; `holdfast-server token create` makes another", file)
        return None

    def _keep_first(self, text: str) -> None:
        self._keep(text, SCOPES, note="made at the first start")

    def _publish(self, file: Path) -> bool:
        """Put the first token into its file, where a start was cut off between keeping it and that."""
        for left in sorted(file.parent.glob(f"{glob.escape(file.name)}.*")):
            token_id = token_format.id_of(left.read_text(errors="replace").strip()) if left.is_file() else None
            if token_id is not None and self._knows(token_id):
                left.rename(file)
                return True
        return False

    def _knows(self, token_id: str) -> bool:
        with self._catalog.reading() as session:
            return session.tokens.get(token_id) is not None

    def _keep(
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
        _refuse_senseless(token)
        with self._catalog.writing() as session:
            session.tokens.add(token)
            session.audit.add(
                "token.created", at=now, id=token.id, scopes=in_order(token.scopes), prefix=token.prefix, note=note
            )
        self._memory.protect()
        return token


def _make(file: Path, keep: Callable[[str], None]) -> bool:
    """Make a file with a new token that only its owner can read, and let the token be kept before the file shows it.

    It is there whole or not at all, and replaces none.
    """
    text = token_format.compose(token_bytes(token_format.ID_BYTES), token_bytes(token_format.SECRET_BYTES))
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
    with os.fdopen(descriptor, "w") as target:
        target.write(f"{text}\n")
        target.flush()
        os.fsync(descriptor)
    try:
        keep(text)
    except BaseException:
        Path(temporary).unlink()
        raise
    file.hardlink_to(temporary)
    Path(temporary).unlink()
    return True


def _refuse_senseless(token: Token) -> None:
    if not token.scopes or not token.scopes <= set(SCOPES):
        raise InvalidRequest(f"A token has at least one scope of {', '.join(SCOPES)}.")
    if len(token.note) > 200 or not token.note.isprintable():
        raise InvalidRequest("The note has more than 200 characters, or some that cannot be printed.")
    if token.expires_at is not None and token.expires_at <= token.created_at:
        raise InvalidRequest("The token would have expired already.")
