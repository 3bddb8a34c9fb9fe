"""The route of events, as server-sent events."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.dependencies import CheckpointsDep, PrefixQuery, Reader
from app.api.problems import refuses
from app.api.schemas.values import MAX_INT
from app.domain import Event
from app.errors import InvalidName

router = APIRouter(prefix="/events", tags=["events"])

EVENTS_AT_ONCE = 200


@router.get("", response_class=EventSourceResponse, responses=refuses(InvalidName))
async def stream_events(
    checkpoints: CheckpointsDep,
    _: Reader,
    prefix: PrefixQuery = "",
    follow: Annotated[bool, Query(description="Wait for further events; else end after those that are there.")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_INT, description="Begin after this event.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What changes, as it changes: `checkpoint.saved`, `.removed`, `.changed` and `directory.policy_changed`.

    Without `Last-Event-ID` it begins now; with it, after that event, so that nothing is missed in between. 0 begins
    with the first event of all.
    """
    finding, bell = checkpoints.finding, checkpoints.parts.bell
    last = await run_in_threadpool(finding.last_event_id) if last_event_id is None else last_event_id
    while True:
        waiter = bell.waiter()
        events: Sequence[Event] = await run_in_threadpool(finding.events, last, prefix=prefix, limit=EVENTS_AT_ONCE)
        for event in events:
            last = event.id
            yield ServerSentEvent(id=str(event.id), event=event.type, data=_data(event))
        if not events:
            if bell.silenced or not follow:
                return
            await waiter.wait()


def _data(event: Event) -> dict[str, Any]:
    return {
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "type": event.type,
        "directory": event.directory,
        "checkpoint_id": event.checkpoint_id,
        **event.data,
    }
