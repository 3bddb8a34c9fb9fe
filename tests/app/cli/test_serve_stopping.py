"""Graceful stop: the server is not ready, refuses new work, and lets running transfers finish within a limit."""

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app.bootstrap import open_root
from app.cli.serve import _Server
from app.settings import Settings
from tests.data.delta_states import refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually


def begin(server, sizes=(6,), **more):
    files = [{"path": f"{place}.bin", "size_bytes": size} for place, size in enumerate(sizes)]
    answer = server.http.post("/v1/uploads", json={"directory": "runs/a", "name": "folder", "files": files, **more})
    answer.raise_for_status()
    return answer.json()


def is_told(server):
    """Tell if the server has noticed the signal."""
    return server.http.get("/health/ready").status_code == 503


@contextmanager
def half_sent(server, upload):
    """A connection on which half of an upload's two million bytes have arrived."""
    file = server.root / ".holdfast" / "incoming" / upload["id"] / "files" / "folder" / "0.bin"
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=DEADLINE_S) as connection:
        head = f"PUT {upload['missing'][0]['url']} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
        connection.sendall(head.encode() + bytes(1_000_000))
        assert eventually(lambda: file.exists() and file.stat().st_size == 2_000_000), "the request has not begun"
        yield connection


@pytest.fixture
def slow_put(own_server):
    """An upload, and a connection on which half of its bytes have arrived."""
    upload = begin(own_server, sizes=(2_000_000,))
    with half_sent(own_server, upload) as connection:
        yield upload, connection


def test_what_has_begun_ends_well(own_server, slow_put):
    upload, connection = slow_put
    own_server.tell_to_stop()
    assert eventually(lambda: is_told(own_server))
    ready = own_server.http.get("/health/ready")
    assert (refusal(ready), ready.json()["detail"]) == ((503, "not_ready"), "The server is shutting down.")
    assert own_server.http.get("/health/live").status_code == 200
    connection.sendall(bytes(1_000_000))
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert own_server.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).status_code == 201
    assert own_server.wait() == 0
    own_server.start()
    assert own_server.names("runs/a") == ["folder"]


def test_nothing_new_begins(own_server, slow_put):
    own_server.tell_to_stop()
    assert eventually(lambda: is_told(own_server))
    body = {"directory": "runs/a", "name": "new.pt", "files": [{"size_bytes": 3}]}
    assert refusal(own_server.http.post("/v1/uploads", json=body)) == (503, "not_ready")
    assert refusal(own_server.http.post("/v1/checkpoints?directory=runs/a", content=b"abc")) == (503, "not_ready")
    assert own_server.http.get("/v1/directories").status_code == 200


def test_an_upload_between_two_ranges_is_waited_for(own_server):
    upload = begin(own_server, sizes=(6, 6))
    first, second = upload["missing"]
    own_server.http.put(first["url"], content=b"abcdef").raise_for_status()
    own_server.tell_to_stop()
    assert eventually(lambda: is_told(own_server))
    own_server.http.put(second["url"], content=b"ghijkl").raise_for_status()
    assert own_server.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).status_code == 201
    assert own_server.wait() == 0


def test_who_does_not_end_is_not_waited_for_beyond_the_limit(make_server):
    server = make_server(shutdown_timeout_s="1")
    upload = begin(server, sizes=(2_000_000,))
    with half_sent(server, upload):
        server.tell_to_stop()
        assert server.wait() == 0
    assert "Traceback" not in server.log()
    server.start()
    assert server.http.get(f"/v1/uploads/{upload['id']}").json()["state"] == "open"


def test_told_twice_it_stops_at_once(make_server):
    server = make_server(shutdown_timeout_s="1000")
    begin(server)
    server.tell_to_stop()
    assert eventually(lambda: is_told(server))
    server.tell_to_stop()
    assert server.wait() == 0


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_told_twice_it_waits_for_no_transfer(make_server, again):
    server = make_server(shutdown_timeout_s="1000")
    upload = begin(server, sizes=(2_000_000,))
    with half_sent(server, upload):
        server.tell_to_stop()
        assert eventually(lambda: is_told(server))
        os.kill(server.process_id, again)
        assert server.wait() == 0
    server.start()
    assert server.http.get(f"/v1/uploads/{upload['id']}").json()["state"] == "open"


def test_a_signal_waits_for_nobody(tmp_path):
    """The signal may arrive while the event loop's thread holds a lock, which it would then never release."""
    service = open_root(Settings(root=tmp_path / "root"))
    app = FastAPI()
    app.state.service = service
    server = _Server(uvicorn.Config(app, log_config=None), app, 10)
    with closing(service), service.context.notifier._news._cond:
        told = threading.Thread(target=server.handle_exit, args=(signal.SIGTERM, None), daemon=True)
        told.start()
        assert eventually(lambda: not told.is_alive())


def test_an_idle_server_stops_without_waiting(make_server):
    server = make_server(shutdown_timeout_s="1000")
    server.save("runs/a")
    before = time.monotonic()
    server.tell_to_stop()
    assert server.wait() == 0
    assert time.monotonic() - before < 500, "the limit is for those who have something to finish"


def test_an_interrupt_from_the_keyboard_does_the_same(own_server):
    os.kill(own_server.process_id, signal.SIGINT)
    assert own_server.wait() == 0


def test_uploads_that_it_cuts_off_are_aborted_before_the_root_is_closed(make_server):
    """More of them than are aborted at the same time."""
    server = make_server(shutdown_timeout_s="1")
    host, _, port = server.url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        for number in range(100):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            query = f"directory=runs/1&name={number}.pt"
            head = f"POST /v1/checkpoints?{query} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode() + b"some of it")
        assert eventually(lambda: len(server.incoming()) == 100)
        assert server.stop() == 0
    assert "Traceback" not in server.log()
    assert server.incoming() == []
