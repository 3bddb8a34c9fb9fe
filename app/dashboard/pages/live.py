"""Live updates: an event stream that tells open pages to refresh themselves."""

import json
from collections.abc import AsyncGenerator, Sequence

from fastapi import APIRouter, Request

from app.api.dependencies import Reader, ServiceDep, Within
from app.auth.sessions import Sessions
from app.core.access import Access
from app.http.authentication import COOKIE
from app.http.body.event_stream import PING, EventStream, field_lines
from app.service.state.events.event_format import EventFormat
from app.service.state.events.feed import EventFeed

router = APIRouter()


@router.get("/live", response_class=EventStream)
async def stream_updates(request: Request, service: ServiceDep, may: Reader, prefix: Within) -> EventStream:
    """Stream `changed` after changes within a prefix, and `moving` each second in which uploads progress or end.

    The stream ends with the session. It does not repeat missed events: a page must refresh after it reconnects.
    """
    return EventStream(_stream(request, service.event_feed, may, prefix))


async def _stream(request: Request, feed: EventFeed, may: Access, prefix: str) -> AsyncGenerator[bytes, None]:
    sessions: Sessions = request.state.sessions
    cookie = request.cookies.get(COOKIE)

    def still_may() -> bool:
        found = sessions.access(cookie)
        return found is not None and found.token_id == may.token_id and found.allows("read")

    with feed.watching(prefix, FORMAT, key=("session", cookie, may.token_id), still_may=still_may) as watcher:
        after = await feed.backlog.last_id()
        yield field_lines(event="open", data="{}")
        async for piece in feed.stream(watcher, after):
            yield piece


def _changed(events: Sequence[bytes]) -> bytes:
    return field_lines(event="changed", data=json.dumps({"events": len(events)}))


FORMAT = EventFormat(
    encode=lambda _: b"", join=_changed, ping=PING, progress=field_lines(event="moving", data=json.dumps({}))
)
