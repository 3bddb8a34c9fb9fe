"""Backlog: the events that a stream has missed, read from the catalog in pages at the pace of its client."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.catalog import Catalog
from app.catalog.rows.horizons import Horizon
from app.core.errors import EventsTrimmed
from app.service.state.events.event_format import EventFormat

T = TypeVar("T")

PAGE = 200
"""The number of events that a page holds at most."""
THREADS = 2
"""The number of pages that are read at a time, however many streams begin at once."""


@dataclass(frozen=True, slots=True)
class BacklogPage:
    """A page of a backlog.

    Attributes
    ----------
    payload : bytes
        Its events, serialised; empty if there are none.
    after : int
        The id after which the next page begins, beyond events of other prefixes.
    seen : int
        The id of the newest event of the catalog when the page was read.
    is_last : bool
        True if the catalog held no further event within the prefix.
    validity : sequence of int
        The numbers that tell if any token was revoked since an earlier page.
    is_gone : bool
        True if events of the page were deleted for their age.
    """

    payload: bytes
    after: int
    seen: int
    is_last: bool
    validity: Sequence[int]
    is_gone: bool


class Backlog:
    """Reads past events on a few threads of its own, so that streams that begin take none from other requests."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="holdfast-backlog")

    async def last_id(self) -> int:
        """Return the id of the newest event; 0 before the first."""
        return await self.on_thread(self._last_id)

    async def require_kept(self, after: int) -> None:
        """Check that the events after an id are all kept, and that it is one; 0 stands for the first that is kept.

        Raises
        ------
        EventsTrimmed
        """
        horizon, newest = await self.on_thread(self._bounds)
        if horizon is not None and _is_beyond(after, horizon):
            raise EventsTrimmed(
                f"Events up to {horizon.last_id} are no longer kept, so some after {after} would be missing. Read the "
                f"state anew, and begin after {horizon.last_id}, or after 0 for all that are kept.",
                last_trimmed_id=horizon.last_id,
            )
        if after > newest:
            raise EventsTrimmed(
                f"No event of this server has the id {after}; its newest is {newest}. Read the state anew, and begin "
                f"after {newest}, or after 0 for all that are kept.",
                last_trimmed_id=newest,
            )

    async def page(self, form: EventFormat, prefix: str, after: int, *, until: int | None = None) -> BacklogPage:
        """Return the next events at or below a prefix, up to and including the id ``until``, serialised."""
        return await self.on_thread(lambda: self.read_page(form, prefix, after, until=until))

    def read_page(self, form: EventFormat, prefix: str, after: int, *, until: int | None = None) -> BacklogPage:
        """Do the same on the calling thread."""
        with self._catalog.reading() as session:
            events = session.events.after(after, prefix=prefix, until=until, limit=PAGE)
            seen, validity = session.events.last_id(), session.tokens.validity()
            horizon = session.horizons.of("events")
        is_gone = _is_beyond(after, horizon)
        payload = form.join([form.encode(event) for event in events]) if events else b""
        is_last = len(events) < PAGE
        after = max(after, until or seen) if is_last else events[-1].id
        return BacklogPage(payload, after, seen, is_last, validity, is_gone)

    async def on_thread(self, read: Callable[[], T]) -> T:
        """Call a function on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _last_id(self) -> int:
        with self._catalog.reading() as session:
            return session.events.last_id()

    def _bounds(self) -> tuple[Horizon | None, int]:
        with self._catalog.reading() as session:
            return session.horizons.of("events"), session.events.last_id()


def _is_beyond(after: int, horizon: Horizon | None) -> bool:
    return horizon is not None and 0 < after < horizon.last_id
