"""Sessions of the dashboard: opened with a token, and worth no more than that token at each moment."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_urlsafe

from app.auth import token_format
from app.auth.authenticator import Authority
from app.catalog import Catalog
from app.core.access import ANYONE, Access
from app.core.errors import Unauthorized
from app.runtime import actor

LASTS = timedelta(hours=12)


class Sessions:
    """Opens, knows and ends sessions. What a browser holds of one is random; its hash is kept."""

    def __init__(self, catalog: Catalog, authority: Authority, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._authority = authority
        self._clock = clock

    def begin(self, token: str) -> tuple[str, Access]:
        """A new session's secret, and what it may do.

        Raises
        ------
        Unauthorized
            The token does not count.
        """
        access = self._authority.access_of_token(token.strip())
        if access is None:
            raise Unauthorized("This server knows no such token, or not any more.")
        secret, now = token_urlsafe(32), self._clock()
        ends_at = min(now + LASTS, access.expires_at or now + LASTS)
        with actor.acting(replace(actor.current(), token_id=access.token_id)), self._catalog.writing() as session:
            session.tokens.end_sessions(now)
            session.tokens.begin_session(token_format.hash_of(secret), access.token_id, ends_at)
            session.audit.add("session.begun", at=now)
        return secret, access

    def access(self, secret: str | None) -> Access | None:
        """What a session may do now; None where it has ended, or its token does not count any more."""
        if secret is not None:
            with self._catalog.reading() as session:
                token_id = session.tokens.token_of_session(token_format.hash_of(secret), self._clock())
            if token_id is not None:
                return self._authority.access_of(token_id)
        return self._authority.access_of(ANYONE)  # whichever server of this host the cookie is of

    def end(self, secret: str) -> None:
        """The session is over, if there is one."""
        with self._catalog.writing() as session:
            if session.tokens.end_session(token_format.hash_of(secret)):
                session.audit.add("session.ended", at=self._clock())
