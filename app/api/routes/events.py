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
"""Interval at which the token of an open stream is checked again, in seconds."""


@router.get("", response_class=EventSourceResponse, responses=refuses(InvalidName, DirectoryNotFound))
async def stream_events(
    request: Request,
    checkpoints: CheckpointsDep,
    may: Reader,
    prefix: Within,
    follow: Annotated[bool, Query(description="Wait for new events; if false, end after the existing ones.")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INT, description="Begin after this event.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Stream changes as server-sent events.

    The types are `checkpoint.saved`, `checkpoint.removed`, `checkpoint.changed` and `directory.policy_changed`. With
    `Last-Event-ID` the stream begins after that event, so that a client that reconnects misses none; 0 begins with the
    first event. Without it the stream begins now, with an id without data that marks the position. The stream ends when
    the token expires or is revoked.
    """
    queries, notifier = checkpoints.queries, checkpoints.context.notifier
    last = await run_in_threadpool(queries.last_event_id) if last_event_id is None else last_event_id
    if last_event_id is None:
        yield ServerSentEvent(id=str(last))
    while await run_in_threadpool(_still_may, request, may):
        with notifier.waiter() as waiter:
            events, last = await run_in_threadpool(queries.events, last, prefix=prefix, limit=EVENTS_AT_ONCE)
            for event in events:
                yield ServerSentEvent(id=str(event.id), event=event.type, data=_data(event))
            if not events:
                if notifier.closed or not follow:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(waiter.wait(), RECHECK_S)


def _still_may(request: Request, may: Access) -> bool:
    """Tell if the token is still valid and may read."""
    found = request.state.authenticator.access_of(may.token_id)
    return found is not None and found.allows("read")


def _data(event: Event) -> dict[str, Any]:
    return {
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "directory": event.directory,
        "checkpoint_id": event.checkpoint_id,
        **event.data,
    }
