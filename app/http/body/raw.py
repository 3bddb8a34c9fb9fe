"""Raw request bodies, streamed into a sink on worker threads: never whole in memory, never blocking the event loop."""

from contextlib import AbstractContextManager
from typing import Protocol

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from app.core.errors import WrongLength
from app.http.body.inspection import ByteReceiver, InspectedSink, Sink, T_co
from app.http.body.threads import run_for_body

SOCKET = "holdfast.socket"
"""Name of the ASGI extension that hands over a connection's socket; see `app.http.sockets.handover`."""

SLICE_BYTES = 1024 * 1024
UNBOUNDED = 1 << 62
"""The ``max_body_size`` of routes that stream their bodies to disk; `app.main` sets that of all others of the API."""


def length_of(request: Request) -> int | None:
    """Return the ``Content-Length``, if there is one."""
    header = request.headers.get("content-length")
    return int(header) if header is not None and header.isascii() and header.isdigit() else None


def declared_length(request: Request, length: int | None) -> int:
    """Return the length of the body, from the query or the ``Content-Length``.

    Raises
    ------
    WrongLength
        Neither is given, or the two differ.
    """
    coming = length_of(request)
    if length is None and coming is None:
        raise WrongLength("The length is missing: send the query parameter `length` or a Content-Length.")
    if length is not None and coming is not None and length != coming:
        raise WrongLength(f"The body has {coming} bytes, but `length` is {length}.")
    return coming if length is None else length  # type: ignore[return-value]


class SocketHandover(Protocol):
    """ASGI extension that hands over a connection's socket; see `app.http.sockets.handover`."""

    @property
    def can_read_body(self) -> bool: ...
    async def read_body(self, receiver: ByteReceiver) -> None: ...
    def can_send_file(self, size_bytes: int) -> bool: ...
    async def send_file(self, descriptor: int, start: int, stop: int) -> None: ...


def socket_handover_of(scope: Scope) -> SocketHandover | None:
    """Return the socket handover of a request, if the server offers one."""
    found: SocketHandover | None = scope.get("extensions", {}).get(SOCKET)
    return found


async def receive(
    request: Request, entering: AbstractContextManager[Sink[T_co]], *, length: int | None = None, whole: bool = False
) -> T_co:
    """Stream a request's body into a sink on worker threads, and return the sink's result.

    Parameters
    ----------
    entering : context manager of Sink
        Entered and left on a worker thread.
    length : int, optional
        Length of the body in bytes, if known.
    whole : bool
        Whether the body is a whole file; see `InspectedSink`.

    Raises
    ------
    BodyAltered
        The body does not match a digest in its headers.
    UnsupportedMediaType, UnsupportedEncoding
        The body is wrapped in a form or an encoding.
    """
    entered = await run_for_body(entering.__enter__)
    sink = InspectedSink(entered, request.headers, length=length, whole=whole)
    try:
        handover = socket_handover_of(request.scope)
        if handover is not None and handover.can_read_body:
            await _read_from_socket(handover, sink)
        else:
            await _stream(request, sink)
        result = await run_for_body(sink.finish)
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await run_for_body(entering.__exit__, type(error), error, error.__traceback__)
        raise
    await run_for_body(entering.__exit__, None, None, None)
    return result


async def _read_from_socket(handover: SocketHandover, sink: ByteReceiver) -> None:
    try:
        await handover.read_body(sink)
    except ConnectionError as error:
        raise ClientDisconnect from error


async def _stream(request: Request, sink: ByteReceiver) -> None:
    slice_ = bytearray()
    async for piece in request.stream():
        slice_ += piece
        if len(slice_) >= SLICE_BYTES:
            await run_for_body(_put_and_pause, sink, slice_)
            slice_ = bytearray()
    await run_for_body(_put, sink, slice_)


def _put_and_pause(sink: ByteReceiver, data: bytearray) -> None:
    _put(sink, data)
    sink.pause()


def _put(sink: ByteReceiver, data: bytearray) -> None:
    rest = memoryview(data)
    while rest:
        buffer = sink.get_buffer()
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        sink.buffer_updated(count)
        rest = rest[count:]
