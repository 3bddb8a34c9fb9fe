"""Uploads that lack more ranges than the server lists at once: sent in rounds, until complete or an error."""

import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from holdfast._api.retry import RetryDeadline
from holdfast._api.server import Server
from holdfast._api.wire import Upload
from holdfast._transfer.file_source import FileSource
from holdfast._transfer.upload import MOST_REFUSED_COMMITS, send_files
from holdfast.errors import HoldfastError
from tests.support.live import LiveServer

MOST, FILES = 2, 2 * (MOST_REFUSED_COMMITS + 3)
"""More files than a client would send that reserved again after each refusal of its commit."""


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A server that lists few ranges in an answer."""
    with LiveServer(tmp_path_factory.mktemp("short") / "root", max_ranges=str(MOST)) as live:
        yield live


@pytest.mark.parametrize("size_bytes", [300, 300_000], ids=["in batches", "file by file"])
def test_a_folder_of_more_files_than_are_listed_arrives_whole(
    holdfast, short, directory, tmp_path, monkeypatch, size_bytes
):
    contents = {f"{place:02}.bin": os.urandom(size_bytes) for place in range(FILES)}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("HOLDFAST_URL", short.url)
    done = holdfast("put", folder, directory)
    assert done.status == 0, done.complaints
    stored = short.root / directory / "folder"
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == contents


@contextmanager
def answering(upload):
    """Serve one answer about uploads, accept every byte, and refuse every commit; yields the URL and the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(f"{self.command} {self.path.partition('?')[0]}")
            refused = self.path.endswith("/commit")
            problem = {"type": "urn:holdfast:problem:ranges_missing", "status": 409, "code": "ranges_missing"}
            body = json.dumps({**problem, "detail": "9 range(s) have not arrived."} if refused else upload).encode()
            self.send_response(409 if refused else 200)
            self.send_header("Content-Type", f"application/{'problem+' if refused else ''}json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


RANGE = {"file": "a", "method": "PUT", "url": "/v1/uploads/u/files/a", "headers": {}, "offset": 0, "length": 1}


@pytest.mark.parametrize("missing", [[], [RANGE]], ids=["lists none", "lists the same one for ever"])
def test_a_server_that_asks_for_nothing_new_is_an_error(missing, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    upload = {"id": "u", "state": "open", "missing": missing, "missing_count": 9, "missing_bytes": 9}
    with answering(upload) as (url, asked), pytest.raises(HoldfastError, match=r"9 range\(s\) have not") as caught:
        send_files(
            Server(url),
            {"directory": "runs", "name": "a"},
            {None: FileSource(tmp_path / "a")},
            patience=RetryDeadline(0),
            progress=False,
        )
    assert caught.value.code == "ranges_missing"
    assert asked.count("GET /v1/uploads/u") == len(missing) * (MOST_REFUSED_COMMITS + 1)


def test_a_server_that_counts_nothing_has_listed_all():
    upload = Upload.from_json({"id": "u", "state": "open", "missing": [RANGE, RANGE | {"offset": 1}]})
    assert (upload.missing_count, upload.missing_bytes) == (2, 2)
