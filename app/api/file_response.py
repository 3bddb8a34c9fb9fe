"""File responses: a whole file or one range, with a strong ETag, always as an attachment that no browser executes."""

import re
from urllib.parse import quote

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.errors import RangeNotSatisfiable
from app.http import ranges
from app.http.body.raw import socket_handover_of
from app.http.body.threads import run_for_body
from app.service.query.contents import VerifiedFile

SLICE_BYTES = 1024 * 1024
LEAST_SLICE_BYTES = 64 * 1024
SLICES_BYTES = 8 * 1024 * 1024
"""The number of bytes that the slices of all responses share; each response has up to four slices in memory."""


def respond(request: Request, content: VerifiedFile) -> Response:
    """Return the response to a GET or HEAD of a file, which closes the file when it is sent.

    Raises
    ------
    RangeNotSatisfiable
        The requested range begins beyond the end of the file.
    """
    file = content.file
    etag = f'"{file.digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _disposition(file.path.rpartition("/")[2]),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Last-Modified": ranges.http_date(content.checkpoint.created_at),
        "X-Checkpoint-Id": content.checkpoint.id,
        "X-Checkpoint-Name": quote(content.checkpoint.name),
    }
    if status := ranges.precondition(request.headers, etag):
        content.opened.close()
        return Response(status_code=status, headers=headers)
    try:
        span = ranges.requested_range(request.headers, etag, file.size_bytes) if request.method == "GET" else None
    except RangeNotSatisfiable:
        content.opened.close()
        raise
    status = 200 if span is None else 206
    start, stop = span or (0, file.size_bytes)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    return _FileResponse(content, start, stop, status, headers)


def respond_after(line: bytes, content: VerifiedFile, headers: dict[str, str]) -> Response:
    """Return a response of a line and a whole file after it, which closes the file when it is sent."""
    size_bytes = content.file.size_bytes
    safe = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Length": str(len(line) + size_bytes),
    }
    return _FileResponse(content, 0, size_bytes, 200, {**safe, **headers}, line)


def attachment(data: bytes) -> Response:
    """Return bytes as an attachment that no browser executes."""
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(data, headers=headers, media_type=_FileResponse.media_type)


def _disposition(name: str) -> str:
    """Return the Content-Disposition for a file name: as RFC 8187 for browsers, as plain UTF-8 for curl."""
    plain = re.sub(r'(["\\])', r"\\\1", name).encode("utf-8", "surrogateescape").decode("latin-1")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class _FileResponse(Response):
    """Sends a range of an open file, by socket handover or slice by slice with one slice read ahead."""

    media_type = "application/octet-stream"
    streaming = 0  # such responses, of this process, that are sent slice by slice

    def __init__(
        self, content: VerifiedFile, start: int, stop: int, status: int, headers: dict[str, str], before: bytes = b""
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._content, self._start, self._stop = content, start, stop
        self._before = before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if self._before:
                await send({"type": "http.response.body", "body": self._before, "more_body": True})
            handover, descriptor = socket_handover_of(scope), self._content.descriptor
            if scope["method"] == "HEAD":
                pass
            elif handover is not None and descriptor is not None and handover.can_send_file(self._stop - self._start):
                await handover.send_file(descriptor, self._start, self._stop)
            else:
                await self._stream(receive, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ConnectionError:
            return  # the client has disconnected
        finally:
            self._content.opened.close()

    async def _stream(self, receive: Receive, send: Send) -> None:
        """Send the bytes slice by slice. Raises `ConnectionError` if the client disconnects."""
        sender, receiver = anyio.create_memory_object_stream[bytes](1)
        gone = False

        async def watch(scope: anyio.CancelScope) -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            scope.cancel()

        _FileResponse.streaming += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch, group.cancel_scope)
                group.start_soon(self._read, sender)
                async with receiver:
                    async for data in receiver:
                        await send({"type": "http.response.body", "body": data, "more_body": True})
                group.cancel_scope.cancel()
        finally:
            _FileResponse.streaming -= 1
        if gone:
            raise ConnectionError("the client disconnected")

    async def _read(self, sender: "anyio.abc.ObjectSendStream[bytes]") -> None:
        async with sender:
            offset = self._start
            while offset < self._stop:
                fair = max(LEAST_SLICE_BYTES, SLICES_BYTES // max(1, _FileResponse.streaming))
                length = min(SLICE_BYTES, fair, self._stop - offset)
                data = await run_for_body(self._content.opened.read, offset, length)
                if len(data) < length:
                    raise OSError(f"{self._content.file.path} ended early")
                await sender.send(data)
                offset += length
