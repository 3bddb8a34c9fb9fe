"""What pages that are open are told: that something has changed, or is moving, so that they look again."""

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
LOOK_EVERY_S = 1.0
"""How often it is looked whether bytes are on their way, which causes no notification, in seconds."""
RECHECK_EVERY = 15
"""After how many such looks the session is asked for again."""


@router.get("/live", response_class=EventSourceResponse)
async def tell(
    request: Request, checkpoints: CheckpointsDep, may: Reader, prefix: Within
) -> AsyncIterator[ServerSentEvent]:
    """`changed` where something has changed within a prefix, `moving` each second in which uploads bring bytes or end.

    It ends with the session. Whoever comes back after an interruption should look anew: nothing is made up for.
    """
    queries, notifier = checkpoints.queries, checkpoints.context.notifier
    last, looked_at = await run_in_threadpool(queries.last_event_id), time.monotonic()
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
                    before, looked_at = looked_at, time.monotonic()
                    if checkpoints.overviews.have_uploads_changed(prefix, before):
                        yield ServerSentEvent(event="moving", data={})


async def _is_notified(waiter: asyncio.Event) -> bool:
    """Tell if an event comes within a moment."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(waiter.wait(), LOOK_EVERY_S)
    return False


def _still_may(request: Request, may: Access) -> bool:
    """Whether the session counts yet, for reading."""
    sessions: Sessions = request.state.sessions
    found = sessions.access(request.cookies.get(COOKIE))
    return found is not None and found.token_id == may.token_id and found.allows("read")
