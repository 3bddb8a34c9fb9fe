"""Signed links: created by a token that may read, usable without one, and valid only while that token is."""

from collections.abc import Callable
from datetime import datetime, timedelta
from secrets import token_bytes, token_hex

from app.auth import link_format
from app.auth.authenticator import Authenticator
from app.auth.link_format import Link
from app.catalog import Catalog, LinkKey, Session
from app.core.access import Access
from app.core.errors import LinkInvalid
from app.core.models import Checkpoint, File

MAX_LIFETIME = timedelta(days=7)


class Links:
    """Creates and resolves links."""

    def __init__(self, catalog: Catalog, authenticator: Authenticator, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._authenticator = authenticator
        self._clock = clock

    def make(self, access: Access, checkpoint: Checkpoint, file: File, lifetime: timedelta) -> tuple[str, datetime]:
        """Create a link to a file of a checkpoint; return it and its expiry, which is never after that of the token."""
        now = self._clock()
        ends_at = min(now + lifetime, access.expires_at or now + lifetime).replace(microsecond=0)
        link = Link(checkpoint.id, file.path, file.digest, access.token_id, int(ends_at.timestamp()))
        with self._catalog.writing() as session:
            session.tokens.drop_keys(now - MAX_LIFETIME)
            key = _newest_key(session, now)
            session.audit.add(
                "link.made",
                at=now,
                directory=checkpoint.directory,
                checkpoint_id=checkpoint.id,
                file=file.path,
                expires_at=ends_at.isoformat(),
            )
        return link_format.sign(link, key.id, key.secret), ends_at

    def follow(self, text: str) -> Link:
        """Return the claims of a valid link. The prefix of its token was checked at creation and is not checked again.

        Raises
        ------
        LinkInvalid
            The link is not of this server or was altered, has expired, its key was dropped, or its token is not
            valid any more.
        """
        with self._catalog.reading() as session:
            keys = {key.id: key.secret for key in session.tokens.link_keys()}
        link = link_format.read(text, keys)
        if self._clock().timestamp() >= link.expires_at:
            raise LinkInvalid("The link has expired; ask for a new one.")
        if self._authenticator.access_of(link.token_id) is None:
            raise LinkInvalid("The token that created this link is not valid any more.")
        return link


def rotate(catalog: Catalog, now: datetime, *, drop: bool) -> None:
    """Sign new links with a new key. Earlier links stay valid until they expire, unless ``drop`` removes their keys."""
    with catalog.writing() as session:
        session.tokens.retire_keys(now)
        session.tokens.drop_keys(now if drop else now - MAX_LIFETIME)
        _add_key(session, now)
        session.audit.add("link_key.rotated", at=now, dropped=drop)


def _newest_key(session: Session, now: datetime) -> LinkKey:
    return next((key for key in session.tokens.link_keys() if key.retired_at is None), None) or _add_key(session, now)


def _add_key(session: Session, now: datetime) -> LinkKey:
    key = LinkKey(token_hex(4), token_bytes(32), now)
    session.tokens.add_key(key)
    return key
