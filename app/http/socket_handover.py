"""Bulk bytes past the event loop: a uvicorn protocol that lends a connection's socket to a worker thread.

uvicorn reads at most 256 KiB at a time on the event loop and copies every piece several times. For one large request
body, or one part of a file in an answer, the application may ask for the socket itself, as the ASGI extension
``holdfast.socket``. Whatever cannot be lent (TLS, chunked bodies, pipelined requests, small bodies) has no such
extension, and takes uvicorn's own path.
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
"""Bodies below this stay with uvicorn: lending a socket costs more than it saves."""
MOST_LENT = 64
"""How many sockets are lent at a time; slow clients beyond them cost the event loop, not the other clients."""

Fill = Callable[[], memoryview]
Took = Callable[[int], None]


class Gone(ConnectionError):
    """The peer has gone, or has been silent for too long."""


class TooSlow(Gone):
    """The peer sends a body too slowly."""


class LendingProtocol(BoundedProtocol):
    """The HTTP protocol; requests with large bodies carry a `Loan` in their scope's extensions."""

    threads = ThreadPoolExecutor(MOST_LENT, thread_name_prefix="holdfast-bulk", initializer=lambda: set_niceness(BULK))
    lent = 0
    _skip = 0  # bytes of a lent body that nobody wanted, still to come

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        waiting = before is not None and not before.response_complete
        if self.cycle is before or waiting or self.scheme != "http" or self.transport.get_extra_info("socket") is None:
            return
        loan = Loan(self, self.cycle, body_bytes(self.headers))
        extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
        extensions[SOCKET] = loan

    def data_received(self, data: bytes) -> None:
        if self._skip:
            skipped, data = data[: self._skip], data[self._skip :]
            self._skip -= len(skipped)
            self.body_came(len(skipped))
            if not self._skip:
                self.body_ended()
        super().data_received(data)

    def body_taken(self, cycle: RequestResponseCycle, left: int) -> None:
        """A lent body has come to its end, or nobody wants the ``left`` bytes of it that are still to come."""
        if self.parser is None:  # the connection was lost meanwhile
            return
        self._skip = left
        self.parser = httptools.HttpRequestParser(self)
        if not left:
            self.body_ended()
        cycle.more_body = False
        cycle.message_event.set()


class Loan:
    """The socket of one request, to be borrowed for its body or for a part of its answer.

    Reading stays paused from the first byte borrowed until the answer is complete, so that what a client sends after
    the body waits in its socket.
    """

    def __init__(self, protocol: LendingProtocol, cycle: RequestResponseCycle, body_bytes: int) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._body_bytes = body_bytes

    @property
    def lends_body(self) -> bool:
        """Whether the request's body is large enough, of known length, and not yet read."""
        wanted = self._body_bytes >= BULK_BYTES and self._cycle.more_body and not self._cycle.disconnected
        return wanted and LendingProtocol.lent < MOST_LENT

    def lends_answer(self, size_bytes: int) -> bool:
        """Whether a part of a file is large enough, and no body is still to come that nobody would read meanwhile."""
        return size_bytes >= BULK_BYTES and not self._cycle.more_body and LendingProtocol.lent < MOST_LENT

    async def read_body(self, room: Fill, took: Took) -> None:
        """Fill the body into what ``room`` offers, and say how much by ``took``; both are called on a worker thread.

        Raises
        ------
        Gone
            The client left before the end of its body.
        """
        protocol, cycle = self._protocol, self._cycle
        protocol.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        first, cycle.body = bytes(cycle.body), bytearray()
        borrowed = _Borrowed(protocol, self._body_bytes - len(first))
        try:
            await borrowed.work(lambda: borrowed.read(first, room, took))
        except TooSlow as error:
            protocol.refuse(RequestTimeout(str(error)))
            raise
        except Gone:
            protocol.transport.abort()
            raise
        finally:
            borrowed.close()
            protocol.body_taken(cycle, borrowed.left)

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """Send a part of a file as the answer's next bytes, from the page cache to the socket.

        Raises
        ------
        Gone
            The client left.
        OSError
            The file ended early, or could not be read. The connection is closed.
        """
        protocol, cycle = self._protocol, self._cycle
        protocol.flow.pause_reading()
        self._refuse_gone()
        borrowed = _Borrowed(protocol, stop - start)
        try:
            while protocol.transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
                self._refuse_gone()
            await borrowed.work(lambda: borrowed.send(descriptor, start))
        except OSError:
            protocol.transport.abort()
            cycle.disconnected = True  # uvicorn tells only the last request of a connection
            raise
        finally:
            borrowed.close()
        cycle.expected_content_length -= stop - start

    def _refuse_gone(self) -> None:
        if self._cycle.disconnected or self._protocol.transport.is_closing():
            self._cycle.disconnected = True
            raise Gone("the client left")


class _Borrowed:
    """A duplicate of a connection's socket, in the hands of one thread."""

    def __init__(self, protocol: LendingProtocol, left: int) -> None:
        self.left = left
        self._socket = socket.socket(fileno=os.dup(protocol.transport.get_extra_info("socket").fileno()))
        self._pace = protocol.pace or protocol.bounds.of_body()
        self._idle_timeout_s = protocol.bounds.idle_timeout_s
        self._given_up = False
        LendingProtocol.lent += 1

    async def work(self, work: Callable[[], None]) -> None:
        """Work on a thread, and wait for its end also when the waiting is cancelled: then the socket is shut."""
        task = asyncio.get_running_loop().run_in_executor(LendingProtocol.threads, work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._given_up = True
            task.add_done_callback(lambda done: done.exception())  # nobody else asks for it any more
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.wait([task])
            raise

    def close(self) -> None:
        LendingProtocol.lent -= 1
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
                    raise Gone("the client takes nothing") from None
                continue
            except ConnectionError as error:
                raise Gone(str(error)) from error
            if sent == 0:
                raise OSError("the file ended early")
            self.left -= sent
            offset += sent

    def _receive(self, view: memoryview) -> int:
        self._socket.settimeout(self._pace.left_s)  # it stays non-blocking underneath, as the event loop needs it
        began = time.monotonic()
        try:
            count = 0 if self._given_up else self._socket.recv_into(view)
        except (TimeoutError, BlockingIOError) as error:
            raise TooSlow(
                f"It stopped, or would have taken too long: {self.left} bytes are missing "
                "(HOLDFAST_IDLE_TIMEOUT_S, HOLDFAST_MIN_BYTES_PER_S)."
            ) from error
        except OSError as error:
            raise Gone(str(error)) from error
        if count == 0:
            raise Gone(f"the client left {self.left} bytes before the end of its body")
        self._pace.waited(time.monotonic() - began)
        self._pace.came(count)
        return count
