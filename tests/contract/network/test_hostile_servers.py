"""Responses of another or a hostile server: never a state, never "no checkpoint yet"."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError, ServerFailed, ServerUnreachable
from holdfast._api import digests
from holdfast._api.wire import Chunk

DATA = b"escaped"
CHUNK = Chunk(0, len(DATA), digests.of_chunk(DATA))

STRANGE = [
    (404, b"<html>"),
    (502, b""),
    (200, b"<html>hello</html>"),
    (200, b"[1]"),
    (200, b"{}"),
    (200, b""),
    (200, b'{"status": "ok"}'),
]


@pytest.fixture
def answering():
    """Make servers on loopback that give one response, a status and a body, to each path; return the URL."""
    servers = []

    def make(answers, default=(404, b"<html>not found</html>")):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = answers.get(self.path.partition("?")[0], default)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda manager: manager.load_latest(), id="latest"),
        pytest.param(lambda manager: manager.load_best(), id="best"),
        pytest.param(lambda manager: manager.load("a.pt"), id="by name"),
        pytest.param(lambda manager: manager.checkpoints, id="list"),
        pytest.param(lambda manager: manager.get_best_metric(), id="best metric"),
        pytest.param(lambda manager: manager.cleanup_all(), id="cleanup"),
    ],
)
@pytest.mark.parametrize("answer", STRANGE, ids=str)
def test_what_is_no_holdfast_server_is_an_error_and_not_an_empty_directory(answering, ask, answer):
    manager = CheckpointManager("runs/a", server=answering({}, default=answer), patience_s=0)
    with pytest.raises(ServerFailed, match=r"does not come from a Holdfast server|not a Holdfast server|sent no list"):
        ask(manager)


@pytest.mark.parametrize("answer", STRANGE, ids=str)
def test_another_service_in_place_of_the_server_is_an_outage_for_a_save(answering, answer):
    manager = CheckpointManager("runs/a", server=answering({}, default=answer), patience_s=0.1)
    with pytest.warns(HoldfastWarning, match="does not come from a Holdfast server|not a Holdfast server"):
        path = manager.save({"epoch": 1}, epoch=1)
    assert manager.pending == [path]
    assert manager.resume() == {"epoch": 1}


def hostile(path, name="folder", content=DATA):
    """Return a server's answers about a checkpoint whose file has this path; all digests are right."""
    file = {
        "path": path,
        "size_bytes": len(DATA),
        "digest": digests.of_file([CHUNK]),
        "chunks": [{"offset": 0, "length": len(DATA), "digest": CHUNK.digest}],
        "ranges": [{"file": path, "method": "GET", "url": "/bytes", "headers": {}, "offset": 0, "length": len(DATA)}],
    }
    checkpoint = {
        "id": "1",
        "directory": "runs/a",
        "name": name,
        "kind": "regular",
        "sequence": 1,
        "epoch": None,
        "metric": None,
        "is_best": False,
        "pinned": False,
        "tags": [],
        "metadata": {},
        "size_bytes": len(DATA),
        "digest": digests.of_checkpoint([(path, file["digest"])]),
        "created_at": "2026-11-23T14:05:01Z",
    }
    return {
        "/v1/checkpoints": (200, json.dumps({"checkpoints": [checkpoint], "next_page_token": None}).encode()),
        "/v1/checkpoints/latest": (200, json.dumps(checkpoint).encode()),
        "/v1/checkpoints/1/chunks": (200, json.dumps({"id": "1", "digest": "", "files": [file]}).encode()),
        "/bytes": (200, content),
    }


@pytest.mark.parametrize("path", ["../escaped", "a/../../escaped", "/tmp/escaped", "a//b", "..", "a/\0"])
def test_a_server_cannot_make_a_download_leave_its_folder(answering, tmp_path, path):
    manager = CheckpointManager("runs/a", server=answering(hostile(path)))
    target = tmp_path / "in" / "here"
    target.mkdir(parents=True)
    with pytest.raises(IntegrityError):
        manager.download("folder", target)
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == []


@pytest.mark.parametrize("name", ["..", "../x", "/tmp/x"])
def test_a_server_cannot_name_a_download_out_of_its_folder(answering, tmp_path, name):
    manager = CheckpointManager("runs/a", server=answering(hostile(name, name=name)))
    with pytest.raises(ServerUnreachable, match="about another checkpoint"):
        manager.download("folder", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [DATA[:-1], DATA + b"!", b"EscapeD"], ids=["too short", "too long", "altered"])
def test_an_answer_of_other_bytes_is_an_error_and_leaves_no_file(answering, tmp_path, content):
    manager = CheckpointManager("runs/a", server=answering(hostile("a.pt", name="a.pt", content=content)))
    with pytest.raises(IntegrityError):
        manager.load_latest()
    with pytest.raises(IntegrityError):
        manager.download("a.pt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_breaks_in_the_middle_is_a_connection_error(answering, tmp_path):
    answers = hostile("a.pt", name="a.pt")
    url = answering(answers)
    manager = CheckpointManager("runs/a", server=url)
    assert manager.download("a.pt", tmp_path / "a.pt").read_bytes() == DATA
    gone = CheckpointManager("runs/a", server="http://127.0.0.1:1", patience_s=0)
    with pytest.raises(ServerUnreachable):
        gone.load_latest()
