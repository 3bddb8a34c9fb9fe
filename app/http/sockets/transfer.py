"""Socket transfers: bytes between a socket and a sink or a file, by many transfers on a few threads.

A transfer holds a thread only while its peer keeps up. It then waits on the event loop, without a thread, and takes its
next turn when the peer is ready. So slow peers cost neither threads nor buffers, and delay no fast one.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from app.http.sockets.turns import Turns
from app.http.timeouts import Pace

THREADS = min(32, 4 + 2 * (os.cpu_count() or 1))
"""The most transfers in one direction that move bytes at the same time."""
LINGER_S = 0.005
"""How long a thread waits for the peer itself: a fast one is back by then, and saves the way over the event loop."""
PIECE_BYTES = 4 * 1024 * 1024
TURN_BYTES = 8 * 1024 * 1024
"""The number of bytes after which a transfer makes room for one that waits for a thread."""


class Disconnected(ConnectionError):
    """The peer has gone, or has been silent for too long."""


class TooSlow(Disconnected):
    """The peer sends a body too slowly."""


class Receiver(Protocol):
    """Takes the bytes of a body, as a sink of `app.http.body.inspection` does. Called on worker threads."""

    def get_buffer(self) -> memoryview: ...
    def buffer_updated(self, count: int, /) -> None: ...
    def pause(self) -> None: ...


RECEIVING = Turns(THREADS, "holdfast-receive")
SENDING = Turns(THREADS, "holdfast-send")


class SocketTransfer:
    """Bytes that move over a duplicate of a connection's socket. The caller closes it.

    Parameters
    ----------
    left : int
        The number of bytes to move; counts down.
    """

    def __init__(self, connection: socket.socket, left: int, pace: Pace, idle_timeout_s: float) -> None:
        self.left = left
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._pace = pace
        self._idle_timeout_s = idle_timeout_s
        self._is_cancelled = False

    def close(self) -> None:
        """Release the duplicate."""
        self._socket.close()

    async def receive(self, first: bytes, receiver: Receiver) -> None:
        """Pass on bytes that came early, then the rest of a body from the socket.

        Raises
        ------
        TooSlow
        Disconnected
            The client disconnected before the end of its body.
        """
        self._socket.settimeout(LINGER_S)  # a timeout keeps the descriptor non-blocking for the event loop
        if first:
            await self._turn(RECEIVING, lambda: _put(receiver, first))
        while self.left:
            if await self._turn(RECEIVING, lambda: self._receive_some(receiver)):
                began = time.monotonic()
                if not await self._is_ready(self._pace.left_s, reads=True):
                    raise self._too_slow()
                self._pace.waited(time.monotonic() - began)

    async def send(self, descriptor: int, offset: int) -> None:
        """Send bytes of a file from an offset, from the page cache to the socket.

        Raises
        ------
        Disconnected
            The client disconnected, or reads nothing.
        OSError
            The file is too short or could not be read.
        """
        end = offset + self.left
        while self.left:
            is_waiting = await self._turn(SENDING, lambda: self._send_some(descriptor, end))
            if is_waiting and not await self._is_ready(self._idle_timeout_s, reads=False):
                raise Disconnected("the client reads nothing")

    async def _turn(self, turns: Turns, work: Callable[[], bool]) -> bool:
        """Run a function on a worker thread until it ends. Cancellation shuts the socket down and still waits."""
        task = turns.take(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._is_cancelled = True
            task.add_done_callback(lambda done: done.exception())  # retrieve it, else asyncio logs a warning
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.wait([task])
            raise

    async def _is_ready(self, timeout_s: float, *, reads: bool) -> bool:
        """Wait on the event loop until the peer has sent or taken bytes, or has gone; False if it does nothing."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        watch, forget = (loop.add_reader, loop.remove_reader) if reads else (loop.add_writer, loop.remove_writer)
        watch(self._socket, _resolve, ready)
        try:
            async with asyncio.timeout(timeout_s):
                await ready
            return True
        except TimeoutError:  # maybe because this process was suspended
            return self._is_ready_within(0, select.POLLIN if reads else select.POLLOUT)
        finally:
            forget(self._socket)

    def _is_ready_within(self, seconds: float, wanted: int) -> bool:
        poll = select.poll()
        poll.register(self._socket, wanted)
        return bool(poll.poll(seconds * 1000))

    # on worker threads; each returns whether the peer has to be waited for

    def _receive_some(self, receiver: Receiver) -> bool:
        """Receive until the body ends, nothing comes, or another transfer waits at the end of a batch."""
        moved = 0
        try:
            while self.left:
                view = receiver.get_buffer()[: self.left]
                count = self._receive(view)
                if not count:
                    return True
                self.left -= count
                moved += count
                receiver.buffer_updated(count)
                if count == len(view) and moved >= TURN_BYTES and RECEIVING.is_wanted:
                    break
            return False
        finally:
            receiver.pause()

    def _receive(self, view: memoryview) -> int:
        """Receive some bytes; 0 if none came within `LINGER_S`."""
        began = time.monotonic()
        try:
            count = 0 if self._is_cancelled else self._socket.recv_into(view)
        except (TimeoutError, BlockingIOError):
            self._pace.waited(time.monotonic() - began)
            return 0
        except OSError as error:
            raise Disconnected(str(error)) from error
        if count == 0:
            raise Disconnected(f"the client disconnected {self.left} bytes before the end of its body")
        self._pace.waited(time.monotonic() - began)
        self._pace.came(count)
        return count

    def _too_slow(self) -> TooSlow:
        return TooSlow(
            f"The body stalled or arrived too slowly: {self.left} bytes are missing "
            "(HOLDFAST_IDLE_TIMEOUT_S, HOLDFAST_MIN_BYTES_PER_S)."
        )

    def _send_some(self, descriptor: int, end: int) -> bool:
        """Send until the range ends, the client takes no more, or another transfer waits after a fair share."""
        moved = 0
        while self.left and not (moved >= TURN_BYTES and SENDING.is_wanted):
            try:
                offset, count = end - self.left, min(self.left, PIECE_BYTES)
                sent = os.sendfile(self._socket.fileno(), descriptor, offset, count)
            except BlockingIOError:
                if SENDING.is_wanted or not self._is_ready_within(LINGER_S, select.POLLOUT):
                    return True
                continue
            except ConnectionError as error:
                raise Disconnected(str(error)) from error
            if sent == 0:
                raise OSError("the file ended early")
            self.left -= sent
            moved += sent
        return False


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _put(receiver: Receiver, data: bytes) -> bool:
    rest = memoryview(data)
    try:
        while rest:
            view = receiver.get_buffer()
            count = min(len(rest), len(view))
            view[:count] = rest[:count]
            rest = rest[count:]
            receiver.buffer_updated(count)
        return False
    finally:
        receiver.pause()
