"""Socket handover: a uvicorn protocol that moves large bodies on worker threads instead of the event loop.

uvicorn reads at most 256 KiB at a time on the event loop and copies every piece several times. For one large request
body, or one range of a file in a response, the application may take over the socket through the ASGI extension
``holdfast.socket``. TLS, chunked bodies, pipelined requests and small bodies take uvicorn's ordinary path.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.core.errors import RequestTimeout
from app.http.body.raw import SOCKET
from app.http.framing import body_bytes
from app.http.protocol import BoundedProtocol
from app.http.sockets.transfer import Disconnected, Receiver, SocketTransfer, TooSlow

BULK_BYTES = 256 * 1024
"""Smaller bodies stay with uvicorn: a handover would cost more than it saves."""


class SocketHandoverProtocol(BoundedProtocol):
    """HTTP protocol that puts a `SocketHandover` into the scope's extensions of each plain-text request."""

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
        """True if the request body is large, of known length and unread."""
        return self._body_bytes >= BULK_BYTES and self._cycle.more_body and not self._cycle.disconnected

    def can_send_file(self, size_bytes: int) -> bool:
        """Tell if a range is large enough, and the request body has been read."""
        return size_bytes >= BULK_BYTES and not self._cycle.more_body

    async def read_body(self, receiver: Receiver) -> None:
        """Read the body into the buffers of a receiver, which is called on worker threads.

        It is paused whenever nothing comes, and when another body takes its turn.

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
        transfer = self._transfer(self._body_bytes - len(first))
        try:
            await transfer.receive(first, receiver)
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
        transfer = self._transfer(stop - start)
        try:
            while protocol.transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
                self._raise_if_disconnected()
            await transfer.send(descriptor, start)
        except OSError:
            protocol.transport.abort()
            cycle.disconnected = True  # uvicorn notifies only the last request of a connection
            raise
        finally:
            transfer.close()
        cycle.expected_content_length -= stop - start

    def _transfer(self, size_bytes: int) -> SocketTransfer:
        protocol = self._protocol
        connection, pace = protocol.transport.get_extra_info("socket"), protocol.pace or protocol.limits.of_body()
        return SocketTransfer(connection, size_bytes, pace, protocol.limits.idle_timeout_s)

    def _raise_if_disconnected(self) -> None:
        if self._cycle.disconnected or self._protocol.transport.is_closing():
            self._cycle.disconnected = True
            raise Disconnected("the client disconnected")
