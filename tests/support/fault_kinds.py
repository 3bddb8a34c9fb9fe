"""Network faults: `tests.support.faults.FaultProxy` has one of these per connection.

A share of the exchanges, or of the connections, is struck; all others pass as they are. The severity of a proxy
multiplies the shares.
"""

import asyncio
import json
import math
import random
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from tests.support.messages import Message

if TYPE_CHECKING:
    from tests.support.faults import Link

SLICE_BYTES = 16 * 1024


class Fault:
    """None: everything passes."""

    share = 0.15
    """The share of exchanges that are struck: a save makes three to six."""
    closing = False
    """True if every exchange has a connection of its own, so that each new one can be struck."""

    def __init__(self, link: "Link", severity: float) -> None:
        self.link, self.proxy, self.random = link, link.proxy, link.random
        self.severity = severity
        self.due = self.begun = False

    def chosen(self) -> bool:
        """Tell if this exchange, or this connection, shall be struck."""
        return self.random.random() < self.share * self.severity

    def strike(self, what: str) -> bool:
        """Tell if to strike now, and count it. Never strike when it is calm."""
        if not self.proxy.calmed:
            self.proxy.strikes.append(f"{self.link.number}: {what}")
        return not self.proxy.calmed

    def striking(self, what: str) -> bool:
        """Tell if this exchange is a struck one; counted at the first call."""
        if self.due:
            self.due, self.begun = False, self.strike(what)
        return self.begun

    async def opened(self) -> bool:
        """A client has connected; whether to connect to the server."""
        return True

    async def requested(self) -> None:
        """A request begins."""
        self.due, self.begun = self.chosen() and not self.link.spoiled, False

    async def up(self, message: Message, part: bytes) -> None:
        """A part of a request has come."""
        await self.link.to_server(part)

    async def sent(self) -> None:
        """A request has passed."""

    async def down(self, message: Message, part: bytes) -> None:
        """A part of an answer has come."""
        await self.link.to_client(part)


# time


class Delay(Fault):
    """Each piece of an exchange is held for up to 0.2 s."""

    async def requested(self) -> None:
        await super().requested()
        self.times = random.Random(self.random.random())  # there may be more pieces another time

    async def up(self, message: Message, part: bytes) -> None:
        await self._hold()
        await super().up(message, part)

    async def down(self, message: Message, part: bytes) -> None:
        await self._hold()
        await super().down(message, part)

    async def _hold(self) -> None:
        if self.striking("delay"):
            await self.proxy.pause(self.times.uniform(0, 0.2))


class Bandwidth(Fault):
    """An exchange gets 1 MB/s; counted where that is felt."""

    share = 0.4
    bytes_per_s = 1_000_000

    async def up(self, message: Message, part: bytes) -> None:
        for piece in self._pieces(part):
            await super().up(message, piece)
            await self._wait(piece, message)

    async def down(self, message: Message, part: bytes) -> None:
        for piece in self._pieces(part):
            await super().down(message, piece)
            await self._wait(piece, message)

    def _pieces(self, part: bytes) -> list[bytes]:
        return [part[start : start + SLICE_BYTES] for start in range(0, len(part), SLICE_BYTES)]

    async def _wait(self, piece: bytes, message: Message) -> None:
        if message.total and message.total > 2 * SLICE_BYTES and self.striking("bandwidth"):
            await self.proxy.pause(len(piece) / self.bytes_per_s)


class Drip(Fault):
    """The first 200 bytes of an answer come one by one, 20 ms apart."""

    limit: float = 200

    async def down(self, message: Message, part: bytes) -> None:
        done, first = 0, message.passed - len(part)
        if self.striking("drip"):
            while done < len(part) and first + done < self.limit and not self.proxy.calmed:
                await super().down(message, part[done : done + 1])
                await self.proxy.pause(0.02)
                done += 1
        await super().down(message, part[done:])


class DripForever(Drip):
    """An answer comes one byte at a time, 20 ms apart, to its end."""

    limit = math.inf


