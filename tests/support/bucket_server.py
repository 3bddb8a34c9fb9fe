"""An endpoint of the bucket in memory, to which clients send ranges and from which they fetch them, past the server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.memory_storage import Bucket


@dataclass
class Endpoint:
    """The URL of a bucket, and the bytes that went in and out there."""

    url: str
    sent: list[int] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    spoil: int = 0
    """How many of the next ranges arrive with a wrong byte."""


@contextmanager
def serving_bucket(bucket: Bucket) -> Iterator[Endpoint]:
    """Serve a bucket at a URL, as an object store serves signed URLs: it refuses other headers and stale URLs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            first, path, asked = self._asked()
            data = bytearray(self.rfile.read(int(self.headers["Content-Length"])))
            if endpoint.spoil and data:
                endpoint.spoil -= 1
                data[0] ^= 1
            if not self._is_signed() or len(data) != asked["to"] - asked["from"]:
                self._answer(403)
            elif bucket.take(first, path, asked["from"], bytes(data), asked["finalized"]):
                endpoint.sent.append(len(data))
                self._answer(200)
            else:
                self._answer(404)

        def do_GET(self) -> None:
            first, path, asked = self._asked()
            blob = bucket.objects.get(f"data/{first}/{path}")
            if blob is None or not self._is_signed():
                self._answer(403 if blob else 404)
                return
            data = blob.data[asked["from"] : asked["to"]]
            endpoint.fetched.append(len(data))
            self._answer(200, data)

        def _asked(self) -> tuple[str, str, dict[str, int]]:
            parts = urlsplit(self.path)
            first, _, path = unquote(parts.path).lstrip("/").partition("/")
            return first, path, {name: int(values[0]) for name, values in parse_qs(parts.query).items()}

        def _is_signed(self) -> bool:
            return self.headers["X-Signed"] == "yes" and self.headers["Authorization"] is None

        def _answer(self, status: int, data: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
