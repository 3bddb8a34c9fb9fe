"""Another way to a server, on which the network fails now and then, as its seed wants it.

    with FaultProxy(server.url, "reset", seed=3) as proxy:
        CheckpointManager("runs/1", server=proxy.url).save(state)
        assert proxy.struck

What happens to a connection follows from the seed and its number alone, and what happens within it from the bytes that
pass, not from the clock. Connections that a client opens at the same time may change places. Plain HTTP/1.1 only.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.deadlines import DEADLINE_S
from tests.support.fault_kinds import KINDS, Fault
from tests.support.messages import Messages

__all__ = ["KINDS", "FaultProxy"]

PIECE_BYTES = 256 * 1024
PARTING_S = 1.0


class FaultProxy:
    """Passes connections on to a server, and does to some of them what its kinds say.

    Parameters
    ----------
    url : str
        The server that is meant.
    *kinds : str
        Keys of `KINDS`. Where there are several, each connection has one of them.
    seed : int
        Another one gives other faults.
    severity : float
        How much is struck. At 1 it is about every second save of a few ranges, at 0 none.
    """

    def __init__(self, url: str, *kinds: str, seed: int = 0, severity: float = 1.0) -> None:
        self._kinds = [KINDS[kind] for kind in kinds]
        self._target = urlsplit(url)
        self._severity = severity
        self.seed = f"{seed}:{kinds}"
        self._links: set[Link] = set()
        self._started = threading.Event()
        self._failures: list[BaseException] = []
        self._listener: socket.socket | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self.held: tuple[int, asyncio.Future[None]] | None = None
        self.strikes: list[str] = []
        self.connections = self.requests = 0
        self.url = ""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(DEADLINE_S), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the proxy did not end"
        if error is None and self._failures:
            raise self._failures[0]

    @property
    def struck(self) -> int:
        """The number of faults that happened; ``strikes`` lists them, each with the number of its connection."""
        return len(self.strikes)

    @property
    def calmed(self) -> bool:
        """True once the faults are over."""
        return self._calm.is_set()

    def calm(self) -> None:
        """Let everything pass untouched from now on. Connections that are spoiled already are cut."""
        asyncio.run_coroutine_threadsafe(self._calm_down(), self._loop).result(10)

    def set_target(self, url: str) -> None:
        """Lead new connections to another server."""
        self._target = urlsplit(url)

    # for the kinds, in the thread of the proxy

    async def pause(self, seconds: float) -> None:
        """Let time go by, unless it is calm."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._calm.wait()

    def spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine without waiting for it."""
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._done)

    def refuse(self, seconds: float) -> bool:
        """Stop listening for a while; return False if it does not listen anyway."""
        listening = self._hang_up()
        if listening:
            self.spawn(self._listen_after(seconds))
        return listening

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server."""
        return await asyncio.open_connection(self._target.hostname, self._target.port, limit=PIECE_BYTES)

    # the rest is its own

    async def _serve(self) -> None:
        self._loop, self._stop, self._calm = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        with _bound(0) as guard:  # keeps the port while it does not listen
            self._port = guard.getsockname()[1]
            self.url = f"http://127.0.0.1:{self._port}"
            self._listen()
            self._started.set()
            await self._stop.wait()
            self._hang_up()
            await _rounds()  # a task that is cancelled before it has begun closes nothing
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await _rounds()  # aborted connections are closed within these

    def _listen(self) -> None:
        if self._listener is None and not self._stop.is_set():
            self._listener = _bound(self._port)
            self._listener.setblocking(False)
            self._listener.listen(100)
            self._loop.add_reader(self._listener, self._welcome, self._listener)

    def _hang_up(self) -> bool:
        """Listen no more; whether it did."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()
        return listener is not None

    def _welcome(self, listener: socket.socket) -> None:
        """Accept who waits: asyncio's own server leaks whom it accepts while it closes."""
        with suppress(OSError):  # gone already
            self.spawn(self._accept(listener.accept()[0]))

    async def _listen_after(self, seconds: float) -> None:
        await self.pause(seconds)
        if not self.calmed:  # a calm proxy listens
            self._listen()

    async def _calm_down(self) -> None:
        self._calm.set()
        for link in self._links:
            if link.spoiled:
                link.task.cancel()
        self._listen()

    async def _accept(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=accepted, limit=PIECE_BYTES)
        link = Link(self, self.connections, writer)
        self.connections += 1
        link.fault = (link.random.choice(self._kinds) if self._kinds else Fault)(link, self._severity)
        self._links.add(link)
        try:
            await link.run(reader)
        except asyncio.CancelledError:  # it is calm, or this is the end
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            self._links.discard(link)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)