class Reorder(Fault):
    """A request is held until one that began later has passed, for 0.3 s at most; counted where one has."""

    share = 0.5
    number = 0

    async def requested(self) -> None:
        self.number = self.proxy.requests
        if not self.chosen() or self.proxy.held is not None or self.proxy.calmed:
            return
        overtaken = asyncio.get_running_loop().create_future()
        self.proxy.held = (self.number, overtaken)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await overtaken
                    self.strike("reorder")
                    await asyncio.sleep(0.05)  # until a thread of the server has read the later one
        finally:
            self.proxy.held = None

    async def sent(self) -> None:
        held = self.proxy.held
        if held is not None and held[0] < self.number and not held[1].done():
            held[1].set_result(None)


# connections


class Drop(Fault):
    """A new connection is closed at once."""

    closing = True

    async def opened(self) -> bool:
        return not (self.chosen() and self.strike("drop"))


class Unanswered(Fault):
    """A new connection is accepted, and nothing ever comes of it."""

    closing = True

    async def opened(self) -> bool:
        if self.chosen() and self.strike("unanswered"):
            await self.link.vanish()
        return True


class Refused(Fault):
    """Stop listening for 0.1 to 0.5 s after an answer; the pauses are counted, not the refused connections."""

    closing = True

    async def down(self, message: Message, part: bytes) -> None:
        if message.whole and self.due and not self.proxy.calmed:
            self.due = False
            if self.proxy.refuse(self.random.uniform(0.1, 0.5)):
                self.strike("refused")
        await super().down(message, part)


# places in the bytes


class AtPlace(Fault):
    """Something happens at a place of a request or of its answer: anywhere, or in one case of three near its start."""

    ways: ClassVar[tuple[str, ...]] = ("up", "down")
    near_bytes = 400
    near_share = 1 / 3

    async def requested(self) -> None:
        await super().requested()
        self.way = self.random.choice(self.ways)
        self.near = self.random.random() < self.near_share
        self.where = self.random.random()

    async def up(self, message: Message, part: bytes) -> None:
        await self._pass("up", message, part)

    async def down(self, message: Message, part: bytes) -> None:
        await self._pass("down", message, part)

    async def happen(self, before: bytes, after: bytes) -> None:
        """Do it, to what comes before the place and after it."""
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        """Pass something on the way on which it happens."""
        await (self.link.to_server if self.way == "up" else self.link.to_client)(data)

    async def _pass(self, way: str, message: Message, part: bytes) -> None:
        place = self._place(message)
        if self.due and way == self.way and message.headed and message.passed > place:
            self.due = False
            if self.strike(f"{type(self).__name__} {way} at {place} of {message.total}"):
                before = max(0, place - (message.passed - len(part)))
                await self.happen(part[:before], part[before:])
                return
        await (self.link.to_server if way == "up" else self.link.to_client)(part)

    def _place(self, message: Message) -> int:
        extent = len(message.head) if message.total is None else message.total
        return int(self.where * (min(extent, self.near_bytes) if self.near else extent))


class Reset(AtPlace):
    """At a place, both sides get an RST."""

    async def happen(self, before: bytes, after: bytes) -> None:
        await self.send(before)
        self.link.reset()


class HalfClose(AtPlace):
    """From a place on, one direction is shut, and the other stays open."""

    async def happen(self, before: bytes, after: bytes) -> None:
        self.link.spoiled = True
        await self.send(before)
        self.link.shut(self.link.server if self.way == "up" else self.link.client)


class TruncateUp(AtPlace):
    """A request ends too early, and the connection with it."""

    ways = ("up",)

    async def happen(self, before: bytes, after: bytes) -> None:
        await self.send(before)
        self.link.finish()


class TruncateDown(TruncateUp):
    """An answer ends too early, and the connection with it."""

    ways = ("down",)


class BlackHole(AtPlace):
    """From a place on, nothing passes either way, and neither side closes the connection."""

    async def happen(self, before: bytes, after: bytes) -> None:
        self.link.spoiled = True
        await self.send(before)
        await self.link.vanish()


class GarbleHeadUp(AtPlace):
    """A byte of the first 1000 of a request is another one: of its head, its JSON, or its first values."""

    ways = ("up",)
    near_bytes, near_share = 1000, 1.0

    async def happen(self, before: bytes, after: bytes) -> None:
        await self.send(before + bytes([after[0] ^ self.random.randrange(1, 256)]) + after[1:])


class GarbleHeadDown(GarbleHeadUp):
    """A byte of the first 1000 of an answer is another one."""

    ways = ("down",)


