"""Signed links: made by who may read, followed by anyone who has them, as long as the token that made them counts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from secrets import token_bytes, token_hex

from app.auth import link_format
from app.auth.authenticator import Authority
from app.auth.link_format import Link
from app.catalog import Catalog, LinkKey, Session
from app.core.access import Access
from app.core.errors import LinkInvalid
from app.core.models import Checkpoint, File

LONGEST = timedelta(days=7)


class Links:
    """Makes links and reads them."""

    def __init__(self, catalog: Catalog, authority: Authority, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._authority = authority
        self._clock = clock

    def make(self, access: Access, checkpoint: Checkpoint, file: File, lifetime: timedelta) -> tuple[str, datetime]:
        """A link to a file of a checkpoint, and until when it is good: not longer than the token that asks for it."""
        now = self._clock()
        ends_at = min(now + lifetime, access.expires_at or now + lifetime).replace(microsecond=0)
        link = Link(checkpoint.id, file.path, file.digest, access.token_id, int(ends_at.timestamp()))
        with self._catalog.writing() as session:
            session.tokens.drop_keys(now - LONGEST)
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
        """What a link allows at this moment. What its token reached once, it reaches always.

        Raises
        ------
        LinkInvalid
            It was not made here or was altered, its time is over, its key has been dropped, or its token does not
            count any more.
        """
        with self._catalog.reading() as session:
            keys = {key.id: key.secret for key in session.tokens.link_keys()}
        link = link_format.read(text, keys)
        if self._clock().timestamp() >= link.expires_at:
            raise LinkInvalid("The link has expired; ask for a new one.")
        if self._authority.access_of(link.token_id) is None:
            raise LinkInvalid("The token that made this link does not count any more.")
        return link


def rotate(catalog: Catalog, now: datetime, *, drop: bool) -> None:
    """Sign with a new key from now on; those before are good for their links, unless they are to be dropped."""
    with catalog.writing() as session:
        session.tokens.retire_keys(now)
        session.tokens.drop_keys(now if drop else now - LONGEST)
        _add_key(session, now)
        session.audit.add("link_key.rotated", at=now, dropped=drop)


def _newest_key(session: Session, now: datetime) -> LinkKey:
    return next((key for key in session.tokens.link_keys() if key.retired_at is None), None) or _add_key(session, now)


def _add_key(session: Session, now: datetime) -> LinkKey:
    key = LinkKey(token_hex(4), token_bytes(32), now)
    session.tokens.add_key(key)
    return key
