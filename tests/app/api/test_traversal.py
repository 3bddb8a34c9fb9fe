"""Path traversal: no text in a request reaches outside of the root or the server's records, or causes a 5xx."""

import json
from pathlib import PurePosixPath

import pytest

from app.core import names
from app.core.errors import Refusal
from tests.data.hostile_texts import CANARY, Api
from tests.data.samples import below
from tests.support.live import PROJECT
from tests.support.raw_sockets import Answer, WiredServer

DESCRIPTION = json.loads((PROJECT / "openapi.json").read_text())

HERE = "http://127.0.0.1/v1/"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a root and files outside of it, and canaries in both."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text(CANARY)
    (folder / "secret").write_text(CANARY)
    return folder


@pytest.fixture(scope="module")
def server(place):
    with WiredServer(place / "root", socket_handover=True, max_json_bytes="200000") as live:
        (place / "root" / ".holdfast" / "canary").write_text(CANARY)
        yield live


def known_to(server):
    """The existing objects that requests name."""
    saved = server.save("runs/a", name="model.pt", epoch=1, metric=1)
    upload = server.begin("runs/a", b"x", name="model.pt").split("/")[3]
    return {
        "directory": "runs/a",
        "prefix": "runs",
        "path": "model.pt",
        "name": "model.pt",
        "follow": "false",
        "checkpoint_id": saved["id"],
        "upload_id": upload,
        "always": ("follow",),
    }


def answered(wire, method):
    """Read the next response with its body, for every form of length."""
    found = wire.head()
    if method == "HEAD" or found.status in {204, 304}:
        return found
    if found.headers.get("transfer-encoding") != "chunked":
        return found._replace(body=wire.read(int(found.headers.get("content-length", "0"))))
    body = b""
    while (length := int(wire._answers.readline(), 16)) > 0:
        body += wire.read(length + 2)[:-2]
    wire._answers.readline()
    return found._replace(body=body)


class Asking:
    """Sends requests one after another, over one connection while the server keeps it open."""

    def __init__(self, server: WiredServer) -> None:
        self._server = server
        self._wire = None

    def leave(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.leave()
            self._wire = None

    def ask(self, request) -> Answer:
        lines = [b"%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n" % (request.method.encode(), request.target), request.headers]
        if request.body is not None:
            lines.append(b"Content-Length: %d\r\n" % len(request.body))
        self._wire = self._wire or self._server.wire()
        self._wire.send(*lines, b"\r\n", request.body or b"")
        answer = answered(self._wire, request.method)
        if answer.headers.get("connection") == "close":
            self.leave()
        return answer


def documented(path, method):
    return {int(status) for status in DESCRIPTION["paths"][path][method.lower()]["responses"]}


def faults_of(request, answer):
    """Describe the fault of a response, if it has one."""
    expected = documented(request.path, request.method) | ({307, 404, 405} if request.in_path else set())
    if answer.headers.get("content-type", "").startswith("text/plain"):
        expected |= {400}  # it was not HTTP, so no route was reached
    if answer.status not in expected:
        yield f"is answered with {answer.status}: {answer.body[:200]!r}"
    if CANARY.encode() in answer.body or CANARY in str(answer.headers):
        yield "is answered with what it must not see"
    if not answer.headers.get("location", HERE).startswith(HERE):
        yield f"leads to {answer.headers['location']}"
    if "x-evil" in answer.headers:
        yield "adds a header"
    if b"root:" in answer.body:
        yield "is answered with a file of the system"


def strays(root):
    """Return the files below a root that no valid name leads to."""
    for path in below(root):
        *folders, last = PurePosixPath(path).parts
        if folders[:1] == [".holdfast"] or last == ".holdfast" or (root / path).is_dir():
            continue
        try:
            names.directory_name("/".join(folder for folder in folders if folder != ".holdfast"))
            names.file_path(last)
        except Refusal as refusal:
            yield refusal.detail


def test_no_text_in_any_place_leads_anywhere_else(server, place):
    before = {path: data for path, data in below(place).items() if not path.startswith("root")}
    asking, found, count = Asking(server), [], 0
    for request in Api(DESCRIPTION, known_to(server)).requests():
        for fault in faults_of(request, asking.ask(request)):
            found.append(f"{request.method} {request.path}, {request.what}: {fault}")
        count += 1
    asking.leave()
    assert count > 5000
    assert found == []
    assert {path: data for path, data in below(place).items() if not path.startswith("root")} == before
    assert (place / "root" / ".holdfast" / "canary").read_text() == CANARY
    assert list(strays(place / "root")) == []
    assert "Traceback" not in server.log()
    assert server.http.get("/health/ready").status_code == 200


def test_the_description_names_every_route_that_takes_a_text():
    tried = {(request.method, request.path) for request in Api(DESCRIPTION, {}).requests()}
    silent = {path for method, path, _ in Api(DESCRIPTION, {}).operations() if (method, path) not in tried}
    # of a small save it names the headers; the texts in the line before its bytes are tried by test_small_saves
    assert silent == {"/health/live", "/health/ready", "/metrics", "/v1/info"}
