"""What is known of a request before anything else: its id, which is in every answer and log line, and its sender."""

import logging
import time
from collections.abc import Mapping
from ipaddress import ip_address
from secrets import token_hex

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.runtime import actor
from app.runtime.actor import Actor

logger = logging.getLogger("holdfast.access")
FIELD = "X-Request-Id"
SERVER_FIELD = "Holdfast-Server-Id"
"""Names the root behind an address, whatever that address is; in every answer, also to those without a token."""


class RequestContext:
    """Gives every request an id, its sender's own where that is harmless, and logs how it ended if that is wanted."""

    def __init__(self, app: ASGIApp, *, log_access: bool) -> None:
        self._app = app
        self._log_access = log_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = actor.safe_request_id(Headers(scope=scope).get(FIELD)) or token_hex(8)
        actor.enter(Actor("", peer_of(scope), request_id))
        answer = _Answer(send, {FIELD: request_id, **_named(scope)})
        begun = time.monotonic()
        try:
            await self._app(scope, receive, answer.send)
        finally:
            if self._log_access:
                self._log(scope, answer.status, time.monotonic() - begun)

    def _log(self, scope: Scope, status: int, took_s: float) -> None:
        who = actor.current()
        logger.info(
            "%s %s %d %.1f ms token=%s peer=%s",
            scope["method"],
            ascii(scope["path"])[1:-1],
            status,
            took_s * 1000,
            who.token_id or "none",
            who.peer,
        )


class _Answer:
    """Passes an answer on with the ids of the request and of the server."""

    def __init__(self, send: Send, fields: Mapping[str, str]) -> None:
        self._send = send
        self._fields = fields
        self.status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._fields)
        await self._send(message)


def _named(scope: Scope) -> dict[str, str]:
    """The field with the server's id; none where the root could not be marked."""
    server_id = scope["app"].state.server_id
    return {SERVER_FIELD: server_id} if server_id else {}


def peer_of(scope: Scope) -> str:
    """The address that a request comes from; nothing where a proxy was told something else than an address."""
    client = scope.get("client")
    try:
        return str(ip_address(str(client[0]).partition("%")[0])) if client else ""
    except ValueError:
        return ""
