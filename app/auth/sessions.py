"""Sessions of the dashboard: begun with a token, and never with more access than that token has at the moment."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_urlsafe

from app.auth import token_format
from app.auth.authenticator import Authenticator
from app.catalog import Catalog
from app.core.access import ANYONE, Access
from app.core.errors import Unauthorized
from app.runtime import actor

LIFETIME = timedelta(hours=12)


class Sessions:
    """Begins, checks and ends sessions. The browser holds a random secret, the catalog only its hash."""

    def __init__(self, catalog: Catalog, authenticator: Authenticator, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._authenticator = authenticator
        self._clock = clock

    def begin(self, token: str) -> tuple[str, Access]:
        """Begin a session; return its secret and its access.

        Raises
        ------
        Unauthorized
            The token is unknown, expired or revoked.
        """
        access = self._authenticator.access_of_token(token.strip())
        if access is None:
            raise Unauthorized("There is no such token: it is unknown, expired or revoked.")
        secret, now = token_urlsafe(32), self._clock()
        ends_at = min(now + LIFETIME, access.expires_at or now + LIFETIME)
        with actor.acting(replace(actor.current(), token_id=access.token_id)), self._catalog.writing() as session:
            session.tokens.end_sessions(now)
            session.tokens.begin_session(token_format.hash_of(secret), access.token_id, ends_at)
            session.audit.add("session.begun", at=now)
        return secret, access

    def access(self, secret: str | None) -> Access | None:
        """Return the current access of a session; None if it has ended or its token is not valid any more."""
        if secret is not None:
            with self._catalog.reading() as session:
                token_id = session.tokens.token_of_session(token_format.hash_of(secret), self._clock())
            if token_id is not None:
                return self._authenticator.access_of(token_id)
        return self._authenticator.access_of(ANYONE)  # the cookie may be of another server of this host

    def end(self, secret: str) -> None:
        """End a session. Idempotent."""
        with self._catalog.writing() as session:
            if session.tokens.end_session(token_format.hash_of(secret)):
                session.audit.add("session.ended", at=self._clock())
