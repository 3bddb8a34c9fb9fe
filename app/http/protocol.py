"""HTTP/1.1 within bounds: uvicorn's protocol, where no client can send without end, dawdle, or mean two things.

Whatever is refused here is answered in its turn, as every refusal is, and ends the connection: nothing that comes
behind it is heard.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.core.errors import HeadersTooLarge, InvalidHttp, Refusal, RequestTimeout
from app.http.content_digest import Integrity
from app.http.framing import body_bytes, fault_of
from app.http.problems import problem_response
from app.http.timeouts import Bounds, Pace

PIECE_BYTES = 4096
"""As much is parsed at a time, outside of bodies: so exact are the bounds."""
CHUNK_LINE_BYTES = 32
"""What the lines around a chunk take, where they say nothing but its length."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol within `Bounds`. Whoever serves calls `look` again and again."""

    def __init__(self, *args: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bounds = bounds
        self.pace: Pace | None = bounds.of_head()  # of what the client is sending
        self._taking = bounds.of_answer()
        self._unsent_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._receiving: RequestResponseCycle | None = None  # whose head has come, and whose body has not ended
        self._receiving_bytes = 0  # of its body, still to come, as far as it is known
        self._framing_bytes = 0  # that came since the last request, bodies apart
        self._deaf = False

    # what comes

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        offset = 0
        while offset < len(data) and not self._deaf:
            self.pace = self.pace or self.bounds.of_head()
            stop = offset + max(PIECE_BYTES, self._receiving_bytes)
            self._parse(data[offset:stop])
            offset = stop

    def _parse(self, piece: bytes) -> None:
        self._framing_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            self.refuse(cause if isinstance(cause, Refusal) else InvalidHttp(f"This is not HTTP/1.1: {error}"))
        if self._framing_bytes > self.bounds.header_bytes:
            most = self.bounds.header_bytes
            self.refuse(HeadersTooLarge(f"They are larger than {most} bytes (HOLDFAST_MAX_HEADER_BYTES)."))

    def on_message_begin(self) -> None:
        if self._deaf:
            raise InvalidHttp("The request before was to be the last one.")
        self.pace = self.pace or self.bounds.of_head()
        self._framing_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is None:  # trailers say nothing to us
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        fault = fault_of(self.parser.get_http_version(), self.url, self.headers)
        if fault is None and self.parser.should_upgrade():
            fault = "This server speaks nothing but HTTP/1.1, and is no proxy."
        if fault is not None:
            raise InvalidHttp(fault)
        super().on_headers_complete()
        self._receiving, self._receiving_bytes = self.cycle, body_bytes(self.headers)
        self.pace = self.bounds.of_body()

    def on_chunk_header(self) -> None:
        self._framing_bytes = max(0, self._framing_bytes - CHUNK_LINE_BYTES)

    def on_body(self, body: bytes) -> None:
        self.body_came(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.body_ended()

    def body_came(self, count: int) -> None:
        """So much of a body has come."""
        self._framing_bytes = max(0, self._framing_bytes - count)
        self._receiving_bytes = max(0, self._receiving_bytes - count)
        if self.pace is not None:
            self.pace.came(count)

    def body_ended(self) -> None:
        """A request has come to its end."""
        self._receiving, self._receiving_bytes, self._framing_bytes, self.pace = None, 0, 0, None
        self._deaf = self._deaf or not self.cycle.keep_alive

    # what time it takes

    def look(self, seconds: float) -> None:
        """So much time has passed: refuse a request that comes too slowly, leave a client that takes no answer."""
        if self.pace is not None and self._is_waiting():
            self.pace.waited(seconds)
            if not self.pace.left_s:
                self._give_up()
        unsent, before = self.transport.get_write_buffer_size(), self._unsent_bytes
        self._unsent_bytes = unsent
        if unsent == 0 or unsent < before:
            self._taking = self.bounds.of_answer()
        else:
            self._taking.waited(seconds)
            if not self._taking.left_s:
                self.transport.abort()

    def _is_waiting(self) -> bool:
        """Whether it is the client's turn: we read, and have nothing else to say."""
        if self._receiving is not None:
            return not self.flow.read_paused and not self._receiving.waiting_for_100_continue
        return not self.flow.read_paused and not self._is_answering()

    def _is_answering(self) -> bool:
        cycle = self._answering
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    def _give_up(self) -> None:
        if self.scope is None and not self._framing_bytes:
            self.transport.close()  # nobody asked anything
        else:
            settings = "HOLDFAST_HEAD_TIMEOUT_S, HOLDFAST_IDLE_TIMEOUT_S, HOLDFAST_MIN_BYTES_PER_S"
            self.refuse(RequestTimeout(f"It stopped, or would have taken too long ({settings})."))

    # what is answered

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal when its turn comes, then end the connection; whatever else comes is not heard."""
        if self._deaf or self.transport.is_closing():
            return
        self._deaf, self.pace = True, None
        refused, self._receiving = self._receiving, None
        if refused is not None and self._is_withdrawn(refused):
            self.transport.close()
            return
        self.cycle = self._cycle_of_refusal()
        app: Any = Integrity(problem_response(refusal))
        if self._is_answering():
            self.pipeline.appendleft((self.cycle, app))
        else:
            self._start_asgi_task(self.cycle, app)

    def _is_withdrawn(self, refused: RequestResponseCycle) -> bool:
        """Take a request back whose body is not to come; whether it is too late, as its answer has begun."""
        refused.disconnected = True
        refused.message_event.set()
        if self.pipeline and self.pipeline[0][0] is refused:
            self.pipeline.popleft()
        return refused.response_started

    def _cycle_of_refusal(self) -> RequestResponseCycle:
        scope: Any = {"type": "http", "method": "GET", "headers": [], "http_version": "1.1", "path": "", "client": None}
        return RequestResponseCycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def unless_refused(scope: Any, receive: Any, send: Any) -> None:
            if not cycle.disconnected:  # since the rest of it was looked at
                await app(scope, receive, send)

        self._answering = cycle
        super()._start_asgi_task(cycle, unless_refused)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None and not self._answering.response_complete:  # uvicorn tells the last one only
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
