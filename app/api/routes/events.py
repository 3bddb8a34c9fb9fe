"""The route of events, as server-sent events."""

import json
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from app.api.dependencies import Reader, ServiceDep, Within
from app.api.schemas.values import MAX_INT
from app.core.access import Access
from app.core.errors import DirectoryNotFound, EventsTrimmed, InvalidName
from app.core.models import Event
from app.http.body.event_stream import CONTENT, PING, EventStream, field_lines
from app.http.problems import refuses
from app.service.state.events.event_format import EventFormat
from app.service.state.events.feed import EventFeed

router = APIRouter(prefix="/events", tags=["events"])


@router.get("", response_class=Response, responses=CONTENT | refuses(InvalidName, DirectoryNotFound, EventsTrimmed))
async def stream_events(
    request: Request,
    service: ServiceDep,
    may: Reader,
    prefix: Within,
    follow: Annotated[bool, Query(description="Wait for new events; if false, end after the existing ones.")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INT, description="Begin after this event.")] = None,
) -> EventStream:
    """Stream changes as server-sent events.

    The types are `checkpoint.saved`, `checkpoint.changed`, `checkpoint.removed`, `checkpoint.restored`,
    `checkpoint.damaged`, `checkpoint.intact`, `directory.policy_changed` and `catalog.rebuilt`. With `Last-Event-ID`
    the stream begins after that event, so that a client that reconnects misses none; 0 begins with the first event that
    is kept. If later events than that are no longer kept, or it is of none, the answer is 410 `events_trimmed`. Without
    it the stream begins now, with an id without data that marks the position. The stream ends when the token expires or
    is revoked, and when its client reads too slowly; the client can then resume after the last event that it received.
    """
    if last_event_id is not None:
        await service.event_feed.backlog.require_kept(last_event_id)
    return EventStream(_stream(request, service.event_feed, may, prefix, last_event_id, follow=follow))


async def _stream(
    request: Request, feed: EventFeed, may: Access, prefix: str, after: int | None, *, follow: bool
) -> AsyncGenerator[bytes, None]:
    authenticator = request.state.authenticator

    def still_may() -> bool:
        found = authenticator.access_of(may.token_id)
        return found is not None and found.allows("read")

    with feed.watching(prefix, FORMAT, key=("token", may.token_id), still_may=still_may, follows=follow) as watcher:
        if after is None:
            after = await feed.backlog.last_id()
            yield field_lines(event_id=after)
        async for piece in feed.stream(watcher, after):
            yield piece


def _encoded(event: Event) -> bytes:
    data = {
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "directory": event.directory,
        "checkpoint_id": event.checkpoint_id,
        **event.data,
    }
    return field_lines(event=event.type, data=json.dumps(data), event_id=event.id)


FORMAT = EventFormat(encode=_encoded, join=b"".join, ping=PING)
