"""Server-sent events as a response: pieces of bytes that their sender serialised."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

PING = b": ping\n\n"
"""A comment, which clients ignore and proxies take for a sign of life."""

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "properties": {
                        "data": {"type": "string"},
                        "event": {"type": "string"},
                        "id": {"type": "string"},
                        "retry": {"type": "integer", "minimum": 0},
                    },
                }
            }
        }
    }
}
"""The description of such a response for OpenAPI."""


class EventStream(Response):
    """A response of server-sent events. It ends with its pieces, or when the client disconnects.

    FastAPI's own response wakes four tasks for each event and serialises it for each client. This one wakes the task of
    the request, once for each piece.
    """

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self.status_code = 200
        self.background = None
        self.init_headers(
            {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def end_with_client() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(end_with_client)
            await self._send(send)
            group.cancel_scope.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await send(_body(piece, more=True))
        await send(_body(b"", more=False))


def field_lines(*, event: str | None = None, data: str | None = None, event_id: int | None = None) -> bytes:
    """Serialise one event, whose fields contain no line breaks."""
    fields = (("event", event), ("data", data), ("id", event_id))
    return ("".join(f"{name}: {value}\n" for name, value in fields if value is not None) + "\n").encode()


def _body(piece: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more}
