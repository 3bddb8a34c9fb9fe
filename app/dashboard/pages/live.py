"""Live updates: an event stream that tells open pages to refresh themselves."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import CheckpointsDep, Reader, Within
from app.auth.sessions import Sessions
from app.core.access import Access
from app.http.authentication import COOKIE

router = APIRouter()

EVENTS_AT_ONCE = 200
POLL_S = 1.0
"""Interval at which uploads are polled for progress, in seconds. Received bytes cause no notification."""
RECHECK_EVERY = 15
"""Number of polls after which the session is checked again."""


@router.get("/live", response_class=EventSourceResponse)
async def stream_updates(
    request: Request, checkpoints: CheckpointsDep, may: Reader, prefix: Within
) -> AsyncIterator[ServerSentEvent]:
    """Stream `changed` after changes within a prefix, and `moving` each second in which uploads progress or end.

    The stream ends with the session. It does not repeat missed events: a page must refresh after it reconnects.
    """
    queries, notifier = checkpoints.queries, checkpoints.context.notifier
    last, polled_at = await run_in_threadpool(queries.last_event_id), time.monotonic()
    yield ServerSentEvent(event="open", data={})
    while await run_in_threadpool(_still_may, request, may):
        with notifier.waiter() as waiter:
            events, last = await run_in_threadpool(queries.events, last, prefix=prefix, limit=EVENTS_AT_ONCE)
            if events:
                yield ServerSentEvent(event="changed", data={"events": len(events)})
            elif notifier.closed:
                return
            else:
                for _ in range(RECHECK_EVERY):
                    if await _is_notified(waiter):
                        break
                    before, polled_at = polled_at, time.monotonic()
                    if checkpoints.overviews.have_uploads_changed(prefix, before):
                        yield ServerSentEvent(event="moving", data={})


async def _is_notified(waiter: asyncio.Event) -> bool:
    """Tell if a notification arrives within one poll interval."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(waiter.wait(), POLL_S)
    return False


def _still_may(request: Request, may: Access) -> bool:
    """Tell if the session is still valid and may read."""
    sessions: Sessions = request.state.sessions
    found = sessions.access(request.cookies.get(COOKIE))
    return found is not None and found.token_id == may.token_id and found.allows("read")