class Link:
    """A client's connection, and the one beyond it that leads to the server."""

    fault: Fault
    server: asyncio.StreamWriter | None = None

    def __init__(self, proxy: FaultProxy, number: int, client: asyncio.StreamWriter) -> None:
        self.proxy, self.number, self.client = proxy, number, client
        self.random = random.Random(f"{proxy.seed}:{number}")
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        self.spoiled = False
        """True if no connection should be left with it when it is calm."""
        self._silent = False
        self._shut: set[asyncio.StreamWriter] = set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until one side has gone."""
        ways: list[asyncio.Task[None]] = []
        try:
            if await self.fault.opened():
                answers, self.server = await self.proxy.connect()
                ways = [asyncio.create_task(self._up(reader)), asyncio.create_task(self._down(answers))]
                ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ended:
                    way.result()
                if len(self._shut) == 2:  # the client may be in the middle of a sentence
                    await asyncio.wait(ways[:1], timeout=PARTING_S)
            async with asyncio.timeout(PARTING_S):
                for writer in self._both():
                    writer.close()
                for writer in self._both():
                    await writer.wait_closed()
        except OSError:  # the server is not there, the client has gone, or will not hear the rest
            pass
        finally:
            for way in ways:
                way.cancel()
            for writer in self._both():
                writer.transport.abort()

    async def to_server(self, data: bytes) -> None:
        """Pass something on to the server."""
        assert self.server is not None
        await self._send(self.server, data)

    async def to_client(self, data: bytes) -> None:
        """Pass something on to the client."""
        await self._send(self.client, data)

    def shut(self, *writers: asyncio.StreamWriter | None) -> None:
        """Send a FIN; what should follow is thrown away."""
        for writer in writers:
            if writer is not None:
                self._shut.add(writer)
                writer.write_eof()

    def finish(self) -> None:
        """Hang up on both sides, as one does."""
        self.shut(*self._both())

    def reset(self) -> None:
        """Hang up on both sides with an RST."""
        for writer in self._both():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def vanish(self) -> None:
        """Let nothing pass any more either way, and never return."""
        self._silent = self.spoiled = True
        await asyncio.Event().wait()

    def _both(self) -> list[asyncio.StreamWriter]:
        return [self.client] + ([self.server] if self.server is not None else [])

    async def _up(self, reader: asyncio.StreamReader) -> None:
        requests = Messages()
        with suppress(OSError):  # one side has gone
            while data := await reader.read(PIECE_BYTES):
                for message, part in requests.cut(data):
                    if message.passed == len(part):
                        self.proxy.requests += 1
                        await self.fault.requested()
                    await self.fault.up(message, part)
                    if message.whole:
                        await self.fault.sent()
        await self._stay()

    async def _down(self, reader: asyncio.StreamReader) -> None:
        answers = Messages()
        with suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                for message, part in answers.cut(data):
                    closing = self.fault.closing and not self.proxy.calmed
                    if closing and message.passed == len(part):
                        part = part.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                    await self.fault.down(message, part)
                    if closing and message.whole:
                        self.finish()
        await self._stay()

    async def _stay(self) -> None:
        """Go no further where nothing should be heard of this connection."""
        if self._silent:
            await self.vanish()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._stay()
        if writer not in self._shut:
            writer.write(data)
            await writer.drain()


async def _rounds() -> None:
    """Give tasks that have begun a few rounds of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


def _bound(port: int) -> socket.socket:
    """A socket with a port on which it does not listen."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
