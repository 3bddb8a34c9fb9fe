"""HTTP/1.1 within limits: uvicorn's protocol with bounded heads, timeouts and strict framing.

A refusal at this level is a problem detail like any other. It is sent in order behind earlier responses, and closes
the connection: later input is ignored.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.core.errors import HeadersTooLarge, InvalidHttp, Refusal, RequestTimeout
from app.http.content_digest import ContentDigests
from app.http.framing import body_bytes, fault_of
from app.http.problems import problem_response
from app.http.timeouts import ConnectionLimits, Pace

PIECE_BYTES = 4096
"""The amount parsed at a time outside of bodies, and so the precision of the limit on header bytes."""
CHUNK_LINE_BYTES = 32
"""The size of the lines around a chunk that has no extensions."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol within `ConnectionLimits`. The server calls `check_timeouts` periodically."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits = limits
        self.pace: Pace | None = limits.of_head()  # of the head or body that the client sends
        self._response_pace = limits.of_answer()
        self._unsent_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._receiving: RequestResponseCycle | None = None  # its head is complete, its body is not
        self._receiving_bytes = 0  # of its body, still to come, if the length is known
        self._framing_bytes = 0  # received since the last request, without bodies
        self._ignores_input = False

    # receiving

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        offset = 0
        while offset < len(data) and not self._ignores_input:
            self.pace = self.pace or self.limits.of_head()
            stop = offset + max(PIECE_BYTES, self._receiving_bytes)
            self._parse(data[offset:stop])
            offset = stop

    def _parse(self, piece: bytes) -> None:
        self._framing_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            self.refuse(
                cause if isinstance(cause, Refusal) else InvalidHttp(f"The request is not valid HTTP/1.1: {error}")
            )
        if self._framing_bytes > self.limits.header_bytes:
            limit = self.limits.header_bytes
            self.refuse(HeadersTooLarge(f"The headers exceed {limit} bytes (HOLDFAST_MAX_HEADER_BYTES)."))

    def on_message_begin(self) -> None:
        if self._ignores_input:
            raise InvalidHttp("An earlier request closed this connection; no further request is accepted.")
        self.pace = self.pace or self.limits.of_head()
        self._framing_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is None:  # trailers are ignored
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        fault = fault_of(self.parser.get_http_version(), self.url, self.headers)
        if fault is None and self.parser.should_upgrade():
            fault = "This server supports neither protocol upgrades nor CONNECT."
        if fault is not None:
            raise InvalidHttp(fault)
        super().on_headers_complete()
        self._receiving, self._receiving_bytes = self.cycle, body_bytes(self.headers)
        self.pace = self.limits.of_body()

    def on_chunk_header(self) -> None:
        self._framing_bytes = max(0, self._framing_bytes - CHUNK_LINE_BYTES)

    def on_body(self, body: bytes) -> None:
        self.body_came(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.body_ended()

    def body_came(self, count: int) -> None:
        """Count received bytes of a body."""
        self._framing_bytes = max(0, self._framing_bytes - count)
        self._receiving_bytes = max(0, self._receiving_bytes - count)
        if self.pace is not None:
            self.pace.came(count)

    def body_ended(self) -> None:
        """Note that a request was received completely."""
        self._receiving, self._receiving_bytes, self._framing_bytes, self.pace = None, 0, 0, None
        self._ignores_input = self._ignores_input or not self.cycle.keep_alive

    # timeouts

    def check_timeouts(self, seconds: float) -> None:
        """Count elapsed time: refuse a request that arrives too slowly, disconnect a client that reads no response."""
        if self.pace is not None and self._waits_for_client():
            self.pace.waited(seconds)
            if not self.pace.left_s:
                self._time_out()
        unsent, before = self.transport.get_write_buffer_size(), self._unsent_bytes
        if unsent == before == 0:  # as on most of a thousand connections, ten times a second
            return
        self._unsent_bytes = unsent
        if unsent == 0 or unsent < before:
            self._response_pace = self.limits.of_answer()
        else:
            self._response_pace.waited(seconds)
            if not self._response_pace.left_s:
                self.transport.abort()

    def _waits_for_client(self) -> bool:
        """Tell if only the client can proceed: the server reads, and has no response to send."""
        if self._receiving is not None:
            return not self.flow.read_paused and not self._receiving.waiting_for_100_continue
        return not self.flow.read_paused and not self._is_answering()

    def _is_answering(self) -> bool:
        cycle = self._answering
        return cycle is not None and not (cycle.response_complete or cycle.disconnected)

    def _time_out(self) -> None:
        if self.scope is None and not self._framing_bytes:
            self.transport.close()  # no request has begun
        else:
            settings = "HOLDFAST_HEAD_TIMEOUT_S, HOLDFAST_IDLE_TIMEOUT_S, HOLDFAST_MIN_BYTES_PER_S"
            self.refuse(RequestTimeout(f"The request stalled or arrived too slowly ({settings})."))

    # responding

    def refuse(self, refusal: Refusal) -> None:
        """Send a refusal behind earlier responses, then close the connection. Further input is ignored."""
        if self._ignores_input or self.transport.is_closing():
            return
        self._ignores_input, self.pace = True, None
        refused, self._receiving = self._receiving, None
        if refused is not None and not self._cancel(refused):
            self.transport.close()
            return
        self.cycle = self._refusal_cycle()
        app: Any = ContentDigests(problem_response(refusal))
        if self._is_answering():
            self.pipeline.appendleft((self.cycle, app))
        else:
            self._start_asgi_task(self.cycle, app)

    def _cancel(self, refused: RequestResponseCycle) -> bool:
        """Cancel a request whose body is incomplete. Returns False if its response has already begun."""
        refused.disconnected = True
        refused.message_event.set()
        if self.pipeline and self.pipeline[0][0] is refused:
            self.pipeline.popleft()
        return not refused.response_started

    def _refusal_cycle(self) -> RequestResponseCycle:
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
            if not cycle.disconnected:  # input behind its head may have led to a refusal since
                await app(scope, receive, send)

        self._answering = cycle
        super()._start_asgi_task(cycle, unless_refused)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn notifies only the last request of a connection.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
