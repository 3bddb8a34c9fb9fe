"""Raw request bodies, taken as they come: never whole in memory, never on the event loop's time."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from app.core.errors import WrongLength
from app.http.body.inspection import Inspected, Sink, T_co, Taker

SOCKET = "holdfast.socket"
"""The ASGI extension by which a server lends its socket; see `app.http.socket_handover`."""

SLICE_BYTES = 1024 * 1024
UNBOUNDED = 1 << 62
"""For `max_body_size` of the routes whose bodies are streamed to disk."""


def length_of(request: Request) -> int | None:
    """The ``Content-Length``, if there is one."""
    header = request.headers.get("content-length")
    return int(header) if header is not None and header.isascii() and header.isdigit() else None


def declared_length(request: Request, length: int | None) -> int:
    """How many bytes are to come, as the query or the ``Content-Length`` says.

    Raises
    ------
    WrongLength
        Neither says it, or they contradict each other.
    """
    coming = length_of(request)
    if length is None and coming is None:
        raise WrongLength("Say how long the range is: as `length`, or by Content-Length.")
    if length is not None and coming is not None and length != coming:
        raise WrongLength(f"The body has {coming} bytes where {length} are declared.")
    return coming if length is None else length  # type: ignore[return-value]


class Loan(Protocol):
    """The ASGI extension by which a server lends its socket; see `app.http.socket_handover`."""

    @property
    def lends_body(self) -> bool: ...
    async def read_body(self, room: Callable[[], memoryview], took: Callable[[int], None]) -> None: ...
    def lends_answer(self, size_bytes: int) -> bool: ...
    async def send_file(self, descriptor: int, start: int, stop: int) -> None: ...


def loan_of(scope: Scope) -> Loan | None:
    """What the server lends for this request, if it lends anything."""
    found: Loan | None = scope.get("extensions", {}).get(SOCKET)
    return found


async def receive(
    request: Request, entering: AbstractContextManager[Sink[T_co]], *, length: int | None = None, whole: bool = False
) -> T_co:
    """Put a request's body into a sink, on threads; give what the sink made of it.

    Parameters
    ----------
    length, whole
        How long the body is, as far as that is known, and whether it is a whole file; see `Inspected`.

    Raises
    ------
    BodyAltered, UnsupportedMediaType, UnsupportedEncoding
        The body does not have a digest that was declared, or is not the file alone.
    """
    entered = await run_in_threadpool(entering.__enter__)
    sink = Inspected(entered, request.headers, length=length, whole=whole)
    try:
        loan = loan_of(request.scope)
        if loan is not None and loan.lends_body:
            await _borrow(loan, sink)
        else:
            await _stream(request, sink)
        result = await run_in_threadpool(sink.finish)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(entering.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(entering.__exit__, None, None, None)
    return result


async def _borrow(loan: Loan, sink: Taker) -> None:
    try:
        await loan.read_body(sink.room, sink.took)
    except ConnectionError as error:
        raise ClientDisconnect from error


async def _stream(request: Request, sink: Taker) -> None:
    slice_ = bytearray()
    async for piece in request.stream():
        slice_ += piece
        if len(slice_) >= SLICE_BYTES:
            await run_in_threadpool(_put, sink, slice_)
            slice_ = bytearray()
    await run_in_threadpool(_put, sink, slice_)


def _put(sink: Taker, data: bytearray) -> None:
    rest = memoryview(data)
    while rest:
        room = sink.room()
        count = min(len(room), len(rest))
        room[:count] = rest[:count]
        sink.took(count)
        rest = rest[count:]
