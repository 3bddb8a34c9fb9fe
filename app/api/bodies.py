"""Raw request bodies, taken as they come: never whole in memory, never on the event loop's time."""

from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import WrongLength

T_co = TypeVar("T_co", covariant=True)

SLICE_BYTES = 1024 * 1024
UNBOUNDED = 1 << 62
"""For `max_body_size` of the routes whose bodies are streamed to disk."""


def declared_length(request: Request, length: int | None) -> int:
    """How many bytes are to come, as the query or the ``Content-Length`` says.

    Raises
    ------
    WrongLength
        Neither says it, or they contradict each other.
    """
    header = request.headers.get("content-length")
    coming = int(header) if header is not None and header.isascii() and header.isdigit() else None
    if length is None and coming is None:
        raise WrongLength("Say how long the range is: as `length`, or by Content-Length.")
    if length is not None and coming is not None and length != coming:
        raise WrongLength(f"The body has {coming} bytes where {length} are declared.")
    return coming if length is None else length  # type: ignore[return-value]


class Sink(Protocol[T_co]):
    """What a body is fed to."""

    def feed(self, data: bytearray, /) -> None: ...
    def finish(self) -> T_co: ...


async def receive(request: Request, entering: AbstractContextManager[Sink[T_co]]) -> T_co:
    """Feed a request's body to a sink, in slices, on threads; give what the sink made of it."""
    sink = await run_in_threadpool(entering.__enter__)
    try:
        slice_ = bytearray()
        async for piece in request.stream():
            slice_ += piece
            if len(slice_) >= SLICE_BYTES:
                await run_in_threadpool(sink.feed, slice_)
                slice_ = bytearray()
        await run_in_threadpool(sink.feed, slice_)
        result = await run_in_threadpool(sink.finish)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(entering.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(entering.__exit__, None, None, None)
    return result
