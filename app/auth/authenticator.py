"""Authentication: the access that a request has by its bearer token."""

import hmac
from collections.abc import Callable
from datetime import datetime

from app.auth import token_format
from app.catalog import Catalog
from app.core.access import ANYONE, Access
from app.core.errors import Unauthorized

_UNKNOWN = "0" * 64  # compared if there is no such token, so that the answer takes as long


class Authenticator:
    """Checks tokens, by hash and in constant time.

    Each request asks the catalog, so that a revocation holds at once.

    Parameters
    ----------
    configured : str, optional
        A token that the operator has set; it has every scope.
    protected : bool
        A token is needed even if the catalog knows none: the root had tokens once.
    """

    def __init__(
        self, catalog: Catalog, *, clock: Callable[[], datetime], configured: str | None = None, protected: bool = False
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._configured_hash = token_format.hash_of(configured) if configured is not None else None
        self._configured_id = token_format.public_id_of(configured) if configured is not None else ""
        # Each server may learn this on its own, as it never becomes false again. One that runs beside others must also
        # ask the marks of the root, as a token that another server is configured with has no row.
        self._protected = protected or configured is not None

    @property
    def is_open(self) -> bool:
        """True while requests need no token, as the root never had one. The first token closes the server for good."""
        if not self._protected:
            with self._catalog.reading() as session:
                self._protected = session.tokens.any()
        return not self._protected

    def identify(self, authorization: str | None) -> Access:
        """Return the access of a request by its ``Authorization`` header.

        Raises
        ------
        Unauthorized
            A token is needed, and the header has none, or one that is unknown, expired or revoked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and (found := self.access_of_token(token.strip())) is not None:
            return found
        if self.is_open:
            return Access.unlimited(ANYONE)
        if authorization is None:
            raise Unauthorized("Send a token as `Authorization: Bearer <token>` (HOLDFAST_TOKEN).")
        raise Unauthorized(
            "There is no such token: it is unknown, expired or revoked. Send `Authorization: Bearer <token>`."
        )

    def access_of_token(self, text: str) -> Access | None:
        """Return the access of a token given as text; None if it is unknown, expired or revoked."""
        found_hash = token_format.hash_of(text)
        if self._configured_hash is not None and hmac.compare_digest(found_hash, self._configured_hash):
            return Access.unlimited(self._configured_id)
        token_id = token_format.id_of(text)
        if token_id is None:
            return None
        with self._catalog.reading() as session:
            token = session.tokens.get(token_id)
        is_match = hmac.compare_digest(found_hash, token.hash if token is not None else _UNKNOWN)
        return token.access(self._clock()) if token is not None and is_match else None

    def access_of(self, token_id: str) -> Access | None:
        """Return the current access of a token by id, for its sessions and links; None if it is not valid any more."""
        if token_id == ANYONE:
            return Access.unlimited(ANYONE) if self.is_open else None
        if self._configured_hash is not None and token_id == self._configured_id:
            return Access.unlimited(self._configured_id)
        with self._catalog.reading() as session:
            token = session.tokens.get(token_id)
        return token.access(self._clock()) if token is not None else None
