"""Intermediaries between client and server: pages instead of responses, redirects, prefixes, and servers that move."""

import json
import ssl
import threading
import warnings
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning, NotAllowed, ServerFailed
from holdfast._api import retry
from holdfast._api.server import Server
from holdfast._spool import courier
from tests.data.states import assert_same
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually

STATE = {"w": torch.arange(300_000)}
"""Larger than what goes in one request."""
PAGE = b"<html><head><title>413 Request Entity Too Large</title></head><body>nginx says no</body></html>"


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.2)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


class Front:
    """An intermediary before a server. ``answer(method, path, length)`` is (status, headers, body), or None to pass on.

    ``prefix`` is taken off the paths; a path without it is 404.
    """

    def __init__(self, url, answer=lambda method, path, length: None, prefix=""):
        self.answer = answer
        self.asked = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "nginx/1.27.3", ""

            def handle_any(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                front.asked.append((self.command, self.path, dict(self.headers)))
                said = front.answer(self.command, self.path, length)
                if said is None and not self.path.startswith(f"{prefix}/"):
                    said = 404, {"Content-Type": "text/html"}, b"<h1>Not Found</h1>"
                said = said or self.beyond(self.path.removeprefix(prefix), body)
                status, headers, data = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(data)

            def beyond(self, path, body):
                there = HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=DEADLINE_S)
                there.request(self.command, path, body, dict(self.headers))
                found = there.getresponse()
                data = found.read()
                there.close()
                left_out = ("content-length", "transfer-encoding", "connection", "server", "date")
                return found.status, {n: v for n, v in found.getheaders() if n.lower() not in left_out}, data

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

            def log_message(self, *_):
                pass

        self.handler = Handler


@contextmanager
def standing(front, tls=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), front.handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
    front.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_port}"
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()


def page(status, body=PAGE, **headers):
    return lambda method, path, length: (status, {"Content-Type": "text/html", **headers}, body)


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed")])
def test_an_older_server_that_takes_no_small_saves_is_asked_once(server, directory, status, code):
    problem = json.dumps({"type": f"urn:holdfast:problem:{code}", "code": code, "status": status}).encode()

    def older(method, path, length):
        return (status, {"Content-Type": "application/problem+json"}, problem) if path == "/v1/saves" else None

    with standing(Front(server.url, older)) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        for epoch in (1, 2):
            assert_same(manager.load(manager.save({"n": epoch}, epoch=epoch)), {"n": epoch})
        assert [path for _, path, _ in front.asked].count("/v1/saves") == 1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 407, 409, 410, 413, 422, 502, 507])
def test_a_page_is_no_refusal_and_the_warning_says_what_it_said(server, directory, status, background):
    with standing(Front(server.url, page(status))) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0, background=background)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            manager.save(STATE, epoch=1)
            assert manager.wait()
        said = " ".join(str(warning.message) for warning in warned)
        assert len(manager.pending) == 1
        if not background:
            assert f"status {status} from {front.url}/v1/uploads does not come from a Holdfast server" in said
            assert "nginx/1.27.3: 413 Request Entity Too Large" in said
            assert ("client_max_body_size" in said) == (status == 413)
        with pytest.raises(ServerFailed):  # and never "no checkpoint yet"
            manager.load_latest()
        front.answer = lambda *_: None
        assert eventually(lambda: not manager.pending)
        assert_same(manager.load_latest(), STATE)


PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 422])
@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        pytest.param({"Content-Type": "application/json"}, {"type": "urn:holdfast:problem:unauthorized"}, id="JSON"),
        pytest.param(PROBLEM, {"type": "https://gateway.example/401"}, id="a problem of another"),
        pytest.param(PROBLEM, {}, id="a problem of no type"),
    ],
)
def test_a_gateways_json_is_no_refusal(server, directory, headers, kind, status):
    body = json.dumps({**kind, "code": "unauthorized", "detail": "who?"}).encode()
    with standing(Front(server.url, lambda *_: (status, headers, body))) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        with pytest.warns(HoldfastWarning, match="does not come from a Holdfast server"):
            manager.save({}, epoch=1)
        with pytest.raises(ServerFailed):
            manager.load_latest()


def test_a_limit_for_bodies_that_only_ranges_meet_is_an_outage_until_it_is_raised(server, directory):
    def limited(method, path, length):
        return page(413)(method, path, length) if length > 100_000 else None

    with standing(Front(server.url, limited)) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        with pytest.warns(HoldfastWarning, match="client_max_body_size"):
            manager.save(STATE, epoch=1)
        manager.save({"small": 1}, epoch=2)
        assert len(manager.pending) == 2
        front.answer = lambda *_: None
        assert eventually(lambda: not manager.pending)
        assert server.names(directory) == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"]


