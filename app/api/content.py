"""The bytes of a file: whole or one range, with a strong ETag, always as an attachment that no browser runs."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api import ranges
from app.checkpoints.finding import Content
from app.errors import RangeNotSatisfiable

SLICE_BYTES = 1024 * 1024


def respond(request: Request, content: Content) -> Response:
    """The answer to a GET or HEAD of a file; closes the file in the end.

    Raises
    ------
    RangeNotSatisfiable
        The one range that was asked for lies beyond the file.
    """
    file = content.file
    etag = f'"{file.digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rpartition('/')[2], safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Last-Modified": ranges.http_date(content.checkpoint.created_at),
        "X-Checkpoint-Id": content.checkpoint.id,
        "X-Checkpoint-Name": quote(content.checkpoint.name),
    }
    if status := ranges.precondition(request.headers, etag):
        content.opened.close()
        return Response(status_code=status, headers=headers)
    try:
        span = ranges.wanted(request.headers, etag, file.size_bytes) if request.method == "GET" else None
    except RangeNotSatisfiable:
        content.opened.close()
        raise
    status = 200 if span is None else 206
    start, stop = span or (0, file.size_bytes)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    return _FileResponse(content, start, stop, status, headers)


class _FileResponse(Response):
    """Sends a part of an open file, reading one slice ahead on a thread."""

    media_type = "application/octet-stream"

    def __init__(self, content: Content, start: int, stop: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._content, self._start, self._stop = content, start, stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async for data in self._slices():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._content.opened.close()

    async def _slices(self) -> AsyncIterator[bytes]:
        sender, receiver = anyio.create_memory_object_stream[bytes](1)
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, sender)
            async with receiver:
                async for data in receiver:
                    yield data

    async def _read(self, sender: "anyio.abc.ObjectSendStream[bytes]") -> None:
        async with sender:
            for offset in range(self._start, self._stop, SLICE_BYTES):
                length = min(SLICE_BYTES, self._stop - offset)
                data = await run_in_threadpool(self._content.opened.read, offset, length)
                if len(data) < length:
                    raise OSError(f"{self._content.file.path} ended early")
                await sender.send(data)
