"""Another way to a server: counts what passes, cuts connections, and can stand at the end of a TLS connection."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.deadlines import DEADLINE_S

PIECE_BYTES = 256 * 1024


class Forwarder:
    """Passes connections on to a server, as ``with Forwarder(server.url) as forwarder:``.

    Parameters
    ----------
    url : str
        The server that is meant.
    cut_every : int, optional
        After so many bytes, counted over both ways and all connections, all connections are cut; and again after as
        many more.
    tls : SSLContext, optional
        What to be a TLS server with. Whatever passes is plain behind this.
    watch : callable, optional
        Is shown whatever passes before it is passed on, with True where it comes from a client. All connections are
        cut where it answers with True.
    change : callable, optional
        Returns the bytes to pass on instead of those given; the second argument is True for bytes of a client.
    """

    def __init__(
        self,
        url: str,
        *,
        cut_every: int | None = None,
        tls: ssl.SSLContext | None = None,
        watch: Callable[[bool, bytes], object] = lambda up, piece: False,
        change: Callable[[bool, bytes], bytes] = lambda up, piece: piece,
    ) -> None:
        self._target = urlsplit(url)
        self._cut_every = cut_every
        self._tls = tls
        self._watch = watch
        self._change = change
        self._guard = threading.Lock()
        self._up_bytes = self._down_bytes = 0
        self._actions: list[tuple[int, Callable[[], object]]] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self.connections = 0
        self.cuts = 0
        self.url = ""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(DEADLINE_S), "the forwarder did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)

    @property
    def up_bytes(self) -> int:
        """The number of bytes that clients have sent through here, headers included."""
        with self._guard:
            return self._up_bytes

    @property
    def down_bytes(self) -> int:
        """The number of bytes that the server has sent through here, headers included."""
        with self._guard:
            return self._down_bytes

    def when_passed(self, count: int, action: Callable[[], object]) -> None:
        """Do something once, when so many bytes have passed in all; nothing passes while it is done."""
        self._actions.append((count, action))

    def reset(self) -> None:
        """Count from nothing again."""
        with self._guard:
            self._up_bytes = self._down_bytes = 0

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=PIECE_BYTES, ssl=self._tls)
        self.url = f"http{'s' if self._tls else ''}://localhost:{listener.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        for _ in range(10):  # a connection accepted just now has no writer yet, and could not be closed
            await asyncio.sleep(0)
        listener.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            beyond = await asyncio.open_connection(self._target.hostname, self._target.port, limit=PIECE_BYTES)
            self._open.add(beyond[1])
            ways = [self._pass(reader, beyond[1], up=True), self._pass(beyond[0], writer, up=False)]
            await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
            beyond[1].close()
            self._open.discard(beyond[1])
        except (OSError, asyncio.CancelledError):  # the server is not there, or this is the end
            pass
        writer.close()
        self._open.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with suppress(OSError):  # one side has gone
            while piece := await reader.read(PIECE_BYTES):
                before = self._up_bytes + self._down_bytes
                with self._guard:
                    if up:
                        self._up_bytes += len(piece)
                    else:
                        self._down_bytes += len(piece)
                after = before + len(piece)
                for action in [action for action in self._actions if action[0] <= after]:
                    self._actions.remove(action)
                    action[1]()
                if self._watch(up, piece) or (self._cut_every and before // self._cut_every < after // self._cut_every):
                    self._cut()
                    return
                writer.write(self._change(up, piece))
                await writer.drain()

    def _cut(self) -> None:
        """Close all connections."""
        self.cuts += 1
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