@pytest.mark.parametrize("body", [b"", b"{}", b"Welcome"], ids=["nothing", "JSON", "text"])
def test_bytes_that_something_swallows_are_an_outage(server, directory, body):
    def swallow(method, path, length):
        return (200, {}, body) if method == "PUT" else None

    with standing(Front(server.url, swallow)) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        with pytest.warns(HoldfastWarning, match="sent ranges do not arrive, though the responses say so"):
            manager.save(STATE, epoch=1)
        assert len(manager.pending) == 1
        front.answer = lambda *_: None
        assert eventually(lambda: not manager.pending)
        assert_same(manager.load_latest(), STATE)


def test_a_checkpoint_that_always_makes_the_server_fail_is_put_aside_and_the_others_follow(
    server, directory, monkeypatch, caplog
):
    monkeypatch.setattr(courier, "_ATTEMPTS_S", 0.0)
    body = json.dumps({"type": "urn:holdfast:problem:internal", "code": "internal", "detail": "a bug"}).encode()
    reservations = []

    def fail(method, path, length):
        if method == "POST" and path in {"/v1/uploads", "/v1/saves"}:
            reservations.append(path)
            if len(reservations) <= 1 + courier._ATTEMPTS:
                return 500, PROBLEM, body
        return None

    with standing(Front(server.url, fail)) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        with pytest.warns(HoldfastWarning, match="a bug"):
            manager.save({"n": 1}, epoch=1)
        manager.save({"n": 2}, epoch=2)
        assert eventually(lambda: not manager.pending)
        assert server.names(directory) == ["checkpoint_epoch_0002.pt"]
        assert "checkpoint_epoch_0001.pt" in caplog.text
        assert manager.resume() == {"n": 2}
        (parked,) = manager._saver.target.queue.parked()
        assert parked.facts()["save"]["epoch"] == 1


def test_a_page_in_the_middle_of_a_transfer_is_no_altered_checkpoint(server, directory):
    pages = []

    def once(method, path, length):
        if ("/content" in path or "/files/" in path) and len(pages) < 2:
            pages.append(path)
            return page(200)(method, path, length)
        return None

    with standing(Front(server.url, once)) as front:
        manager = CheckpointManager(directory, server=front.url)
        with warnings.catch_warnings(action="ignore"):
            path = manager.save(STATE, epoch=1)
            manager.close()
        assert_same(manager.load(path), STATE)
        assert len(pages) == 2


def test_everything_works_behind_a_path(server, directory, holdfast_at):
    with standing(Front(server.url, prefix="/team/holdfast")) as front:
        for base in (f"{front.url}/team/holdfast", f"{front.url}/team/holdfast/", f"{front.url}/team/holdfast/v1"):
            manager = CheckpointManager(directory, server=base)
            path = manager.save(STATE, epoch=1)
            assert_same(manager.load(path), STATE)
            assert holdfast_at(base, "ls", directory) == 0
            assert holdfast_at(base, "doctor", "--size", "1", "--time", "0.1") == 0
        assert {path.startswith("/team/holdfast/v1/") for _, path, _ in front.asked} == {True}
        with pytest.raises(ServerFailed, match="check HOLDFAST_URL, including the path"):
            CheckpointManager(directory, server=front.url, patience_s=0).load_latest()


@pytest.fixture
def holdfast_at(capsys):
    pytest.importorskip("typer")
    from holdfast.cli import app

    def run(url, *arguments):
        return app.run([*arguments, "--server", url])

    return run


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    import subprocess

    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", folder / "c.pem", "-keyout", folder / "k.pem"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "c.pem", folder / "k.pem")
    return context, folder / "c.pem"


def redirect(status, to):
    return lambda method, path, length: (status, {"Location": to(path), "Content-Type": "text/html"}, b"<p>moved</p>")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_tls_on_the_same_host_is_followed(server, directory, tls, monkeypatch, caplog, status):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with standing(Front(server.url), tls[0]) as safe, standing(Front(server.url)) as front:
        front.answer = redirect(status, lambda path: f"{safe.url}{path}")
        manager = CheckpointManager(directory, server=front.url.replace("127.0.0.1", "localhost"), token="a-good-token")
        path = manager.save(STATE, epoch=1)
        assert_same(manager.load(path), STATE)
        assert len(front.asked) == 1  # it is known from then on
        assert "set HOLDFAST_URL to that" in caplog.text
        assert safe.url in caplog.text