class Garbling(Fault):
    """Bytes become others, on the average one in 3 MB; the severity divides that."""

    mean_bytes = 3_000_000

    def __init__(self, link: "Link", severity: float) -> None:
        super().__init__(link, severity)
        self.left = self._distance()

    def _distance(self) -> float:
        return self.random.expovariate(1) * self.mean_bytes / self.severity if self.severity else math.inf

    def garbled(self, part: bytes) -> bytes:
        """The part as it arrives."""
        data = bytearray(part)
        while self.left < len(data):
            if self.strike("garble"):
                data[int(self.left)] ^= self.random.randrange(1, 256)
            self.left = int(self.left) + 1 + self._distance()
        self.left -= len(data)
        return bytes(data)


class GarbleUp(Garbling):
    """Bytes that a client sends become others: at 3 MB, a save of that size is struck in six cases of ten."""

    async def up(self, message: Message, part: bytes) -> None:
        await super().up(message, self.garbled(part))


class GarbleDown(Garbling):
    """Bytes that a server answers become others: this is for loads, as the answers to saves are short."""

    async def down(self, message: Message, part: bytes) -> None:
        await super().down(message, self.garbled(part))


# what the proxy puts between


class Duplicate(Fault):
    """A request is delivered a second time, on another connection: within 50 ms, or in one case of three 0.5-1.5 s."""

    async def requested(self) -> None:
        await super().requested()
        late = self.random.random() < 1 / 3
        self.after_s = self.random.uniform(0.5, 1.5) if late else self.random.uniform(0, 0.05)
        self.request: list[bytes] = []

    async def up(self, message: Message, part: bytes) -> None:
        if self.due:
            self.request.append(part)
        await super().up(message, part)

    async def sent(self) -> None:
        if self.due and self.request:
            self.proxy.spawn(self._deliver(b"".join(self.request), self.after_s))

    async def _deliver(self, request: bytes, after_s: float) -> None:
        await self.proxy.pause(after_s)
        with suppress(OSError):  # the server is not there
            reader, writer = await self.proxy.connect()
            try:
                if self.strike(f"duplicate after {after_s:.3f} s: {request.split(b' HTTP', 1)[0][:200]!r}"):
                    writer.write(request)
                    await writer.drain()
                    await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.transport.abort()


class Storm(Fault):
    """A request is answered with 500, 502, 503 or 504 and does not reach the server."""

    BODIES: ClassVar[list[tuple[str, str]]] = [
        ("text/html", "<html><head><title>Bad gateway</title></head><body><h1>nginx</h1></body></html>"),
        ("application/json", json.dumps({"message": "no healthy upstream"})),
        ("application/json", json.dumps(["upstream", "timeout"])),
        ("text/plain", ""),
    ]

    async def requested(self) -> None:
        await super().requested()
        kind, body = self.random.choice(self.BODIES)
        self.status = self.random.choice([500, 502, 503, 504])
        self.early, self.last = self.random.random() < 1 / 4, self.random.random() < 1 / 2
        lines = [f"HTTP/1.1 {self.status} Storm", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += self.random.choice([[], ["Retry-After: 0"], ["Retry-After: 1"]])
        lines += ["Connection: close"] if self.early or self.last else []
        self.answer = "\r\n".join([*lines, "", body]).encode()

    async def up(self, message: Message, part: bytes) -> None:
        if not self.striking(f"storm {self.status}"):
            await super().up(message, part)
            return
        self.link.spoiled = True
        if message.headed and (self.early or message.total is None):
            await self._refuse(last=True)

    async def sent(self) -> None:
        if self.begun:
            await self._refuse(last=self.last)

    async def _refuse(self, *, last: bool) -> None:
        await self.link.to_client(self.answer)
        self.link.spoiled = False
        if last:
            self.link.finish()


KINDS: dict[str, type[Fault]] = {
    "delay": Delay,
    "bandwidth": Bandwidth,
    "drip": Drip,
    "drip forever": DripForever,
    "reorder": Reorder,
    "drop": Drop,
    "unanswered": Unanswered,
    "refused": Refused,
    "reset": Reset,
    "half-close": HalfClose,
    "truncate up": TruncateUp,
    "truncate down": TruncateDown,
    "black hole": BlackHole,
    "garble up": GarbleUp,
    "garble down": GarbleDown,
    "garble head up": GarbleHeadUp,
    "garble head down": GarbleHeadDown,
    "duplicate": Duplicate,
    "storm": Storm,
}
