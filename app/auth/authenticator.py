"""Whom a request comes from, by the token that it carries."""

import hmac
from collections.abc import Callable
from datetime import datetime

from app.auth import token_format
from app.catalog import Catalog
from app.core.access import ANYONE, Access
from app.core.errors import Unauthorized

_UNKNOWN = "0" * 64  # what is compared where there is no such token, so that this takes as long


class Authority:
    """Knows tokens by their hashes, asks for every request whether they still count, and compares in constant time.

    Parameters
    ----------
    configured : str, optional
        A token that the operator has set, which may everything.
    protected : bool
        A token is needed even if none is known: there were some once.
    """

    def __init__(
        self, catalog: Catalog, *, clock: Callable[[], datetime], configured: str | None = None, protected: bool = False
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._configured_hash = token_format.hash_of(configured) if configured is not None else None
        self._configured_id = token_format.public_id_of(configured) if configured is not None else ""
        self._protected = protected or configured is not None

    @property
    def is_open(self) -> bool:
        """Whether no token is needed, as there never was one. The first one closes the server for good."""
        if not self._protected:
            with self._catalog.reading() as session:
                self._protected = session.tokens.any()
        return not self._protected

    def identify(self, authorization: str | None) -> Access:
        """What a request may do, by its ``Authorization`` header.

        Raises
        ------
        Unauthorized
            A token is needed, and this is none, or one that has expired or was revoked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and (found := self.access_of_token(token.strip())) is not None:
            return found
        if self.is_open:
            return Access.unlimited(ANYONE)
        if authorization is None:
            raise Unauthorized("Send a token as `Authorization: Bearer <token>` (HOLDFAST_TOKEN).")
        raise Unauthorized("This server knows no such token, or not any more; `Authorization` is `Bearer <token>`.")

    def access_of_token(self, text: str) -> Access | None:
        """What a token allows; None where it does not count."""
        found_hash = token_format.hash_of(text)
        if self._configured_hash is not None and hmac.compare_digest(found_hash, self._configured_hash):
            return Access.unlimited(self._configured_id)
        token_id = token_format.id_of(text)
        if token_id is None:
            return None
        with self._catalog.reading() as session:
            token = session.tokens.get(token_id)
        is_it = hmac.compare_digest(found_hash, token.hash if token is not None else _UNKNOWN)
        return token.access(self._clock()) if token is not None and is_it else None

    def access_of(self, token_id: str) -> Access | None:
        """What the token of this id allows now, for what it has opened or signed; None where it does not count."""
        if token_id == ANYONE:
            return Access.unlimited(ANYONE) if self.is_open else None
        if self._configured_hash is not None and token_id == self._configured_id:
            return Access.unlimited(self._configured_id)
        with self._catalog.reading() as session:
            token = session.tokens.get(token_id)
        return token.access(self._clock()) if token is not None else None