def test_a_redirect_to_another_path_is_followed(server, directory):
    with standing(Front(server.url, prefix="/holdfast")) as front:
        moved = redirect(308, lambda path: f"/holdfast{path}")
        front.answer = lambda method, path, length: (
            None if path.startswith("/holdfast/") else moved(method, path, length)
        )
        manager = CheckpointManager(directory, server=front.url)
        assert_same(manager.load(manager.save(STATE, epoch=1)), STATE)


@pytest.mark.parametrize(
    "to",
    [
        pytest.param("http://localhost:PORT{path}", id="another host"),
        pytest.param("http://127.0.0.1:PORT{path}", id="another port without TLS"),
        pytest.param("https://login.example/?return={path}&token=seen", id="a page for a login"),
        pytest.param("{path}", id="itself"),
        pytest.param("http://[", id="nowhere"),
    ],
)
def test_a_token_follows_no_redirect_elsewhere(server, directory, to):
    with standing(Front(server.url)) as other, standing(Front(server.url)) as front:
        to = to.replace("PORT", other.url.rpartition(":")[2])
        front.answer = redirect(302, lambda path: to.replace("{path}", path))
        manager = CheckpointManager(directory, server=front.url, token="a-secret-token", patience_s=0)
        with pytest.warns(HoldfastWarning) as warned:
            manager.save({}, epoch=1)
        assert len(manager.pending) == 1
        assert other.asked == []
        said = str(warned[0].message)
        assert "seen" not in said
        if "example" in to or "PORT" in to:
            assert f"It redirects to {to.partition('{')[0].partition('?')[0]}" in said
            assert "set HOLDFAST_URL" in said


def test_tls_is_never_left(server, tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with standing(Front(server.url)) as plain, standing(Front(server.url), tls[0]) as safe:
        safe.answer = redirect(301, lambda path: f"{plain.url.replace('127.0.0.1', 'localhost')}{path}")
        with pytest.raises(ServerFailed, match="It redirects to http://"):
            Server(safe.url, "a-secret-token").call("GET", "/v1/info")
        assert plain.asked == []


def test_a_login_in_the_url_is_for_a_proxy_that_wants_one(server, directory):
    with standing(Front(server.url)) as front:
        url = front.url.replace("://", "://us%40er:pass%3Aword@")
        manager = CheckpointManager(directory, server=url)
        assert_same(manager.load(manager.save(STATE, epoch=1)), STATE)
        assert {headers["Authorization"] for _, _, headers in front.asked} == {"Basic dXNAZXI6cGFzczp3b3Jk"}
        front.asked.clear()
        with suppress(NotAllowed):
            CheckpointManager(directory, server=url, token="a-token-instead").load_latest()
        assert {headers["Authorization"] for _, _, headers in front.asked} == {"Bearer a-token-instead"}


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (204, b""), (200, b"null"), (200, b'{"status": "ok"}')])
def test_an_answer_of_something_else_says_what_to_look_at(server, directory, status, body):
    CheckpointManager(directory, server=server.url).save(STATE, epoch=1)
    with standing(Front(server.url, page(status, body, **{"Content-Type": "application/json"}))) as front:
        manager = CheckpointManager(directory, server=front.url, patience_s=0)
        for use in (manager.load_latest, lambda: manager.load("a.pt"), lambda: manager.checkpoints):
            with pytest.raises(ServerFailed, match="Check HOLDFAST_URL"):
                use()


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (204, b"")])
def test_a_load_tries_again_after_an_empty_answer(server, directory, status, body):
    CheckpointManager(directory, server=server.url).save(STATE, epoch=1)
    seen = []

    def first(*asked):
        seen.append(asked)
        return page(status, body, **{"Content-Type": "application/json"})(*asked) if len(seen) == 1 else None

    with standing(Front(server.url, first)) as front:
        assert_same(CheckpointManager(directory, server=front.url, patience_s=20).load_latest(), STATE)
    assert len(seen) > 1


def test_a_url_with_a_path_that_the_server_has_not_is_named_as_such(server, directory):
    manager = CheckpointManager(directory, server=f"{server.url}/docs", on_unreachable="raise", patience_s=0)
    for use in (lambda: manager.save(STATE, epoch=1), manager.load_latest):
        with pytest.raises(ServerFailed, match="check HOLDFAST_URL or server="):
            use()
