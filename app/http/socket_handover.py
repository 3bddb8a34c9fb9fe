"""Socket handover: a uvicorn protocol that moves large bodies on a worker thread instead of the event loop.

uvicorn reads at most 256 KiB at a time on the event loop and copies every piece several times. For one large request
body, or one range of a file in a response, the application may take over the socket through the ASGI extension
``holdfast.socket``. TLS, chunked bodies, pipelined requests and small bodies take uvicorn's ordinary path.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.core.errors import RequestTimeout
from app.http.body.raw import SOCKET
from app.http.framing import body_bytes
from app.http.protocol import BoundedProtocol
from app.runtime.thread_priority import BULK, set_niceness

BULK_BYTES = 256 * 1024
"""Smaller bodies stay with uvicorn: a handover would cost more than it saves."""
MAX_HANDED_OVER = 64
"""The most sockets handed over at a time, each with a thread. Further transfers take the ordinary path."""

Fill = Callable[[], memoryview]
Took = Callable[[int], None]


class Disconnected(ConnectionError):
    """The peer has gone, or has been silent for too long."""


class TooSlow(Disconnected):
    """The peer sends a body too slowly."""


class SocketHandoverProtocol(BoundedProtocol):
    """HTTP protocol that puts a `SocketHandover` into the scope's extensions of each plain-text request.

    ``handed_over`` counts the sockets of all connections of this process; at most `MAX_HANDED_OVER`.
    """

    threads = ThreadPoolExecutor(
        MAX_HANDED_OVER, thread_name_prefix="holdfast-bulk", initializer=lambda: set_niceness(BULK)
    )
    handed_over = 0
    _skip = 0  # bytes still to come of a body that the application stopped reading

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        waiting = before is not None and not before.response_complete
        if self.cycle is before or waiting or self.scheme != "http" or self.transport.get_extra_info("socket") is None:
            return
        handover = SocketHandover(self, self.cycle, body_bytes(self.headers))
        extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
        extensions[SOCKET] = handover

    def data_received(self, data: bytes) -> None:
        if self._skip:
            skipped, data = data[: self._skip], data[self._skip :]
            self._skip -= len(skipped)
            self.body_came(len(skipped))
            if not self._skip:
                self.body_ended()
        super().data_received(data)

    def body_transferred(self, cycle: RequestResponseCycle, left: int) -> None:
        """Take the socket back after a body. ``left`` bytes of it are still to come and are discarded."""
        if self.parser is None:  # the connection was lost during the transfer
            return
        self._skip = left
        self.parser = httptools.HttpRequestParser(self)
        if not left:
            self.body_ended()
        cycle.more_body = False
        cycle.message_event.set()


class SocketHandover:
    """Access to the socket of one request, for its body or for a range of a file in its response.

    The event loop does not read from the socket between the handover and the end of the response. Bytes that follow
    the body stay in the kernel's buffer.
    """

    def __init__(self, protocol: SocketHandoverProtocol, cycle: RequestResponseCycle, body_bytes: int) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._body_bytes = body_bytes

    @property
    def can_read_body(self) -> bool:
        """True if the request body is large, of known length and unread, and a thread is free."""
        wanted = self._body_bytes >= BULK_BYTES and self._cycle.more_body and not self._cycle.disconnected
        return wanted and SocketHandoverProtocol.handed_over < MAX_HANDED_OVER

    def can_send_file(self, size_bytes: int) -> bool:
        """Tell if a range is large enough, the request body has been read, and a thread is free."""
        return (
            size_bytes >= BULK_BYTES
            and not self._cycle.more_body
            and SocketHandoverProtocol.handed_over < MAX_HANDED_OVER
        )

    async def read_body(self, room: Fill, took: Took) -> None:
        """Read the body into the buffers that ``room`` returns, and report the count to ``took``.

        Both are called on a worker thread.

        Raises
        ------
        Disconnected
            The client disconnected before the end of its body.
        """
        protocol, cycle = self._protocol, self._cycle
        protocol.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        first, cycle.body = bytes(cycle.body), bytearray()
        transfer = _SocketTransfer(protocol, self._body_bytes - len(first))
        try:
            await transfer.work(lambda: transfer.read(first, room, took))
        except TooSlow as error:
            protocol.refuse(RequestTimeout(str(error)))
            raise
        except Disconnected:
            protocol.transport.abort()
            raise
        finally:
            transfer.close()
            protocol.body_transferred(cycle, transfer.left)

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """Send a range of a file as the next bytes of the response, from the page cache to the socket.

        Raises
        ------
        Disconnected
            The client disconnected.
        OSError
            The file is too short or could not be read. The connection is closed.
        """
        protocol, cycle = self._protocol, self._cycle
        protocol.flow.pause_reading()
        self._raise_if_disconnected()
        transfer = _SocketTransfer(protocol, stop - start)
        try:
            while protocol.transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
                self._raise_if_disconnected()
            await transfer.work(lambda: transfer.send(descriptor, start))
        except OSError:
            protocol.transport.abort()
            cycle.disconnected = True  # uvicorn notifies only the last request of a connection
            raise
        finally:
            transfer.close()
        cycle.expected_content_length -= stop - start

    def _raise_if_disconnected(self) -> None:
        if self._cycle.disconnected or self._protocol.transport.is_closing():
            self._cycle.disconnected = True
            raise Disconnected("the client disconnected")


class _SocketTransfer:
    """A duplicate of a connection's socket, used by one worker thread."""

    def __init__(self, protocol: SocketHandoverProtocol, left: int) -> None:
        self.left = left
        self._socket = socket.socket(fileno=os.dup(protocol.transport.get_extra_info("socket").fileno()))
        self._pace = protocol.pace or protocol.limits.of_body()
        self._idle_timeout_s = protocol.limits.idle_timeout_s
        self._is_cancelled = False
        SocketHandoverProtocol.handed_over += 1

    async def work(self, work: Callable[[], None]) -> None:
        """Run a function on a worker thread until it ends. Cancellation shuts the socket down and still waits."""
        task = asyncio.get_running_loop().run_in_executor(SocketHandoverProtocol.threads, work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._is_cancelled = True
            task.add_done_callback(lambda done: done.exception())  # retrieve it, else asyncio logs a warning
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.wait([task])
            raise

    def close(self) -> None:
        SocketHandoverProtocol.handed_over -= 1
        self._socket.close()

    def read(self, first: bytes, room: Fill, took: Took) -> None:
        pending = memoryview(first)
        while pending or self.left:
            view = room()
            if pending:
                count = min(len(pending), len(view))
                view[:count] = pending[:count]
                pending = pending[count:]
            else:
                count = self._receive(view[: self.left])
                self.left -= count
            took(count)

    def send(self, descriptor: int, offset: int) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self.left:
            try:
                sent = os.sendfile(self._socket.fileno(), descriptor, offset, self.left)
            except BlockingIOError:
                if not poll.poll(self._idle_timeout_s * 1000):
                    raise Disconnected("the client reads nothing") from None
                continue
            except ConnectionError as error:
                raise Disconnected(str(error)) from error
            if sent == 0:
                raise OSError("the file ended early")
            self.left -= sent
            offset += sent

    def _receive(self, view: memoryview) -> int:
        self._socket.settimeout(self._pace.left_s)  # a timeout keeps the descriptor non-blocking for the event loop
        began = time.monotonic()
        try:
            count = 0 if self._is_cancelled else self._socket.recv_into(view)
        except (TimeoutError, BlockingIOError) as error:
            raise TooSlow(
                f"The body stalled or arrived too slowly: {self.left} bytes are missing "
                "(HOLDFAST_IDLE_TIMEOUT_S, HOLDFAST_MIN_BYTES_PER_S)."
            ) from error
        except OSError as error:
            raise Disconnected(str(error)) from error
        if count == 0:
            raise Disconnected(f"the client disconnected {self.left} bytes before the end of its body")
        self._pace.waited(time.monotonic() - began)
        self._pace.came(count)
        return count
