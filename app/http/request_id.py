"""Request ids: every request has one, which every response and log line carries, and a peer address."""

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
"""Identifies the server's root, whatever address it is reached at. Every response has it, even without a token."""


class RequestContext:
    """Middleware that gives every request an id (the client's own if it is safe), and writes the access log."""

    def __init__(self, app: ASGIApp, *, log_access: bool) -> None:
        self._app = app
        self._log_access = log_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = actor.safe_request_id(Headers(scope=scope).get(FIELD)) or token_hex(8)
        actor.enter(Actor("", peer_of(scope), request_id))
        response = _IdentifiedResponse(send, {FIELD: request_id, **_server_field(scope)})
        begun = time.monotonic()
        try:
            await self._app(scope, receive, response.send)
        finally:
            if self._log_access:
                self._log(scope, response.status, time.monotonic() - begun)

    def _log(self, scope: Scope, status: int, took_s: float) -> None:
        current = actor.current()
        logger.info(
            "%s %s %d %.1f ms token=%s peer=%s",
            scope["method"],
            ascii(scope["path"])[1:-1],
            status,
            took_s * 1000,
            current.token_id or "none",
            current.peer,
        )


class _IdentifiedResponse:
    """Passes a response on with the ids of the request and of the server."""

    def __init__(self, send: Send, fields: Mapping[str, str]) -> None:
        self._send = send
        self._fields = fields
        self.status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._fields)
        await self._send(message)


def _server_field(scope: Scope) -> dict[str, str]:
    """Return the header with the server's id; nothing if the root could not be marked."""
    server_id = scope["app"].state.server_id
    return {SERVER_FIELD: server_id} if server_id else {}


def peer_of(scope: Scope) -> str:
    """Return the IP address of a request's client; an empty string if a proxy reported something else."""
    client = scope.get("client")
    try:
        return str(ip_address(str(client[0]).partition("%")[0])) if client else ""
    except ValueError:
        return ""
