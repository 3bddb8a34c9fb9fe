"""The route of events, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import CheckpointsDep, Reader, Within
from app.api.schemas.values import MAX_INT
from app.core.access import Access
from app.core.errors import DirectoryNotFound, InvalidName
from app.core.models import Event
from app.http.problems import refuses

router = APIRouter(prefix="/events", tags=["events"])

EVENTS_AT_ONCE = 200
RECHECK_S = 15.0
"""How often those who wait for events are asked whether they still may, in seconds."""


@router.get("", response_class=EventSourceResponse, responses=refuses(InvalidName, DirectoryNotFound))
async def stream_events(
    request: Request,
    checkpoints: CheckpointsDep,
    may: Reader,
    prefix: Within,
    follow: Annotated[bool, Query(description="Wait for further events; else end after those that are there.")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INT, description="Begin after this event.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What changes, as it changes: `checkpoint.saved`, `.removed`, `.changed` and `directory.policy_changed`.

    Without `Last-Event-ID` it begins now, and tells by an id without data after which event that is; with it, after
    that event, so that nothing is missed in between. 0 begins with the first event of all. It ends when the token does
    not count any more.
    """
    finding, notifier = checkpoints.finding, checkpoints.context.notifier
    last = await run_in_threadpool(finding.last_event_id) if last_event_id is None else last_event_id
    if last_event_id is None:
        yield ServerSentEvent(id=str(last))
    while await run_in_threadpool(_still_may, request, may):
        with notifier.waiter() as waiter:
            events, last = await run_in_threadpool(finding.events, last, prefix=prefix, limit=EVENTS_AT_ONCE)
            for event in events:
                yield ServerSentEvent(id=str(event.id), event=event.type, data=_data(event))
            if not events:
                if notifier.closed or not follow:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(waiter.wait(), RECHECK_S)


def _still_may(request: Request, may: Access) -> bool:
    """Whether the token counts yet, for reading."""
    found = request.state.authority.access_of(may.token_id)
    return found is not None and found.allows("read")


def _data(event: Event) -> dict[str, Any]:
    return {
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "directory": event.directory,
        "checkpoint_id": event.checkpoint_id,
        **event.data,
    }
