"""Content digests: a body with JSON that was corrupted in transit is detected by its ``Content-Digest`` (RFC 9530).

Bodies are hashed as they pass and never buffered. `app.http.body.inspection` verifies raw bodies.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import digests
from app.core.errors import BodyAltered
from app.http.body import described

FIELD = "Content-Digest"


class ContentDigests:
    """Middleware that verifies the ``Content-Digest`` of JSON requests and adds one to every JSON response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if _holds_json(headers) and (declared := digests.DeclaredDigests.of(headers.getlist)) is not None:
                receive = _RequestVerifier(receive, declared).receive
            if scope["method"] != "HEAD":  # its responses have no body
                send = _ResponseDigest(send).send
        await self._app(scope, receive, send)


class _RequestVerifier:
    """Passes a body on, and raises instead of passing its end on if the digest does not match."""

    def __init__(self, receive: Receive, declared: digests.DeclaredDigests) -> None:
        self._receive, self._declared = receive, declared

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._declared.update(message.get("body", b""))
            if not message.get("more_body", False) and not self._declared.is_true():
                raise BodyAltered("The body does not match the digest in its headers. Send it again.")
        return message


class _ResponseDigest:
    """Passes a response on. The head of a JSON response is held back until its body is there, in one message."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(Headers(raw=message["headers"])):
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            if not message.get("more_body", False):
                MutableHeaders(scope=head).setdefault(FIELD, digests.of_message(message.get("body", b"")))
            await self._send(head)
        await self._send(message)


def _holds_json(headers: Headers) -> bool:
    return _is_json(headers) or _kind(headers) == described.MEDIA_TYPE


def _kind(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(headers: Headers) -> bool:
    kind = _kind(headers)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
